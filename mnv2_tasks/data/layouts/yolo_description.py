"""What YOLO data say of themselves, in data.yaml (Ultralytics) or obj.data (darknet, CVAT): splits, keypoints."""

import glob
import itertools
import os
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from mnv2_tasks.data.reading.folders import PICTURES, files_in, folders, is_junk, pictures_below
from mnv2_tasks.data.reading.text_files import MOST_BYTES, read_text
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.plain_data import read_yaml
from mnv2_tasks.wording import brief, first_few, visible

USUAL = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
DARKNET, YAML = (".data",), (".yaml", ".yml")
FIRST_LINE = 4096  # characters, longer than any path
SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
IMAGES = ("images", "imgs", "img", "image", "jpegimages")  # folders of pictures
NOTHING = ("", "null", "none", "~")
GENERAL = ("images", "imgs", "labels", "data")  # the end of a path that would match too much by itself


class Description(NamedTuple):
    file: Path
    splits: dict[str, tuple[Path, ...]]  # folders of pictures, and text files that list them, as the file names them
    missing: dict[str, str]  # of splits whose places are not there: what the file says
    keypoints: int | None  # numbers after the four of each box; None: what it says of them cannot be understood
    roots: tuple[Path, ...]  # folders that its paths start from
    passed: tuple[str, ...] = ()  # paths that lead out to what is there, where the same lies inside and is taken

    def told(self, split: str) -> str:
        """Such as "val is images/fold3"."""
        places = [os.path.relpath(place, self.file.parent) for place in self.splits[split]]
        shown = [Path(p).as_posix() if not p.startswith("..") else str(q) for p, q in zip(places, self.splits[split])]
        return f"{split} is {first_few(shown, 3)}"


def description(root: Path) -> Description | None:
    """Of the file that `root` is, or of that in it; None where there is none. It never refuses: `class_list` does."""
    for file in [root] if root.is_file() else candidates(root):
        try:
            content = _content(file)
        except (ConfigError, DataError):
            continue
        if content is not None:
            return _understood(file, content)
    return None if root.is_file() else _by_lists(root)


def _by_lists(root: Path) -> Description | None:
    """Of darknet's train.txt, valid.txt ... alone, which name pictures."""
    lists = {file.stem.lower(): file for file in files_in(root, ".txt") if _names_pictures(file)}
    splits = {split: (lists[key],) for split, keys in SPLITS.items() for key in keys if key in lists}
    return Description(lists["train"], splits, {}, 0, (root,)) if "train" in splits else None


def _names_pictures(file: Path) -> bool:
    """By its first line."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            return opened.readline(FIRST_LINE).strip().lower().endswith(PICTURES)
    except (OSError, ValueError):
        return False


def candidates(root: Path) -> list[Path]:
    """Files that may describe the data in a folder, the usual ones first."""
    found = [file for ending in (*YAML, *DARKNET) for file in files_in(root, ending)]
    return sorted(found, key=lambda file: file.name.lower() not in USUAL)


def rival_descriptions(root: Path, told: Description) -> list[str]:
    """Files in a folder that describe splits, none of them by a name that is usual."""
    if root.is_file() or told.file.name.lower() in USUAL:
        return []
    found = [file for file in candidates(root) if (other := description(file)) and (other.splits or other.missing)]
    return [str(file) for file in found]


def _content(file: Path) -> dict[str, Any] | None:
    """Texts by their keys; None where the file describes something else."""
    if file.suffix.lower() in DARKNET:
        rows = [line.partition("=") for line in read_text(file, most_bytes=MOST_BYTES).split("\n") if "=" in line]
        content: Any = {key.strip().lower(): value.strip() for key, _, value in rows}
    else:
        content = read_yaml(file, as_written=True)
    named = isinstance(content, dict) and ({"train", "val", "valid", "names", "kpt_shape"} & set(content))
    return content if named and (file.name.lower() in USUAL or len(named) > 1) else None


def _understood(file: Path, content: dict[str, Any]) -> Description:
    around = file.parent
    path = content.get("path", "")
    roots = [around / _plain(path)] if isinstance(path, str) and path.lower() not in NOTHING else []
    roots = tuple(dict.fromkeys([*(root for root in roots if root.is_dir()), around]))
    splits, missing, passed = {}, {}, []
    for split, keys in SPLITS.items():
        said = next((content[key] for key in keys if content.get(key)), "")
        values = [v if isinstance(v, str) else brief(v) for v in (said if isinstance(said, list) else [said])]
        values = [value for value in values if value.lower() not in NOTHING]
        places = [places_of(value, roots) for value in values]
        passed += [value for value, found in zip(values, places) if found and _passed(value, found[0], roots)]
        if places and all(places):
            splits[split] = tuple(one for found in places for one in found)
        elif places:
            missing[split] = first_few([value for value, found in zip(values, places) if not found])
    return Description(file, splits, missing, _keypoints(content.get("kpt_shape")), roots, tuple(passed))


def _keypoints(shape: Any) -> int | None:
    if shape is None:
        return 0
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, str) and n.isdecimal() for n in shape):
        return int(shape[0][:4]) * int(shape[1][:4])
    return None


def places_of(value: str, roots: tuple[Path, ...]) -> list[Path]:
    """The folder or list that is meant, from the first root that has it, or all that a pattern stands for.

    Roboflow writes ../train/images for the train/images beside the file: what lies inside goes before what another data
    set may have there. Tools write paths of the machine that they ran on: of those, as long an end as is there below a
    root.
    """
    value = _plain(value)
    parts = PurePosixPath(value).parts
    ends = [end for first in range(1, len(parts)) if ".." not in (end := parts[first:])]
    ends = [end for end in ends if "/".join(end).lower() not in GENERAL]
    order = [*ends[:1], (value,), *ends[1:]] if parts[:1] == ("..",) else [(value,), *ends]
    found = _first([root.joinpath(*end) for end in order for root in roots])
    if found is not None or not glob.has_magic(value):
        return [] if found is None else [found]
    elsewhere = parts[0] in ("/", "..") or ":" in parts[0]
    patterns = [end for end in ends if not glob.has_magic(end[0])] if elsewhere else [parts]
    for root, pattern in itertools.product(roots, patterns):
        names = sorted(glob.glob("/".join(pattern), root_dir=root, recursive=True))
        matching = [root / name for name in names if not is_junk(os.path.basename(name))]
        wanted = (*PICTURES, ".txt") if value.lower().endswith(".txt") else PICTURES  # not labels beside the pictures
        if matching := [path for path in matching if path.is_dir() or path.suffix.lower() in wanted]:
            return matching
    return []


def _first(options: list[Path]) -> Path | None:
    try:
        return next((Path(os.path.normpath(option)) for option in options if option.exists()), None)
    except (OSError, ValueError):  # no name of a file
        return None


def _passed(value: str, found: Path, roots: tuple[Path, ...]) -> bool:
    outside = _first([root / _plain(value) for root in roots])
    return outside is not None and outside != found


def _plain(value: str) -> str:
    return value.replace("\\", "/").strip()


def pictures_of(places: tuple[Path, ...], roots: tuple[Path, ...]) -> tuple[list[str], list[str]]:
    """The pictures of a split, each once, and what to tell people.

    Raises:
        DataError: a list cannot be read, or names a file outside of the folders that the data set's description names.
    """
    found: list[str] = []
    for source in places:
        if source.is_dir():
            found += pictures_below(source)[0]
        elif source.suffix.lower() in PICTURES:
            found.append(str(source))
        else:
            found += _listed(source, roots)
    once = list(dict.fromkeys(found))
    more = len(found) - len(once)
    return once, [f"{more:,} times a picture is listed again, and taken once"] if more else []


def _listed(file: Path, roots: tuple[Path, ...]) -> list[str]:
    """The files that a list names: from its own folder or the description's, or as long an end of it as is there."""
    allowed = [os.path.abspath(root) for root in (file.parent, *roots)]
    within = [str(f) for root in dict.fromkeys(allowed) for f in folders(Path(root)) if f.name.lower() in IMAGES]
    pictures = []
    for number, line in enumerate(read_text(file, most_bytes=MOST_BYTES).split("\n"), start=1):
        if not (name := _plain(line)):
            continue
        if visible(name) != name:
            raise DataError(f"{file}: line {number} names {brief(name)!r}, which has a control character")
        parts = PurePosixPath(name).parts
        ends = [name, *("/".join(parts[first:]) for first in range(1, len(parts)))]
        options = (os.path.normpath(os.path.join(root, end)) for end in ends for root in (*allowed, *within))
        inside = (option for option in options if any(Path(option).is_relative_to(root) for root in allowed))
        path = next((option for option in inside if os.path.isfile(option)), None)
        if path is None:
            path = os.path.normpath(os.path.join(allowed[0], name))
            if not any(Path(path).is_relative_to(root) for root in allowed):
                raise DataError(
                    f"{file}: line {number} names {brief(name)!r}, which leads out of {first_few(allowed)}. "
                    f"Name pictures from there"
                )
        pictures.append(path)
    return pictures
