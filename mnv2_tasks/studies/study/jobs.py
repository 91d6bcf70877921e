"""Runs of a study in processes of their own, side by side where there are devices.

No pool of the standard library: each run has a slot with its device, its own number of threads, and the study's lock.
"""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runs.stopping import Stopped, hear, stop
from mnv2_tasks.studies.study.plan import PlannedRun
from mnv2_tasks.studies.study.run_state import LOG, Step, next_step, prepare, read_record, write_record

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# say to a process that it is one of several of a job; a run is a job of its own
ONE_OF_SEVERAL = ("MNV2_RUN_FOLDER", "SLURM_PROCID", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID")
PATIENCE = 120  # seconds that a run has to save its checkpoint when it is stopped
TAIL = 12  # lines of a failed run's output that are kept as the reason


@dataclass(kw_only=True)
class Job:
    """A run on its way: state is left, running, done or failed."""

    run: PlannedRun
    folder: Path
    state: str = "left"
    seconds: float = 0.0  # of processes that have ended, earlier calls of the study included
    reason: str = ""  # of a failure
    step: Step = field(init=False, repr=False, compare=False)  # the last that was launched
    devices: str | None = None  # CUDA_VISIBLE_DEVICES of its slot
    began: float | None = None  # of its process; None while there is none
    log_start: int = 0

    def elapsed(self) -> float:
        return self.seconds + (0.0 if self.began is None else time.monotonic() - self.began)


def make_jobs(runs: Sequence[PlannedRun], folder: Path) -> list[Job]:
    jobs = []
    for run in runs:
        job = Job(run=run, folder=folder / run.name)
        job.seconds = read_record(job.folder).get("seconds", 0.0)
        if next_step(run, job.folder) is None:
            job.state = "done"
        jobs.append(job)
    return jobs


def run_jobs(
    jobs: Sequence[Job],
    *,
    slots: Sequence[str | None],
    threads: int | None,
    program: Sequence[str],
    lock: int | None,
    on_event: Callable[[Job], None],
    on_tick: Callable[[], None],
) -> None:
    """Run what is missing; a run that fails leaves the others be.

    Args:
        slots: CUDA_VISIBLE_DEVICES of each place for a run; None leaves it as it is.
        threads: OMP_NUM_THREADS of a run, unless the user has set it; None leaves it as it is.
        program: mnv2, as a command of its own.
        lock: the study's, which the processes hold too, so that one that outlives the study still counts;
            None where a process cannot hold another's.
        on_event: called when a job starts, ends or fails.
        on_tick: called a few times a second.

    Raises:
        Stopped: on Ctrl-C or SIGTERM, once the processes have been stopped.
    """
    free = list(slots)
    left = [job for job in jobs if job.state != "done"]
    waiting = [(job, step) for job in left if (step := next_step(job.run, job.folder))]
    running: list[tuple[Job, subprocess.Popen]] = []

    def start(job: Job, step: Step) -> None:
        running.append((job, _launch(job, step, program, threads, lock)))

    undo = hear(stop)
    try:
        while waiting or running:
            while waiting and free:
                job, step = waiting.pop(0)
                job.devices = free.pop(0)
                start(job, step)
                on_event(job)
            time.sleep(0.2)
            for job, process in [one for one in running if one[1].poll() is not None]:
                running.remove((job, process))
                _conclude(job, process.returncode)
                if job.state == "running" and (step := next_step(job.run, job.folder)):
                    start(job, step)  # its evaluations
                    continue
                job.state = "done" if job.state == "running" else job.state
                free.append(job.devices)
                on_event(job)
            on_tick()
    finally:
        _stop(running)
        undo()


def _launch(job: Job, step: Step, program: Sequence[str], threads: int | None, lock: int | None) -> subprocess.Popen:
    prepare(step, job.run, job.folder)
    command = [*program, *step.command]
    environment = {name: value for name, value in os.environ.items() if name not in ONE_OF_SEVERAL}
    environment |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}  # of the log
    if step.kind == "train":
        environment["MNV2_RUN_FOLDER"] = str(job.folder)  # train.py's own name for the folder would not be stable
    if job.devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = job.devices
    if threads is not None:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    with (job.folder / LOG).open("ab") as log:
        log.write(f"\n$ {shlex.join(command)}\n".encode())
        log.flush()
        job.log_start = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the study alone, which then stops its runs
            pass_fds=() if lock is None else [lock],
        )
    job.state, job.step, job.began = "running", step, time.monotonic()
    write_record(job.folder, pid=process.pid)
    return process


def _conclude(job: Job, code: int) -> None:
    """Note how the step of a job ended."""
    job.seconds, job.began = job.elapsed(), None
    if code != 0:
        ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        job.state, job.reason = "failed", f"{job.step.kind}: {ended}\n{_tail(job)}".strip()
    elif not job.step.makes.is_file():
        job.state, job.reason = "failed", f"{job.step.kind}: ended without {job.step.makes.name}\n{_tail(job)}".strip()
    write_record(job.folder, seconds=round(job.seconds, 1), pid=None, failed=job.reason or None)


def _tail(job: Job) -> str:
    """The error that the tool printed, or else the last lines that it printed."""
    with (job.folder / LOG).open("rb") as log:
        log.seek(job.log_start)
        lines = log.read().decode(errors="replace").splitlines()
    lines = [line.rstrip() for line in lines if line.strip() and "debug=true shows" not in line]
    errors = [index for index, line in enumerate(lines) if line.startswith("error: ")]
    return "\n".join(lines[errors[-1] :][:TAIL] if errors else lines[-TAIL:])


def _stop(running: Sequence[tuple[Job, subprocess.Popen]]) -> None:
    """SIGTERM, on which train.py saves a checkpoint; SIGKILL for those that do not end, or on a second Ctrl-C."""
    for _, process in running:
        process.terminate()
    try:
        deadline = time.monotonic() + PATIENCE
        for _, process in running:
            process.wait(max(0.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, Stopped):
        for _, process in running:
            process.kill()
            process.wait()
    for job, _ in running:
        write_record(job.folder, seconds=round(job.elapsed(), 1), pid=None)
        job.state, job.began = "left", None


@contextmanager
def locked(folder: Path, names: Sequence[str]) -> Iterator[int | None]:
    """Hold the study's folder for this process and those it starts; gives the lock's file descriptor.

    On Windows, where no process inherits a lock, this process alone holds it, and there is no descriptor.

    Args:
        names: of runs, to say which process holds it.

    Raises:
        ConfigError: another study works there, or a run of one that was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            descriptor = held.enter_context(_lock(folder / ".lock"))
        except OSError:  # filelock's Timeout is one
            pids = {name: read_record(folder / name).get("pid") for name in names}
            working = ", ".join(f"{name} (process {pid})" for name, pid in pids.items() if pid)
            raise ConfigError(
                f"{folder}: another study is at work there, or runs of one that was killed{working and ': '}{working}. "
                f"Wait for them, or end them, and call again"
            ) from None
        yield descriptor


@contextmanager
def _lock(path: Path) -> Iterator[int | None]:
    """Raises an OSError if another process holds it."""
    if fcntl is None:
        with FileLock(path, timeout=0):
            yield None
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def device_slots(jobs: int | None, each: int, found: Sequence[str]) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each place for a run.

    Args:
        jobs: runs at a time; None is one for each group of devices, or one on a CPU.
        each: devices that a run takes.
        found: names of the CUDA devices.

    Raises:
        ConfigError: fewer than one job.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs={jobs}: expected at least 1")
    groups = [",".join(found[i : i + each]) for i in range(0, len(found) - each + 1, each)]
    if not groups:
        return [None] * (jobs or 1)
    return [groups[i % len(groups)] for i in range(jobs or len(groups))]
