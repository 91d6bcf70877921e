"""what=data: from JPEGs on disk to batches that a network takes."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from omegaconf import DictConfig

from mnv2_tasks.bench.data_reference import MEAN, REFERENCES, STD, Batch
from mnv2_tasks.bench.turns import Turns, table_rows, take_turns
from mnv2_tasks.contracts import SegmentationBatch
from mnv2_tasks.data.images.augment import Augment
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.data.packing import pack
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.folders import pictures_below
from mnv2_tasks.data.reading.records import Recorder
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.data.shards import shards
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.loading.caching import Wanted, choose_caches, fill_caches
from mnv2_tasks.loading.collate import collate
from mnv2_tasks.loading.loaders import TrainingSet
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.network import normalise

FILL = [123.675, 116.28, 103.53]
BATCH = 16
CLASSES, OBJECTS = 20, 7  # of the invented annotations; so many objects has an image of COCO on average
PRESETS = {"classification": ("imagenet", 224), "detection": ("ssd_crop", 320), "segmentation": ("deeplab", 513)}


def measure(config: DictConfig) -> list[Table]:
    count, rounds = (4, 1) if config.quick else (BATCH, config.repeats or 7)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if config.root:
            photos = {"photos of root": photos_below(config.root)[: 8 * count]}
        else:
            height, width = (750, 1000) if config.quick else (3000, 4000)
            photos = {
                "375 x 500": drawn_photos(folder / "small", 4 * count, (375, 500)),
                f"{height} x {width}": drawn_photos(folder / "large", max(2, count // 4), (height, width)),
            }
        for kind, (_, size) in PRESETS.items():
            # crops of 513 pixels: of a large photo both see a corner
            for title in list(photos)[: 1 if kind == "segmentation" else None]:
                found = _turns(data_set(kind, photos[title], folder / "masks"), folder / title, rounds)
                cells = partial(_cells, found["ours"], len(photos[title]))
                rows += [[f"{kind}, {size} px", title, *row] for row in table_rows(found, cells)]
    return [
        Table(
            "From JPEG to normalised float batch, on one core",
            ["task", "photos", "pipeline", "images/s", "ms/image", "ours is faster by"],
            rows,
            [
                "Processor time of one thread, the medians of rounds that alternate. Ours: the loader's batch with "
                "decode=reduced, normalised as the network does it; to uint8: as far as the processor goes where a GPU "
                "normalises. All keep freed memory, as training does: without it all are slower."
            ],
            text_columns=3,
        )
    ]


def _turns(source: FileSource, packed: Path, rounds: int) -> dict[str, Turns | str]:
    pipelines = {"ours": (ours, source), "ours, to uint8": (partial(ours, as_uint8=True), source)}
    pipelines["ours, data.cache=ram, second epoch"] = (partial(ours, cached=True), source)
    if source.kind == "classification" and find_spec("webdataset"):
        pack(source, ["train"], packed, shard_bytes=1 << 20)
        sharded = shards(root=str(packed), kind=source.kind)
        sharded.prepare(["train"])  # as the source is: what reads annotations does not go to other processes
        pipelines["ours, from tar shards"] = (ours, sharded)
    pipelines |= {name: (make, source) for name, make in REFERENCES[source.kind].items()}
    contestants = {name: partial(read_all, *pipeline) for name, pipeline in pipelines.items()}
    return take_turns(contestants, rounds=rounds, warmup=1, threads=1)


def _cells(ours: Turns | str, photos: int, name: str, turns: Turns) -> list[Any]:
    each, ratio = median(turns.processor) / photos, turns.times_as_fast_as(ours, processor=True)
    return [1 / each, 1e3 * each, ratio and 1 / ratio]


def read_all(make: Callable[[FileSource, int], Batch], source: FileSource, turns: Iterable[None]) -> None:
    """A contestant: all photos of the source in each turn."""
    cv2.setNumThreads(0)
    keep_freed_memory()  # as in training; all pipelines gain by it
    batch, count = make(source, PRESETS[source.kind][1]), source.length("train")
    for _ in turns:
        for start in range(0, count, BATCH):
            batch(list(range(start, min(count, start + BATCH))))


def ours(source: FileSource, size: int, *, as_uint8: bool = False, cached: bool = False) -> Batch:
    dataset = TrainingSet(source, Augment(PRESETS[source.kind][0], size, FILL), 0, reduced=True)
    if cached:
        fill_caches(choose_caches({source.kind: Wanted(source, dataset.least, "ram")}))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))

    def batch(indices: list[int]) -> Any:
        items = collate(source.kind, [dataset[0, i] for i in indices])
        if as_uint8:
            return items
        masks = items.masks.long() if isinstance(items, SegmentationBatch) else None
        return normalise(items.images, mean, std), masks

    return batch


def drawn_photos(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEGs of scenes with a camera's noise: 60 KB at 375 x 500 (height, width), as ImageNet's and VOC's photos."""
    folder.mkdir(parents=True)
    files = [folder / f"{number}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        scene = cv2.resize(draw_scene(0, "val", number, 640).image, size[::-1], interpolation=cv2.INTER_CUBIC)
        noise = np.random.default_rng(number).normal(0, 6, scene.shape)
        photo = np.clip(scene + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(file), photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return files


def photos_below(root: str) -> list[Path]:
    files = [Path(file) for file in pictures_below(Path(root))[0] if file.lower().endswith((".jpg", ".jpeg"))]
    if not files:
        raise ConfigError(f"root={root}: holds no JPEGs")
    return files


def data_set(kind: str, photos: Sequence[Path], masks: Path) -> FileSource:
    """Photos with invented labels, boxes and masks of blocks, written into a folder, for training of any kind."""
    masks.mkdir(parents=True, exist_ok=True)
    recorder = Recorder()
    for number, photo in enumerate(photos):
        rng = np.random.default_rng(number)
        height, width = read_image(photo).shape[:2]
        mask, blocks = str(masks / f"{number}.png"), rng.integers(0, CLASSES, (8, 8)).astype(np.uint8)
        cv2.imwrite(mask, cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST))
        recorder.image(str(photo), size=(height, width), label=int(rng.integers(CLASSES)), mask=mask)
        for _ in range(OBJECTS):
            x, y = rng.uniform(0, width * 0.8), rng.uniform(0, height * 0.8)
            far = x + rng.uniform(0.05, 0.2) * width, y + rng.uniform(0.05, 0.2) * height
            recorder.box((x, y, *far), int(rng.integers(CLASSES)))
    records, names = recorder.records(), [f"class {i}" for i in range(CLASSES)]
    source = FileSource(kind=kind, class_names=names, read=lambda split: (records, []), found="photos", on_bad="refuse")
    source.prepare(["train"])
    return source
