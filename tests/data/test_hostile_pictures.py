"""Pictures and masks that are made to harm: refused by name, before they are decoded."""

import io
import os
import struct
import subprocess
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat
from scipy.sparse import csc_matrix

from mnv2_tasks.data.images import limits
from mnv2_tasks.data.images.decode import check_image, read_image, read_mask, upright_size
from mnv2_tasks.data.images.mat_files import MOST_BYTES, read_mat
from mnv2_tasks.errors import DataError

SIDE = 15_000  # squared: 225 million pixels


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, rows=b"", *more):
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)  # a bit for each pixel, grey
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*c) for c in ((b"IHDR", header), *more, (b"IDAT", rows), (b"IEND", b""))
    )


def bomb():
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + SIDE // 8)
    return png(SIDE, SIDE, b"".join(packer.compress(row) for _ in range(SIDE)) + packer.flush())


def jpeg_of(width, height):
    """A picture whose header lies about its size."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    content = file.getvalue()
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


PICTURES = {
    "bomb.png": (bomb(), "has 225,000,000 pixels, more than 178,956,970"),
    "endless.png": (png(2**31 - 1, 2**31 - 1), "has 4,611,686,014,132,420,609 pixels, more than"),
    "lying.jpg": (jpeg_of(65_000, 65_000), "has 4,225,000,000 pixels, more than"),
    "program.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nquit\n", "is not an image"),
    "text.png": (
        png(8, 8, zlib.compress(b"\0\0" * 8), (b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 200_000_000, 9))),
        "is damaged or cut short .*(Decompressed data too large|text)",
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_that_unpack_without_end_or_start_programs_are_refused_before_decoding(tmp_path, monkeypatch, name):
    content, message = PICTURES[name]
    (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(DataError, match=f"{name}: {message}"):
        check_image(tmp_path / name)
    if name != "text.png":
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / name)
        with pytest.raises(DataError, match=name):
            read_mask(tmp_path / name)
        with pytest.raises(DataError, match=name):
            upright_size(tmp_path / name)
    assert time.process_time() - start < 5
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()


def test_opencv_and_pillow_refuse_the_same_sizes():
    assert str(limits.MOST_PIXELS) == os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"]


def test_a_mask_of_negative_values_is_refused(tmp_path):
    Image.fromarray(np.full((4, 4), -1, np.int32), "I").save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="holds values from -1"):
        read_mask(tmp_path / "a.tif")


# ---------------------------------------------------------------- .mat


def mat(**variables):
    file = io.BytesIO()
    savemat(file, variables, do_compression=True)
    return file.getvalue()


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def cells_within_cells(number):
    start = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, b"")
    size, parts = 0, []
    for _ in range(number):
        parts.append(struct.pack("<II", 14, len(start) + size) + start)
        size += 8 + len(start)
    return b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + b"".join(reversed(parts))


@pytest.mark.parametrize("seed", range(3))
def test_a_mat_file_is_read_as_scipy_reads_it(seed):
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 21, (37, 50), np.uint8)
    numbers = {
        kind: rng.integers(0, 100, (3, 4, 2)).astype(kind)
        for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
    }
    content = mat(
        GTcls={"Boundaries": np.array([[csc_matrix(np.eye(3))]], object), "Segmentation": picture},
        text="Köln",
        **numbers,
    )
    ours, theirs = read_mat(content), loadmat(io.BytesIO(content))
    assert (ours["GTcls"][0]["Segmentation"] == theirs["GTcls"][0]["Segmentation"][0]).all()
    assert ours["text"] == theirs["text"][0]
    for name in numbers:
        assert ours[name].dtype == theirs[name].dtype and (ours[name] == theirs[name]).all()


MATS = {
    "cells within cells": (cells_within_cells(30_000), "more than 16 matrices within each other"),  # scipy crashes
    "a bomb": (mat(GTcls={"Segmentation": np.zeros((MOST_BYTES + 1, 1), np.uint8)}), "unpacks to more than"),
    "something else": (b"x" * 500, "no MAT-file of version 5"),
    "cut short": (mat(GTcls={"Segmentation": np.eye(50, dtype=np.uint8)})[:-20], "it is cut short"),
    "another struct": (mat(GTcls={"other": 1}), "GTcls.Segmentation is missing"),
    "numbers": (mat(GTcls=np.eye(3)), "GTcls.Segmentation is missing|no picture"),
    "fractions": (mat(GTcls={"Segmentation": np.eye(3) / 2}), "no picture of 8 bits"),
}


@pytest.mark.parametrize("content, message", MATS.values(), ids=MATS)
def test_annotations_of_sbd_that_are_none_are_refused_by_name(tmp_path, content, message):
    (tmp_path / "a.mat").write_bytes(content)
    start = time.process_time()
    with pytest.raises(DataError, match=f"a.mat: .*({message})"):
        read_mask(tmp_path / "a.mat")
    assert time.process_time() - start < 5
