"""PASCAL VOC 2012: masks of 21 classes, with SBD's for training, or boxes of 20."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mnv2_tasks.data.class_lists import VOC_OBJECTS, VOC_SEGMENTATION
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Recorder, Records
from mnv2_tasks.data.reading.root import data_root, not_found
from mnv2_tasks.data.reading.text_files import listed_once
from mnv2_tasks.data.reading.voc_xml import pixel_box, read_voc_xml
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import brief, did_you_mean, first_few

TREE = """
VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg ...
VOCdevkit/VOC2012/ImageSets/Segmentation/{train,val}.txt      for detection: ImageSets/Main/{train,val}.txt
VOCdevkit/VOC2012/SegmentationClass/2007_000032.png ...       for detection: Annotations/2007_000027.xml ...
  and for data.train=trainaug one of
VOCdevkit/VOC2012/SegmentationClassAug/2008_000002.png ...
benchmark_RELEASE/dataset/{train.txt,val.txt,cls/2008_000002.mat ...}      (SBD)
"""
YEAR = "VOCdevkit/VOC2012"
TRAINAUG = "trainaug"


def voc(*, root: str | None, kind: str, on_bad: str, train: str | None, val: str) -> FileSource:
    """The data set as its archive unpacks. Another year's works too, with `root` its own folder, such as VOC2007.

    Segmentation: DeepLab's 10,582 training images `trainaug` are VOC's 1,464 and those of SBD (Hariharan et al. 2011)
    that VOC does not validate on. Without a list of that name they are collected from SegmentationClassAug or SBD.
    Detection: objects marked `difficult` are neither trained on, nor a miss or a false alarm when evaluated.

    Args:
        root: the folder that holds VOCdevkit, or VOCdevkit, or VOC2012.
        kind: "segmentation" or "detection".
        on_bad: "refuse" or "skip".
        train: image list in ImageSets/Segmentation or ImageSets/Main, without `.txt`; by default `trainaug` for
            segmentation and `train` for detection. Masks of a list with "aug" in its name are SegmentationClassAug's,
            where it lacks one SegmentationClass's, then SBD's.
        val: image list to evaluate on.

    Raises:
        ConfigError: VOC cannot serve this kind, or does not lie there.
    """
    if kind not in ("segmentation", "detection"):
        raise ConfigError(
            f"data=voc serves segmentation and detection; {kind} needs one class for each image, VOC's have several: "
            f"data=imagenet, data=folder or data=shapes"
        )
    base = data_root(root, "voc")
    folder = _year(base)
    lists = {"train": train or (TRAINAUG if kind == "segmentation" else "train"), "val": val}
    if kind == "segmentation":
        _require(base, folder, "ImageSets/Segmentation", "SegmentationClass")
        masks = _Masks(base, folder)
        return FileSource(
            kind=kind,
            class_names=VOC_SEGMENTATION,
            read=lambda split: masks.read(lists[split]),
            found=f"PASCAL {folder.name} masks, {masks.origin(lists['train'])} / {val}"
            + _again(folder / "ImageSets" / "Segmentation", lists.values()),
            on_bad=on_bad,
        )
    _require(base, folder, "ImageSets/Main", "Annotations")
    return FileSource(
        kind=kind,
        class_names=VOC_OBJECTS,
        read=lambda split: _read_boxes(folder, lists[split]),
        found=f"PASCAL {folder.name} boxes, {lists['train']} / {val}"
        + _again(folder / "ImageSets" / "Main", lists.values()),
        on_bad=on_bad,
    )


def _year(base: Path) -> Path:
    for folder in (base / YEAR, base / "VOC2012", base):
        if (folder / "JPEGImages").is_dir():
            return folder
    raise not_found("voc", base, f"{YEAR}/JPEGImages", TREE)


def _require(base: Path, folder: Path, *inside: str) -> None:
    for name in inside:
        if not (folder / name).is_dir():
            place = folder.relative_to(base)
            raise not_found("voc", base, (place / name).as_posix(), TREE.replace(YEAR, place.as_posix()))


class _Masks:
    def __init__(self, base: Path, folder: Path):
        self.base, self.folder = base, folder
        self.own, self.augmented = folder / "SegmentationClass", folder / "SegmentationClassAug"
        around = dict.fromkeys((base.absolute(), folder.absolute(), *folder.absolute().parents[:2]))
        places = [place / inside for place in around for inside in ("benchmark_RELEASE/dataset", "SBD", "")]
        self.sbd = next((place for place in places if (place / "cls").is_dir()), None)

    def origin(self, name: str) -> str:
        """The list and what stands in for what is missing, for people."""
        if "aug" not in name:
            return name
        listed = name != TRAINAUG or self._list(TRAINAUG).is_file()
        return name + ("" if listed else " listed anew") + ("" if self.augmented.is_dir() else " from SBD")

    def read(self, name: str) -> tuple[Records, list[Problem]]:
        """Masks that are missing are found when the files are verified."""
        augmented = "aug" in name
        if augmented and self.sbd is None and not self.augmented.is_dir():
            _require(self.base, self.folder, "SegmentationClassAug")
        if name == TRAINAUG and not self._list(name).is_file():
            names = self._trainaug()
        else:
            names = _names(self._list(name))
        recorder = Recorder()
        for image in names:
            picture, mask = self.folder / "JPEGImages" / f"{image}.jpg", self._mask(image, augmented=augmented)
            recorder.image(str(picture), mask=str(mask))
        return recorder.records(), []

    def _list(self, name: str) -> Path:
        return self.folder / "ImageSets" / "Segmentation" / f"{name}.txt"

    def _trainaug(self) -> list[str]:
        names = {*_names(self._list("train")), *(file.stem for file in self.augmented.glob("[!.]*.png"))}
        if self.sbd is not None:
            names.update(_names(self.sbd / "train.txt"), _names(self.sbd / "val.txt"))
        return sorted(names - set(_names(self._list("val"))))

    def _mask(self, image: str, *, augmented: bool) -> Path:
        own = self.own / f"{image}.png"
        if not augmented:
            return own
        places = [self.augmented / f"{image}.png", own]
        if self.sbd is not None:
            places.append(self.sbd / "cls" / f"{image}.mat")
        return next((place for place in places if place.is_file()), own)


def _read_boxes(folder: Path, name: str) -> tuple[Records, list[Problem]]:
    recorder, problems = Recorder(), []
    for place, image in enumerate(_names(folder / "ImageSets" / "Main" / f"{name}.txt")):
        path, picture = folder / "Annotations" / f"{image}.xml", folder / "JPEGImages" / f"{image}.jpg"
        try:
            annotation = read_voc_xml(path)
        except DataError as error:
            recorder.image(str(picture))
            what = str(error).removeprefix(f"{path}: ")
            problems.append(Problem(str(path), what, "Correct it, or take the image off the list", place))
            continue
        recorder.image(str(picture), size=annotation.size)
        for number, found in enumerate(annotation.objects, start=1):
            if found.name in VOC_OBJECTS:
                box = pixel_box(found.corners, one_based=True)
                recorder.box(box, VOC_OBJECTS.index(found.name), box_id=number, crowd=found.difficult)
            else:
                problems.append(_unknown(path, number, found.name))
    return recorder.records(), problems


def _unknown(path: Path, number: int, name: str) -> Problem:
    hint = did_you_mean(name, VOC_OBJECTS).strip() or "For classes of your own: data=folder"
    return Problem(str(path), f"object {number} is a {brief(name)!r}, none of VOC's 20 classes", hint, None)


def _names(path: Path) -> list[str]:
    """An image list's names, one a line, each once."""
    if not path.is_file():
        there = first_few(sorted(file.stem for file in path.parent.glob("[!.]*.txt"))) or "none"
        raise ConfigError(f"data=voc: the image list {path} does not exist; lists there: {there}")
    rows = [line.split() for line in listed_once(path)[0]]
    for number, words in enumerate(rows, start=1):
        if len(words) > 1:
            raise DataError(
                f"{path}: entry {number} is {brief(' '.join(words))!r}, expected the name of an image and no more"
            )
    return [name for (name,) in rows]


def _again(folder: Path, names: Iterable[str]) -> str:
    """What people should know of names that are there again; "" where there are none."""
    told = []
    for path in (folder / f"{name}.txt" for name in dict.fromkeys(names)):
        with suppress(DataError):  # of a list that is not there or broken, which is refused where it is used
            told.append(listed_once(path)[1])
    return "".join(f", {note}" for note in told if note)
