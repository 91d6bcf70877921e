"""Where pictures and their masks lie: whatever the folders are called, and with endings such as `_mask`."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mnv2_tasks.data.images.decode import read_colours
from mnv2_tasks.data.layouts.layout import SplitFiles
from mnv2_tasks.data.layouts.splits import IMAGE_WORDS, MASK_WORDS, WHOLE, is_split, without_words
from mnv2_tasks.data.reading.folders import PICTURES, files_below, folders, is_junk, stem
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import did_you_mean

SUFFIXES = (*PICTURES, ".gif")  # of masks
DEEPEST = 4  # folders below the root that are looked through
MOST_FOLDERS = 64  # with pictures; more are the classes of an ImageFolder
OTHER_MASKS = re.compile(r"human|instance|object|colou?r")  # beside those of the classes, as Supervisely writes them
ENDING = re.compile(rf"[-_. ]({MASK_WORDS}|l|matte)", re.IGNORECASE)  # of a mask's name beside its picture
FEW_COLOURS = 32  # of a mask
SAMPLED = 3  # files of a folder that are looked into

Key = tuple[str, ...]  # the path of a folder below the root, without the words for pictures and masks


def find_places(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    """Folders of pictures with those of their masks, by the splits that their paths name.

    Names of folders tell (`trainannot`, `ds/masks_machine`, `train_labels`), else what the files hold: of two folders
    with files of equal stems, that whose pictures have few colours. In one folder names tell: `a.jpg`, `a_mask.png`.
    """
    places = _folders_of_pictures(root)
    masks = [place for place in places if _is_called(place, root, MASK_WORDS)]
    if len(places) > MOST_FOLDERS and not masks:
        return {}
    plain = [place for place in masks if not OTHER_MASKS.search(place.name.lower())] or masks
    pictures = [place for place in places if place not in masks]
    pairs = [(image, mask) for mask in plain if (image := _partner(root, mask, pictures)) is not None]
    pairs = pairs or _told_by_content(places) or [(place, place) for place in places if _holds_both(place)]
    parts: dict[str, list[SplitFiles]] = {}
    for image, mask in pairs:
        split = next((word for word in (*_key(image, root), *_key(mask, root)) if is_split(word, wanted)), WHOLE)
        parts.setdefault(split, []).append(SplitFiles(image, mask))
    if len(parts) > 1:
        parts.pop(WHOLE, None)
    return {split: first._replace(also=tuple(more)) for split, (first, *more) in parts.items()}


def given_places(root: Path, images: str, masks: str, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    """What `data.images=` and `data.masks=` name: folders, below which splits may lie, or with {split} in their path.

    Raises:
        ConfigError: one of them is not there.
    """
    if ("{split}" in images) != ("{split}" in masks):
        raise ConfigError(f"data.images={images} data.masks={masks}: {{split}} belongs into both, or into neither")
    if "{split}" in images:
        before, _, after = images.partition("{split}")
        base = root / before if before.endswith("/") or not before else (root / before).parent
        start = "" if before.endswith("/") or not before else Path(before).name
        end = after.split("/")[0]
        names = [folder.name for folder in folders(base)] if base.is_dir() else []
        names = [
            name[len(start) : len(name) - len(end)] for name in names if name.startswith(start) and name.endswith(end)
        ]
        filled = {
            name: SplitFiles(root / images.replace("{split}", name), root / masks.replace("{split}", name))
            for name in names
            if name
        }
        parts = {name: part for name, part in filled.items() if part.images.is_dir() and part.labels.is_dir()}
        if not parts:
            raise ConfigError(f"data.images={images} data.masks={masks}: there are no such folders below {root}")
        return parts
    for key, name in (("images", images), ("masks", masks)):
        if not (root / name).is_dir():
            hint = did_you_mean(name, [folder.name for folder in folders(root)])
            raise ConfigError(f"data.{key}={name}: {root / name} is no folder. {hint}It starts from data.root")
    names = [folder.name for folder in folders(root / images) if is_split(folder.name, wanted)]
    parts = {name: SplitFiles(root / images / name, root / masks / name) for name in names}
    return {name: part for name, part in parts.items() if part.labels.is_dir()} or {
        WHOLE: SplitFiles(root / images, root / masks)
    }


def paired(part: SplitFiles) -> tuple[dict[str, str], dict[str, str]]:
    """({name: picture}, {name: mask}), whose names are equal where they belong together.

    Where no name is, endings that all pictures or all masks have are left out: `a.jpg` and `a_mask.png`, `a.jpg` and
    `a.jpg.png`, `a_leftImg8bit.png` and `a_gtFine_labelIds.png`.

    Raises:
        ConfigError: two files claim one name.
    """
    if part.images == part.labels:
        return _in_one_folder(part.images)
    pictures = _named(_files(part.images, PICTURES), part.images)
    masks = _named(_files(part.labels, SUFFIXES), part.labels)
    if pictures.keys() & masks.keys() or not pictures or not masks:
        return pictures, masks
    with_ending = {stem(file, part.images) + os.path.splitext(file)[1]: file for file in pictures.values()}
    if with_ending.keys() & masks.keys():
        return with_ending, masks
    choices = [
        (_without(pictures, of_picture), _without(masks, of_mask))
        for of_picture in _common_endings(pictures)
        for of_mask in _common_endings(masks)
    ]
    return max(choices, key=lambda both: len(both[0].keys() & both[1].keys()))  # the first of equals, the least cut


def _folders_of_pictures(root: Path) -> list[Path]:
    """Those that hold pictures themselves, and are neither hidden nor junk."""
    found, waiting = [], [(root, 0)]
    while waiting and len(found) <= 4 * MOST_FOLDERS:
        place, depth = waiting.pop(0)
        with os.scandir(place) as entries:
            if any(entry.name.lower().endswith(SUFFIXES) and not is_junk(entry.name) for entry in entries):
                found.append(place)
        waiting += [(folder, depth + 1) for folder in folders(place)] if depth < DEEPEST else []
    return found


def _is_called(place: Path, root: Path, words: str) -> bool:
    """Whether some folder of the path is called so: `masks`, `train_labels`, `trainannot`."""
    for name in place.relative_to(root).parts:
        left = without_words(name, words)
        apart = re.search(rf"(?:^|[-_ .])(?:{words})(?:$|[-_ .])", name, re.IGNORECASE)
        if left != name and (apart or is_split(left, ())):
            return True
    return False


def _key(place: Path, root: Path) -> Key:
    names = [without_words(without_words(name, MASK_WORDS), IMAGE_WORDS) for name in place.relative_to(root).parts]
    return tuple(name for name in names if name)


def _partner(root: Path, mask: Path, pictures: list[Path]) -> Path | None:
    """The folder of the pictures that masks belong to, by its path, or else by the names in it."""
    key = _key(mask, root)
    same = [place for place in pictures if _key(place, root) == key]
    found = same or pictures
    shared = {place: _shared(SplitFiles(place, mask)) for place in found}
    best = max(found, key=lambda place: shared[place], default=None)
    return best if best is not None and shared[best] else None


def _shared(part: SplitFiles) -> int:
    try:
        pictures, masks = paired(part)
    except ConfigError:
        return 0
    return len(pictures.keys() & masks.keys())


def _told_by_content(places: list[Path]) -> list[tuple[Path, Path]]:
    """Pairs of folders of which one holds what looks like the other's masks."""
    if not 2 <= len(places) <= 16:
        return []
    flat = {place: _looks_like_masks(place) for place in places}
    pictures = [place for place in places if not flat[place]]
    found = []
    for mask in (place for place in places if flat[place]):
        shared = {p: _shared(SplitFiles(p, mask)) for p in pictures}
        best = max(pictures, key=lambda place: shared[place], default=None)
        if best is not None and 2 * shared[best] > len(_files(mask, SUFFIXES)):
            found.append((best, mask))
    return found


def _looks_like_masks(place: Path) -> bool:
    files = _files(place, SUFFIXES)
    try:
        return all(_has_few_colours(file) for file in files[:: max(1, len(files) // SAMPLED)])
    except DataError:
        return False


def _has_few_colours(file: str) -> bool:
    rgb = read_colours(file).astype(np.int32)
    return len(np.unique(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2])) <= FEW_COLOURS


def _holds_both(place: Path) -> bool:
    pictures, masks = _in_one_folder(place)
    return bool(masks) and 2 * len(pictures.keys() & masks.keys()) >= len(pictures)


def _in_one_folder(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Masks are the files whose name is that of another one with an ending, or the PNG beside a JPEG."""
    files = _files(folder, SUFFIXES)
    names: dict[str, str] = {}
    masks: dict[str, str] = {}
    for file in files:
        name = stem(file, folder)
        other = names.setdefault(name, file)
        if other != file:  # sorted: .jpg before .png
            masks[name] = file
    for name, file in names.items():
        start = name.rpartition("/")[0]
        cuts = [sign.start() for sign in re.finditer(r"[-_. ]", name[len(start) :])]
        for cut in (len(start) + cut for cut in cuts):
            if name[:cut] in names and ENDING.fullmatch(name[cut:]):
                masks[name[:cut]] = file
    taken = set(masks.values())
    return {name: file for name, file in names.items() if file not in taken}, masks


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    return sorted(file for file in files_below(folder) if file.lower().endswith(suffixes))


def _named(files: Iterable[str], folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        first = found.setdefault(stem(file, folder), file)
        if first != file:
            raise ConfigError(
                f"{first} and {os.path.basename(file)}: which of the two is meant? Keep one of them there"
            )
    return found


def _common_endings(names: Iterable[str]) -> list[str]:
    """Those that all names have and that begin with a sign, "" and the shortest first."""
    names = list(names)
    shared = os.path.commonprefix([name.rpartition("/")[2][::-1] for name in names])[::-1]
    if len(names) == 1:
        shared = shared[1:]  # a name is more than its ending
    return ["", *(shared[m.start() :] for m in reversed(list(re.finditer(r"[-_. ]", shared))))]


def _without(files: dict[str, str], ending: str) -> dict[str, str]:
    return {name.removesuffix(ending): file for name, file in files.items()}
