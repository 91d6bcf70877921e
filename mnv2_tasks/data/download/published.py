"""The public data sets: where their files are published, how to tell that they are whole, and how to get a set."""

import os
import shlex
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.filesize import decimal

from mnv2_tasks.data.download.fetch import fetch, free_space, part_of, require_published, require_space
from mnv2_tasks.data.download.unpack import extract, extract_tar_of_tars
from mnv2_tasks.errors import ConfigError


class PublishedFile(NamedTuple):
    """An archive of a data set, and the folders that show that it has been unpacked."""

    url: str
    size: int  # bytes
    checksum: str | None  # None: the publisher gives none
    holds: dict[str, int]  # folder below data.root -> number of entries it has at least when all is unpacked
    into: str = "."  # the folder below data.root to unpack it in
    tar_of_tars: bool = False

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


# Smallest first: what is wrong with the place shows in minutes. COCO publishes neither checksums nor a https address;
# the sizes, and the checksum of each member in the zip, stand in.
COCO = (
    PublishedFile(
        "http://images.cocodataset.org/annotations/annotations_trainval2017.zip", 252_907_541, None, {"annotations": 6}
    ),
    PublishedFile("http://images.cocodataset.org/zips/val2017.zip", 815_585_330, None, {"val2017": 5_000}),
    PublishedFile("http://images.cocodataset.org/zips/train2017.zip", 19_336_861_798, None, {"train2017": 118_287}),
)
# SBD (Hariharan et al. 2011) has masks for the images that VOC left without: data.train=trainaug is made of both.
# SegmentationClassAug, the same as PNG, lies on file-sharing sites only and is not needed.
VOC = (
    PublishedFile(
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        1_999_639_040,
        "md5:6cd6e144f989b92b3379bac3b3de84fd",
        {
            "VOCdevkit/VOC2012/JPEGImages": 17_125,
            "VOCdevkit/VOC2012/Annotations": 17_125,
            "VOCdevkit/VOC2012/SegmentationClass": 2_913,
            "VOCdevkit/VOC2012/ImageSets/Segmentation": 3,
        },
    ),
    PublishedFile(
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        1_419_539_633,
        "md5:82b4d87ceb2ed10f6038a1cba92111cb",
        {"benchmark_RELEASE/dataset/img": 11_355, "benchmark_RELEASE/dataset/cls": 11_355},
    ),
)
PUBLISHED = {"coco": COCO, "voc": VOC}

# Behind a login: the user fetches them, `unpack_imagenet` does the rest
IMAGENET_PAGE = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
IMAGENET = (
    PublishedFile(
        "https://image-net.org/data/ILSVRC/2012/ILSVRC2012_devkit_t12.tar.gz",
        2_568_634,
        "md5:fa75699e90414af021442c21a62c3abf",
        {"ILSVRC2012_devkit_t12/data": 2},
    ),
    PublishedFile(
        "https://image-net.org/data/ILSVRC/2012/ILSVRC2012_img_val.tar",
        6_744_924_160,
        "md5:29b22e2961454d5413ddabcf34fc5622",
        {"val": 50_000},
        into="val",
    ),
    PublishedFile(
        "https://image-net.org/data/ILSVRC/2012/ILSVRC2012_img_train.tar",
        147_897_477_120,
        "md5:1d675b47d978889d74fa0da5fadfb00e",
        {"train": 1_000},
        into="train",
        tar_of_tars=True,
    ),
)


def download(name: str, root: Path, *, keep: bool, console: Console) -> None:
    """Fetch, verify and unpack a whole data set in `root`, going on where an earlier call was cut off.

    Archives whose folders are complete are not fetched again, also when the archive itself is gone. Of ImageNet, the
    archives that the user has put in `root` are unpacked.

    Args:
        name: "coco", "voc" (with SBD) or "imagenet".
        keep: False removes each archive once it is unpacked; ImageNet's always stay.

    Raises:
        ConfigError: a set that is not to be had, no room, or what `fetch` and `extract` raise.
    """
    if name == "imagenet":
        return unpack_imagenet(root, console=console)
    if name not in PUBLISHED:
        raise ConfigError(f"data={name} cannot be downloaded. {how_to_get(name, str(root))}")
    new = [file for file in PUBLISHED[name] if not _is_unpacked(file, root)]
    _show_plan(name, root, new, console)
    left = [_left_to_fetch(file, root) for file in new]
    # JPEGs take the space of their archive. `extract` knows to the byte, but only when hours of fetching are over
    unpacked = sum(file.size for file, bytes_left in zip(new, left) if bytes_left)
    require_space(root, (sum if keep else max)([0, *left]) + unpacked, f"data={name}, archives and unpacked,")
    for file in new:
        archive = fetch(file.url, root / file.name, size=file.size, checksum=file.checksum, console=console)
        _unpack(file, archive, root, console)
        if not keep:
            archive.unlink()
            console.out(f"{file.name}: removed")
    kept = [file for file in PUBLISHED[name] if (root / file.name).exists()]
    if kept:
        names = ", ".join(file.name for file in kept)
        console.out(f"no longer needed, {decimal(sum(file.size for file in kept))}: {names}")
    console.out(f"data={name} is complete in {root}")


def unpack_imagenet(root: Path, *, console: Console) -> None:
    """Unpack those of ImageNet's three archives that lie in `root`: the training images into `train/<wnid>/`, the
    validation images into `val/`, their ground truth into `ILSVRC2012_devkit_t12/data/`. The archives stay.

    Raises:
        ConfigError: neither archives nor images are there, or an archive is not the published one.
    """
    there = [file for file in IMAGENET if (root / file.name).exists()]
    if not there and not any(_is_unpacked(file, root) for file in IMAGENET):
        raise ConfigError(f"{root} holds none of ImageNet's archives.\n{how_to_get('imagenet', str(root))}")
    for file in IMAGENET:
        archive = root / file.name
        is_sorted = file.into == "val" and (root / "val" / "n01440764").is_dir()  # into class folders, by the user
        if _is_unpacked(file, root) or is_sorted:
            console.out(f"{file.name}: unpacked already")
        elif file not in there:
            console.out(f"{file.name}: not in {root}, left out ({decimal(file.size)} from {IMAGENET_PAGE})")
        else:
            remedy = f"Fetch it again from {IMAGENET_PAGE}"
            require_published(archive, remedy, size=file.size, checksum=file.checksum, console=console)
            _unpack(file, archive, root, console)


def how_to_get(name: str, root: str) -> str:
    """What a user types, or does, to get a data set into `root`; `root` may be a placeholder such as "<folder>"."""
    shown = root if root.startswith("<") else shlex.quote(root)
    command = f"python tools/data.py download data={name} data.root={shown}"
    if name in PUBLISHED:
        what = "VOC 2012, and SBD for data.train=trainaug" if name == "voc" else "COCO 2017"
        size = sum(file.size for file in PUBLISHED[name])
        return f"To get {what} ({decimal(size)}, and as much again unpacked):\n  {command}"
    if name == "imagenet":
        files = "\n".join(f"       {file.name:<30}{decimal(file.size):>9}" for file in reversed(IMAGENET))
        return (
            f"To get ImageNet, which only its owners may hand out:\n"
            f"  1. log in at https://image-net.org, agree to the terms of access, and open\n"
            f"       {IMAGENET_PAGE}\n"
            f"  2. put these into {root}, without unpacking; the first only to train:\n{files}\n"
            f"     with an address from that page: curl -L -C - -o {shown}/{IMAGENET[-1].name} '<address>'\n"
            f"  3. {command}      # verifies and unpacks what is there"
        )
    if name == "shards":
        return "data=shards reads what `python tools/data.py pack data=<data> data.root=<folder> out=<shards>` wrote"
    if name == "folder":
        return "data=folder reads your own files; conf/data/folder.yaml shows the layouts it knows"
    return f"Sets to download: {', '.join([*PUBLISHED, 'imagenet'])}; data=shapes is drawn on the fly and needs none"


def _is_unpacked(file: PublishedFile, root: Path) -> bool:
    """`extract` moves a folder into place when it is complete, so that counting is enough."""
    return all(_entries(root / folder) >= count for folder, count in file.holds.items())


def _entries(folder: Path) -> int:
    return sum(1 for entry in os.scandir(folder) if not entry.name.startswith(".")) if folder.is_dir() else 0


def _show_plan(name: str, root: Path, new: list[PublishedFile], console: Console) -> None:
    console.out(f"data={name} -> {root.absolute()}")
    for file in PUBLISHED[name]:
        state = "unpacked already"
        if file in new:
            state = "fetched already" if (root / file.name).exists() else file.url
        console.out(f"  {file.name:<32}{decimal(file.size):>9}  {state}")
    to_fetch = decimal(sum(_left_to_fetch(file, root) for file in new))
    console.out(f"  {'to fetch':<32}{to_fetch:>9}  {decimal(free_space(root))} free")


def _left_to_fetch(file: PublishedFile, root: Path) -> int:
    """Bytes."""
    path = root / file.name
    part = part_of(path)
    return 0 if path.exists() else file.size - (part.stat().st_size if part.exists() else 0)


def _unpack(file: PublishedFile, archive: Path, root: Path, console: Console) -> None:
    unpack = extract_tar_of_tars if file.tar_of_tars else extract
    count = unpack(archive, root / file.into, console=console)
    console.out(f"{file.name}: {count:,} files unpacked")
