"""conclude(prepared, run): what is made of a run once it is trained."""

import logging
from pathlib import Path
from typing import Any

from mnv2_tasks.build import load_strictly
from mnv2_tasks.drawing.curves import plot_curves
from mnv2_tasks.errors import DataError
from mnv2_tasks.evaluation.pictures import write_pictures
from mnv2_tasks.evaluation.score import score_network
from mnv2_tasks.evaluation.summary import print_metrics
from mnv2_tasks.metrics.names import named, prefix_of
from mnv2_tasks.metrics.outcomes import save_outcomes
from mnv2_tasks.model_card.card import model_card
from mnv2_tasks.model_card.facts import RunFacts
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.runs.reproduce import described, tell_result
from mnv2_tasks.runs.run_folder import config_to_keep
from mnv2_tasks.runs.run_results import written
from mnv2_tasks.shipped import as_called_here
from mnv2_tasks.training.callbacks import moved_scores
from mnv2_tasks.training.prepared_run import Prepared
from mnv2_tasks.weights.digest import digest_of
from mnv2_tasks.weights.weight_files import load_weights, save_weights
from mnv2_tasks.whole_files import write_json, write_text

log = logging.getLogger(__name__)


def conclude(prepared: Prepared, run: Path, *, epochs: int) -> None:
    """Score the best checkpoint, and write what came of the run.

    Args:
        epochs: that it was trained.
    """
    config, network, data, module = prepared.config, prepared.network, prepared.data, prepared.module
    best = load_weights(run / "checkpoints" / "best.ckpt", trust=True)  # nothing is built of it
    load_strictly(network, best.state, "best.ckpt")
    values, writes = score_network(network, data.val_loaders, config.trainer, prepared.scored_in, module.views)
    if not writes:
        return
    metrics: dict[str, Any] = named(values, network.tasks) | {"precision": prepared.scored_in}
    save_weights(run / "weights.safetensors", network.state_dict(), {**module.passport, "metrics": metrics})
    outcomes = {name: task.metric.outcomes() for name, task in network.tasks.items()}
    save_outcomes(run / "per_image.npz", outcomes)
    try:
        plot_curves(run / "metrics.csv", run / "plots" / "curves.png")
    except DataError as error:  # lost, or damaged from outside: the other results stand without it
        log.warning("no curves: %s", error)
    write_pictures(network, network.tasks, prepared.sources, data.fit, run, splits=("train", "val"))
    kinds = {name: task.kind for name, task in network.tasks.items()}
    description, cost = described(run), model_cost(network, config.imgsz)
    facts = RunFacts(config_to_keep(config), description, metrics, outcomes, kinds, cost)
    write_text(run / "model_card.md", model_card(facts))
    write_json(run / "metrics.json", metrics)  # which a study takes for the end of a run
    digest = digest_of(network.state_dict())
    early = {"stopped_early": True} if epochs < config.epochs else {}
    result = {"epochs": epochs, **early, "weights_sha256": digest, "files": written(run)}
    write_json(run / "run.json", description | {"result": result})  # last of all: it says that they are complete
    print_metrics(network, metrics)
    scores = [prefix_of(name, network.tasks) + task.metric.primary for name, task in network.tasks.items()]
    for line in moved_scores(run / "metrics.csv", {key: metrics[key] for key in scores}):
        log.info("%s; it trained in %s, and is scored in %s", line, prepared.precision, prepared.scored_in)
    if config.repeat:
        tell_result(Path(config.repeat), digest)
    log.info("run folder: %s", run)
    log.info(as_called_here("see it: python tools/predict.py weights=%s"), run / "weights.safetensors")
