"""MATLAB's `.mat` files of version 5, as SBD's annotations and ImageNet's table of classes come: structs of arrays.

Not scipy's loadmat: some thousand cells within each other, a file of 280 kB, end its process, and it unpacks without
end. Tests hold the two against each other.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

MOST_BYTES = 16 << 20  # unpacked
DEEPEST = 16  # matrices within each other
COMPRESSED, MATRIX, UTF8 = 15, 14, 16  # kinds of element
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1"}
CELL, STRUCT, CHARACTERS = 1, 2, 4  # classes of matrix
OTHERS = (3, 5, 16, 17)  # objects, sparse, functions, opaque: not read
NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


def read_mat(content: bytes) -> dict[str, Any]:
    """{name: value} of a file's variables.

    A value is an array of numbers of its own shape; a text; a list of the values of a cell array, in MATLAB's order; a
    list with a dict for each element of a struct array; None for what is of another class, such as sparse.

    Raises:
        ValueError: it is no such file, is damaged, unpacks to more than `MOST_BYTES` or nests deeper than `DEEPEST`.
    """
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(content[124:128])
    if order is None:
        raise ValueError("it is no MAT-file of version 5")
    try:
        return dict(_variables(content[128:], order))
    except (struct.error, KeyError) as error:
        raise ValueError(f"it is damaged ({error})") from None


def _variables(content: bytes, order: str) -> Iterator[tuple[str, Any]]:
    room = MOST_BYTES
    for kind, data in _elements(content, order):
        if kind == COMPRESSED:
            try:
                unpacker = zlib.decompressobj()
                data = unpacker.decompress(data, room + 1)
            except zlib.error as error:
                raise ValueError(f"it cannot be unpacked, {error}") from None
            room -= len(data)
            if room < 0:
                raise ValueError(f"it unpacks to more than {MOST_BYTES:,} bytes")
            if not unpacker.eof:
                raise ValueError("it is cut short")
            kind, data = next(_elements(data, order), (0, b""))
        if kind == MATRIX:
            yield _matrix(data, order, 1)


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(kind, content) one after the other; the last may lack the bytes that fill it up to a multiple of 8."""
    place = 0
    while place < len(data):
        if place + 8 > len(data):
            raise ValueError("it is cut short")
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:  # small: size and content within the first 8 bytes
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            if size > 4:
                raise ValueError("an element contradicts itself")
        if start + size > len(data):
            raise ValueError("it is cut short")
        yield kind, data[start : start + size]
        place = max(place + 8, start + size)
        place += -place % 8 if kind != COMPRESSED else 0


def _matrix(data: bytes, order: str, depth: int) -> tuple[str, Any]:
    if depth > DEEPEST:
        raise ValueError(f"it has more than {DEEPEST} matrices within each other")
    if not data:  # how an empty one is written
        return "", np.zeros((0, 0))
    (_, flags), (_, sides), (_, name), *rest = _at_least(3, _elements(data, order))
    kind = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    shape = tuple(np.frombuffer(sides, f"{order}i4").tolist())
    if min(shape, default=0) < 0:
        raise ValueError("an array has negative sides")
    return name.decode("latin-1"), _value(kind, shape, rest, order, depth)


def _value(kind: int, shape: tuple[int, ...], rest: list[tuple[int, bytes]], order: str, depth: int) -> Any:
    if kind == CELL:
        return _matrices(rest, order, depth)
    if kind == STRUCT:
        (_, width), (_, names), *values = _at_least(2, rest)
        longest = struct.unpack_from(f"{order}i", width)[0]
        if longest <= 0 or len(names) % longest:
            raise ValueError("the names of a struct's fields contradict themselves")
        fields = [names[i : i + longest].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), longest)]
        content = _matrices(values, order, depth)
        if len(content) != len(fields) * math.prod(shape):
            raise ValueError("a struct lacks fields")
        return [dict(zip(fields, content[i : i + len(fields)])) for i in range(0, len(content), len(fields) or 1)]
    if kind == CHARACTERS:
        (stored, data), *_ = _at_least(1, rest)
        return data.decode() if stored == UTF8 else "".join(map(chr, np.frombuffer(data, order + STORED[stored])))
    if kind in NUMBERS:
        (stored, data), *_ = _at_least(1, rest)
        if stored not in STORED:
            raise ValueError("an array holds no numbers")
        return np.frombuffer(data, order + STORED[stored]).astype(NUMBERS[kind]).reshape(shape, order="F")
    if kind not in OTHERS:
        raise ValueError(f"there is no class {kind} of arrays")
    return None


def _matrices(elements: list[tuple[int, bytes]], order: str, depth: int) -> list[Any]:
    if any(kind != MATRIX for kind, _ in elements):
        raise ValueError("what lies within an array is no array")
    return [_matrix(data, order, depth + 1)[1] for _, data in elements]


def _at_least(number: int, elements: Any) -> list[tuple[int, bytes]]:
    found = list(elements)
    if len(found) < number:
        raise ValueError("it is cut short")
    return found
