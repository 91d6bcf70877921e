"""download, check, show, pack, anchors: what can be done with a data set. Each takes conf/data_tool.yaml, composed."""

import os
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.filesize import decimal

from mnv2_tasks.boxes.anchors import anchor_shapes
from mnv2_tasks.build import partial_of, task_kinds
from mnv2_tasks.data.download import published
from mnv2_tasks.data.images.fit import check_side
from mnv2_tasks.data.packing import pack as write_shards
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data_tool.anchor_recall import Shapes
from mnv2_tasks.data_tool.anchor_shapes import cluster, in_cells, plot_anchors, print_anchors, training_boxes
from mnv2_tasks.data_tool.examine import examine
from mnv2_tasks.data_tool.pages import plot_classes, write_samples
from mnv2_tasks.data_tool.repaired_copy import write_repaired
from mnv2_tasks.data_tool.tables import print_examination, verdict, write_bad_files, write_classes
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.runs.run_folder import make_folder
from mnv2_tasks.wording import counted, visible, visible_lines


def download(config: DictConfig) -> None:
    """Fetch, verify and unpack a published data set."""
    name, root = config.choices.data, config.data.get("root")
    if not root or name not in (*published.PUBLISHED, "imagenet"):
        what = "needs data.root=<folder>" if name in published.PUBLISHED else "cannot be downloaded"
        raise ConfigError(f"data={name} {what}.\n{published.how_to_get(name, root or '<folder>')}")
    folder = Path(os.path.expanduser(root))
    folder.mkdir(parents=True, exist_ok=True)
    published.download(name, folder, keep=config.keep, console=_console())


def check(config: DictConfig) -> None:
    """Tell all that is wrong with a data set, and what is in it; exits with 1 if training would refuse something."""
    console = _console()
    sources = _sources(config, console)
    if not all(isinstance(source, FileSource) for source in sources):
        raise ConfigError(
            f"data={config.choices.data} is drawn, there are no files to check; `show` draws a page of it"
        )
    verdicts, out = [], None
    for source in sources:
        found = examine(source, config.splits, config.imgsz, _anchors(config))
        out = out or _out(config)
        folder = out if len(sources) == 1 else out / source.kind
        folder.mkdir(exist_ok=True)
        print_examination(found, config.imgsz, console)
        write_bad_files(found, folder / "bad_files.txt")
        write_classes(found, folder / "classes.csv")
        plot_classes(found.splits, source.class_names, KINDS[source.kind].COUNTED, folder / "classes.png")
        for split in found.splits:
            try:
                write_samples(source, split.name, config.count, folder / _page(config, split.name), split.records)
            except DataError as error:
                console.print(f"no page of {split.name}: {visible_lines(str(error))}")
        console.print(f"written to {folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
        if config.repair:
            copy = folder / "repaired"
            for line in write_repaired(found, copy):
                console.print(f"repaired {line}")
            console.print(f"to train on the copy: data=folder data.root={copy}")
        verdicts.append((verdict(found), found.healthy))
        console.print()
    for line, healthy in verdicts:
        console.print(line, style="green" if healthy else "red")
    if not all(healthy for _, healthy in verdicts):
        sys.exit(1)  # so that a script can rely on it


def show(config: DictConfig) -> None:
    """A page of annotated pictures of each split."""
    console = _console()
    sources, out = _sources(config, console), _out(config)
    for source in sources:
        folder = out if len(sources) == 1 else out / source.kind
        folder.mkdir(exist_ok=True)
        for split in config.splits:
            page = folder / _page(config, split)
            number = write_samples(source, split, config.count, page)
            console.print(f"{source.kind}, {split}: {number} pictures in {page}")


def pack(config: DictConfig) -> None:
    """Write a data set into tar shards, for data=shards."""
    console = _console()
    if config.out is None:
        raise ConfigError("pack needs out=<folder>, a new one, for the shards")
    sources = _sources(config, console)
    if not all(isinstance(source, FileSource) for source in sources):
        raise ConfigError(f"data={config.choices.data} is drawn, there are no files to pack")
    if len(sources) > 1:
        raise ConfigError(
            f"data={config.choices.data} serves {' and '.join(source.kind for source in sources)}: shards are for one "
            f"of them, say whose with task=<task>"
        )
    (source,) = sources
    written = write_shards(source, config.splits, Path(os.path.expanduser(config.out)), size=config.size)
    for split, (files, reduced, deep) in written.items():
        said = f"{source.length(split):,} samples in {counted(len(files), 'shard')}, {decimal(sum(files.values()))}"
        said += f", {counted(reduced, 'picture')} reduced" if config.size else ""
        said += f", {counted(deep, 'picture')} with 16 bits left as large as before" if deep else ""
        console.print(f"{split}: {said}")
    console.print(f"to train on them: data=shards data.root={config.out}")


def anchors(config: DictConfig) -> None:
    """Tell YOLOv2's anchors for a data set's training boxes, with a picture of both."""
    console = _console()
    check_side("imgsz", config.imgsz)
    if config.fit not in ("square", "letterbox"):
        raise ConfigError(f"fit={config.fit}: expected square or letterbox")
    if config.k < 1:
        raise ConfigError(f"k={config.k}: expected at least 1 anchor")
    source = partial_of(config.data.source)(kind="detection")
    boxes, pictures = training_boxes(source)
    boxes = in_cells(boxes, pictures, config.imgsz, letterbox=config.fit == "letterbox")
    found, folder = cluster(boxes, config.k), _out(config)
    plot_anchors(boxes, found, folder / "anchors.png")
    print_anchors(found, len(boxes), config.imgsz, console)
    console.print(f"written to {folder}: anchors.png")


def _sources(config: DictConfig, console: Console) -> list[Any]:
    """The data set for the kinds of the task, or else for every kind that it serves."""
    _check_values(config)
    wanted = list(dict.fromkeys(task_kinds(config).values()))
    make = partial_of(config.data.source)
    if wanted:
        return [make(kind=kind) for kind in wanted]
    sources, refused = [], {}
    for kind in ("detection", "segmentation", "classification"):
        try:
            sources.append(make(kind=kind))
        except ConfigError as error:
            refused[kind] = str(error)
    if not sources:
        raise ConfigError("\n\n".join(dict.fromkeys(refused.values())))
    for kind, reason in refused.items():
        console.print(f"not {kind}: {visible(reason.splitlines()[0])}", style="dim")
    return sources


def _check_values(config: DictConfig) -> None:
    if not config.splits or not set(config.splits) <= {"train", "val"}:
        raise ConfigError(f"splits={list(config.splits)}: expected [train, val], [train] or [val]")
    if config.count < 1:
        raise ConfigError(f"count={config.count}: expected at least 1 picture")
    check_side("imgsz", config.imgsz)


def _anchors(config: DictConfig) -> Shapes | None:
    """Those of the detector that task= names."""
    for task in config.tasks.values():
        if "anchor_scales" in task.head:
            head = task.head
            last_scale = head.get("anchor_last_scale", 1.0)
            return anchor_shapes(head.first_map_anchors, head.anchor_scales, head.anchor_ratios, last_scale)
    return None


def _out(config: DictConfig) -> Path:
    return make_folder(config.out, parent=Path("runs/data"))


def _page(config: DictConfig, split: str) -> str:
    return "samples.jpg" if split == config.splits[0] else f"samples_{split}.jpg"


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)
