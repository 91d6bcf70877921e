"""python -P mediapipe_process.py <file.tflite> <kind>: a process that runs pictures through a file in MediaPipe.

Pictures come in by stdin, results leave by stdout, see `in_mediapipe.py`. It imports nothing of ours.
"""

import io
import os
import sys
import zipfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np

# boxes come in whole pixels, what is beyond is cut off: so pictures are enlarged, at least so many times and to about
# so many pixels
LEAST_TIMES, LARGE = 12, 3840
CUT_OFF = 0.5  # on average

Run = Callable[[np.ndarray], list[np.ndarray]]


def send(arrays: list[np.ndarray], pipe: IO[bytes]) -> None:
    content = io.BytesIO()
    np.savez(content, *arrays)
    pipe.write(content.tell().to_bytes(8, "little"))
    pipe.write(content.getbuffer())
    pipe.flush()


def receive(pipe: IO[bytes]) -> list[np.ndarray] | None:
    """What was sent; None where the other side has ended."""
    length = int.from_bytes(pipe.read(8), "little")
    content = pipe.read(length)
    if not length or len(content) < length:
        return None
    with np.load(io.BytesIO(content)) as arrays:
        return [arrays[name] for name in arrays.files]


def classifier(file: str, vision: Any, picture: Callable[[np.ndarray], Any]) -> Run:
    task = vision.ImageClassifier.create_from_model_path(file)

    def run(image: np.ndarray) -> list[np.ndarray]:
        categories = task.classify(picture(image)).classifications[0].categories
        probabilities = np.zeros(len(categories), np.float32)
        for category in categories:
            probabilities[category.index] = category.score
        return [probabilities]

    return run


def detector(file: str, vision: Any, picture: Callable[[np.ndarray], Any]) -> Run:
    task = vision.ObjectDetector.create_from_model_path(file)
    with zipfile.ZipFile(file) as archive:
        names = archive.read("labels.txt").decode().split("\n")

    def run(image: np.ndarray) -> list[np.ndarray]:
        """Of pixels repeated, which MediaPipe resizes to what they were."""
        times = max(LEAST_TIMES, LARGE // max(image.shape))
        found = task.detect(picture(image.repeat(times, axis=0).repeat(times, axis=1))).detections
        # a box that was found as several classes is one detection
        each = [(detection.bounding_box, category) for detection in found for category in detection.categories]
        each.sort(key=lambda pair: -pair[1].score)
        rows = [(box.origin_x, box.origin_y, box.width, box.height) for box, _ in each]
        corner, size = np.split((np.array(rows, np.float32).reshape(-1, 4) + CUT_OFF) / times, 2, axis=1)
        scores = np.array([category.score for _, category in each], np.float32)
        labels = np.array([names.index(category.category_name) for _, category in each], np.int64)
        return [np.concatenate([corner, corner + size], axis=1), scores, labels]

    return run


def segmenter(file: str, vision: Any, picture: Callable[[np.ndarray], Any]) -> Run:
    task = vision.ImageSegmenter.create_from_model_path(file)

    def run(image: np.ndarray) -> list[np.ndarray]:
        masks = [mask.numpy_view().reshape(image.shape[:2]) for mask in task.segment(picture(image)).confidence_masks]
        return [np.stack(masks).argmax(axis=0).astype(np.uint8)]

    return run


def main(file: str, kind: str) -> None:
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to stderr
    import mediapipe  # pyright: ignore[reportMissingImports]
    from mediapipe.tasks.python import vision  # pyright: ignore[reportMissingImports]

    def picture(image: np.ndarray) -> Any:
        return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))

    make = {"classification": classifier, "detection": detector, "segmentation": segmenter}[kind]
    run = make(file, vision, picture)
    while (sent := receive(sys.stdin.buffer)) is not None:
        send(run(sent[0]), results)
    os._exit(0)  # to close a task may take for ever


if __name__ == "__main__":
    main(*sys.argv[1:])
