"""Segmentation masks: for each picture an image of class indices, or of colours, with the same name."""

import os
import re
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.images.decode import palette_of, read_mask
from mnv2_tasks.data.images.mask_values import INDICES, WHITE, MaskValues
from mnv2_tasks.data.layouts.class_file import class_list
from mnv2_tasks.data.layouts.colour_file import NAMES, Colours, read_colour_file
from mnv2_tasks.data.layouts.layout import Layout, Opened, SplitFiles, paired_folders
from mnv2_tasks.data.layouts.mask_places import (
    SUFFIXES,
    check_one_mask_each,
    find_places,
    given_places,
    left_out,
    paired,
    shared,
    unused_folders,
)
from mnv2_tasks.data.layouts.splits import WHOLE, is_split
from mnv2_tasks.data.reading.folders import PICTURES, child, files_in, folders, has
from mnv2_tasks.data.reading.mask_classes import mask_classes
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Recorder, Records
from mnv2_tasks.data.reading.text_files import listed_once
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import counted, first_few

IMAGES = ("images", "imgs", "img", "image")
MASKS = ("masks", "mask", "labels", "annotations")
SAMPLED = 50  # masks that are looked into where the class list is missing
VOC_BORDER = 0xE0E0C0  # the colour of VOC's pixels without a class
CAMVID = [
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist", "void",
]  # fmt: skip
BINARY = ["background", "object"]


def mask_folder(
    *, images: str | None = None, masks: str | None = None, colours: str | None = None, binary: bool = False
) -> Layout:
    """The layout, with what the user says of it.

    Args:
        images: folder of the pictures below the root, see `given_places`; None: found.
        masks: likewise.
        colours: a file that says which colour is which class; None: masks hold class indices, or such a file is there.
        binary: masks are black and white: white is class 1.
    """
    return Layout(
        title="masks",
        kind="segmentation",
        tree=TREE,
        find=partial(_find, images=images, masks=masks),
        open=partial(_open, given=images is not None, colours=colours, binary=binary),
    )


def _find(root: Path, wanted: tuple[str, ...], *, images: str | None, masks: str | None) -> dict[str, SplitFiles]:
    return _by_lists(root, _find_folders(root, wanted, images=images, masks=masks), wanted)


def _find_folders(
    root: Path, wanted: tuple[str, ...], *, images: str | None, masks: str | None
) -> dict[str, SplitFiles]:
    if (images is None) != (masks is None):
        raise ConfigError(f"data.{'masks' if masks is None else 'images'}=<folder> is needed too")
    if images is not None and masks is not None:
        return given_places(root, images, masks, wanted)
    named = [
        parts
        for image_name in IMAGES
        for mask_name in MASKS
        if (parts := paired_folders(root, image_name, mask_name, wanted))
        and any(has(part.labels, SUFFIXES) for part in parts.values())
    ]
    if named and any(shared(part) for part in named[0].values()):
        return named[0]
    # what is called so and shares no name is refused by its files
    return _find_voc(root, wanted) or find_places(root, wanted) or (named[0] if named else {})


def _by_lists(root: Path, found: dict[str, SplitFiles], wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    """Folders without splits, by the lists of names beside them: train.txt, splits/val.txt, ImageSets/test.txt."""
    if found.keys() != {WHOLE} or found[WHOLE].also:
        return found
    whole = found[WHOLE]
    beside = [place for place in folders(root) if place not in (whole.images, whole.labels)]
    places = [root, *beside, *(inside for place in beside for inside in folders(place))]
    lists: dict[str, SplitFiles] = {}
    for file in (file for place in places for file in files_in(place, ".txt") if is_split(file.stem, wanted)):
        try:
            pictures = paired(whole)[0].keys()
            if pictures & set(_listed(file, pictures)):
                lists.setdefault(file.stem, whole._replace(listed=file))
        except (ConfigError, DataError):
            continue  # a list of something else
    return lists or found


def _listed(file: Path, pictures: Collection[str]) -> list[str]:
    """Names of pictures in a list that may have their folders, their endings and their masks behind."""
    return list(dict.fromkeys(_name_in(line, pictures) for line in listed_once(file)[0]))


def _name_in(line: str, pictures: Collection[str]) -> str:
    for word in (line, *re.split(r"[\s,;]+", line)[:1]):
        stem = os.path.splitext(word)[0] if word.lower().endswith(PICTURES) else word
        parts = stem.split("/")
        for start in range(len(parts)):
            if (name := "/".join(parts[start:])) in pictures:
                return name
    return line


def _find_voc(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    images, masks = child(root, "JPEGImages"), child(root, "SegmentationClass")
    if images is None or masks is None:
        return {}
    lists = sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))
    return {f.stem: SplitFiles(images, masks, f) for f in lists if is_split(f.stem, wanted)} or {
        WHOLE: SplitFiles(images, masks)
    }


def _open(root: Path, parts: dict[str, SplitFiles], *, given: bool, colours: str | None, binary: bool) -> Opened:
    places = [one for part in parts.values() for one in (part, *part.also)]
    check_one_mask_each(places)
    masks = [file for one in places for file in paired(one)[1].values()]
    others = [os.path.basename(file) for one in places for file in left_out(one, masks)]
    sample = masks[:: max(len(masks) // SAMPLED, 1)]
    names = class_list([root, *(place for one in places for place in (one.images, one.labels))])
    again = [f"split by {first_few(lists)}"] if (lists := _own_lists(root, places)) else []
    again += [note for one in places if one.listed is not None and (note := listed_once(one.listed)[1])]
    if others:
        again.append(f"{counted(len(others), 'mask')} of colours or instances left out: {first_few(others, 3)}")

    if not given and (unused := unused_folders(root, places)):
        masks_of = places[0].labels.relative_to(root).as_posix()
        again.append(f"masks of {masks_of}, not of {first_few(unused)} (data.masks=<folder>)")

    otherwise: dict[str, tuple[str, str]] = {}

    def opened(names: list[str], values: MaskValues = INDICES, notes: Iterable[str] = ()) -> Opened:
        return Opened(names, lambda split: _read(parts[split], otherwise), [*notes, *again], values=values)

    if colours is not None and binary:
        raise ConfigError("data.binary=true and data.colours=<file>: masks are either black and white or of colours")
    if binary:
        _check_binary(root, sample)
        if names is not None and len(names) != 2:
            raise ConfigError(f"data.binary=true: black and white are two classes, {root} lists {len(names)}")
        return opened(names or BINARY, MaskValues("white"), ["white is class 1"])
    if colours is not None:
        return opened(*_coloured(_colour_file(root, colours)))
    beside = next((path for path in (root / name for name in NAMES) if path.is_file()), None)
    if beside is not None:
        coloured = _coloured(read_colour_file(beside))
        if names is None or _hold_colours(sample):
            if _fit(sample, coloured[1], len(coloured[0])) or _hold_colours(sample):
                return opened(*coloured, [f"colours of {beside.name}"])
            names = names or coloured[0]
    _check_palettes(sample)
    otherwise.update(_stored_otherwise(root, masks, sample, names))
    if names is not None:
        return opened(names)
    values = _values(sample)
    if values and max(values) in (10, 11) and all(value <= 11 for value in values) and _is_camvid(parts):
        return opened(CAMVID, notes=["no class list: CamVid's classes"])
    raise ConfigError(
        f"data=folder: {root} holds masks, but no class list; the masks hold the values {values} "
        f"({IGNORE} is no class). Write {root / 'classes.txt'} with one class name a line: the first names value 0"
    )


def _own_lists(root: Path, places: list[SplitFiles]) -> list[str]:
    """Those that VOC's layout does not have."""
    lists = dict.fromkeys(one.listed for one in places if one.listed is not None)
    return [file.relative_to(root).as_posix() for file in lists if file.parent != root / "ImageSets" / "Segmentation"]


def _is_camvid(parts: dict[str, SplitFiles]) -> bool:
    return all(part.labels.name == f"{part.images.name}annot" for part in parts.values())


def _colour_file(root: Path, named: str) -> Colours:
    for path in (Path(os.path.expanduser(named)), root / named):
        if path.is_file():
            return read_colour_file(path)
    raise ConfigError(f"data.colours={named}: there is no such file, neither here nor in {root}")


def _coloured(colours: Colours) -> tuple[list[str], MaskValues]:
    """(class names, what the colours are)"""
    names = list(dict.fromkeys(colours.values()))
    codes = {VOC_BORDER: IGNORE} | {code: names.index(name) for code, name in colours.items()}
    return names, MaskValues("colour", tuple(codes.items()))


def _hold_colours(masks: list[str]) -> bool:
    """Whether they are no index images."""
    for file in masks:
        try:
            read_mask(file)
        except DataError as error:
            return "has colours" in str(error)
    return False


def _fit(masks: list[str], values: MaskValues, num_classes: int) -> bool:
    """Whether masks hold these colours and no others."""
    for file in masks:
        try:
            if values.strays(values.pixels(file), num_classes):
                return False
        except DataError:
            continue  # reported with all others that are bad
    return True


def _check_binary(root: Path, masks: list[str]) -> None:
    brightest = 0
    for file in masks:
        try:
            brightest = max(brightest, int(MaskValues("white").pixels(file).max()))
        except DataError:
            continue  # reported with all others that are bad
        if brightest >= WHITE:
            return
    if masks and brightest:
        raise ConfigError(
            f"data.binary=true: no mask in {root} has white pixels, the brightest has the value {brightest}: "
            f"they hold class indices, which need no data.binary"
        )


def _check_palettes(masks: list[str]) -> None:
    """Refuse palettes that number their colours anew in each file, as programs do that write small ones."""
    first: dict[int, tuple[int, str]] = {}
    for file in masks:
        try:
            palette = palette_of(file)
        except DataError:
            continue  # reported with all others that are bad
        for value, colour in palette.items():
            before, there = first.setdefault(colour, (value, file))
            if before != value:
                rgb = colour >> 16, colour >> 8 & 255, colour & 255
                raise ConfigError(
                    f"the colour {rgb} is value {before} in {there} and {value} in {file}: values whose colours differ "
                    f"from file to file are no classes. Say which colour is which class: data.colours=<file>, or of "
                    f"black and white data.binary=true"
                )


def _stored_otherwise(
    root: Path, masks: list[str], sample: list[str], names: list[str] | None
) -> dict[str, tuple[str, str]]:
    """{mask: (what, remedy)} of black and white masks among more of class indices.

    255 means "no class": black and white masks would train a network that knows nothing but background.

    Raises:
        ConfigError: all are black and white, or most.
    """
    if (
        names is not None
        and len(names) > 2
        and not any(held == {0, IGNORE} or held == {IGNORE} for held in _held(sample))
    ):
        return {}  # the others need not be looked into
    held = dict(zip(masks, _held(masks)))
    white = [file for file, values in held.items() if values == {0, IGNORE}]
    others = [file for file, values in held.items() if not values <= {0, IGNORE}]
    filled = [file for file, values in held.items() if values == {IGNORE}]
    if (white or filled) and not others:
        raise ConfigError(
            f"data=folder: {root}: looks like binary masks stored as 0/255 (such as {(white or filled)[0]}): no mask "
            f"holds another value. {IGNORE} marks pixels without a class here: data.binary=true takes white as class 1 "
            f"(classes.txt may name the two, `background` and the object's name)"
        )
    if not white or any(IGNORE in held[file] for file in others):
        return {}  # beside a class it does mark pixels without one
    if len(white) >= len(others):
        hold = "holds" if len(others) == 1 else "hold"
        raise ConfigError(
            f"data=folder: {root}: looks like binary masks stored as 0/255 (such as {white[0]}), but {len(others)} of "
            f"the {len(held)} masks {hold} class indices: {first_few(others)}. Write 255 in place of 1 there, and say "
            f"data.binary=true"
        )
    if any(not held[file] <= {0, 1} for file in others):
        return {}
    what = f"is black and white (0 and 255), and {len(others)} of the {len(held)} masks hold class indices (0 and 1)"
    return dict.fromkeys(white, (what, "Write 1 in place of 255, which marks pixels without a class"))


def _held(masks: list[str]) -> list[set[int]]:
    """The values in each mask; none of one that cannot be read, which is reported with all others that are bad."""
    held: list[set[int]] = [set() for _ in masks]
    for index, value in mask_classes(masks, INDICES, 256).tolist():
        held[index].add(value)
    return held


def _values(masks: list[str]) -> list[int]:
    found, unread = set(), None
    for file in masks:
        try:
            found |= set(np.unique(read_mask(Path(file))).tolist())
        except DataError as error:
            unread = error
    if unread and not found:
        raise ConfigError(str(unread))
    return sorted(found)


def _read(part: SplitFiles, otherwise: dict[str, tuple[str, str]]) -> tuple[Records, list[Problem]]:
    """A picture without its mask, or a mask without its picture, is a missing file, which verification reports."""
    recorder = Recorder()
    for one in (part, *part.also):
        pictures, masks = paired(one)
        for name in sorted(pictures.keys() | masks.keys()) if one.listed is None else _listed(one.listed, pictures):
            picture = pictures.get(name, str(one.images / f"{name}.*"))
            recorder.image(picture, mask=masks.get(name, str(one.labels / f"{name}.png")))
    records = recorder.records()
    return records, [
        Problem(file, *otherwise[file], image) for image, file in enumerate(records.masks) if file in otherwise
    ]


TREE = """
classes.txt                a class name a line: line i, counted from 0, is mask value i; 255 is no class
images/train/*.jpg         masks/train/*.png         class indices or palette, names equal to the images'
images/val/*.jpg           masks/val/*.png           or train/images/, train/masks/; train/, trainannot/ ...
or as VOC has it: JPEGImages/ SegmentationClass/ ImageSets/Segmentation/{train,val}.txt
any other: data.images=<folder> data.masks=<folder>; colours: data.colours=<file>; 0 and 255: data.binary=true
"""
