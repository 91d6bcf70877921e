"""run_study(config): train what a study lacks, side by side where there are devices, then compare."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runs.stopping import Stopped
from mnv2_tasks.shipped import as_called_here
from mnv2_tasks.studies.compare.exporting import format_to_time
from mnv2_tasks.studies.study.cluster import QUEUED, check_cluster, check_queued, workplace_for
from mnv2_tasks.studies.study.jobs import locked, make_jobs, run_jobs
from mnv2_tasks.studies.study.plan import PlannedRun, plan_runs, study_from
from mnv2_tasks.studies.study.progress import Progress
from mnv2_tasks.studies.study.run_state import changed_settings, next_step, set_aside
from mnv2_tasks.studies.study.slots import slots_for
from mnv2_tasks.studies.study.study_report import write_report

MNV2 = (sys.executable, "-P", "-m", "mnv2_tasks")  # -P: imports nothing from the folder of the call


def run_study(
    config: DictConfig,
    passed: Sequence[str] = (),
    *,
    narrowed: bool = False,
    program: Sequence[str] = MNV2,
    console: Console | None = None,
) -> bool:
    """Run what is missing, write the report, and return whether every run is done.

    Args:
        config: conf/study.yaml, composed.
        passed: overrides of tools/train.py for every run.
        narrowed: see `study_from`.
        program: mnv2, as a command of its own.

    Raises:
        ConfigError: before anything runs: the study cannot work, or finished runs were trained with other settings.
        Stopped: the runs have been stopped and can be gone on with.
    """
    console = console or Console(highlight=False, markup=False, soft_wrap=True)
    content: Any = OmegaConf.to_container(config.study)
    study = study_from(content, narrowed=narrowed, ablations=config.ablations)
    format_to_time(config.exported)  # refused before anything runs
    runs = plan_runs(study, passed)
    data = "+".join(sorted({run.config.choices.data for run in runs}))
    name = config.choices.study
    folder = (Path(config.runs) / "studies" / name / data).absolute()
    configs = [run.config for run in runs]
    check_cluster(config.cluster, configs)
    slots = slots_for(config, configs)
    if config.dry:
        _list(runs, folder, console)
        return True
    with locked(folder, [run.name for run in runs]) as lock:
        check_queued(config.cluster, [job.folder for job in make_jobs(runs, folder) if job.state != "done"])
        _check_unchanged(runs, folder, retrain=config.retrain, console=console)
        jobs = make_jobs(runs, folder)
        place = workplace_for(config, configs, folder, slots, program, lock)
        progress = Progress(f"{name} on {data}", jobs, len(slots), console)
        with progress.live:
            try:
                left = [job for job in jobs if job.state != "done"]
                run_jobs(left, slots=slots, place=place, on_event=progress.event, on_tick=progress.refresh)
            except Stopped:
                progress.refresh()
                console.print(place.parting)
                raise
    write_report(study, jobs, folder, config.exported, console)
    return all(job.state == "done" for job in jobs)


def _check_unchanged(runs: Sequence[PlannedRun], folder: Path, *, retrain: bool, console: Console) -> None:
    changed = {run.name: found for run in runs if (found := changed_settings(run, folder / run.name))}
    if retrain:
        for name in changed:
            if (folder / name / QUEUED).is_file() and not (folder / name / "metrics.json").is_file():
                raise ConfigError(
                    f"{folder / name}: is a job with other settings. Cancel it and remove {folder / name / QUEUED}"
                )
            console.print(f"{name}: trained with other settings, moved to {set_aside(folder / name)}")
    elif changed:
        name, found = next(iter(changed.items()))
        raise ConfigError(
            f"{folder}: {len(changed)} of the study's runs were trained with other settings, such as {name}: "
            f"{'; '.join(found[:4])}{'; ...' if len(found) > 4 else ''}. Choose another place with runs=<folder>, "
            f"or say retrain=true: such runs are trained anew, the old ones moved to {folder.name}/superseded/"
        )


def _list(runs: Sequence[PlannedRun], folder: Path, console: Console) -> None:
    for run in runs:
        place = folder / run.name
        step = next_step(run, place)
        lines = [f"{run.name}: {'to do' if step else 'done'}"]
        if step:
            verb, *arguments = step.command
            lines.append(as_called_here(f"python tools/{verb}.py {shlex.join(arguments)}"))
        lines += [f"trained with other settings: {line}" for line in changed_settings(run, place)]
        for name, overrides in run.evaluations.items():
            if not (place / name / "metrics.json").is_file() and (step is None or step.kind != name):
                lines.append(f"then evaluated as {name}: {' '.join(overrides)}")
        console.print("\n    ".join(lines), markup=False)
    console.print(f"{len(runs)} runs, in {folder}", markup=False)
