"""what=files: how fast many files are listed, looked at before a run and read in training, and their memory."""

import os
import time
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from omegaconf import DictConfig

from mnv2_tasks.bench.data import FILL, drawn_photos
from mnv2_tasks.data.class_lists import imagenet_wnids
from mnv2_tasks.data.imagenet import imagenet
from mnv2_tasks.data.images.augment import Augment
from mnv2_tasks.data.reading.verify import verify_files
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.loading.loaders import TrainingSet
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.process_memory import peak_memory

COUNTS = (1_000, 100_000, 1_000_000)
CLASSES = 100
READ = 500  # pictures


def measure(config: DictConfig) -> list[Table]:
    counts = (100, 1_000) if config.quick else COUNTS
    rows = []
    with TemporaryDirectory() as name:
        photos = drawn_photos(Path(name) / "photos", 20 if config.quick else 200, (375, 500))
        for count in counts:
            root = Path(name) / str(count)
            link(photos, count, root / "train")
            with get_context("spawn").Pool(1) as pool:  # each in a process of its own, for its memory
                rows.append([count, *pool.apply(work, (str(root), count))])
    return [
        Table(
            "Files of a classification set, a second",
            [
                "files",
                "listed",
                "looked at",
                "looked at again",
                "decoded",
                "read in training",
                "MB more",
                "bytes a file",
            ],
            rows,
            [
                f"JPEGs of 375 x 500; {len(photos)} photos, the others hard links, all in the system's cache. Looked "
                "at: data.verify=sample, the headers of all and 2,000 decoded; again: what was remembered; decoded: of "
                "those, as data.verify=full does with all; on all cores. Read in training: on one, to 224 pixels. "
                "Memory: the most that the process had resident, beyond what it had once all was imported."
            ],
        )
    ]


def link(photos: list[Path], count: int, folder: Path) -> None:
    """An ImageNet of so many pictures."""
    for number, wnid in enumerate(imagenet_wnids()[:CLASSES]):
        (folder / wnid).mkdir(parents=True)
        for index in range(number, count, CLASSES):
            os.link(photos[index % len(photos)], folder / wnid / f"{wnid}_{index}.JPEG")


def work(root: str, count: int) -> list[Any]:
    """Files a second of each piece of work, and the memory of all."""
    os.environ["MNV2_CACHE"] = f"{root}/cache"
    keep_freed_memory()
    before = peak_memory()
    times = [time.perf_counter()]

    def lap(of: int) -> float:
        times.append(time.perf_counter())
        return of / (times[-1] - times[-2])

    source = imagenet(root=root, kind="classification", on_bad="refuse")
    records, _ = source.read("train")
    rates = [lap(count)]
    for _ in range(2):
        verify_files(records, class_names=source.class_names, split="train", depth="sample")
        rates.append(lap(count))
    few = np.zeros(count, bool)
    few[:: max(1, count // READ)] = True
    some = records.keep(few, np.ones(0, bool))
    times.append(time.perf_counter())
    verify_files(some, class_names=source.class_names, split="train", depth="full")
    rates.append(lap(len(some)))
    source.verify = "sample"
    source.prepare(["train"])
    data = TrainingSet(source, Augment("imagenet", 224, FILL), 0, reduced=True)
    order = np.random.default_rng(0).permutation(count)[:READ].tolist()
    times.append(time.perf_counter())
    for index in order:
        data[0, index]
    rates.append(lap(len(order)))
    after = peak_memory()
    more = None if before is None or after is None else after - before
    return [*rates, more and more / 1e6, more and more / count]
