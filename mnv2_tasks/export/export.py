"""export(config): weights -> one file that was run against PyTorch before it took its name."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from torch.utils.data import DataLoader

from mnv2_tasks.build import build_fit, load_with_passport
from mnv2_tasks.contracts import DataSource, Model
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.network_and_data import build_data
from mnv2_tasks.evaluation.score import score, score_network
from mnv2_tasks.export.darknet import write_darknet
from mnv2_tasks.export.differences import Difference, differences, exceeding
from mnv2_tasks.export.in_mediapipe import run_in_mediapipe
from mnv2_tasks.export.onnxruntime_web import runtime_files
from mnv2_tasks.export.prepare import WEB, PreparedFile, graph_format, makes_folder, prepare
from mnv2_tasks.export.web import MODEL, check_shown, write_page
from mnv2_tasks.export.write import JUDGED, write
from mnv2_tasks.loading.samplers import spread_evenly
from mnv2_tasks.network.devices import scoring_precision
from mnv2_tasks.network.network import ONE_VIEW, Network
from mnv2_tasks.network.split_plan import check_split
from mnv2_tasks.runs.run_folder import make_folder
from mnv2_tasks.runtimes.exported import Exported, is_exported
from mnv2_tasks.runtimes.formats import FORMATS, check_format, format_module
from mnv2_tasks.shipped import as_called_here
from mnv2_tasks.weights.find import find_weights
from mnv2_tasks.whole_files import made_together, made_whole, remove_parts, write_text

log = logging.getLogger(__name__)

DARKNET = "darknet"  # a format of weights, which no runtime of ours runs
ON_CPU = DictConfig({"accelerator": "cpu", "devices": 1, "nodes": 1})  # as the file runs
LOSS = 0.01  # of the primary score, that a file may cost


def export(config: DictConfig) -> Path:
    """Write the network, run the file beside PyTorch, and keep it if they agree.

    Returns:
        the file; of format=web, and where several tasks make as many files, the folder.

    Raises:
        ConfigError: what is asked for does not exist, lacks a package, or the file's results differ; then there is no
            file.
    """
    path = _checked(config)
    weights = load_with_passport(path, trust=config.trust)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if config.format == DARKNET:
        names = {task: weights.passport["class_names"][task] for task in config.tasks}
        out = _place(config)
        write_darknet(weights, config, names, out)
        return _told(console, config, out)
    files = prepare(config, path, weights)
    runtime: dict[str, bytes] = {}
    if config.format == WEB:  # before minutes of work
        check_shown({name: task.kind for name, task in files[0].network.tasks.items()})
        runtime = runtime_files(config.ort)

    out = _place(config)
    with made_whole(out) if config.format == WEB or makes_folder(config) else made_together(out) as part:
        for made in files:
            _write(console, made, _place_within(part, made, config), weights.passport, out)
        if config.format == WEB:
            write_page(part, Exported(part / MODEL, trust=True), build_fit(config), Path(config.weights).name, runtime)
    return _told(console, config, out)


def _write(console: Console, made: PreparedFile, file: Path, passport: Mapping[str, Any], out: Path) -> None:
    config, network = made.config, made.network
    loaders = _loaders(config, made.sources) if made.sources else {}
    ours: dict[str, Any] = {}
    format = graph_format(config)
    if config.precision == "int8" and format in JUDGED:
        ours = _judged(network, loaders) | {"qat": passport.get("training", {}).get("qat", False)}
    with console.status(f"writing {config.format}, {config.precision}"):
        example = torch.from_numpy(made.example)
        report = write(made.written, format, example, made.metadata, file, config.precision, **ours)
    with _run(config, file) as exported:
        wrong = _show_differences(console, differences(network, exported, made.pictures, config.precision))
        if loaders:
            theirs = _loaders(made.seen, made.sources)
            scored_in = scoring_precision(config.eval.precision, config.trainer.precision)
            wrong += _show_scores(console, network, exported, loaders, theirs, scored_in)
    if wrong:
        raise ConfigError(f"{out}: not written, its results are not PyTorch's: {'; '.join(wrong)}")
    if report is not None:
        report.table().show(console)
        write_text(_report_of(file), report.table().to_markdown())


@contextmanager
def _run(config: DictConfig, file: Path) -> Iterator[Model]:
    """The file in the runtime that it is for."""
    exported = Exported(file, trust=True)
    if config.format != "mediapipe":
        yield exported
        return
    with run_in_mediapipe(exported) as running:
        yield running


def _told(console: Console, config: DictConfig, out: Path) -> Path:
    files = sorted(out.iterdir()) if out.is_dir() else _files(out)
    size = sum(file.stat().st_size for file in files)
    trust = " trust=true" if config.format in FORMATS and FORMATS[config.format].runs_code else ""
    use = as_called_here(f"python tools/predict.py weights={files[0]} source=<images>{trust}")
    if config.format == WEB:
        use = as_called_here(f"python tools/demo.py weights={out}, or put the folder on a web server")
    each = f", a file for each task: {', '.join(file.name for file in files)}" if makes_folder(config) else ""
    console.print(f"written: {out}{each}, {size / 1e6:.1f} MB. Use it: {use}")
    return out


def _checked(config: DictConfig) -> Path:
    """The file of weights, where all that was asked for can be had."""
    if config.format is None:
        raise ConfigError(f"say what to write: format={' | '.join([*FORMATS, WEB, DARKNET])}")
    if config.format != DARKNET:
        check_format(graph_format(config), config.precision)
    elif config.precision != "fp32":
        raise ConfigError(f"format={DARKNET} precision={config.precision}: {DARKNET} has fp32")
    check_split(config.split, config.memory)
    if config.format == DARKNET and config.split != 1:
        raise ConfigError(f"format={DARKNET} split={config.split}: {DARKNET} has no bottlenecks. Use split=1")
    if config.weights in ("auto", "none"):
        raise ConfigError("say what to export: weights=<name, path or run folder>")
    path = find_weights(config.weights, config.choices.backbone)
    if is_exported(path):
        raise ConfigError(f"weights={path}: is an exported network already; export the weights that it was made from")
    if config.out is not None:
        suffix, out = _suffix(config), Path(os.path.expanduser(config.out))
        if makes_folder(config) and out.suffix:
            raise ConfigError(
                f"out={out}: format={config.format} writes a file for each of {', '.join(config.tasks)}. "
                f"Say out=<folder>, a name without an ending, or task=<one of them>"
            )
        if suffix and out.suffix != suffix:
            raise ConfigError(f"out={out}: format={config.format} writes a file that ends in {suffix}")
        remove_parts(out.parent)  # of an export that was killed
        for file in [*_files(out), *([_report_of(out)] if config.precision == "int8" else [])]:
            if file.exists():
                raise ConfigError(f"out={out}: {file.name} exists; remove it, or choose another name")
    if config.format != DARKNET:
        format_module(graph_format(config), to_write=True)
    return path


def _suffix(config: DictConfig) -> str:
    if config.format == WEB or makes_folder(config):
        return ""  # a folder has none
    return ".weights" if config.format == DARKNET else FORMATS[config.format].suffix


def _place_within(part: Path, made: PreparedFile, config: DictConfig) -> Path:
    """Where a file is written until it, and all that belongs to it, takes its name."""
    if config.format == WEB:
        return part / MODEL
    return part / f"{next(iter(made.network.tasks))}{_suffix(made.config)}" if makes_folder(config) else part


def _place(config: DictConfig) -> Path:
    if config.out is None:
        return make_folder(None, Path("runs/export")) / f"model{_suffix(config)}"
    return Path(os.path.expanduser(config.out))


def _files(path: Path) -> list[Path]:
    """Of one network: OpenVINO's are two, and Darknet's three."""
    beside = {".xml": [".bin"], ".weights": [".cfg", ".names"]}.get(path.suffix, [])
    return [path, *(path.with_suffix(ending) for ending in beside)]


def _report_of(path: Path) -> Path:
    """Where the table of an int8 file's layers goes."""
    return path.with_suffix(".md")


def _show_differences(console: Console, found: list[Difference]) -> list[str]:
    """What exceeds its limit."""
    table = Table("The file beside PyTorch, on the same pixels", ["task", "quantity", "value", "allowed"])
    table.rows = [[task, quantity, f"{value:.2g}", allowed] for task, quantity, value, allowed in found]
    table.show(console)
    return exceeding(found)


def _loaders(config: DictConfig, sources: Mapping[str, DataSource]) -> dict[str, DataLoader]:
    """`config.count` validation images of each task, evenly spread: data sets are often sorted by class."""
    loaders = {}
    for (name, source), loader in zip(sources.items(), build_data(config, dict(sources)).val_loaders().values()):
        length = source.length("val")
        indices = spread_evenly(length, config.count or length)
        loaders[name] = DataLoader(
            loader.dataset, loader.batch_size, sampler=[(0, i) for i in indices], collate_fn=loader.collate_fn
        )
    return loaders


def _judged(network: Network, loaders: dict[str, DataLoader]) -> dict[str, Any]:
    """What int8 may lose, and what says how much it does; nothing where there are no labels."""
    if not loaders:
        return {}
    tasks: dict[str, Any] = dict(network.tasks.items())

    def primary(file: Path) -> dict[str, float]:
        values = score(Exported(file, trust=True).predict_task, tasks, loaders, bars=False)
        return {name: values[name][tasks[name].metric.primary] or 0.0 for name in loaders}

    return {"budget": LOSS, "score": primary}


def _show_scores(
    console: Console,
    network: Network,
    exported: Model,
    loaders: dict[str, DataLoader],
    seen: dict[str, DataLoader],
    precision: str,
) -> list[str]:
    """What lost too much.

    Args:
        seen: the same images, as the file's runtime fits them.
    """
    tasks: dict[str, Any] = dict(network.tasks.items())
    ours, _ = score_network(network, lambda: loaders, ON_CPU, precision, ONE_VIEW)
    theirs = score(exported.predict_task, tasks, seen)
    table, wrong = Table("Scores", ["task", "images", "", f"PyTorch, {precision}", "file"]), []
    for name, loader in loaders.items():
        key = tasks[name].metric.primary
        before, after = ours[name][key] or 0.0, theirs[name][key] or 0.0
        sampler: Any = loader.sampler  # has a length, which the type of any sampler does not promise
        table.rows.append([name, len(sampler), key, f"{before:.4f}", f"{after:.4f}"])
        if before - after > LOSS:
            wrong.append(f"{name} loses {before - after:.4f} of {key}")
    table.show(console)
    return wrong
