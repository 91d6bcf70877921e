"""Runs of a study, side by side where there is room for them, on this machine or on a cluster.

No pool of the standard library: each run has a slot with its device, and its place says how it is started and ended.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runs.stopping import hear, stop
from mnv2_tasks.studies.study.plan import PlannedRun
from mnv2_tasks.studies.study.run_state import Step, next_step, read_record

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PATIENCE = 120  # seconds that a run has to save its checkpoint when it is stopped


class Process(Protocol):
    """What runs a step: a `subprocess.Popen`, or a job of a cluster."""

    def poll(self) -> int | None: ...  # None: it has not ended yet
    def terminate(self) -> None: ...  # a run saves its checkpoint first
    def kill(self) -> None: ...


@dataclass(kw_only=True)
class Job:
    """A run on its way: state is left, running, done, failed, or stopped, which it was asked to."""

    run: PlannedRun
    folder: Path
    state: str = "left"
    seconds: float = 0.0  # of processes that have ended, earlier calls of the study included
    reason: str = ""  # of a failure, or of another end before its own
    note: str = ""  # for people, beside its state
    step: Step = field(init=False, repr=False, compare=False)  # the last that was launched
    process: Process | None = field(default=None, init=False, repr=False, compare=False)  # of that step
    devices: str | None = None  # CUDA_VISIBLE_DEVICES of its slot
    began: float | None = None  # of its process; None while there is none
    deadline: float = float("inf")  # of a stopped one: its process is killed then
    log_start: int = 0

    def elapsed(self) -> float:
        return self.seconds + (0.0 if self.began is None else time.monotonic() - self.began)

    def stop(self, reason: str) -> None:
        """Have it save its checkpoint and end, as Ctrl-C does."""
        assert self.process is not None
        self.state, self.reason, self.deadline = "stopped", reason, time.monotonic() + PATIENCE
        self.process.terminate()


class Workplace(Protocol):
    """Where runs are trained."""

    parting: str  # what is said when the study is interrupted

    def start(self, job: Job, step: Step) -> None:
        """Give the job its process, and say in it what is running."""
        ...

    def conclude(self, job: Job) -> None:
        """Say in the job how its process has ended; it stays "running" where all is well."""
        ...

    def leave(self, running: Sequence[Job]) -> None:
        """The study ends before these do."""
        ...


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
    jobs: Iterable[Job],
    *,
    slots: Sequence[str | None],
    place: Workplace,
    on_event: Callable[[Job], None],
    on_tick: Callable[[], None],
) -> None:
    """Run what is missing; a run that fails leaves the others be.

    Args:
        jobs: the next one is asked for when there is a slot for it.
        slots: CUDA_VISIBLE_DEVICES of each place for a run; None leaves it as it is.
        on_event: called when a job starts or ends.
        on_tick: called a few times a second; may stop jobs.

    Raises:
        Stopped: on Ctrl-C or SIGTERM, once the place has been left.
    """
    free, coming = list(slots), iter(jobs)
    running: list[Job] = []
    undo = hear(stop)
    try:
        while True:
            while free and (job := next(coming, None)):
                if step := next_step(job.run, job.folder):
                    job.devices = free.pop(0)
                    running.append(job)
                    place.start(job, step)
                else:
                    job.state = "done"
                on_event(job)
            if not running:
                return
            time.sleep(0.2)
            for job in list(running):
                assert job.process is not None
                if time.monotonic() > job.deadline:
                    job.process.kill()
                    job.deadline = float("inf")
                if job.process.poll() is None:
                    continue
                place.conclude(job)
                step = next_step(job.run, job.folder)
                if job.state == "running" and step:
                    place.start(job, step)  # its evaluations
                    continue
                if job.state == "running" or (job.state == "stopped" and not step):  # which had ended by itself
                    job.state, job.reason = "done", ""
                running.remove(job)
                free.append(job.devices)
                on_event(job)
            on_tick()
    finally:
        place.leave(running)
        undo()


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
