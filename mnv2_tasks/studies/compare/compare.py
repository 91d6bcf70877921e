"""Runs side by side: compare(runs, out) -> one HTML page, a Markdown table and a JSON file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from mnv2_tasks.errors import DataError
from mnv2_tasks.studies.compare.comparison import Comparison
from mnv2_tasks.studies.compare.comparison_tables import markdown
from mnv2_tasks.studies.compare.finished_run import FinishedRun, names_of, read_config, read_run
from mnv2_tasks.studies.compare.groups import Group, group_runs
from mnv2_tasks.studies.compare.measure import device_name, measure_latency, rebuild_network
from mnv2_tasks.studies.compare.page import render_page
from mnv2_tasks.studies.compare.samples import colours_shown, draw_rows, read_samples
from mnv2_tasks.studies.compare.subjects import Subject, build_subjects, check_comparable
from mnv2_tasks.whole_files import remove_parts, write_json, write_text


def compare(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str = "",
    failed: Mapping[str, str] | None = None,
    repeats: int = 30,
    images: int = 6,
    trust: bool = False,
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
        trust: the runs are the user's own: they may name any class.

    Raises:
        DataError: the runs are of different tasks or of different data, or none of them has a score.
    """
    folders = list({Path(folder).resolve(): Path(folder) for folder in runs}.values())
    if not folders:
        raise DataError("there are no runs to compare; say which: python tools/compare.py runs/<task>/*")
    finished, excluded, unfinished = _read(folders, trust=trust)
    excluded |= failed or {}
    if not finished:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in excluded.items())
        raise DataError(f"none of the {len(folders)} runs has a score to compare. {reasons}")
    check_comparable(finished)
    notes = [f"{run.name}: {note}" for run in finished for note in run.notes]
    if finished[0].folder != folders[0]:
        notes.insert(0, f"The first run given has no score: {finished[0].name} is what the others are compared with.")
    groups = group_runs(finished, unfinished)
    subjects = build_subjects(groups)
    notes += _rebuild_networks(groups, trust=trust)
    notes += _measure_and_draw(groups, subjects, repeats, images)
    title = title or f"{len(finished)} run{'s' if len(finished) > 1 else ''} compared"
    comparison = Comparison(title, groups, subjects, device_name(), excluded, notes)
    out.mkdir(parents=True, exist_ok=True)
    remove_parts(out)
    write_json(out / "compare.json", comparison.as_json())
    write_text(out / "compare.md", markdown(comparison))
    write_text(out / "compare.html", render_page(comparison))
    return out / "compare.html"


def _read(folders: Sequence[Path], *, trust: bool) -> tuple[list[FinishedRun], dict[str, str], list[DictConfig]]:
    """Runs with a score, why the others have none, and the configurations of those others."""
    finished, excluded, unfinished = [], {}, []
    for folder, name in zip(folders, names_of(folders)):
        config = None
        try:
            config = read_config(folder, trust=trust)
            finished.append(read_run(folder, name, config))
        except DataError as error:
            excluded[name] = str(error)
            if config is not None:
                excluded[name] = f"seed {config.get('seed', 0)}: {error}"
                unfinished.append(config)
    return finished, excluded, unfinished


def _rebuild_networks(groups: Sequence[Group], *, trust: bool) -> list[str]:
    """Give each group its network; notes say why one has none."""
    notes = []
    for group in groups:
        path = group.first.folder / "weights.safetensors"
        try:
            group.network = rebuild_network(path, trust=trust)
        except Exception as error:  # whatever keeps an old run from being rebuilt belongs in the report
            notes.append(f"{group.label}: is neither counted nor timed nor drawn: {path}: {error}")
    return notes


def _measure_and_draw(groups: Sequence[Group], subjects: Sequence[Subject], repeats: int, images: int) -> list[str]:
    """Give each subject its pictures, the same images for every entry; latency is measured on the first of them all."""
    notes, first_image = [], None
    for subject in subjects:
        entry = subject.reference
        try:
            samples = read_samples(entry.group.first, entry.task, max(1, images))
        except Exception as error:  # data that moved, or a run of former code: the numbers stand without pictures
            notes.append(f"No pictures: the validation images of {entry.group.first.name} cannot be read ({error})")
            continue
        first_image = samples[0].image if first_image is None else first_image
        networks = [(entry.group.network, entry.task) for entry in subject.entries]
        subject.sample_rows = draw_rows(samples, subject.kind, subject.class_names, networks) if images else []
        subject.legend = colours_shown(samples, subject.kind, subject.class_names)
    networks = [group.network for group in groups if group.network]
    if repeats and networks:
        if first_image is None:
            notes.append("Latency was not measured: there is no image to measure it on.")
        else:
            measure_latency(networks, first_image, repeats)
    return notes
