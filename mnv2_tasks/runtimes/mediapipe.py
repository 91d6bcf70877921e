"""MediaPipe: a .tflite of one task, which its ImageClassifier, ObjectDetector or ImageSegmenter loads as it is.

TensorFlow Lite's metadata, in the file itself, tell MediaPipe what goes in and what comes out. We predict with LiteRT's
interpreter, which runs the file too.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnv2_tasks.contracts import ExportedOutput
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.runtimes import litert

# by kind; of detection the names by which MediaPipe finds them
OUTPUTS = {
    "classification": {"probability": ExportedOutput("probability of each class, 0 to 1", ("classes",))},
    "detection": {
        "location": ExportedOutput("top, left, bottom, right in shares of the input's sides", ("detections", "4")),
        "category": ExportedOutput("class of each box", ("detections",)),
        "score": ExportedOutput("score of each box, 0 to 1, descending", ("detections",)),
        "number of detections": ExportedOutput("how many of the boxes there are", ()),
    },
    "segmentation": {
        "masks": ExportedOutput("probability of each class in each pixel of the input", ("height", "width", "classes"))
    },
}
LABELS = "labels"  # the key of the file with a class in each line
PIXELS = "float32 RGB (1, height, width, 3), 0 to 255; the file normalises them itself"
PARSER = "1.5.0"  # of the metadata, the first that knows what a segmenter says of itself


def check_task(kind: str, class_names: Sequence[str]) -> None:
    """Raise a ConfigError for what no task of MediaPipe can hold."""
    if kind not in OUTPUTS:
        raise ConfigError(
            f"format=mediapipe: MediaPipe has a task for {', '.join(OUTPUTS)}, none for {kind}. Use format=litert"
        )
    twice = [name for name, count in Counter(class_names).items() if count > 1]
    wrong = [name for name in class_names if not name.strip()] or (twice if kind == "detection" else [])
    if wrong:
        raise ConfigError(
            f"format=mediapipe: MediaPipe tells classes by their names, and {wrong[0]!r} is "
            f"{'that of two' if wrong[0].strip() else 'none'}. Rename it in the data, or use format=litert"
        )


def write(graph: Any, example: Tensor, metadata: dict[str, str], path: Path, precision: str) -> None:
    """One file for the example's height and width. fp16 stores the weights in half and computes in float32.

    Args:
        graph: of one task.
        example: (N, H, W, 3) uint8; int8 takes the ranges of activations from what it sees on them.
    """
    ((name, task),) = graph.tasks.items()
    found = OneTask(graph).eval()
    with torch.no_grad():
        shapes = [output.shape[1:] for output in found(example[:1].float())]
    litert.convert(found, example.float(), path, precision)
    _describe(path, name, task.kind)
    outputs = [
        {"name": output, "task": name, "meaning": about.meaning, "shape": [1, *shape]}
        for (output, about), shape in zip(OUTPUTS[task.kind].items(), shapes, strict=True)
    ]
    named = {"outputs": json.dumps(outputs), LABELS: "\n".join(task.class_names)}
    if "preprocessing" in metadata:
        named["preprocessing"] = json.dumps(json.loads(metadata["preprocessing"]) | {"pixels": PIXELS})
    litert.append(metadata | named, path)


class OneTask(nn.Module):
    """The graph as MediaPipe asks for it: (1, H, W, 3) float32 RGB pixels, 0 to 255 -> `OUTPUTS`, all float32.

    Float pixels, as the models that MediaPipe publishes take; 0 to 255, because the network normalises them itself.
    """

    def __init__(self, graph: Any):
        super().__init__()
        self.network, self.tasks, self.suppress = graph.network, graph.tasks, graph.suppress

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        size = (images.shape[1], images.shape[2])
        ((name, task),) = self.tasks.items()
        head = self.network(images.permute(0, 3, 1, 2))[name]
        if task.kind == "segmentation":
            return (task.probabilities(head, size).permute(0, 2, 3, 1),)
        results = KINDS[task.kind].exported(head, size, task, self.suppress)
        if task.kind == "classification":
            return results
        boxes, scores, labels, counts = results
        return _turned(boxes) / torch.tensor([*size, *size]), labels.float(), scores, counts.float()


def _turned(boxes: Any) -> Any:
    """x, y, x, y <-> y, x, y, x"""
    return boxes[..., [1, 0, 3, 2]]


def _describe(path: Path, task: str, kind: str) -> None:
    """Put TensorFlow Lite's metadata into a file. MediaPipe's own writers of them do not import (1.2)."""
    import flatbuffers  # pyright: ignore[reportMissingImports]
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils
    from mediapipe.tasks.metadata import (  # pyright: ignore[reportMissingImports]
        image_segmenter_metadata_schema_py_generated as segmenter,
    )
    from mediapipe.tasks.metadata import metadata_schema_py_generated as tflite  # pyright: ignore[reportMissingImports]

    def packed(table: Any, identifier: bytes) -> Any:
        builder = flatbuffers.Builder(0)
        builder.Finish(table.Pack(builder), identifier)
        return builder.Output()

    contents, files = tflite.ContentProperties, tflite.AssociatedFileType

    def content(name: str) -> Any:
        if name == "location":
            bounds, ratio = tflite.BoundingBoxType.BOUNDARIES, tflite.CoordinateType.RATIO
            box = tflite.BoundingBoxPropertiesT(index=[1, 0, 3, 2], type=bounds, coordinateType=ratio)
            return tflite.ContentT(contents.BoundingBoxProperties, box)
        return tflite.ContentT(contents.FeatureProperties, tflite.FeaturePropertiesT())

    image = tflite.ImagePropertiesT(colorSpace=tflite.ColorSpaceType.RGB)
    pixels = tflite.ProcessUnitT(
        tflite.ProcessUnitOptions.NormalizationOptions, tflite.NormalizationOptionsT(mean=[0.0], std=[1.0])
    )
    input = tflite.TensorMetadataT(
        name="image",
        description=PIXELS,
        content=tflite.ContentT(contents.ImageProperties, image),
        processUnits=[pixels],
        stats=tflite.StatsT(min=[0.0], max=[255.0]),
    )
    outputs = [
        tflite.TensorMetadataT(name=name, description=about.meaning, content=content(name))
        for name, about in OUTPUTS[kind].items()
    ]
    labelled = outputs[1 if kind == "detection" else 0]
    role = files.TENSOR_VALUE_LABELS if kind == "detection" else files.TENSOR_AXIS_LABELS
    labelled.associatedFiles = [tflite.AssociatedFileT(name=f"{LABELS}.txt", type=role)]
    graph = tflite.SubGraphMetadataT(inputTensorMetadata=[input], outputTensorMetadata=outputs)
    if kind == "segmentation":  # they are probabilities already
        options = segmenter.ImageSegmenterOptionsT(activation=segmenter.Activation.NONE)
        graph.customMetadata = [tflite.CustomMetadataT(name="SEGMENTER_METADATA", data=packed(options, b"V001"))]
    about = tflite.ModelMetadataT(name=task, subgraphMetadata=[graph], minParserVersion=PARSER)

    model: Any = flatbuffer_utils.read_model(path)
    model.buffers.append(schema.BufferT(data=np.frombuffer(packed(about, b"M001"), np.uint8)))
    entry = schema.MetadataT(name=b"TFLITE_METADATA", buffer=len(model.buffers) - 1)
    model.metadata = [*(model.metadata or []), entry]
    flatbuffer_utils.write_model(model, path)


class Session(litert.Session):
    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """As `Graph` returns them."""
        outputs = super().__call__(images)
        (kind,) = json.loads(self.metadata["tasks"]).values()
        if kind == "classification":
            return outputs
        if kind == "segmentation":
            return [outputs[0].argmax(axis=-1).astype(np.uint8)]
        places, labels, scores, counts = outputs
        sides = np.array([*images.shape[1:3]] * 2, np.float32)
        return [_turned(places * sides), scores, labels.astype(np.int64), counts.astype(np.int64)]
