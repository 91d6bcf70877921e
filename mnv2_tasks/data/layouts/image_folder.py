"""ImageFolder: one folder of pictures for each class."""

from collections import Counter
from pathlib import Path

import numpy as np

from mnv2_tasks.data.layouts.class_file import not_followed
from mnv2_tasks.data.layouts.layout import Layout, Opened, SplitFiles
from mnv2_tasks.data.layouts.splits import TRAIN, WHOLE, is_split, part_of_split, plain
from mnv2_tasks.data.reading.class_names import written
from mnv2_tasks.data.reading.folders import PICTURES, folders, has, left_out_note, pictures_below, within_double
from mnv2_tasks.data.reading.records import labelled
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import counted, first_few

# folders of pictures that belong to other layouts: they are no classes
NO_CLASSES = (
    "images",
    "imgs",
    "jpegimages",
    "masks",
    "labels",
    "annotations",
    "segmentationclass",
    "segmentationobject",
)

ClassFolders = dict[str, list[str]]  # class -> sorted paths of its pictures


def _find(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    splits = [within_double(folder) for folder in folders(root) if is_split(folder.name, wanted)]
    parts = {folder.name: SplitFiles(folder, folder) for folder in splits if _classes(folder, least=1)}
    return parts or ({WHOLE: SplitFiles(root, root)} if _classes(root, least=2) else {})


def _classes(folder: Path, least: int) -> bool:
    """Whether it holds that many class folders. A single one below the root is rather a folder around the data."""
    full = [inside for inside in folders(folder) if has(inside, PICTURES)]
    inner = [inside.name for outer in full for inside in folders(outer)]
    named = [inside for inside in full if not _is_part(inside.name)]
    return (
        len(named) >= least
        and not all(inside.name.lower() in NO_CLASSES for inside in named)
        and not any(name.lower() in NO_CLASSES or is_split(name, ()) for name in inner)
    )


def _is_part(name: str) -> bool:
    """Whether a folder is named after a split: `test`, `trainannot`."""
    return is_split(name, ()) or part_of_split(name) is not None


def _open(root: Path, parts: dict[str, SplitFiles]) -> Opened:
    trees: dict[str, ClassFolders] = {}
    others: Counter[str] = Counter()
    loose, passed = 0, []
    for split, part in parts.items():
        trees[split] = {}
        loose += _loose(part.images)
        beside = [folder for folder in folders(part.images) if split == WHOLE and _is_part(folder.name)]
        _refuse_train(root, beside)
        passed += [folder.name for folder in beside if has(folder, PICTURES)]
        for folder in folders(part.images):
            if folder in beside:
                continue
            if (name := written(folder.name)) in trees[split]:
                raise ConfigError(
                    f"{folder}: another folder beside it has this name too, as people read it. Merge the two"
                )
            trees[split][name], no_images = pictures_below(folder)
            others += no_images
    first, *rest = trees
    names = list(trees[first])
    for split in rest:
        _check_classes(parts[first].images, names, parts[split].images, trees[split])
    flat = [
        folder.name
        for folder in folders(root)
        if WHOLE not in parts and folder.name not in parts and is_split(folder.name, ()) and _loose(folder)
    ]
    nested = [name for name in names if _is_nested(parts[first].images, trees[first][name])]
    empty = [name for name in names if not trees[first][name]]
    notes = [
        *not_followed(root, names),
        *left_out_note(others),
        *([f"{counted(loose, 'image')} outside of class folders left out"] if loose else []),
        *([f"{first_few(passed)} left out: named after a split, without class folders"] if passed else []),
        *([f"{first_few(flat)} left out: its images lie in no class folders"] if flat else []),
        *(
            [f"folders within {first_few(nested)} are no classes of their own: their images are of that"]
            if nested
            else []
        ),
        *([f"{counted(len(empty), 'class')} without images: {first_few(empty)}"] if empty else []),
    ]

    def read(split: str):
        files = [file for name in names for file in trees[split].get(name, [])]
        counts = [len(trees[split].get(name, [])) for name in names]
        return labelled(files, np.repeat(np.arange(len(names)), counts)), []

    return Opened(names, read, notes)


def _is_nested(root: Path, files: list[str]) -> bool:
    """Whether the pictures of a class lie in several folders within its own, and in no other place."""
    places = [Path(file).relative_to(root).parts for file in files]
    return len({parts[1] for parts in places}) > 1 and all(len(parts) > 2 for parts in places)


def _loose(folder: Path) -> int:
    """Pictures directly in a folder."""
    return sum(file.suffix.lower() in PICTURES for file in folder.glob("[!.]*"))


def _refuse_train(root: Path, beside: list[Path]) -> None:
    """Beside class folders it could be the class of railway trains."""
    for folder in beside:
        if plain(folder.name) in TRAIN and has(folder, PICTURES):
            raise ConfigError(
                f"data=folder: {folder} has the name of a split, but no class folders, and lies beside some. If all "
                f"of them train, move them into {root / 'train'}: a class may have that name there"
            )


def _check_classes(train: Path, names: list[str], val: Path, tree: ClassFolders) -> None:
    strange = [name for name, files in tree.items() if name not in names and files]
    if strange:
        missing = [name for name in names if name not in tree]
        also = f"; of those in {train}, it lacks {first_few(missing)}" if missing else ""
        raise ConfigError(
            f"{val}: has {counted(len(strange), 'class')} that {train} does not have: {first_few(strange)}{also}. "
            f"Rename the folders to match, or add images of these classes to both"
        )


IMAGE_FOLDER = Layout(
    title="ImageFolder",
    kind="classification",
    tree="""
train/<class>/*.jpg
val/<class>/*.jpg          or <class>/*.jpg alone: a fifth of each class validates
""",
    find=_find,
    open=_open,
)
