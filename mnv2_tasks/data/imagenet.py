"""ImageNet-1k (ILSVRC 2012): folders named by WordNet id, or the validation images as they were published."""

import csv
import io
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

from mnv2_tasks.data.class_lists import imagenet_names, imagenet_wnids
from mnv2_tasks.data.images.mat_files import read_mat
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.folders import PICTURES, is_junk
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Records, labelled
from mnv2_tasks.data.reading.root import data_root, not_found
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import decoded, read_bytes
from mnv2_tasks.wording import brief, counted, first_few

MOST_BYTES = 16 << 20  # of a list of the 50,000 validation images, or of the devkit's table of classes
PLACES = (".", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # the second and third as Kaggle packs it
DEVKITS = (".", "devkit", "devkit/data", "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12/data")
TREE = """
train/n01440764/*.JPEG  ...   1000 folders
val/n01440764/*.JPEG    ...   1000 folders; or val/ILSVRC2012_val_00000001.JPEG ... with one of
ILSVRC2012_devkit_t12/data/{meta.mat,ILSVRC2012_validation_ground_truth.txt}, LOC_val_solution.csv, val.txt
"""


def imagenet(*, root: str | None, kind: str, on_bad: str, val: str = "val") -> FileSource:
    """Labels are the usual ones, 0 to 999 in the order of the WordNet ids, whichever folders are there.

    Args:
        val: the folder to validate on, beside `train`.

    Raises:
        ConfigError: the task is not classification, a folder is no class of ImageNet, or labels are missing.
    """
    if kind != "classification":
        raise ConfigError(f"data=imagenet has one class for each image: for task=classification, not for {kind}")
    path = data_root(root, "imagenet")
    names = {"train": "train", "val": val}
    folders = {split: _folder(path, name) for split, name in names.items()}
    if not any(folders.values()):
        raise not_found("imagenet", path, "train", TREE)

    def read(split: str) -> tuple[Records, list[Problem]]:
        folder = folders[split]
        if folder is None:
            raise not_found("imagenet", path, names[split], TREE)
        return _read(path, folder), []

    found = _found(folders) + ("" if val == "val" else f", {val} validates")
    return FileSource(kind=kind, class_names=imagenet_names(), read=read, found=found, on_bad=on_bad)


@cache
def label_of_wnid() -> dict[str, int]:
    return {wnid: label for label, wnid in enumerate(imagenet_wnids())}


def _found(folders: dict[str, Path | None]) -> str:
    counts = {split: len(_class_folders(folder)) for split, folder in folders.items() if folder}
    few = [f"{split} has {n:,} of them" for split, n in counts.items() if 0 < n < len(imagenet_wnids())]
    flat = ["val as published, without folders"] if counts.get("val") == 0 else []
    return ", ".join(["ImageNet-1k", counted(len(imagenet_wnids()), "class"), *few, *flat])


def _folder(root: Path, split: str) -> Path | None:
    return next((root / place / split for place in PLACES if (root / place / split).is_dir()), None)


def _class_folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_junk(entry.name))


def _pictures(folder: str) -> list[str]:
    """Sorted names, without a look at each of 1.28 million files."""
    return sorted(name for name in os.listdir(folder) if name.lower().endswith(PICTURES) and name[0] != ".")


def _read(root: Path, folder: Path) -> Records:
    found = _class_folders(folder)
    if not found:
        return _read_flat(root, folder)
    label_of = label_of_wnid()
    strange = [name for name in found if name not in label_of]
    if strange:
        raise ConfigError(
            f"data=imagenet: {folder} has {counted(len(strange), 'folder')} that "
            f"{'is' if len(strange) == 1 else 'are'} none of the 1000 classes' WordNet ids: {first_few(strange)}. "
            f"Remove them, or use data=folder, which takes any class names"
        )
    files, counts = [], []
    for name in found:
        inside = os.path.join(folder, name)
        names = _pictures(inside)
        files += [f"{inside}/{file}" for file in names]
        counts.append(len(names))
    return labelled(files, np.repeat(np.array([label_of[name] for name in found], np.int64), counts))


def _read_flat(root: Path, folder: Path) -> Records:
    files = _pictures(str(folder))
    if not files:
        raise ConfigError(
            f"data=imagenet: {folder} holds no class folders and no images. Fill it, or name another split"
        )
    labels = _validation_labels(root, folder)
    lost = [file for file in files if os.path.splitext(file)[0] not in labels]
    if lost:
        raise ConfigError(
            f"data=imagenet: {counted(len(lost), 'image')} in {folder} without a label: {first_few(lost)}"
        )
    numbers = np.array([labels[os.path.splitext(file)[0]] for file in files], np.int64)
    return labelled([f"{folder}/{file}" for file in files], numbers)


def _validation_labels(root: Path, folder: Path) -> dict[str, int]:
    """{file name without ending: label} from the first ground truth that is there."""
    for place in DEVKITS:
        truth, meta = root / place / "ILSVRC2012_validation_ground_truth.txt", root / place / "meta.mat"
        if truth.is_file() and meta.is_file():
            return _from_devkit(truth, meta)
    solution = root / "LOC_val_solution.csv"
    if solution.is_file():
        return _from_kaggle(solution)
    for listed in (root / "val.txt", folder / "val.txt"):
        if listed.is_file():
            return _from_list(listed)
    places = ", ".join(str(root / place) for place in DEVKITS)
    raise ConfigError(
        f"data=imagenet: {folder} holds no class folders, and the labels of its images are not there: looked for "
        f"ILSVRC2012_validation_ground_truth.txt and meta.mat in {places}, for {solution} and for {root / 'val.txt'}. "
        f"Unpack ILSVRC2012_devkit_t12.tar.gz in {root}, or sort the images into folders named by WordNet id"
    )


def _from_devkit(truth: Path, meta: Path) -> dict[str, int]:
    """Line i is image i's ILSVRC2012 id, which follows another order than the WordNet ids; meta.mat links the two."""
    try:
        synsets = read_mat(read_bytes(meta, most_bytes=MOST_BYTES))["synsets"]
        wnid_of = {str(int(synset["ILSVRC2012_ID"].item())): str(synset["WNID"]) for synset in synsets}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{meta}: is not the devkit's table of classes, `synsets` is missing ({error})") from None
    rows = ((f"ILSVRC2012_val_{i:08d}", number) for i, number in enumerate(_text(truth).split(), start=1))
    return {name: _label(truth, name, wnid_of.get(number, number)) for name, number in rows}


def _from_kaggle(solution: Path) -> dict[str, int]:
    """ImageId,PredictionString: the latter begins with the WordNet id, a box follows."""
    try:
        table = csv.DictReader(io.StringIO(_text(solution), newline=""), strict=True)
        rows = [(row["ImageId"], row["PredictionString"].split()[0]) for row in table]
    except (csv.Error, KeyError, IndexError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{solution}: is not Kaggle's table of ImageId,PredictionString ({what})") from None
    return _each_once(solution, ((name, _label(solution, name, wnid)) for name, wnid in rows))


def _from_list(listed: Path) -> dict[str, int]:
    """`ILSVRC2012_val_00000001.JPEG 65` or `... n01751748`: labels as here, or WordNet ids."""
    rows = [line.split() for line in _text(listed).splitlines() if line.strip()]
    strange = [row for row in rows if len(row) != 2]
    if strange:
        raise ConfigError(
            f"{listed}: expected an image and its class in each line, not {brief(' '.join(strange[0]))!r}"
        )
    wnid_of = {str(label): wnid for wnid, label in label_of_wnid().items()}
    return _each_once(listed, ((Path(name).stem, _label(listed, name, wnid_of.get(word, word))) for name, word in rows))


def _each_once(file: Path, labels: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, label in labels:
        if found.setdefault(name, label) != label:
            raise ConfigError(f"{file}: {brief(name)} is there twice, with two classes. Delete the line that is wrong")
    return found


def _text(path: Path) -> str:
    return decoded(read_bytes(path, most_bytes=MOST_BYTES), str(path))


def _label(file: Path, name: str, wnid: str) -> int:
    try:
        return label_of_wnid()[wnid]
    except KeyError:
        raise ConfigError(
            f"{file}: {brief(name)} has the class {brief(wnid)!r}, which is none of ImageNet's 1000"
        ) from None
