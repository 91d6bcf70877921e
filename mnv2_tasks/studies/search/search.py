"""run_search(config): trials of a space, side by side where there are devices, then what was found."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.words import GROUPS
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runs.stopping import Stopped
from mnv2_tasks.studies.search.space import in_words, read_space, space_from, written
from mnv2_tasks.studies.study.axes import OWN_OF_SEARCH
from mnv2_tasks.studies.study.cluster import check_cluster, check_queued, workplace_for
from mnv2_tasks.studies.study.jobs import Job, locked, run_jobs
from mnv2_tasks.studies.study.plan import REFUSED
from mnv2_tasks.studies.study.progress import Progress
from mnv2_tasks.studies.study.slots import slots_for
from mnv2_tasks.studies.study.study import MNV2
from mnv2_tasks.training.ranges import check_ranges
from mnv2_tasks.wording import nearest


def run_search(
    config: DictConfig,
    passed: Sequence[str] = (),
    *,
    program: Sequence[str] = MNV2,
    console: Console | None = None,
) -> bool:
    """Run the trials that are missing, write the report, and return whether any trial has a score.

    Args:
        config: conf/search.yaml, composed.
        passed: overrides of tools/train.py for every trial.
        program: mnv2, as a command of its own.

    Raises:
        ConfigError: before anything runs: the search cannot work, or its trials so far were another search's.
        Stopped: the trials have been stopped and can be gone on with.
    """
    console = console or Console(highlight=False, markup=False, soft_wrap=True)
    if not find_spec("optuna"):
        raise ConfigError('search=: needs Optuna: pip install "mnv2-tasks[search]"')
    if type(config.trials) is not int or config.trials < 1:
        raise ConfigError(f"trials={written(config.trials)}: expected at least 1")
    content = read_space(config.search)
    _check_passed(passed)
    base = compose("train", list(passed))
    check_ranges(base)
    if type(base.seed) is not int:
        raise ConfigError(f"seed={written(base.seed)}: expected a whole number from 0, of which the proposals come")
    space = space_from(content, passed)
    check_cluster(config.cluster, [base])
    if config.cluster is not None and config.jobs is None:
        raise ConfigError(f"cluster={config.cluster.executor}: say jobs=<trials at a time>: the next learn from them")
    slots = slots_for(config, [base])
    name = Path(config.search).stem if isinstance(config.search, str) else "search"
    folder = (Path(config.runs) / "studies" / name / f"{base.choices.data}-{base.choices.task}").absolute()
    if config.dry:
        console.print(f"{config.trials} trials, in {folder}:")
        for key, one in space.items():
            console.print(f"    {key}: {in_words(one)}")
        return True
    from mnv2_tasks.studies.search.search_report import write_search_report  # Optuna takes its time
    from mnv2_tasks.studies.search.trials import Trials

    there = sorted(folder.glob("trial-*"))
    with locked(folder, [path.name for path in there]) as lock:
        check_queued(config.cluster, [path for path in there if not (path / "metrics.json").is_file()])
        trials = Trials(folder, space, passed, base, prune=config.prune)
        left = trials.left(config.trials)
        before = f" after {config.trials - left} trials" if 0 <= left < config.trials else ""
        title = f"{name} on {folder.name}{before}"
        progress = Progress(title, trials.jobs, len(slots), console, total=left)
        place = workplace_for(config, [base], folder, slots, program, lock)

        def on_event(job: Job) -> None:
            trials.event(job)
            progress.event(job)

        def on_tick() -> None:
            trials.watch()
            progress.refresh()

        with progress.live:
            try:
                run_jobs(trials.coming(config.trials), slots=slots, place=place, on_event=on_event, on_tick=on_tick)
            except Stopped:
                progress.refresh()
                console.print(place.parting)
                raise
        return write_search_report(trials, name, console)


def _check_passed(passed: Sequence[str]) -> None:
    """Raise ConfigError for an override that no trial could be given; of the others, composing them tells."""
    keys = [override.partition("=")[0] for override in passed]
    if "study" in keys:
        raise ConfigError(f"{passed[keys.index('study')]}: stands beside search=, which is no study. Leave one away")
    if "task" not in keys:
        raise ConfigError("search=: a search has one task: say task=<task>, such as task=ssdlite")
    known = [*compose("train", [passed[keys.index("task")]]), *GROUPS, "recipe"]
    for override, key in zip(passed, keys):
        if key in REFUSED:
            raise ConfigError(f"{override}: not for the trials of a search, which are named and resumed by themselves")
        first = key.lstrip("+~").split(".")[0]
        if first not in known:
            raise ConfigError(f"{override}: there is no key {first!r}. {nearest(first, [*known, *OWN_OF_SEARCH])}")
