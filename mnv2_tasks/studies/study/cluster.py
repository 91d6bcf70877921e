"""Runs of a study as jobs of a cluster, through submitit: one each, which stays in the queue when the study ends."""

import logging
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import read_json
from mnv2_tasks.studies.study.jobs import Job, Workplace, run_jobs
from mnv2_tasks.studies.study.plan import PlannedRun
from mnv2_tasks.studies.study.run_state import Step, next_step, read_record
from mnv2_tasks.studies.study.slots import MOST_DEVICES, devices_each, threads_for
from mnv2_tasks.studies.study.this_machine import ThisMachine
from mnv2_tasks.whole_files import write_json
from mnv2_tasks.wording import nearest, visible

EXECUTORS = ("slurm", "local")
OF_ANY = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")  # submitit's names; of others it wants a prefix
AT_LEAST_ONE = OF_ANY[:3]
TOOLS = ("sbatch", "srun", "sacct", "scancel")  # without sacct, submitit would wait for ever
QUEUED = "queued.json"  # in a run's folder while it is a job
EVERY = 2.0  # seconds between two looks at a job
SAVING = 180  # seconds before its time is up that a job is told
REQUEUES = 1000  # times that a run may need more time than a job has


def check_cluster(settings: DictConfig | None, configs: Sequence[DictConfig]) -> None:
    """Raise ConfigError for a cluster to which runs of these configs cannot go."""
    if settings is None:
        return
    name = settings.executor
    if name not in EXECUTORS:
        raise ConfigError(f"cluster.executor={visible(str(name))}: unknown. {nearest(str(name), EXECUTORS)}")
    if not find_spec("submitit"):
        raise ConfigError(f'cluster={name}: needs submitit: pip install "mnv2-tasks[slurm]"')
    if name == "slurm" and (missing := [tool for tool in TOOLS if not shutil.which(tool)]):
        raise ConfigError(
            f"cluster=slurm: there is no {missing[0]} here. Call it where SLURM is, such as on a login node; "
            f"cluster=local tries the same without a queue"
        )
    for key in OF_ANY:
        if isinstance(value := settings.get(key), int | float) and value < (key in AT_LEAST_ONE):
            raise ConfigError(f"cluster.{key}={value}: expected {'at least 1' if key in AT_LEAST_ONE else '0 or more'}")
    if any(config.trainer.nodes > 1 for config in configs):
        raise ConfigError("trainer.nodes: a job of a study is one machine; say trainer.nodes=1")
    if settings.gpus_per_node is None and devices_each(configs) == MOST_DEVICES:
        raise ConfigError("trainer.devices: how many a machine of the cluster has is not known; say a number")


def check_queued(settings: DictConfig | None, folders: Iterable[Path]) -> None:
    """Raise ConfigError for a run that is another cluster's job: a second process would train in its folder.

    Args:
        settings: of the cluster that is asked for; None is this machine.
        folders: of the runs that are not done.
    """
    for folder in folders:
        there = _queued(folder)
        if there and there.executor != (settings and settings.executor):
            name, job = visible(there.executor), visible(there.job)
            raise ConfigError(
                f"{folder}: is job {job} of cluster={name}. Say cluster={name} to wait for it, or cancel it and remove "
                f"{folder / QUEUED}"
            )


def workplace_for(
    config: DictConfig, configs: Sequence[DictConfig], folder: Path, slots: Sequence[str | None],
    program: Sequence[str], lock: int | None,
) -> Workplace:  # fmt: skip
    """Where the runs of a study or a search are trained.

    Args:
        config: that of the tool.
        configs: of its runs.
        folder: the study's, which all machines see.

    Raises:
        ConfigError: a setting of the cluster that submitit does not know.
    """
    if config.cluster is None:
        return ThisMachine(program=program, threads=threads_for(slots), lock=lock)
    return Cluster(config.cluster, configs, folder / "cluster", program)


class Cluster:
    """A `Workplace`: whoever calls the study again waits for the same jobs."""

    parting = "interrupted; its jobs stay in the queue, and the same command waits for them again"

    def __init__(self, settings: DictConfig, configs: Sequence[DictConfig], logs: Path, program: Sequence[str]):
        import submitit

        logging.getLogger("submitit").handlers.clear()  # two of its own; the program's shows what it logs once
        self.name, self.logs, self.program = str(settings.executor), logs, list(program)
        self.job_class = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}[self.name]
        self.executor = submitit.AutoExecutor(logs, cluster=self.name, slurm_max_num_timeout=REQUEUES)
        given: dict[str, Any] = OmegaConf.to_container(settings)  # pyright: ignore[reportAssignmentType]
        if given.get("gpus_per_node") is None:
            on_cpu = all(config.trainer.accelerator == "cpu" for config in configs)
            given["gpus_per_node"] = 0 if on_cpu else devices_each(configs)
        if self.name == "slurm":
            given.setdefault("signal_delay_s", SAVING)
        wanted = {key: value for key, value in given.items() if key != "executor" and value not in (None, [], {})}
        try:
            self.executor.update_parameters(
                **{key if key in OF_ANY else f"{self.name}_{key}": value for key, value in wanted.items()}
            )
        except (NameError, ValueError, AssertionError) as error:
            raise ConfigError(f"cluster={self.name}: {visible(str(error).splitlines()[0])}") from None

    def start(self, job: Job, step: Step) -> None:
        there = self._in_the_queue(job)
        job.process = there or self._submitted(job)
        job.state, job.step, job.began = "running", step, time.monotonic()
        job.note = f"as job {job.process.job.job_id}{', which is there already' if there else ''}"

    def conclude(self, job: Job) -> None:
        assert isinstance(job.process, _Submitted)
        ended = job.process.job
        (job.folder / QUEUED).unlink(missing_ok=True)
        record = read_record(job.folder)
        job.seconds, job.began, job.note = record.get("seconds", 0.0), None, ""
        if next_step(job.run, job.folder) is None or job.state == "stopped":
            return
        job.state, job.reason = "failed", record.get("failed") or ""
        if not job.reason and ended.paths.result_pickle.is_file():  # where it could not even begin
            trace = str(ended.exception()).splitlines()
            job.reason = f"job {ended.job_id}: {next((line for line in reversed(trace) if 'Error' in line), trace[-1])}"
        elif not job.reason:
            job.state = "left"
            job.reason = f"job {ended.job_id} has ended before it ({ended.state}); the same command goes on with it"

    def leave(self, running: Sequence[Job]) -> None:
        """They stay in the queue."""
        for job in running:
            job.state, job.began = "left", None

    def _in_the_queue(self, job: Job) -> "_Submitted | None":
        """What an earlier call of the study has submitted, if it has not ended."""
        noted = _queued(job.folder)
        if noted is None:
            return None
        known = _Submitted(self.job_class(self.logs, noted.job))
        return None if known.job.done(force_check=True) else known

    def _submitted(self, job: Job) -> "_Submitted":
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        job.folder.mkdir(parents=True, exist_ok=True)
        self.executor.update_parameters(name=job.run.name)
        try:
            found = self.executor.submit(OnNode(job.run, job.folder, self.program))
        except (FailedJobError, FailedSubmissionError) as error:
            lines = [line for line in str(error).splitlines() if line.strip()] or ["it does not say why"]
            why = next((line for line in lines if "error" in line.lower()), lines[-1])
            raise ConfigError(f"{job.run.name}: {self.name} does not take it: {visible(why.strip())}") from None
        write_json(job.folder / QUEUED, {"executor": self.name, "job": found.job_id})
        return _Submitted(found)


class _Noted(NamedTuple):
    executor: str
    job: str


def _queued(folder: Path) -> _Noted | None:
    """What is noted in a run's folder of its job; None where it is none."""
    path = folder / QUEUED
    if not path.is_file():
        return None
    with suppress(ConfigError):
        match read_json(path):
            case {"executor": str(executor), "job": str(job)} if executor and job:
                return _Noted(executor, job)
    raise ConfigError(
        f"{path}: is damaged, and does not say which job trains this run. Cancel that job, if there is one, and remove "
        f"the file"
    )


class _Submitted:
    """A job of submitit, as `run_jobs` asks it."""

    def __init__(self, job: Any):
        self.job, self.asked_to_end, self.next_look = job, False, 0.0

    def poll(self) -> int | None:
        if time.monotonic() < self.next_look:
            return None
        self.next_look = time.monotonic() + EVERY
        return 0 if self.job.done(force_check=self.asked_to_end) else None

    def terminate(self) -> None:
        self.asked_to_end = True
        self.job.cancel(check=False)  # SIGTERM, on which a run saves; after a while SIGKILL

    kill = terminate


class OnNode:
    """What a job does: the steps that its run lacks, also when it is queued again. It is pickled."""

    def __init__(self, run: PlannedRun, folder: Path, program: Sequence[str]):
        self.run, self.folder, self.program = run, folder, program

    def __call__(self) -> None:
        self.here = ThisMachine(program=self.program)
        self.job = Job(run=self.run, folder=self.folder, seconds=read_record(self.folder).get("seconds", 0.0))
        run_jobs([self.job], slots=[None], place=self.here, on_event=lambda job: None, on_tick=lambda: None)

    def checkpoint(self) -> Any:
        """Called by submitit when its time is up, or another job is let in: have the run save, and go on later."""
        from submitit.helpers import DelayedSubmission

        self.here.leave([self.job])
        return DelayedSubmission(OnNode(self.run, self.folder, self.program))
