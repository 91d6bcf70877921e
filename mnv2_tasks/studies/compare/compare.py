"""Runs side by side: compare(runs, out) -> one HTML page, a Markdown table and a JSON file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from mnv2_tasks.errors import DataError
from mnv2_tasks.studies.compare.bootstrap import Interval
from mnv2_tasks.studies.compare.comparison import Comparison, Pictures, as_json, one_passes
from mnv2_tasks.studies.compare.groups import differences, flatten, group_runs
from mnv2_tasks.studies.compare.measure import Built, device_name, measure_latency, rebuild
from mnv2_tasks.studies.compare.page import page
from mnv2_tasks.studies.compare.run import Run, names_of, read_config, read_run
from mnv2_tasks.studies.compare.samples import colours_shown, draw_rows, read_samples
from mnv2_tasks.studies.compare.subjects import Subject, build_subjects, check_comparable
from mnv2_tasks.studies.compare.tables import markdown
from mnv2_tasks.whole_files import write_json

__all__ = ["compare", "Interval"]


def compare(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str = "",
    failed: Mapping[str, str] = {},  # noqa: B006 - it is only read
    repeats: int = 30,
    images: int = 6,
) -> Path:
    """Write `compare.html`, `compare.md` and `compare.json` into the folder `out` and return the path of the HTML.

    Runs whose configurations differ only in the seed count as one. Ssd and ssdlite can be compared, and a run of one
    task with one of several that include it.

    Args:
        runs: run folders; the first one is what the others are compared with.
        out: a folder, made if it is not there; only the three files in it are overwritten.
        title: heads the page.
        failed: {name of a run that has no folder to show: why}; stated in the report.
        repeats: timed passes of each network; 0 measures no latency.
        images: validation images to show.

    Raises:
        DataError: the runs are of different tasks or of different data, or none of them has a score.
    """
    unique = list({Path(folder).resolve(): Path(folder) for folder in runs}.values())
    if not unique:
        raise DataError("there are no runs to compare; say which: python tools/compare.py runs/<task>/*")
    read, excluded, unfinished = _read(unique)
    excluded |= failed
    if not read:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in excluded.items())
        raise DataError(f"none of the {len(unique)} runs has a score to compare. {reasons}")
    check_comparable(read)
    notes = [f"{run.name}: {note}" for run in read for note in run.notes]
    if read[0].folder != unique[0]:
        notes.insert(0, f"The first run given has no score: {read[0].name} is what the others are compared with.")
    groups = group_runs(read, unfinished)
    subjects = build_subjects(groups)
    built, told = rebuild(groups)
    pictures, also_told = _pictures(subjects, groups, built, images, repeats)
    comparison = Comparison(
        title=title or f"{len(read)} run{'s' if len(read) > 1 else ''} compared",
        groups=groups,
        built=built,
        subjects=subjects,
        pictures=pictures,
        differing=differences([flatten(group.first.config) for group in groups]),
        one_pass=one_passes(groups, built),
        device=device_name(),
        excluded=excluded,
        notes=notes + told + also_told,
    )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "compare.json", as_json(comparison))
    (out / "compare.md").write_text(markdown(comparison), encoding="utf-8")
    (out / "compare.html").write_text(page(comparison), encoding="utf-8")
    return out / "compare.html"


def _read(folders: Sequence[Path]) -> tuple[list[Run], dict[str, str], list[DictConfig]]:
    """Runs with a score, why the others have none, and the configurations of those others."""
    read, excluded, unfinished = [], {}, []
    for folder, name in zip(folders, names_of(folders)):
        try:
            read.append(read_run(folder, name))
        except DataError as error:
            excluded[name] = str(error)
            try:
                config = read_config(folder)
            except DataError:
                continue
            excluded[name] = f"seed {config.get('seed', 0)}: {error}"
            unfinished.append(config)
    return read, excluded, unfinished


def _pictures(
    subjects: Sequence[Subject], groups: Sequence, built: Sequence[Built | None], count: int, repeats: int
) -> tuple[list[Pictures | None], list[str]]:
    """The same images in every subject; the first of them is what latency is measured on."""
    pictures: list[Pictures | None] = []
    notes = []
    for subject in subjects:
        entry = subject.reference
        try:
            samples = read_samples(entry.group.first, entry.scored[0].task, max(1, count))
        except Exception as error:  # data that moved, or a run of former code: the numbers stand without pictures
            pictures.append(None)
            notes.append(f"No pictures: the validation images of {entry.group.first.name} cannot be read ({error})")
            continue
        if not any(b.latency for b in built if b):
            measure_latency(built, samples[0].image, repeats)
        networks = [(b, e.scored[0].task) if (b := built[_index(groups, e.group)]) else None for e in subject.entries]
        rows = draw_rows(samples, subject.kind, subject.class_names, networks) if count else []
        pictures.append(Pictures(rows, colours_shown(samples, subject.kind, subject.class_names)))
    if not any(b.latency for b in built if b) and any(built) and repeats:
        notes.append("Latency was not measured: there is no image to measure it on.")
    return pictures, notes


def _index(groups: Sequence, group: object) -> int:
    return next(i for i, other in enumerate(groups) if other is group)
