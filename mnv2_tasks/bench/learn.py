"""what=learn: scores on real data after training as tools/train.py does, beside torchvision's reference training.

Both train our network from the same weights, on as many images of the same size in batches of the same number, with the
same optimizer, schedule and precision. What differs is theirs: augmentation, the order of images, matching and loss,
clipping, averaged weights, and a detector's post-processing; see learn_reference.py.

What is finished is kept in `runs`, and a run of ours goes on where it was stopped, so the bench can be called again.
"""

import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig

from mnv2_tasks.bench.learn_reference import batches_of, reference_of, train_as_reference
from mnv2_tasks.config.compose import compose
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.score import score, score_network
from mnv2_tasks.loading.loaders import training_images
from mnv2_tasks.network.unfold import is_folded, unfold
from mnv2_tasks.training.prepared_run import prepare
from mnv2_tasks.training.train import UNFOLD_IMAGES, train
from mnv2_tasks.whole_files import write_json
from mnv2_tasks.wording import nearest

SEEDS = 3
QUICK = ("epochs=1", "imgsz=64", "batch=2", "trainer.validate_every=1", "trainer.limit_train=2")


class Course(NamedTuple):
    folder: str  # below `root`
    score: str  # of metrics.json
    words: tuple[str, ...]  # of both, for tools/train.py


COURSES = {
    "ssdlite": Course(
        "NEU-DET",
        "AP50",
        ("data=folder", "epochs=6", "imgsz=256", "batch=16", "lr=0.002", "trainer.validate_every=6"),
    ),
    "mobile_deeplabv3": Course(
        ".",
        "mIoU",
        (
            *("data=voc", "recipe=mobile_deeplabv3_voc_small", "epochs=6", "imgsz=321", "trainer.validate_every=6"),
            # of the recipe, what the reference has not
            *("data.augmentation.segmentation=deeplab", "class_weights.mobile_deeplabv3=null", "backbone_lr=0.05"),
        ),
    ),
    "classification": Course(
        "tiny_imagenet_20",
        "top1",
        (
            *("data=folder", "epochs=15", "imgsz=64", "batch=64", "trainer.validate_every=15", "weights=none"),
            *("optim=sgd", "lr=0.1", "backbone_lr=1.0", "input.resize=64"),
        ),
    ),
}


def measure(config: DictConfig) -> Iterator[Table]:
    if config.root is None:
        folders = ", ".join(course.folder for course in COURSES.values() if course.folder != ".")
        raise ConfigError(f"root=: say which folder holds VOCdevkit, {folders}")
    if config.only not in (None, *COURSES):
        raise ConfigError(f"only={config.only}: unknown. {nearest(config.only, list(COURSES))}")
    for task, course in COURSES.items():
        if config.only in (None, task):
            seeds = range(1 if config.quick else config.repeats or SEEDS)
            yield _table(task, course, [_both(task, course, seed, config) for seed in seeds])


def _both(task: str, course: Course, seed: int, config: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """What came of one seed: {"score", "seconds", "started_from"} of ours and of theirs."""
    words = [f"task={task}", *course.words, f"data.root={Path(config.root, course.folder)}", f"seed={seed}"]
    words += [] if "weights=none" in course.words else [f"weights={config.weights}"]
    words += [*QUICK] if config.quick else []
    place = Path(config.runs, f"{task}-seed{seed}")
    return _kept(place / "ours.json", _ours, words, course), _kept(place / "theirs.json", _theirs, words, course)


def _kept(path: Path, run: Any, words: list[str], course: Course) -> dict[str, Any]:
    """What `run` found, or did before by the same words."""
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["words"] == words:
            return found
        raise ConfigError(f"{path}: is of other settings, {' '.join(found['words'])}. Choose another runs=")
    path.parent.mkdir(parents=True, exist_ok=True)
    gc.collect()  # a loader of the run before, which the processes of the next would end when they are forked
    began = time.perf_counter()
    score = run(path.parent, words, course)
    found = {"score": score, "seconds": time.perf_counter() - began, "words": words}
    write_json(path, found)
    return found


def _ours(place: Path, words: list[str], course: Course) -> float:
    stopped = [path.parents[1] for path in place.rglob("last.ckpt")]
    last = [f"resume={stopped[-1]}"] if stopped else [*words, f"runs={place}"]
    run = train(compose("train", last))
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))[course.score]


def _theirs(place: Path, words: list[str], course: Course) -> float:
    config = compose("train", words)
    prepared = prepare(config)
    network, data, module = prepared.network, prepared.data, prepared.module
    ((task, source),) = prepared.sources.items()
    if not config.freeze_norms and is_folded(network):
        unfold(network, training_images(data, UNFOLD_IMAGES))
    torch.manual_seed(config.seed)
    network.to(memory_format=torch.channels_last)
    reference = reference_of(network, task, source, config.train_imgsz or config.imgsz)
    images = source.length("train")
    steps = config.trainer.limit_train or images // config.batch
    optimizer = module.optimisation.build_optimizer(network.backbone, network.get_submodule("tasks"))
    schedule = module.optimisation.build_schedule(optimizer, config.epochs * steps)
    settings = {"batch": config.batch, "epochs": config.epochs, "steps": steps, "seed": config.seed}
    batches = batches_of(reference, images, **settings, workers=config.workers)
    train_as_reference(network, reference, batches, optimizer, schedule, prepared.precision)
    network.eval()
    if reference.predict:
        values = score(reference.predict, network.tasks, data.val_loaders())
    else:
        values, _ = score_network(network, data.val_loaders, config.trainer, prepared.scored_in, module.views)
    return values[task][course.score]


def _table(task: str, course: Course, found: list[tuple[dict[str, Any], dict[str, Any]]]) -> Table:
    rows = [[f"seed {seed}", *_cells(ours, theirs)] for seed, (ours, theirs) in enumerate(found)]
    means = [{key: mean(run[key] for run in side) for key in ("score", "seconds")} for side in zip(*found)]
    return Table(
        f"{course.score} of {task} after training, {' '.join(course.words)}",
        ["", "ours", "torchvision's", "difference", "ours, min", "theirs, min"],
        [*rows, ["mean", *_cells(*means)]],
        ["Scores are 0 to 1. The same network, weights at the start, images seen, optimizer, schedule and precision."],
    )


def _cells(ours: dict[str, Any], theirs: dict[str, Any]) -> list[Any]:
    scores = [ours["score"], theirs["score"], ours["score"] - theirs["score"]]
    return [*(f"{value:.4f}" for value in scores), ours["seconds"] / 60, theirs["seconds"] / 60]
