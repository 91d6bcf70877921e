"""What a file is, by what it holds: endings are given by hand, and strangers' differ.

Files are told apart by a sign that no other kind has. An archive's members are listed, nothing is unpacked or run.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mnv2_tasks.plain_data import read_start

STARTS = {  # at an offset: what stands there
    "tflite": (4, b"TFL3"),
    "executorch": (4, b"ET12"),
    "hdf5": (0, b"\x89HDF\r\n\x1a\n"),
    "torch": (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."),  # of before its zip format
    "saved model": (0, b"\x08\x01\x12"),
    "gzip": (0, b"\x1f\x8b"),
    "git lfs": (0, b"version https://git-lfs"),
    "tar": (257, b"ustar"),
    "jpeg": (0, b"\xff\xd8\xff"),
    "png": (0, b"\x89PNG\r\n\x1a\n"),
    "gif": (0, b"GIF8"),
    "webp": (8, b"WEBPVP8"),
}
PICTURES = ("jpeg", "png", "gif", "webp")
ONNX_FIELDS = (b"\x12", b"\x1a", b"\x22", b"\x3a", b"\x42")  # behind its version: who wrote it, or the graph
LOOKED_AT = 1024  # bytes of the start
LONGEST_HEADER = 100_000_000  # safetensors' own limit


class Members(NamedTuple):
    """Of a zip archive."""

    kind: str
    are: Callable[[list[str]], bool]


ARCHIVES = (  # the first that fits
    Members("keras", lambda names: "model.weights.h5" in names),
    Members("torch program", lambda names: _any_ends(names, "/archive_format", "serialized_exported_program.json")),
    Members("torchscript", lambda names: any("/code/" in n for n in names) and _any_ends(names, "/constants.pkl")),
    Members("torch", lambda names: _any_ends(names, "/data.pkl")),
    Members("npz", lambda names: bool(names) and all(name.endswith(".npy") for name in names)),
)
FORMATS_HELD = {  # kind -> the format of formats.py
    "onnx": "onnx", "openvino": "openvino", "executorch": "executorch", "tflite": "litert", "torch program": "torch",
}  # fmt: skip


def kind_of(path: Path) -> str:
    """One of the kinds above, "safetensors", "frozen graph", "onnx", "openvino", "web page", "zip", "damaged archive",
    "empty"; or ""."""
    if not path.is_file():
        return ""
    start = read_start(path, LOOKED_AT)
    if not start:
        return "empty"
    for kind, (offset, sign) in STARTS.items():
        if start[offset : offset + len(sign)] == sign:
            return kind
    if start.startswith(b"PK\x03\x04"):
        if not (names := members(path)):
            return "damaged archive"
        return next((archive.kind for archive in ARCHIVES if archive.are(names)), "zip")
    if start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= LONGEST_HEADER:
        return "safetensors"
    if start[0] == 0x0A and _behind_varint(start[1:])[:1] == b"\x0a":  # nodes, the first thing of which is a name
        return "frozen graph"
    if start[:1] == b"\x08" and b"\x02" <= start[1:2] <= b"\x64" and start[2:3] in ONNX_FIELDS:
        return "onnx"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "web page"
    return "openvino" if text.startswith(b"<?xml") and b"<net " in text else ""


def members(path: Path) -> list[str]:
    """Names in a zip archive, also in one that stands behind something else; none where there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def _any_ends(names: list[str], *endings: str) -> bool:
    return any(f"/{name}".endswith(endings) for name in names)


def _behind_varint(content: bytes) -> bytes:
    """What follows a protobuf's length of up to five bytes, none where it is longer."""
    end = next((i for i, byte in enumerate(content[:5]) if byte < 0x80), None)
    return b"" if end is None else content[end + 1 :]
