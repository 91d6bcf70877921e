"""evaluate(config): a run, or a file of weights -> tables and metrics.json."""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.build import build_sources, class_names_of, load_tasks, load_with_passport, no_larger_than
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation import summary
from mnv2_tasks.evaluation.chosen_split import evaluate_on
from mnv2_tasks.evaluation.network_and_data import build_data, build_tasks_network
from mnv2_tasks.evaluation.pictures import write_pictures
from mnv2_tasks.evaluation.score import score, score_network
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.metrics.names import named
from mnv2_tasks.metrics.outcomes import save_outcomes
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.devices import scoring_precision
from mnv2_tasks.network.network import ONE_VIEW, Network, Views
from mnv2_tasks.runs.lock import written_alone
from mnv2_tasks.runs.run_folder import next_folder
from mnv2_tasks.runtimes.exported import Exported, is_exported
from mnv2_tasks.weights.find import find_weights
from mnv2_tasks.weights.importers.complete import numbered_classes
from mnv2_tasks.weights.passport import backbone_settings, head_settings, input_settings
from mnv2_tasks.weights.weight_files import Weights
from mnv2_tasks.whole_files import write_json, write_text
from mnv2_tasks.wording import first_few

log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Validate a run, or weights, print the tables and write metrics.json.

    The network's own settings (padding, input normalisation and size, heads) are in `config` already: the command line
    takes them from the weights' passport, see `config.compose`.
    """
    if config.get("name"):
        raise ConfigError(f"name={config.name}: is of training; out=<folder> says where scores are written")
    keep_freed_memory()
    run = Path(config.run) if config.get("run") else None
    path = _weights_of(run) if run else _weights_named(config)
    trust, precision = config.trust, scoring_precision(config.eval.precision, config.trainer.precision)
    exported = Exported(path, trust=trust) if is_exported(path) else None
    weights = Weights({}, exported.passport, str(exported)) if exported else load_with_passport(path, trust=trust)
    if config.get("split"):
        evaluate_on(config, str(config.split))
    sources = build_sources(config)
    server_split = _server_split(sources)
    _check_tasks(path, weights.passport, class_names_of(sources))
    for source in sources.values():
        source.prepare(("val",))
    views = Views(tuple(config.scales), config.flip)
    with nullcontext() if exported else no_larger_than(weights.state, str(path)):
        network = build_tasks_network(config, sources)
    data = build_data(config, sources)
    if exported:
        _check_unchanged(config, weights.passport, path)
        precision, writes = exported.precision, True
        values = score(exported.predict_task, network.tasks, data.val_loaders())
    else:
        load_tasks(network, weights.state, str(path))
        values, writes = score_network(network, data.val_loaders, config.trainer, precision, views)
    metrics = named(values, network.tasks) | {"precision": precision}
    if writes:
        out = Path(config.out) if config.get("out") else (run / _folder_of(config) if run else _new_folder(config))
        out.mkdir(parents=True, exist_ok=True)
        if server_split:
            return _write_for_server(config, network, out, server_split) | {"precision": precision}
        with written_alone(out):
            save_outcomes(out / "per_image.npz", {name: task.metric.outcomes() for name, task in network.tasks.items()})
            for name, task in network.tasks.items():
                if (for_server := KINDS[task.kind].server_results(task.metric)) is not None:
                    write_json(out / f"{name}_results.json", for_server)
            _write_thresholds(out, network)
            write_pictures(exported or network, network.tasks, sources, data.fit, out, splits=("val",))
            write_json(out / "metrics.json", metrics)  # last: it says that the others are there
        summary.print_metrics(network, metrics)
        for line in summary.conditions(config, path, weights, sources, precision):
            log.info("%s", line)
        log.info("written: %s", out / "metrics.json")
    return metrics


def _server_split(sources: Mapping[str, DataSource]) -> str | None:
    """What a server calls the split of which it alone has the annotations; None where they are here.

    Raises:
        ConfigError: other tasks are to be scored beside.
    """
    of_tasks = {name: source.server_split for name, source in sources.items() if isinstance(source, FileSource)}
    name = next((name for name, split in of_tasks.items() if split), None)
    if name and len(sources) > 1:
        raise ConfigError(
            f"data.{name}: {of_tasks[name]} has no annotations, so it is for one task alone: "
            f"task={name} data=coco weights=<this run>/weights.safetensors split=test-dev"
        )
    return of_tasks[name] if name else None


def _write_for_server(config: DictConfig, network: Network, out: Path, split: str) -> dict[str, Any]:
    """The detections of a split without annotations, in the file that COCO's server takes; there are no scores."""
    ((name, task),) = network.tasks.items()
    file = out / f"detections_{split}_{name}-{config.choices.backbone}_results.json"
    boxes = KINDS[task.kind].server_results(task.metric) or []
    with written_alone(out):
        write_text(file, json.dumps(boxes, allow_nan=False))  # in one line: they are two millions
    log.info(
        "no scores: COCO's server alone has the annotations of %s. Zip this file alone and upload it: %s", split, file
    )
    return {"boxes": len(boxes)}


def _write_thresholds(out: Path, network: Network) -> None:
    """Of the tasks that find boxes, if there are any, as predict's thresholds= takes them."""
    found = {name: KINDS[task.kind].thresholds(task.metric) for name, task in network.tasks.items()}
    of_boxes = {name: scores for name, scores in found.items() if scores is not None}
    for name, scores in of_boxes.items():
        if without := [of for of in network.tasks[name].class_names if of not in scores]:
            log.info("thresholds.json: %s: none of %s, of which no object is there or found", name, first_few(without))
    if of_boxes:
        write_json(out / "thresholds.json", of_boxes)


def _new_folder(config: DictConfig) -> Path:
    """Of weights without a run: apart from the runs of their task, with which it would be compared."""
    choices = config.choices
    return next_folder(Path(config.runs) / "eval", f"{choices.task}-{choices.data}-{choices.backbone}")


def _folder_of(config: DictConfig) -> str:
    """In the run folder: the scores of another split do not take the place of those of val."""
    return "eval_" + re.sub(r"\W+", "_", str(config.split)) if config.get("split") else "eval"


def _check_unchanged(config: DictConfig, passport: dict[str, Any], path: Path) -> None:
    """Refuse what was fixed when the file was written."""
    if Views(tuple(config.scales), config.flip) != ONE_VIEW:
        raise ConfigError(f"{path}: an exported network sees each image once; scales= and flip= need its weights")
    stored, composed = (_fixed(tree, config.tasks) for tree in (passport["config"], OmegaConf.to_container(config)))
    for key, value in stored.items():
        if value != composed[key]:
            raise ConfigError(f"{path}: has its own {key}; to change it, export the weights again")


def _fixed(config: Any, tasks: Iterable[str]) -> dict[str, Any]:
    """What an exported file holds of a config; it knows no losses."""
    former: dict[str, Any] = {"max_per_class": None}  # before 0.2 no file said it
    of_tasks = {f"tasks.{name}": former | dict(config["tasks"][name]) for name in tasks}
    for task in of_tasks.values():
        task.pop("loss", None)
        task["head"] = head_settings(task["head"])
    kept = {key: config[key] for key in ("imgsz", "output_stride", "width")}
    settings = {"backbone": backbone_settings(config["backbone"]), "input": input_settings(config["input"])}
    return kept | settings | of_tasks


def _weights_of(run: Path) -> Path:
    files = [run / "weights.safetensors", run / "checkpoints" / "best.ckpt", run / "checkpoints" / "last.ckpt"]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        raise ConfigError(f"run={run}: has no weights yet, neither {' nor '.join(str(f) for f in files)}")
    return path


def _weights_named(config: DictConfig) -> Path:
    if config.weights in ("auto", "none"):
        raise ConfigError("say what to evaluate: run=<run folder>, or weights=<name or path> with task=<task>")
    return find_weights(config.weights, config.choices.backbone)


def _check_tasks(path: Path, passport: dict[str, Any], names: dict[str, list[str]]) -> None:
    """Refuse weights that lack a task, or whose classes differ from the data's."""
    offered = passport["class_names"]
    for task, wanted in names.items():
        if task not in offered:
            raise ConfigError(f"{path}: holds {', '.join(offered)}; you asked for task {task}")
        if offered[task] == wanted:
            continue
        if offered[task] == numbered_classes(len(wanted)):
            log.info("%s: does not name the classes of %s: they are taken for the data's, in this order", path, task)
            continue
        only_there = [n for n in offered[task] if n not in wanted]
        only_here = [n for n in wanted if n not in offered[task]]
        order = "" if only_there or only_here else ". They are the same, in another order"
        raise ConfigError(
            f"{path}: {task} knows {len(offered[task])} classes, the data has {len(wanted)}. "
            f"Only in the weights: {only_there}; only in the data: {only_here}{order}"
        )
