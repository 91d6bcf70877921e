"""evaluate(config): a run, or a file of weights -> tables and metrics.json."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mnv2_tasks import report
from mnv2_tasks.build import build_source, class_names_of, load_strictly
from mnv2_tasks.checkpoint import find_weights, load_weights
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.lightning_parts import build_data, build_module, build_tasks_network, choose_precision, validate
from mnv2_tasks.run_folder import run_folder_of, write_json

log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Validate a run, or weights, print the tables and write metrics.json."""
    run = Path(config.run) if config.get("run") else None
    if run is not None:
        files = [
            run / "weights.safetensors",
            run / "checkpoints" / "best.ckpt",
            run / "checkpoints" / "last.ckpt",
        ]
        path = next((file for file in files if file.is_file()), None)
        if path is None:
            raise ConfigError(f"run={run}: has no weights yet, neither {' nor '.join(str(f) for f in files)}")
    elif config.weights in ("auto", "none"):
        raise ConfigError("say what to evaluate: run=<run folder>, or weights=<name or path> with task=<task>")
    else:
        path = find_weights(config.weights)
    state, passport = load_weights(path)
    source = build_source(config)
    names = class_names_of(source, config)
    _check_tasks(path, passport, names)
    if passport:  # the weights know their network; the command line chooses tasks, data and protocol
        kept = passport["config"]
        config.backbone, config.output_stride, config.input = (
            kept["backbone"],
            kept["output_stride"],
            kept["input"],
        )
        for name in names:
            config.tasks[name].head = kept["tasks"][name]["head"]
    network = build_tasks_network(config, source, names)
    wanted = network.state_dict()
    load_strictly(network, {name: tensor for name, tensor in state.items() if name in wanted}, str(path))

    module = build_module(config, network, passport)
    data = build_data(config, source)
    trainer = validate(config, choose_precision(config.trainer.precision), module, data)
    if trainer.is_global_zero:
        out = Path(config.out) if config.get("out") else (run / "eval" if run else run_folder_of(config))
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "metrics.json", module.metrics)
        report.print_metrics(network, module.metrics)
        log.info("weights %s; input %d px; %s", path, config.imgsz, out / "metrics.json")
    return module.metrics


def _check_tasks(path: Path, passport: dict[str, Any], names: dict[str, list[str]]) -> None:
    """Refuse weights that lack a task, or whose classes differ from the data's."""
    if not passport:
        return
    offered = passport["class_names"]
    for task, wanted in names.items():
        if task not in offered:
            raise ConfigError(f"{path}: holds {', '.join(offered)}; you asked for task {task}")
        if offered[task] != wanted:
            only_there = [n for n in offered[task] if n not in wanted]
            only_here = [n for n in wanted if n not in offered[task]]
            raise ConfigError(
                f"{path}: {task} knows {len(offered[task])} classes, the data has {len(wanted)}. "
                f"Only in the weights: {only_there}; only in the data: {only_here}"
            )
