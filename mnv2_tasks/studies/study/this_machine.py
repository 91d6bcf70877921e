"""Runs of a study in processes of this machine, each with its device, its threads, and the study's lock."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from mnv2_tasks.runs.stopping import Stopped
from mnv2_tasks.studies.study.jobs import PATIENCE, Job
from mnv2_tasks.studies.study.run_state import LOG, Step, prepare, write_record

# say to a process that it is one of several of a job; a run is a job of its own
ONE_OF_SEVERAL = ("MNV2_RUN_FOLDER", "SLURM_PROCID", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID")
TAIL = 12  # lines of a failed run's output that are kept as the reason


@dataclass(frozen=True, kw_only=True)
class ThisMachine:
    """A `Workplace`.

    Args:
        program: mnv2, as a command of its own.
        threads: OMP_NUM_THREADS of a run, unless the user has set it; None leaves it as it is.
        lock: the study's, which the processes hold too, so that one that outlives the study still counts;
            None where a process cannot hold another's.
    """

    parting = "interrupted; the same command goes on where it was"
    program: Sequence[str]
    threads: int | None = None
    lock: int | None = None

    def start(self, job: Job, step: Step) -> None:
        prepare(step, job.run, job.folder)
        command = [*self.program, *step.command]
        environment = {name: value for name, value in os.environ.items() if name not in ONE_OF_SEVERAL}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}  # of the log
        if step.kind == "train":
            environment["MNV2_RUN_FOLDER"] = str(job.folder)  # train.py's own name for the folder would not be stable
        if job.devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = job.devices
        if self.threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(self.threads))
        with (job.folder / LOG).open("ab") as log:
            log.write(f"\n$ {shlex.join(command)}\n".encode())
            log.flush()
            job.log_start = log.tell()
            job.process = process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the study alone, which then stops its runs
                pass_fds=() if self.lock is None else [self.lock],
            )
        job.state, job.step, job.began = "running", step, time.monotonic()
        job.note = f"on CUDA device {job.devices}" if job.devices else ""
        write_record(job.folder, pid=process.pid)

    def conclude(self, job: Job) -> None:
        code = cast(subprocess.Popen, job.process).returncode
        job.seconds, job.began, job.note = job.elapsed(), None, ""
        ended = ""
        if job.state == "running" and code != 0:
            ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        elif job.state == "running" and not job.step.makes.is_file():
            ended = f"ended without {job.step.makes.name}"
        if ended:
            job.state, job.reason = "failed", f"{job.step.kind}: {ended}\n{_tail(job)}".strip()
        failed = job.reason if job.state == "failed" else None
        write_record(job.folder, seconds=round(job.seconds, 1), pid=None, failed=failed)

    def leave(self, running: Sequence[Job]) -> None:
        """SIGTERM, on which train.py saves a checkpoint; SIGKILL if one does not end, or on a second Ctrl-C."""
        processes = [cast(subprocess.Popen, job.process) for job in running if job.process]
        for job in running:
            if job.process and job.state != "stopped":  # asked a second time, it would not save
                job.process.terminate()
        try:
            deadline = time.monotonic() + PATIENCE
            for process in processes:
                process.wait(max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, Stopped):
            for process in processes:
                process.kill()
                process.wait()
        for job in running:
            write_record(job.folder, seconds=round(job.elapsed(), 1), pid=None)
            job.state, job.began = "left", None


def _tail(job: Job) -> str:
    """The error that the tool printed, or else the last lines that it printed."""
    with (job.folder / LOG).open("rb") as log:
        log.seek(job.log_start)
        lines = log.read().decode(errors="replace").splitlines()
    lines = [line.rstrip() for line in lines if line.strip() and "debug=true shows" not in line]
    errors = [index for index, line in enumerate(lines) if line.startswith("error: ")]
    return "\n".join(lines[errors[-1] :][:TAIL] if errors else lines[-TAIL:])
