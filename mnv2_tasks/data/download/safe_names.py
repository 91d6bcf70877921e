"""Names of files that strangers wrote, in archives, annotations and lists: none leads out of its folder."""

import os
import re
from pathlib import Path

from mnv2_tasks.errors import DataError
from mnv2_tasks.wording import visible

LONGEST, LONGEST_PART = 4096, 255  # bytes that file systems take
PLAIN = re.compile(r"(?:\w[\w. -]*/)*\w[\w. -]*")  # nearly all names, told in a fifth of the time


def name_fault(name: str) -> str | None:
    """Why a name is no file's below the folder that it starts from; None where it is one. Links are not looked at."""
    if name.startswith("/"):
        return "is an absolute path"
    if ".." in name.split("/"):
        return "leads out of the folder"
    return _sign_fault(name)


def path_within(root: Path, folder: Path, name: str, where: str) -> str:
    """The path of a file that annotations name, from a folder within the data set's root. Links are followed.

    Args:
        where: the name stands, such as "train.json: image 17"; errors start with it.

    Raises:
        DataError: it lies outside of the root, or no file can be called so.
    """
    if len(name) < 100 and PLAIN.fullmatch(name):
        return f"{folder}/{name}"
    if name and name_fault(name) is None:
        return str(folder / name)
    fault = _sign_fault(name) or (None if name else "is empty")
    path = os.path.normpath(os.path.join(os.path.abspath(folder), name)) if fault is None else ""
    if fault is None and not Path(path).is_relative_to(os.path.abspath(root)):
        fault = f"leads out of {root}"
    if fault:
        raise DataError(f"{where} names the file {visible(name[:100])!r}, which {fault}. Name files from {folder}")
    return path


def _sign_fault(name: str) -> str | None:
    if "\\" in name:
        return "has a backslash, which is a folder on some systems"
    if re.match("[A-Za-z]:", name):
        return "names a drive"
    if visible(name) != name:
        return "has a control character"
    if len(name.encode()) > LONGEST or any(len(part.encode()) > LONGEST_PART for part in name.split("/")):
        return "is too long for a file"
    return None
