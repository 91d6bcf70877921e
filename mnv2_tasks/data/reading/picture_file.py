"""A file of decoded pictures: what stands before their pixels, and which of them a newer file can take over."""

import hashlib
from typing import BinaryIO

import numpy as np

OURS = b"mnv2_tasks pictures "
FORMAT = OURS + b"2"  # another layout, or another way to reduce, is another number
HEADER = 128  # bytes: format, state of all pictures and their number, then an entry for each, then the pixels
ENTRY = np.dtype([("key", "<u8", 2), ("start", "<i8")])  # changes when the picture does; where among the pixels it is


def header_of(keys: np.ndarray) -> bytes:
    """
    Args:
        keys: (n, 2) uint64 of the pictures, see ENTRY.
    """
    state = hashlib.sha256(keys.tobytes()).hexdigest()
    return (FORMAT + b" " + state.encode() + b" %d" % len(keys)).ljust(HEADER - 1) + b"\n"


def entries_of(keys: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(n,) ENTRY, which follow the header."""
    entries = np.empty(len(keys), ENTRY)
    entries["key"], entries["start"] = keys, starts
    return entries


class KeptPictures:
    """Those of some pictures that an older file has as they are.

    Args:
        file: of the same format.
        keys: (n, 2) uint64 of the pictures.
    """

    def __init__(self, file: BinaryIO, keys: np.ndarray):
        number = int(file.read(HEADER).split()[-1])
        there = np.frombuffer(file.read(number * ENTRY.itemsize), ENTRY)
        self.file, self.first = file, HEADER + number * ENTRY.itemsize
        order = np.argsort(there["key"][:, 0])
        found = np.searchsorted(there["key"][:, 0], keys[:, 0], sorter=order).clip(max=number - 1)
        same = (there["key"][order[found]] == keys).all(axis=1)
        self.starts = np.where(same, there["start"][order[found]], -1)  # (n,) int64, -1 where it has it not

    def __len__(self) -> int:
        return int((self.starts >= 0).sum())

    def __contains__(self, index: int) -> bool:
        return bool(self.starts[index] >= 0)

    def pixels(self, index: int, count: int) -> np.ndarray:
        """(bytes,) uint8"""
        self.file.seek(self.first + int(self.starts[index]))
        return np.frombuffer(self.file.read(count), np.uint8)
