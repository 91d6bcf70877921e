"""what=data: from JPEGs on disk to batches that a network takes."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from omegaconf import DictConfig

from mnv2_tasks.bench import data_reference as reference
from mnv2_tasks.bench.data_sets import CLASSES, OBJECTS, data_set, drawn_photos, photos_below
from mnv2_tasks.contracts import SegmentationBatch
from mnv2_tasks.data.images.augment import Augment
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.packing import pack
from mnv2_tasks.data.reading.file_source import FileSource, Packed
from mnv2_tasks.data.reading.records import Records, Texts
from mnv2_tasks.data.shards import shards
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.loading.collate import collate
from mnv2_tasks.loading.loaders import TasksData, TrainingSet
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.network import normalise

FILL = [123.675, 116.28, 103.53]
BATCH = 16


class Contest(NamedTuple):
    kind: str
    preset: str
    size: int  # of the input, in pixels
    others: dict[str, Callable[[FileSource, int], reference.Batch]]


CONTESTS = (
    Contest(
        "classification", "imagenet", 224,
        {"torchvision, Pillow": reference.classification, "torchvision, tensors": reference.classification_tensors},
    ),
    Contest("detection", "ssd_crop", 320, {"torchvision, v2 on Pillow": reference.detection}),
    Contest("segmentation", "deeplab", 513, {"torchvision, v2 on Pillow": reference.segmentation}),
)  # fmt: skip


def measure(config: DictConfig, out: Path) -> list[Table]:
    with tempfile.TemporaryDirectory() as folder:
        return list(_tables(config, Path(folder)))


def _tables(config: DictConfig, folder: Path) -> Iterator[Table]:
    keep_freed_memory()  # as in training; all pipelines gain by it
    count, rounds = (4, 1) if config.quick else (BATCH, config.repeats or 7)
    if config.root:
        photos = {"photos of root": photos_below(config.root)[: 8 * count]}
    else:
        large = (750, 1000) if config.quick else (3000, 4000)
        photos = {
            "375 x 500": drawn_photos(folder / "small", 4 * count, (375, 500)),
            f"{large[0]} x {large[1]}": drawn_photos(folder / "large", max(2, count // 4), large),
        }
    yield _rates(photos, folder, rounds)
    small = next(iter(photos.values()))
    yield _waiting(small, folder, quick=config.quick)
    yield _streaming(small, folder, rounds=1 if config.quick else 3)
    yield _memory(folder, images=300 if config.quick else 118_287)


def _rates(photos: dict[str, list[Path]], folder: Path, rounds: int) -> Table:
    table = Table(
        "From JPEG to normalised float batch, on one core",
        ["task", "photos", "pipeline", "images/s", "ms/image", "ours is faster by"],
        notes=[
            "Processor time of one thread, the medians of rounds that alternate. Ours: the loader's batch with "
            "decode=reduced, normalised as the network does it; to uint8: as far as the processor goes where a GPU "
            "normalises. All keep freed memory, as training does: without it all are slower."
        ],
    )
    for contest in CONTESTS:
        for name, files in photos.items():
            if contest.kind == "segmentation" and name != next(iter(photos)):
                continue  # crops of so many pixels: of a large photo both see a corner
            source = data_set(contest.kind, files, folder / "masks")
            pipelines = {"ours": _ours(source, contest), "ours, to uint8": _ours(source, contest, as_uint8=True)}
            pipelines |= {title: make(source, contest.size) for title, make in contest.others.items()}
            seconds = _by_turns(pipelines, len(files), rounds)
            for title, taken in seconds.items():
                ratio = statistics.median(theirs / ours for theirs, ours in zip(taken, seconds["ours"]))
                each = statistics.median(taken) / len(files)
                row = [f"{contest.kind}, {contest.size} px", name, title, 1 / each, 1e3 * each]
                table.rows.append([*row, None if title.startswith("ours") else ratio])
    return table


def _ours(source: FileSource, contest: Contest, *, as_uint8: bool = False) -> reference.Batch:
    dataset = TrainingSet(source, Augment(contest.preset, contest.size, FILL), 0, reduced=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (reference.MEAN, reference.STD))

    def batch(indices: list[int]) -> Any:
        items = collate(source.kind, [dataset[0, i] for i in indices])
        if as_uint8:
            return items
        masks = items.masks.long() if isinstance(items, SegmentationBatch) else None
        return normalise(items.images, mean, std), masks

    return batch


def _by_turns(pipelines: dict[str, reference.Batch], count: int, rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each round over all images; the first round warms up."""
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    seconds: dict[str, list[float]] = {title: [] for title in pipelines}
    for _ in range(rounds + 1):
        for title, batch in pipelines.items():
            began = time.process_time()
            for start in range(0, count, BATCH):
                batch(list(range(start, min(count, start + BATCH))))
            seconds[title].append(time.process_time() - began)
    torch.set_num_threads(threads)
    cv2.setNumThreads(cv2_threads)
    return {title: taken[1:] for title, taken in seconds.items()}


def _loader(
    source: FileSource, contest: Contest, workers: int, batch: int = BATCH, size: int | None = None
) -> TasksData:
    size = size or contest.size
    return TasksData(
        sources={"task": source},
        augment=lambda task: Augment(contest.preset, size, FILL),
        fit=Fit(mode="square", size=size, resize=None, fill=FILL),
        batch_size=batch,
        workers=workers,
        seed=0,
        reduced=["task"],
    )


def _repeated(source: FileSource, times: int) -> FileSource:
    """The same photos as a data set that many times as large."""
    records, sizes = source.verified("train")

    def repeat(values: Any) -> Any:
        return Texts(list(values) * times) if isinstance(values, Texts) else np.concatenate([values] * times)

    counts = np.tile(np.diff(records.starts), times)
    fields = {name: repeat(value) for name, value in vars(records).items()}
    fields["starts"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    fields["ids"] = np.arange(len(counts), dtype=np.int64)
    return _trusted(source.kind, Records(**fields), np.tile(sizes, (times, 1)))


def _trusted(kind: str, records: Records, sizes: np.ndarray) -> FileSource:
    return FileSource(
        kind=kind,
        class_names=[f"class {i}" for i in range(CLASSES)],
        read=lambda split: (records, []),
        found="repeated photos",
        on_bad="refuse",
        packed=lambda split: Packed(sizes, [np.arange(len(sizes))]),
    )


def _waiting(photos: list[Path], folder: Path, *, quick: bool) -> Table:
    """A training step as the task has it, without Lightning."""
    from mnv2_tasks.build import build_network
    from mnv2_tasks.config.compose import compose

    steps, processes, batch_size = (1, (1,), 2) if quick else (20, (0, 1, 2), BATCH)
    table = Table(
        "What a training step waits for its images",
        ["step", "loader processes", "step, ms", "waiting, ms", "wait share"],
        notes=[f"Batches of {batch_size}, MobileNetV2 1.0; the first two batches are left out."],
    )
    for task, contest in {"classification": CONTESTS[0], "ssdlite": CONTESTS[1]}.items():
        config = compose("train", [f"task={task}", f"imgsz={contest.size}", "weights=none"])
        network = build_network(config, {task: [f"class {i}" for i in range(CLASSES)]})
        network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
        source = _repeated(
            data_set(contest.kind, photos, folder / "masks"), 1 + (steps + 2) * batch_size // len(photos)
        )
        for workers in processes:
            batches = iter(_loader(source, contest, workers, batch_size).train_dataloader()["task"])
            waited, stepped = [], []
            for _ in range(steps + 2):
                began = time.perf_counter()
                batch = next(batches)
                ready = time.perf_counter()
                optimizer.zero_grad()
                terms = network.loss(network.outputs({task: batch}), {task: batch})
                torch.stack(list(terms[task].values())).sum().backward()
                optimizer.step()
                waited.append(ready - began)
                stepped.append(time.perf_counter() - ready)
            waiting, step = sum(waited[2:]), sum(stepped[2:])
            table.rows.append(
                [
                    f"{task}, {contest.size} px",
                    workers,
                    1e3 * step / steps,
                    1e3 * waiting / steps,
                    waiting / (waiting + step),
                ]
            )
    return table


def _streaming(photos: list[Path], folder: Path, rounds: int) -> Table:
    source = data_set("classification", photos, folder / "masks")
    pack(source, ["train"], folder / "shards", shard_bytes=1 << 20)
    packed = shards(root=str(folder / "shards"), kind="classification")
    seconds = _by_turns(
        {"folder": _ours(source, CONTESTS[0]), "shards": _ours(packed, CONTESTS[0])}, len(photos), rounds
    )
    each = {title: statistics.median(taken) / len(photos) for title, taken in seconds.items()}
    same = all(
        np.array_equal(source.sample("train", 0, i).image, packed.sample("train", 0, i).image)
        for i in range(min(len(photos), BATCH))
    )
    return Table(
        "Tar shards beside the folder they were packed from",
        ["data", "images/s", "of the folder's"],
        [[title, 1 / taken, each["folder"] / taken] for title, taken in each.items()],
        [f"One core, {CONTESTS[0].size} px, files in the system's cache: what shards cost where disks do not matter.",
         f"Samples are {'equal' if same else 'DIFFERENT'}, fingerprints "
         f"{'equal' if _fingerprint(packed) == _fingerprint(source) else 'DIFFERENT'}."],
    )  # fmt: skip


def _fingerprint(source: FileSource) -> str:
    source.prepare(["train"])
    return source.fingerprint()


def _memory(folder: Path, images: int) -> Table:
    """An epoch of a detection set of COCO's size; its pictures are a few small ones, over and over."""
    tiny = drawn_photos(folder / "tiny", 8, (48, 64))
    source = _repeated(data_set("detection", tiny, folder / "masks"), images // len(tiny))
    loader = _loader(source, CONTESTS[1]._replace(preset="none"), workers=2, batch=64, size=32).train_dataloader()[
        "task"
    ]
    table = Table(
        f"Memory of the two loader processes over an epoch of {source.length('train'):,} images, "
        f"{len(source.verified('train')[0].boxes):,} boxes",
        ["share of the epoch", "private memory of both, MiB", "proportional, MiB"],
        notes=[f"From /proc/<pid>/smaps_rollup. {OBJECTS} boxes an image, as COCO's 118,287 have on average."],
    )
    batches: Any = iter(loader)
    wanted = {max(1, round(share * len(loader))): share for share in (0.05, 0.25, 0.5, 0.75, 1.0)}
    for number, _ in enumerate(batches, start=1):
        if number in wanted:
            private, proportional = _memory_of([worker.pid for worker in batches._workers])
            table.rows.append([f"{wanted[number]:.0%}", private, proportional])
    return table


def _memory_of(pids: list[int]) -> tuple[float, float]:
    """MiB that only these processes have, and MiB with their part of what they share; 0 where there is no /proc."""
    fields: dict[str, float] = {}
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        except OSError:
            continue
        for name, value, _ in (line.split() for line in lines):
            fields[name] = fields.get(name, 0) + int(value) / 1024
    return fields.get("Private_Clean:", 0) + fields.get("Private_Dirty:", 0), fields.get("Pss:", 0)
