"""Runs side by side: compare(runs, out) -> one HTML page, a Markdown table and a JSON file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from omegaconf import DictConfig

from mnv2_tasks.errors import DataError
from mnv2_tasks.export.prepare import COMPARED
from mnv2_tasks.loading.samplers import spread_evenly
from mnv2_tasks.studies.compare.comparison import Comparison
from mnv2_tasks.studies.compare.comparison_tables import markdown
from mnv2_tasks.studies.compare.exporting import export_networks, format_to_time
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
    exported: str = "auto",
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
        exported: a format, as which each network is timed beside PyTorch; auto: onnx, if it can be had; none.
        trust: the runs are the user's own: they may name any class.

    Raises:
        ConfigError: `exported` is no format, or what it needs is not installed.
        DataError: the runs are of different tasks or of different data, or none of them has a score.
    """
    folders = list({Path(folder).resolve(): Path(folder) for folder in runs}.values())
    if not folders:
        raise DataError("there are no runs to compare; say which: python tools/compare.py runs/<task>/*")
    format, missing = format_to_time(exported if repeats else "none")
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
    notes += missing
    notes += _measure_and_draw(groups, subjects, repeats, images, format)
    title = title or f"{len(finished)} run{'s' if len(finished) > 1 else ''} compared"
    comparison = Comparison(title, groups, subjects, device_name(), format, excluded, notes)
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


def _measure_and_draw(
    groups: Sequence[Group], subjects: Sequence[Subject], repeats: int, images: int, format: str | None
) -> list[str]:
    """Give each subject its pictures, the same images for every entry; latency is measured on the first of them all."""
    notes, seen = [], []
    for subject in subjects:
        entry = subject.reference
        try:
            samples = read_samples(entry.group.first, entry.task, max(COMPARED, images))
        except Exception as error:  # data that moved, or a run of former code: the numbers stand without pictures
            notes.append(f"No pictures: the validation images of {entry.group.first.name} cannot be read ({error})")
            continue
        seen = seen or [sample.image for sample in samples]
        shown = [samples[index] for index in spread_evenly(len(samples), images)] if images else []
        networks = [(entry.group.network, entry.task) for entry in subject.entries]
        subject.sample_rows = draw_rows(shown, subject.kind, subject.class_names, networks) if shown else []
        subject.legend = colours_shown(shown, subject.kind, subject.class_names)
    if repeats and any(group.network for group in groups):
        if not seen:
            return [*notes, "Latency was not measured: there is no image to measure it on."]
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # on Windows a runtime holds its file open
            files, without = export_networks(groups, format, seen, Path(folder))
            measure_latency([group.network for group in groups], files, seen[0], repeats)
        notes += without
    return notes
