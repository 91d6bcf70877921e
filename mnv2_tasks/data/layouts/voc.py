"""VOC XML: a file for each picture, in a folder of its own or beside the picture."""

import os
from pathlib import Path

from mnv2_tasks.data.layouts.class_file import not_followed
from mnv2_tasks.data.layouts.label_files import found_note, paired_by_name
from mnv2_tasks.data.layouts.layout import Layout, Opened, SplitFiles, paired_folders
from mnv2_tasks.data.layouts.pairing import fits, paired_by_content
from mnv2_tasks.data.layouts.splits import WHOLE, is_split
from mnv2_tasks.data.reading.folders import (
    PICTURES,
    by_stem,
    files_below,
    files_in,
    folders,
    has,
    pictures_below,
    place_below,
    spelled,
    stem,
)
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Recorder, Records
from mnv2_tasks.data.reading.text_files import listed_once
from mnv2_tasks.data.reading.voc_xml import VocAnnotation, corners_are_one_based, pixel_box, read_voc_xml
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import brief, counted, first_few

IMAGES = ("jpegimages", "images", "imgs")


def _find(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    for images in IMAGES:
        parts = paired_folders(root, images, "annotations", wanted)
        if any(has(part.labels, (".xml",)) for part in parts.values()):
            lists = _listed(root, parts, wanted)
            apart = {} if WHOLE not in lists or fits(lists[WHOLE], ".xml") else _search(root, wanted)
            return apart or lists  # one of the two lies in folders of splits
    beside = {folder.name: SplitFiles(folder, folder) for folder in folders(root) if is_split(folder.name, wanted)}
    beside = {name: part for name, part in beside.items() if _beside(part.images)}
    return beside or ({WHOLE: SplitFiles(root, root)} if _beside(root) else {})


def _beside(folder: Path) -> bool:
    return bool(files_in(folder, ".xml") and files_in(folder, PICTURES))


def _search(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    return _listed(root, paired_by_content(root, ".xml", wanted), wanted)


def _listed(root: Path, parts: dict[str, SplitFiles], wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    """VOC's own way to split: a text file with the names of a split's images."""
    lists = files_in(root / "ImageSets" / "Main", ".txt") or files_in(root / "ImageSets", ".txt")
    lists = [file for file in lists if is_split(file.stem, wanted)]  # aeroplane_train.txt is of another kind
    if WHOLE not in parts or not lists:
        return parts
    return {file.stem: parts[WHOLE]._replace(listed=file) for file in lists}


def _open(root: Path, parts: dict[str, SplitFiles]) -> Opened:
    every = {part.labels for part in (*_find(root, ()).values(), *parts.values())}
    files = sorted({file for folder in every for file in files_below(folder) if file.lower().endswith(".xml")})
    read = {file: _annotation(file) for file in files}
    objects = [found for annotation in read.values() if not isinstance(annotation, str) for found in annotation.objects]
    names = sorted({found.name for found in objects})
    if not names:
        unreadable = [f"{file}: {fault}" for file, fault in read.items() if isinstance(fault, str)]
        also = f"; {len(unreadable):,} of them cannot be read: {first_few(unreadable, 3)}" if unreadable else ""
        raise ConfigError(f"data=folder: no XML in {', '.join(map(str, sorted(every)))} has an object{also}")
    one_based = corners_are_one_based(found.corners for found in objects)
    paired = {split: _Pairs(part, read) for split, part in parts.items()}
    notes = [f"corners counted from {int(one_based)}", *(note for pairs in paired.values() for note in pairs.notes)]
    notes += not_followed(root, names)
    if without_xml := sum(len(pairs.without_xml) for pairs in paired.values()):
        # nobody has annotated them yet: those without objects have an XML without objects
        notes.append(f"{counted(without_xml, 'image')} without XML left out")
    return Opened(names, lambda split: _read(paired[split], read, names, one_based), notes)


def _annotation(file: str) -> VocAnnotation | str:
    """What is wrong with it, where it cannot be read."""
    try:
        return read_voc_xml(Path(file))
    except DataError as error:
        return str(error).removeprefix(f"{file}: ")


class _Pairs:
    """Which picture belongs to which XML of a split.

    The names of both files say it, because they outlive a renaming of both; what the XML says in `<filename>` decides
    between pictures that differ in their ending, and names one of another name. What stays unclear is refused.
    """

    def __init__(self, part: SplitFiles, read: dict[str, VocAnnotation | str]):
        self.part = part
        self.pictures = by_stem(pictures_below(part.images)[0], part.images)
        self.xml = by_stem((f for f in files_below(part.labels) if f.lower().endswith(".xml")), part.labels)
        self.by_name: dict[str, list[str]] = {}
        for files in self.pictures.values():
            for file in files:
                self.by_name.setdefault(spelled(os.path.basename(file)), []).append(file)
        self.of_spelling = {spelled(name): name for name in self.xml}
        self.notes = self._found_by_name(read)
        names = sorted(name for name in self.xml if name in self.pictures or not part.both)
        if part.listed is not None:
            listed, again = listed_once(part.listed)
            names = list(dict.fromkeys(self._of_list(name) for name in listed))
            self.notes += [again] if again else []
        self.rows = [
            (name, self.xml.get(name, [str(part.labels / f"{name}.xml")]), *self._picture(name, read)) for name in names
        ]
        taken = {file for _, _, file, _ in self.rows}
        self.without_xml = [
            name for name, files in self.pictures.items() if name not in self.xml and not taken.intersection(files)
        ]
        if part.listed is not None or part.both:
            self.without_xml = []
        if elsewhere := sum(self._names_another(name, read) for name in names):
            self.notes.append(f"{elsewhere:,} XML name another picture than their own name does, which counts")

    def _found_by_name(self, read: dict[str, VocAnnotation | str]) -> list[str]:
        """Give XML that names no picture to that whose name tools and systems write otherwise; and a note of it."""
        alone = {
            name: files
            for name, files in self.xml.items()
            if name not in self.pictures and self._said(name, read) not in self.by_name
        }
        bare = {place_below(f, self.part.images): s for s, fs in self.pictures.items() if s not in self.xml for f in fs}
        paired = paired_by_name(list(bare), alone)
        name_of = {file: name for name, files in alone.items() for file in files}
        for picture, files in zip(bare, paired.labels):
            for name in {name_of[file] for file in files}:
                self.xml[bare[picture]] = [*self.xml.get(bare[picture], []), *self.xml.pop(name, [])]
                self.of_spelling[spelled(name)] = bare[picture]
        return found_note(paired.found)

    def _of_list(self, name: str) -> str:
        """An entry of a list, which may have the picture's ending, folder or a mark behind it (`a.jpg`, `a 1`)."""
        first = name if name in self.xml else name.rsplit(maxsplit=1)[0]
        root, ending = os.path.splitext(first)
        plain = root if ending.lower() in PICTURES else first
        options = (name, first, plain, os.path.basename(plain))
        return next((option for option in options if option in self.xml), self.of_spelling.get(spelled(plain), name))

    def _said(self, name: str, read: dict[str, VocAnnotation | str]) -> str:
        """The picture's file name, as the XML has it."""
        annotation = read.get(self.xml.get(name, [""])[0])
        said = "" if annotation is None or isinstance(annotation, str) else annotation.file_name
        return spelled(os.path.basename(said.replace("\\", "/")))

    def _picture(self, name: str, read: dict[str, VocAnnotation | str]) -> tuple[str, str | None]:
        """The picture, and why it is unclear which it is."""
        own, said = self.pictures.get(name, []), self._said(name, read)
        named = self.by_name.get(said, [])
        both = [file for file in own if file in named] or own or named
        if len(both) > 1:
            return both[0], f"belongs to {first_few(both)}: which one? <filename> has {brief(said) or 'nothing'!r}"
        if own and named and not set(own) & set(named) and not any(self._has_xml(file) for file in named):
            return own[0], f"belongs to {own[0]} by its name, and to {named[0]} by its <filename>"
        return (both[0] if both else str(self.part.images / f"{name}.*")), None

    def _has_xml(self, picture: str) -> bool:
        return stem(picture, self.part.images) in self.xml

    def _names_another(self, name: str, read: dict[str, VocAnnotation | str]) -> bool:
        own, named = self.pictures.get(name, []), self.by_name.get(self._said(name, read), [])
        return bool(own and named and not set(own) & set(named))


def _read(
    pairs: _Pairs, read: dict[str, VocAnnotation | str], names: list[str], one_based: bool
) -> tuple[Records, list[Problem]]:
    label_of = {name: label for label, name in enumerate(names)}
    recorder, problems = Recorder(), []
    owner: dict[str, str] = {}
    for image, (_, files, picture, unclear) in enumerate(pairs.rows):
        path = files[0]
        annotation = read[path] if path in read else _annotation(path)
        recorder.image(picture, size=(0, 0) if isinstance(annotation, str) else annotation.size)
        if len(files) > 1:
            unclear = f"has the same name as {first_few(files[1:])}"
        first = owner.setdefault(picture, path)
        if first != path:
            unclear = f"and {first} both annotate {picture}"
        if isinstance(annotation, str):
            problems.append(Problem(path, annotation, "Correct it, or leave the image out", image))
        elif unclear:
            problems.append(Problem(path, unclear, "Remove or rename one of them", image))
        else:
            for number, found in enumerate(annotation.objects, start=1):
                box = pixel_box(found.corners, one_based=one_based)
                recorder.box(box, label_of[found.name], box_id=number, crowd=found.difficult)
    return recorder.records(), problems


VOC_FOLDER = Layout(
    title="VOC XML",
    kind="detection",
    tree="""
Annotations/*.xml          JPEGImages/*.jpg          or any two folders with files of equal names
ImageSets/Main/{train,val,test}.txt          or <split>/*.jpg with <split>/*.xml beside, without lists
""",
    find=_find,
    open=_open,
    search=_search,
)
