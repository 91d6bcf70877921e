"""What a study found: a comparison for each kind of task, figures and tables of its axes, and what is missing."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mnv2_tasks.build import task_kinds
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.studies.compare.compare import compare
from mnv2_tasks.studies.study.jobs import Job
from mnv2_tasks.studies.study.plan import Study
from mnv2_tasks.studies.study.study_sections import SECTIONS
from mnv2_tasks.whole_files import write_text


def write_report(study: Study, jobs: Sequence[Job], folder: Path, exported: str, console: Console) -> Path:
    """Write <folder>/report/: README.md, figures, and a comparison for each kind of task.

    What could not be trained is stated, and left out of every mean.

    Args:
        exported: see `compare`.
    """
    out = folder / "report"
    out.mkdir(exist_ok=True)
    done = [job for job in jobs if job.state == "done"]
    parts = [f"# {study.title}", f"{len(done)} of {len(jobs)} runs are done, in `{folder}`."]
    missing = _missing(jobs)
    if missing:
        parts.append("**Not done**, and in no mean below:")
        parts.append("\n".join(f"- {name}: {reason}" for name, reason in missing.items()))
        parts.append("`study.log` in the folder of a run has all that it printed. The same command tries again.")
    for kinds, members in _related(jobs):
        title = study.title if len(kinds) > 1 else f"{study.title}: {kinds[0]}"
        parts += [f"## {title}", _comparison(title, members, out / "-".join(kinds), exported, console)]
    for name, make_section in SECTIONS.items():
        try:
            parts += make_section(study, done, out)
        except (ConfigError, DataError, OSError, KeyError) as error:
            parts.append(f"{name}: could not be made: {error}")
            console.print(parts[-1], markup=False)
    path = out / "README.md"
    write_text(path, "\n\n".join(part.strip() for part in parts) + "\n")
    console.print(f"report: {path}", markup=False)
    return path


def _missing(jobs: Sequence[Job]) -> dict[str, str]:
    """{run that is not done: how its process ended, and the last that it printed}"""
    missing = {}
    for job in jobs:
        if job.state != "done":
            lines = (job.reason or "not run").splitlines()
            missing[job.run.name] = ": ".join([lines[0], *(line.strip() for line in lines[1:][-1:])])
    return missing


def _related(jobs: Sequence[Job]) -> list[tuple[list[str], list[Job]]]:
    """Jobs that share kinds of task, directly or through a run of several: they can be compared."""
    groups: list[tuple[set[str], list[Job]]] = []
    for job in jobs:
        kinds, members = set(task_kinds(job.run.config).values()), [job]
        for group in [group for group in groups if group[0] & kinds]:
            groups.remove(group)
            kinds, members = kinds | group[0], group[1] + members
        groups.append((kinds, members))
    order = list(jobs)
    return [(sorted(kinds), sorted(members, key=order.index)) for kinds, members in groups]


def _comparison(title: str, jobs: Sequence[Job], out: Path, exported: str, console: Console) -> str:
    """A link to the comparison of those that are done, or why there is none."""
    folders = [job.folder for job in jobs if job.state == "done"]
    if not folders:
        return "No run is done."
    try:
        trust = jobs[0].run.config.trust
        page = compare(folders, out, title=title, failed=_missing(jobs), exported=exported, trust=trust)
    except (ConfigError, DataError) as error:
        console.print(f"{title}: not compared: {error}", markup=False)
        return f"Not compared: {error}"
    console.print(f"comparison: {page}", markup=False)
    return f"[Comparison of {len(folders)} runs]({page.relative_to(out.parent).as_posix()})"
