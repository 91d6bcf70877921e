"""Pictures to measure with, as the three kinds of data set."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.folders import pictures_below
from mnv2_tasks.data.reading.records import Recorder
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError

CLASSES = 20
OBJECTS = 7  # of an image, as COCO has on average


def drawn_photos(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEGs of scenes with a camera's noise: 60 KB at 375 x 500 (height, width), as ImageNet's and VOC's photos."""
    folder.mkdir(parents=True)
    files = []
    for number in range(count):
        scene = cv2.resize(draw_scene(0, "val", number, 640).image, size[::-1], interpolation=cv2.INTER_CUBIC)
        noise = np.random.default_rng(number).normal(0, 6, scene.shape)
        photo = np.clip(scene + noise, 0, 255).astype(np.uint8)
        files.append(folder / f"{number}.jpg")
        cv2.imwrite(str(files[-1]), photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return files


def photos_below(root: str) -> list[Path]:
    files = [Path(file) for file in pictures_below(Path(root))[0] if file.lower().endswith((".jpg", ".jpeg"))]
    if not files:
        raise ConfigError(f"root={root}: holds no JPEGs")
    return files


def data_set(kind: str, photos: Iterable[Path], masks: Path) -> FileSource:
    """Photos with invented labels, boxes, or masks of blocks; the same photos train and validate.

    Args:
        masks: folder for the masks.
    """
    masks.mkdir(parents=True, exist_ok=True)
    recorder = Recorder()
    for number, photo in enumerate(photos):
        rng = np.random.default_rng(number)
        height, width = read_image(photo).shape[:2]
        mask = None
        if kind == "segmentation":
            mask = masks / f"{number}.png"
            blocks = rng.integers(0, CLASSES, (8, 8)).astype(np.uint8)
            cv2.imwrite(str(mask), cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST))
        recorder.image(
            str(photo),
            size=(height, width),
            label=int(rng.integers(CLASSES)) if kind == "classification" else None,
            mask=None if mask is None else str(mask),
        )
        if kind == "detection":
            for _ in range(OBJECTS):
                x, y = rng.uniform(0, width * 0.8), rng.uniform(0, height * 0.8)
                far = x + rng.uniform(0.05, 0.2) * width, y + rng.uniform(0.05, 0.2) * height
                recorder.box((x, y, *far), int(rng.integers(CLASSES)))
    records = recorder.records()
    source = FileSource(
        kind=kind,
        class_names=[f"class {i}" for i in range(CLASSES)],
        read=lambda split: (records, []),
        found="photos",
        on_bad="refuse",
    )
    source.prepare(["train"])
    return source
