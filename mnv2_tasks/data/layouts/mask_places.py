"""Where pictures and their masks lie: whatever the folders are called, and with endings such as `_mask`."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from mnv2_tasks.data.images.decode import read_colours
from mnv2_tasks.data.layouts.layout import SplitFiles
from mnv2_tasks.data.layouts.splits import IMAGE_WORDS, MASK_WORDS, WHOLE, is_split, role, without_words
from mnv2_tasks.data.reading.folders import PICTURES, files_below, folders, is_junk, spelled, stem
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import did_you_mean

SUFFIXES = (*PICTURES, ".gif")  # of masks
DEEPEST = 4  # folders below the root that are looked through
MOST_FOLDERS = 64  # with pictures; more are the classes of an ImageFolder
# beside masks of class indices, as Supervisely calls folders, and Cityscapes files
OTHER_MASKS = re.compile(r"human|instance|object|colou?r|rgb", re.IGNORECASE)
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
    plain = [place for place in masks if not OTHER_MASKS.search(place.name)] or masks
    pictures = [place for place in places if place not in masks]
    pairs = [(image, mask) for mask in plain if (image := _partner(root, mask, pictures)) is not None]
    pairs = pairs or _told_by_content(places) or [(place, place) for place in places if _holds_both(place)]
    parts: dict[str, list[SplitFiles]] = {}
    for image, mask in pairs:
        split = next((word for word in (*_key(image, root), *_key(mask, root)) if is_split(word, wanted)), WHOLE)
        parts.setdefault(split, []).append(SplitFiles(image, mask))
    if len(parts) > 1:
        parts.pop(WHOLE, None)
    elif WHOLE in parts:
        parts = _by_role(parts[WHOLE], root)
    return {split: first._replace(also=tuple(more)) for split, (first, *more) in parts.items()}


def _by_role(places: list[SplitFiles], root: Path) -> dict[str, list[SplitFiles]]:
    """Where words within names tell all of them apart: ISIC2018_Task1_Training_GroundTruth."""
    found: dict[str, list[SplitFiles]] = {}
    for place in places:
        said = next((word for name in reversed(place.labels.relative_to(root).parts) if (word := role(name))), WHOLE)
        found.setdefault(said, []).append(place)
    return found if len(found) > 1 and WHOLE not in found else {WHOLE: places}


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

    Names of masks may differ in case and in how accents are stored, and have an ending behind, as nearly all of a
    folder do; endings that all pictures have are left out: `a.jpg` and `a_mask.png`, `a.jpg` and `a.jpg.png`,
    `a_leftImg8bit.png` and `a_gtFine_labelIds.png`. Masks of colours and of instances beside those of classes are
    left out too.

    Raises:
        ConfigError: two files claim one name, or one picture.
    """
    if part.images == part.labels:
        return _in_one_folder(part.images)
    pictures = _named(_files(part.images, PICTURES), part.images)
    masks = _named(_files(part.labels, SUFFIXES), part.labels)
    with_ending = {stem(file, part.images) + os.path.splitext(file)[1]: file for file in pictures.values()}
    if with_ending.keys() & masks.keys() and not pictures.keys() & masks.keys():
        return with_ending, masks
    ways = [(names, _told_apart(masks, names)) for names in _without_endings(pictures)]
    pictures, told = max(ways, key=lambda way: max(_times(way[1]).values(), default=0))  # the first of equals
    times = _times(told)
    plain = [ending for ending in times if not OTHER_MASKS.search(ending)] or list(times)
    usual = [ending for ending in plain if 2 * times[ending] > max(times[ending] for ending in plain)]
    usual = [""] if "" in usual else usual
    found: dict[str, str] = {}
    for mask, file in masks.items():
        name, ending = told.get(mask) or _cut(mask, usual)
        if ending in usual:
            if found.setdefault(name, file) != file:
                raise ConfigError(
                    f"{found[name]} and {os.path.basename(file)} are both masks of {pictures.get(name, name)}: which "
                    f"is meant? Keep {' or '.join(usual) or 'one'} in {part.labels}, and move the other"
                )
        elif mask not in told or ending in plain:
            found[mask] = file  # of no picture, which verification reports
    return pictures, found


def check_one_mask_each(places: Iterable[SplitFiles]) -> None:
    """Refuse two folders of masks for the same pictures."""
    mask_of: dict[str, str] = {}
    for place in places:
        pictures, masks = paired(place)
        for name, mask in masks.items():
            if name in pictures and mask_of.setdefault(pictures[name], mask) != mask:
                raise ConfigError(
                    f"{mask_of[pictures[name]]} and {mask} are both masks of {pictures[name]}: which is meant? Say "
                    f"data.images=<folder> data.masks=<folder>, or keep one of them there"
                )


def unused_folders(root: Path, places: list[SplitFiles]) -> list[str]:
    """Folders of what look like masks of the same pictures, and of the same split, which are not taken for theirs."""

    def roles(place: Path) -> set[str | None]:
        return {role(name) for name in place.relative_to(root).parts}

    used = {folder for place in places for folder in (place.images, place.labels)}
    found = []
    for folder in _folders_of_pictures(root):
        if OTHER_MASKS.search(folder.name) or any(folder.is_relative_to(place) for place in used):
            continue
        near = [place for place in places if roles(place.images) == roles(folder)]
        common = [2 * shared(place._replace(labels=folder)) > len(_files(place.images, PICTURES)) for place in near]
        if any(common) and _looks_like_masks(folder):
            found.append(folder.relative_to(root).as_posix())
    return found


def left_out(part: SplitFiles, masks: Collection[str]) -> list[str]:
    """Files beside the masks that are none of them."""
    if part.images == part.labels:
        return []
    return sorted(set(_files(part.labels, SUFFIXES)) - set(masks))


def _told_apart(masks: Iterable[str], pictures: Collection[str]) -> dict[str, tuple[str, str]]:
    """{mask: (its picture, the ending behind that name)}; masks that begin with no picture's name are not there."""
    known: dict[str, str | None] = {}
    for name in pictures:
        known[spelled(name)] = None if spelled(name) in known else name
    told = {}
    for mask in masks:
        for cut in (len(mask), *(sign.start() for sign in reversed(list(re.finditer(r"[-_. ]", mask))))):
            name = mask[:cut] if mask[:cut] in pictures else known.get(spelled(mask[:cut]))
            if name is not None:
                told[mask] = name, mask[cut:]
                break
    return told


def _cut(mask: str, endings: list[str]) -> tuple[str, str]:
    ending = next((ending for ending in endings if mask.endswith(ending)), "")
    return mask.removesuffix(ending), ending


def _times(told: dict[str, tuple[str, str]]) -> Counter[str]:
    return Counter(ending for _, ending in told.values())


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
    best, common = _nearest(mask, same or pictures)
    return best if common else None


def _nearest(mask: Path, pictures: list[Path]) -> tuple[Path | None, int]:
    """(the folder of pictures that belongs to one of masks, how many names they share)

    Of folders with about as many equal names the nearest that does not look like masks itself: every split may number
    its pictures from 1.
    """
    common = {place: shared(SplitFiles(place, mask)) for place in pictures}
    likely = [place for place in pictures if common[place] and 2 * common[place] >= max(common.values())]
    if len(likely) > 1:
        likely = [place for place in likely if not _looks_like_masks(place)] or likely
    best = max(likely, key=lambda place: (len(_words(place) & _words(mask)), common[place]), default=None)
    return best, 0 if best is None else common[best]


def _words(place: Path) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", str(place).lower()))


def shared(part: SplitFiles) -> int:
    """How many pictures have their mask."""
    try:
        pictures, masks = paired(part)
    except ConfigError:
        return 1  # so that who opens them is told why
    return len(pictures.keys() & masks.keys())


def _told_by_content(places: list[Path]) -> list[tuple[Path, Path]]:
    """Pairs of folders of which one holds what looks like the other's masks."""
    if not 2 <= len(places) <= 16:
        return []
    flat = {place: _looks_like_masks(place) for place in places}
    pictures = [place for place in places if not flat[place]]
    found = []
    masks = [place for place in places if flat[place]]
    for mask in [place for place in masks if not OTHER_MASKS.search(place.name)] or masks:
        best, common = _nearest(mask, pictures)
        if best is not None and 2 * common > len(_files(mask, SUFFIXES)):
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


def _without_endings(files: dict[str, str]) -> list[dict[str, str]]:
    """As they are, and without an ending that all names have and that begins with a sign, the shortest first."""
    shared = os.path.commonprefix([name.rpartition("/")[2][::-1] for name in files])[::-1]
    if len(files) == 1:
        shared = shared[1:]  # a name is more than its ending
    endings = [shared[sign.start() :] for sign in reversed(list(re.finditer(r"[-_. ]", shared)))]
    return [files, *({name.removesuffix(ending): file for name, file in files.items()} for ending in endings)]
