"""export(config): weights -> one file that was run against PyTorch before it took its name."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console
from torch.utils.data import DataLoader

from mnv2_tasks.build import build_fit, build_network, ground_truths_of, load_tasks, load_with_passport, no_larger_than
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.network_and_data import build_data
from mnv2_tasks.evaluation.score import score, score_network
from mnv2_tasks.export.darknet import write_darknet
from mnv2_tasks.export.differences import Difference, differences, results_of
from mnv2_tasks.export.graph import Graph
from mnv2_tasks.export.images import available_sources, calibration_images, comparison_images
from mnv2_tasks.export.onnxruntime_web import runtime_files
from mnv2_tasks.export.web import MODEL, check_shown, write_page
from mnv2_tasks.export.write import JUDGED, write
from mnv2_tasks.loading.samplers import spread_evenly
from mnv2_tasks.network.devices import scoring_precision
from mnv2_tasks.network.network import ONE_VIEW, Network
from mnv2_tasks.runs.run_folder import make_folder
from mnv2_tasks.runtimes.exported import Exported, is_exported
from mnv2_tasks.runtimes.formats import FORMATS, check_format, format_module
from mnv2_tasks.shipped import as_called_here
from mnv2_tasks.weights.find import find_weights
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.whole_files import made_together, made_whole, remove_parts, write_text

log = logging.getLogger(__name__)

DARKNET = "darknet"  # a format of weights, which no runtime of ours runs
WEB = "web"  # an ONNX file in a folder, with a page that runs it
COMPARED = 16  # images whose results are compared one by one
ON_CPU = DictConfig({"accelerator": "cpu", "devices": 1, "nodes": 1})  # as the file runs
LOSS = 0.01  # of the primary score, that a file may cost


def export(config: DictConfig) -> Path:
    """Write the network, run the file beside PyTorch, and keep it if they agree.

    Returns:
        The file; of format=web the folder.

    Raises:
        ConfigError: what is asked for does not exist, lacks a package, or the file's results differ; then there is no
            file.
    """
    path, scored_in = _checked(config), scoring_precision(config.eval.precision, config.trainer.precision)
    weights = load_with_passport(path, trust=config.trust)
    names = {task: weights.passport["class_names"][task] for task in config.tasks}
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if config.format == DARKNET:
        out = _place(config)
        write_darknet(weights, config, names, out)
        return _told(console, config, out)
    fit, sources = build_fit(config), available_sources(config, names)
    with no_larger_than(weights.state, str(path)):
        network = build_network(config, names, ground_truths_of(sources))
    load_tasks(network, weights.state, str(path))
    network.eval()
    runtime: dict[str, bytes] = {}
    if config.format == WEB:  # before minutes of work
        check_shown({name: task.kind for name, task in network.tasks.items()})
        runtime = runtime_files(config.ort)
    pictures = comparison_images(config.images, sources, fit, COMPARED)
    results_of(network, pictures[:1])  # before anything is converted: it refuses what is not finite
    example = np.concatenate([pictures, pictures])[:2]
    if config.precision == "int8":
        example = calibration_images(config.calibration, sources, fit, config.calibration_images)
    passport = make_passport(config, names, f"exported from {path}") | {"exported": True}
    metadata = _metadata(config, network, passport, pictures[:1])

    out, format = _place(config), _graph_format(config)
    with _being_made(config, out) as part:
        loaders = _loaders(config, sources) if sources else {}
        ours: dict[str, Any] = {}
        if config.precision == "int8" and format in JUDGED:
            ours = _judged(network, loaders) | {"qat": weights.passport.get("training", {}).get("qat", False)}
        with console.status(f"writing {config.format}, {config.precision}"):
            report = write(network, format, torch.from_numpy(example), metadata, part, config.precision, **ours)
        exported = Exported(part, trust=True)
        wrong = _show_differences(console, differences(network, exported, pictures, config.precision))
        if loaders:
            wrong += _show_scores(console, network, exported, loaders, scored_in)
        if wrong:
            raise ConfigError(f"{out}: not written, its results are not PyTorch's: {'; '.join(wrong)}")
        if report is not None:
            report.table().show(console)
            write_text(_report_of(part), report.table().to_markdown())
        if config.format == WEB:
            write_page(part.parent, exported, fit, Path(config.weights).name, runtime)
    return _told(console, config, out)


@contextmanager
def _being_made(config: DictConfig, out: Path) -> Iterator[Path]:
    """Where the file is written until it, and all that belongs to it, takes its name."""
    if config.format != WEB:
        with made_together(out) as part:
            yield part
        return
    with made_whole(out) as folder:
        yield folder / MODEL


def _told(console: Console, config: DictConfig, out: Path) -> Path:
    size = sum(file.stat().st_size for file in (out.iterdir() if out.is_dir() else _files(out)))
    trust = " trust=true" if config.format in FORMATS and FORMATS[config.format].runs_code else ""
    use = as_called_here(f"python tools/predict.py weights={out} source=<images>{trust}")
    if config.format == WEB:
        use = as_called_here(f"python tools/demo.py weights={out}, or put the folder on a web server")
    console.print(f"written: {out}, {size / 1e6:.1f} MB. Use it: {use}")
    return out


def _checked(config: DictConfig) -> Path:
    """The file of weights, where all that was asked for can be had."""
    if config.format is None:
        raise ConfigError(f"say what to write: format={' | '.join([*FORMATS, WEB, DARKNET])}")
    if config.format != DARKNET:
        check_format(_graph_format(config), config.precision)
    elif config.precision != "fp32":
        raise ConfigError(f"format={DARKNET} precision={config.precision}: {DARKNET} has fp32")
    if config.weights in ("auto", "none"):
        raise ConfigError("say what to export: weights=<name, path or run folder>")
    path = find_weights(config.weights, config.choices.backbone)
    if is_exported(path):
        raise ConfigError(f"weights={path}: is an exported network already; export the weights that it was made from")
    if config.out is not None:
        suffix, out = _suffix(config), Path(os.path.expanduser(config.out))
        if suffix and out.suffix != suffix:
            raise ConfigError(f"out={out}: format={config.format} writes a file that ends in {suffix}")
        remove_parts(out.parent)  # of an export that was killed
        for file in [*_files(out), *([_report_of(out)] if config.precision == "int8" else [])]:
            if file.exists():
                raise ConfigError(f"out={out}: {file.name} exists; remove it, or choose another name")
    if config.format != DARKNET:
        format_module(_graph_format(config), to_write=True)
    return path


def _graph_format(config: DictConfig) -> str:
    """Of the file that holds the network."""
    return "onnx" if config.format == WEB else config.format


def _suffix(config: DictConfig) -> str:
    own = {DARKNET: ".weights", WEB: ""}  # a folder has none
    return own[config.format] if config.format in own else FORMATS[config.format].suffix


def _place(config: DictConfig) -> Path:
    if config.out is None:
        return make_folder(None, Path("runs/export")) / f"model{_suffix(config)}"
    return Path(os.path.expanduser(config.out))


def _files(path: Path) -> list[Path]:
    """Of one network: OpenVINO's is a pair, and Darknet's."""
    beside = {".xml": ".bin", ".weights": ".cfg"}.get(path.suffix)
    return [path, path.with_suffix(beside)] if beside else [path]


def _report_of(path: Path) -> Path:
    """Where the table of an int8 file's layers goes."""
    return path.with_suffix(".md")


def _metadata(config: DictConfig, network: Network, passport: dict[str, Any], picture: np.ndarray) -> dict[str, str]:
    """What goes into the file: all that tools/predict.py needs, and the same for people with another program."""
    tasks: dict[str, Any] = dict(network.tasks.items())
    preprocessing = {
        "pixels": "uint8 RGB (batch, height, width, 3); the file normalises them itself",
        "size": config.imgsz,
        "fit": config.input.fit,
        "resize": config.input.resize,
        "fill": list(config.input.mean),
    }
    with torch.inference_mode():
        outputs = Graph(network).outputs(torch.from_numpy(picture))
    return {
        "passport": json.dumps(passport),
        "precision": config.precision,
        "tasks": json.dumps({name: task.kind for name, task in tasks.items()}),
        "class_names": json.dumps({name: task.class_names for name, task in tasks.items()}),
        "preprocessing": json.dumps(preprocessing),
        "outputs": json.dumps(outputs),
    }


def _show_differences(console: Console, found: list[Difference]) -> list[str]:
    """What exceeds its limit."""
    table = Table("The file beside PyTorch, on the same pixels", ["task", "quantity", "value", "allowed"])
    table.rows = [[task, quantity, f"{value:.2g}", allowed] for task, quantity, value, allowed in found]
    table.show(console)
    return [f"{d.task}, {d.quantity}: {d.value:.2g}" for d in found if d.allowed is not None and d.value > d.allowed]


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
    console: Console, network: Network, exported: Exported, loaders: dict[str, DataLoader], precision: str
) -> list[str]:
    """What lost too much."""
    tasks: dict[str, Any] = dict(network.tasks.items())
    ours, _ = score_network(network, lambda: loaders, ON_CPU, precision, ONE_VIEW)
    theirs = score(exported.predict_task, tasks, loaders)
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
