"""How far a study is: a line for each event, and in a terminal a table that is kept up to date."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from statistics import mean

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mnv2_tasks.studies.study.jobs import Job
from mnv2_tasks.studies.study.run_state import epochs_done
from mnv2_tasks.wording import duration

FAILURES_SHOWN = 5
STATES = ("done", "running", "stopped", "failed", "left")  # in this order


class Progress:
    """
    Args:
        title: of the study.
        jobs: its runs; their states are read whenever something is shown.
        width: runs at a time.
        total: of runs, where they are not all known from the start.

    Attributes:
        live: to be entered while jobs run; shows nothing where the console is no terminal.
    """

    def __init__(self, title: str, jobs: Sequence[Job], width: int, console: Console, *, total: int | None = None):
        self.title, self.jobs, self.width, self.console, self.total = title, jobs, width, console, total
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else nullcontext()
        console.print(self.summary(), markup=False)

    def event(self, job: Job) -> None:
        """A job has started, ended or failed."""
        line = f"{job.run.name}: {job.step.kind if job.state == 'running' else job.state}"
        line += f" {job.note}" if job.note else ""
        if job.state != "running":
            line += f" after {duration(job.seconds)}"
        self.console.print(line + (f"\n{job.reason}" if job.reason else ""), markup=False)
        if job.state != "running":
            self.console.print(self.summary(), markup=False)
        self.refresh()

    def refresh(self) -> None:
        if isinstance(self.live, Live):
            self.live.update(self.table(), refresh=True)

    def summary(self) -> str:
        count = Counter(job.state for job in self.jobs)
        coming = max(0, (self.total or 0) - len(self.jobs))
        count["left"] += coming
        states = [f"{count[state]} {state}" for state in STATES if count[state] or state != "stopped"]
        spent = sum(job.elapsed() for job in self.jobs)
        line = f"{self.title}: {', '.join(states)}; {duration(spent)} of training so far"
        left = seconds_left(self.jobs, self.width, coming)
        return line if left is None else f"{line}, about {duration(left)} left"

    def table(self) -> Group:
        """The runs at work and the last failures; all of them would not fit a screen."""
        table = Table(title=self.title, title_justify="left", expand=False)
        for heading in ("run", "state"):
            table.add_column(heading, no_wrap=True)
        for heading in ("epochs", "time"):
            table.add_column(heading, justify="right", no_wrap=True)
        failed = [job for job in self.jobs if job.state == "failed"][-FAILURES_SHOWN:]
        for job in [*failed, *(job for job in self.jobs if job.state == "running")]:
            state = Text("failed", "red") if job.state == "failed" else Text(job.step.kind, "green")
            epochs = f"{epochs_done(job.folder)}/{job.run.config.epochs}"
            table.add_row(Text(job.run.name), state, epochs, duration(job.elapsed()))
        return Group(table, Text(self.summary()))


def seconds_left(jobs: Sequence[Job], width: int, coming: int = 0) -> float | None:
    """From the mean time of finished runs of the same task, or else of all, or else of a running one's epochs.

    Args:
        coming: runs that are not among the jobs yet.

    Returns:
        None: nothing is left, or nothing is known yet.
    """
    known: dict[str, list[float]] = defaultdict(list)  # task -> seconds of a run
    for job in jobs:
        task = job.run.config.choices.task
        if job.state in ("done", "stopped") and job.seconds:
            known[task].append(job.seconds)
        elif job.state == "running" and (done := epochs_done(job.folder)):
            known[task].append(max(job.elapsed(), job.elapsed() / done * job.run.config.epochs))
    open_jobs = [job for job in jobs if job.state in ("left", "running")]
    if not known or not (open_jobs or coming):
        return None
    overall = mean([seconds for times in known.values() for seconds in times])
    total = coming * overall
    for job in open_jobs:
        times = known.get(job.run.config.choices.task)
        total += max(0.0, (mean(times) if times else overall) - job.elapsed())
    return total / min(width, len(open_jobs) + coming)
