"""what=predict: from a folder of photos to a folder of pictures with what was found, beside ultralytics."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from mnv2_tasks.bench.contestants import SIZES, optional, our_config, our_network
from mnv2_tasks.bench.data import drawn_photos, photos_below
from mnv2_tasks.bench.infer import export_one
from mnv2_tasks.bench.turns import Turns, repeat, table_rows, take_turns
from mnv2_tasks.build import build_fit
from mnv2_tasks.contracts import Model
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.devices import FLOAT32, autocast_type
from mnv2_tasks.prediction.least_scores import least_scores
from mnv2_tasks.prediction.predictor import Predictor, Unread, for_prediction
from mnv2_tasks.prediction.result_files import ResultFiles
from mnv2_tasks.prediction.sources import inputs_of
from mnv2_tasks.runtimes.exported import Exported
from mnv2_tasks.wording import nearest

log = logging.getLogger(__name__)

PHOTOS, SIDES = 128, (375, 500)  # drawn where there are no others; (height, width) of most of ImageNet
MOST_PHOTOS = {"classification": 256, "ssdlite": 64, "mobile_deeplabv3": 16}  # a turn takes seconds then
THEIRS = {  # the smallest of each, with the input that it is trained for
    "classification": ("yolo26n-cls.yaml", 224),
    "ssdlite": ("yolo26n.yaml", 640),
    "mobile_deeplabv3": ("yolo26n-seg.yaml", 640),
}


def measure(config: DictConfig) -> Iterator[Table]:
    if config.only is not None and config.only not in THEIRS:
        raise ConfigError(f"only={config.only}: unknown. {nearest(config.only, list(THEIRS))}")
    with tempfile.TemporaryDirectory() as folder:
        photos = (
            photos_below(config.root)
            if config.root
            else drawn_photos(Path(folder, "photos"), _most(config, PHOTOS), SIDES)
        )
        tasks = list(THEIRS)[:1] if config.quick else [config.only] if config.only else list(THEIRS)
        for task in tasks:
            yield _table(task, photos[: _most(config, MOST_PHOTOS[task])], config)


def _most(config: DictConfig, photos: int) -> int:
    return 2 if config.quick else photos


def _table(task: str, photos: list[Path], config: DictConfig) -> Table:
    network, side = THEIRS[task]
    prepared = {
        "ours": partial(ours, task, photos),
        "ours, precision=bf16-mixed": partial(ours, task, photos, precision="bf16-mixed"),
        "ours, exported to ONNX": partial(ours, task, photos, exported=True),
        "ultralytics, as it comes": partial(theirs, network, side, photos, batch=1, threads=1),
        "ultralytics, batch=16, all threads": partial(theirs, network, side, photos, batch=16, threads=None),
    }
    contestants = {name: partial(repeat, prepare) for name, prepare in prepared.items()}
    found = take_turns(
        contestants, rounds=config.repeats or (1 if config.quick else 5), warmup=1, threads=torch.get_num_threads()
    )
    log.info("measured %s", task)

    def cells(name: str, turns: Turns) -> list[Any]:
        seconds = turns.percentile(50)
        ratio = found["ours"].times_as_fast_as(turns) if isinstance(found["ours"], Turns) else None
        return [len(photos) / seconds, 1e3 * seconds / len(photos), ratio, turns.peak(2**20)]

    return Table(
        f"{task} at {SIZES[task]} px, {network.removesuffix('.yaml')} at {side} px, {len(photos)} photos",
        ["contestant", "images/s", "ms/image", "ours is faster by", "memory, MiB"],
        table_rows(found, cells),
        [
            "From files to files, networks loaded before. Weights are random: all classes score alike, and their "
            "detectors find nothing to draw. As it comes, ultralytics takes one image at a time on one thread."
        ],
    )


def ours(task: str, photos: list[Path], *, precision: str = FLOAT32, exported: bool = False) -> Callable[[], None]:
    keep_freed_memory()
    config = our_config(task, SIZES[task])
    if exported:
        file = export_one(task, SIZES[task], Path(tempfile.mkdtemp()), "onnx", "fp32")
        network: Model = Exported(file, trust=True)
    else:
        network = for_prediction(our_network(config))
    least = least_scores(network.tasks, min_score=0.4)
    predictor = Predictor(network, build_fit(config), autocast_type(precision))

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            files = ResultFiles(Path(folder), ["pictures", "masks", "json"], waiting=16)
            for result in predictor.results(inputs_of(photos), batch=16, least=least):
                assert not isinstance(result, Unread), result
                files.write(result)
            files.finish()

    return call


def theirs(network: str, side: int, photos: list[Path], batch: int, threads: int | None) -> Callable[[], None]:
    """
    Args:
        threads: None leaves those that torch has here; 1 is what their package asks for as it is imported first.
    """
    if threads:
        torch.set_num_threads(threads)
    settings = tempfile.mkdtemp()
    os.environ |= {"YOLO_CONFIG_DIR": settings, "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
    model = optional("ultralytics").YOLO(network)

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            # its list of files is decoded at once, its folder one after the other
            (listed := Path(folder, "photos.txt")).write_text("\n".join(map(str, photos)))
            asked: dict[str, Any] = {"save": True, "verbose": False, "device": "cpu", "project": folder}
            found: Iterable[Any] = model.predict(str(listed), stream=True, batch=batch, imgsz=side, **asked)
            assert sum(1 for _ in found) == len(photos)

    return call
