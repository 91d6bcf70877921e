"""VOC XML: a file for each picture, in a folder of its own or beside the picture."""

import os
from collections.abc import Iterable
from pathlib import Path

from mnv2_tasks.data.layouts.layout import Layout, Opened, SplitFiles, paired_folders
from mnv2_tasks.data.layouts.splits import WHOLE, is_split
from mnv2_tasks.data.reading.folders import files_below, folders, has, pictures_below, stem
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Recorder, Records
from mnv2_tasks.data.reading.text_files import listed_names
from mnv2_tasks.data.reading.voc_xml import corners_are_one_based, pixel_box, read_voc_xml
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import counted

IMAGES = ("jpegimages", "images", "imgs")


def _find(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    for images in IMAGES:
        parts = paired_folders(root, images, "annotations", wanted)
        if any(has(part.labels, (".xml",)) for part in parts.values()):
            return _listed(root, parts, wanted)
    beside = {folder.name: SplitFiles(folder, folder) for folder in folders(root) if is_split(folder.name, wanted)}
    beside = {name: part for name, part in beside.items() if any(part.labels.glob("[!.]*.xml"))}
    return beside or ({WHOLE: SplitFiles(root, root)} if any(root.glob("[!.]*.xml")) else {})


def _listed(root: Path, parts: dict[str, SplitFiles], wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    """VOC's own way to split: a text file with the names of a split's images."""
    lists = sorted((root / "ImageSets" / "Main").glob("*.txt"))
    lists = [file for file in lists if is_split(file.stem, wanted)]  # aeroplane_train.txt is of another kind
    if WHOLE not in parts or not lists:
        return parts
    return {file.stem: parts[WHOLE]._replace(listed=file) for file in lists}


def _open(root: Path, parts: dict[str, SplitFiles]) -> Opened:
    every = {part.labels for part in (*_find(root, ()).values(), *parts.values())}
    objects, unreadable = [], 0
    for file in sorted(file for folder in every for file in files_below(folder) if file.endswith(".xml")):
        try:
            objects += [(o.name, o.corners) for o in read_voc_xml(Path(file)).objects]
        except DataError:
            unreadable += 1  # a problem of its split, when that is read
    names = sorted({name for name, _ in objects})
    if not names:
        also = f", {unreadable:,} of them unreadable" if unreadable else ""
        raise ConfigError(f"data=folder: no XML in {', '.join(map(str, sorted(every)))} has an object{also}")
    one_based = corners_are_one_based(corners for _, corners in objects)
    notes = [
        f"corners counted from {int(one_based)}",
        *_without_xml(parts.values()),
    ]
    return Opened(names, lambda split: _read(parts[split], names, one_based), notes)


def _without_xml(parts: Iterable[SplitFiles]) -> list[str]:
    """Pictures that nobody has annotated yet are not pictures without objects: those have an XML without objects."""
    lost = 0
    for part in parts:
        if part.listed is None:
            lost += len({stem(file, part.images) for file in pictures_below(part.images)[0]} - set(_xml_names(part)))
    return [f"{counted(lost, 'image')} without XML left out"] if lost else []


def _xml_names(part: SplitFiles) -> list[str]:
    return sorted(stem(file, part.labels) for file in files_below(part.labels) if file.endswith(".xml"))


def _read(part: SplitFiles, names: list[str], one_based: bool) -> tuple[Records, list[Problem]]:
    label_of = {name: label for label, name in enumerate(names)}
    pictures = {stem(file, part.images): file for file in pictures_below(part.images)[0]}
    recorder, problems = Recorder(), []
    for image, name in enumerate(_xml_names(part) if part.listed is None else listed_names(part.listed)):
        path = part.labels / f"{name}.xml"
        picture = pictures.get(name)
        try:
            annotation = read_voc_xml(path)
        except DataError as error:
            recorder.image(picture or str(part.images / f"{name}.*"))
            what = str(error).removeprefix(f"{path}: ")
            problems.append(Problem(str(path), what, "Correct it, or leave the image out", image))
            continue
        recorder.image(picture or _named(part, name, annotation.file_name), size=annotation.size)
        for number, found in enumerate(annotation.objects, start=1):
            box = pixel_box(found.corners, one_based=one_based)
            recorder.box(box, label_of[found.name], box_id=number, crowd=found.difficult)
    return recorder.records(), problems


def _named(part: SplitFiles, name: str, file_name: str) -> str:
    """The picture that the XML names; the XML's own name comes first, because it outlives a renaming of both."""
    path = part.images / Path(name).parent / os.path.basename(file_name.replace("\\", "/"))
    return str(path if file_name and path.is_file() else part.images / f"{name}.*")


VOC_FOLDER = Layout(
    title="VOC XML",
    kind="detection",
    tree="""
Annotations/*.xml          JPEGImages/*.jpg          or images/*.jpg
ImageSets/Main/{train,val,test}.txt          or <split>/*.jpg with <split>/*.xml beside, without lists
""",
    find=_find,
    open=_open,
)
