"""What a frozen graph of the Object Detection API says beside its weights: anchors, scores and which boxes it keeps."""

import math
import re
from collections.abc import Iterator

import numpy as np

from mnv2_tasks.boxes.anchors import ssd_anchors
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.tensorflow_graph import FrozenGraph

KEY = "tasks.ssdlite"
SCORES = {"Sigmoid": "sigmoid", "Softmax": "softmax"}
CODING = [10, 10, 5, 5]  # the inverses of boxes/coding.py's variances
SUPPRESSION = r"Postprocessor/.*MultiClassNonMaxSuppression"
FOR_TFLITE = "TFLite_Detection_PostProcess"  # all of it, in a graph that export_tflite_ssd_graph.py wrote
TFLITE_LIMITS = {"score_threshold": "nms_score_threshold", "iou_threshold": "nms_iou_threshold"}
CLOSE = 1e-3  # TF rounds a third to 0.3333


def detector_settings(graph: FrozenGraph) -> list[str]:
    """Overrides; none for what the graph does not say, as where it ends before its post-processing.

    Raises:
        ConfigError: it does what our detector does not.
    """
    resized = [node for node in graph.nodes.values() if re.match(r"Preprocessor/.*ResizeBilinear$", node.name)]
    fit = ["input.fit=square"] if any(node.attr["half_pixel_centers"].b for node in resized) else []  # not TF 1's
    return fit + [f"{KEY}.{key}={value}".replace(" ", "") for key, value in _settings(graph)]


def _settings(graph: FrozenGraph) -> Iterator[tuple[str, object]]:
    if (node := graph.nodes.get("Postprocessor/convert_scores") or graph.nodes.get("convert_scores")) is not None:
        if node.op not in SCORES:
            raise ConfigError(f"{graph.source}: its scores are made by {node.op}: expected {' or '.join(SCORES)}")
        yield "scores", SCORES[node.op]
    coding = [float(value.flat[0]) for value in graph.numbered(r"Postprocessor/Decode/(?:true)?div(?:_([123]))?/y")]
    prepared = next((node.attr for node in graph.nodes.values() if node.op == FOR_TFLITE), None)
    if prepared is not None:
        coding = [prepared[f"{part}_scale"].f for part in "yxhw"]
        yield from {key: f"{prepared[theirs].f:.6g}" for key, theirs in TFLITE_LIMITS.items()}.items()
        yield "max_detections", prepared["max_detections"].i
    if len(coding) == len(CODING) and not np.allclose(coding, CODING):
        raise ConfigError(f"{graph.source}: its boxes are coded with the scales {coding}: expected {CODING}")
    for key in ("score_threshold", "iou_threshold"):
        for value in graph.numbered(rf"{SUPPRESSION}/non_max_suppression(?:_(\d{{1,9}}))?/{key}")[:1]:
            yield key, f"{value.flat[0]:.6g}"
    # the size of each class's list in turn, then that of all
    limits = [int(value.flat[0]) for value in graph.numbered(rf"{SUPPRESSION}/Minimum(?:_(\d{{1,9}}))?/x")]
    if len(limits) > 1:
        yield from {"max_per_class": limits[0], "max_detections": limits[-1]}.items()
    _check_anchors(graph)
    yield from _anchors(graph)


def _check_anchors(graph: FrozenGraph) -> None:
    """Refuse anchors that a tool has worked out before and that are not TF's: nothing in the graph says their rule."""
    found = graph.numbered(r"(?:Postprocessor/ExpandDims|anchors)()")
    side, rows = graph.size(), [values.reshape(-1, 4) for values in found if values.shape[-1:] == (4,)]
    if side is None or not rows:
        return
    grids = [-(-side // stride) for stride in (16, 32)]
    while len(grids) < 6:
        grids.append(-(-grids[-1] // 2))
    anchors = ssd_anchors([(cells, cells) for cells in grids]).numpy()[:, [1, 0, 3, 2]]  # as y, x
    if "anchors" in graph.nodes:  # centres and sizes, not corners
        anchors = np.hstack([(anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]])
    if rows[0].shape != anchors.shape or not np.allclose(rows[0], anchors, atol=CLOSE):
        raise ConfigError(
            f"{graph.source}: its {len(rows[0])} anchors are not the {len(anchors)} of TensorFlow's SSDLite at {side} "
            f"pixels, and it does not say by which rule they are made; name the graph from before it was optimised"
        )


def _anchors(graph: FrozenGraph) -> Iterator[tuple[str, object]]:
    """Of a map each anchor's ratio and scale, two vectors: the first map's as they are, the others as one rule."""
    generator = "MultipleGridAnchorGenerator"
    ratios = [_rounded(of_map) for of_map in graph.numbered(rf"{generator}/Sqrt(?:_(\d{{1,9}}))?/x")]
    products = graph.numbered(rf"{generator}/mul(?:_(\d{{1,9}}))?/x")
    scales = [_rounded(of_map) for of_map in products if of_map.ndim]
    if not ratios or [len(of_map) for of_map in scales] != [len(of_map) for of_map in ratios]:
        return
    own = [of_map[0] for of_map in scales[1:]]
    for of_map, row, scale, following in zip(ratios[1:], scales[1:], own, [*own[1:], 1.0]):
        expected = [scale] * (len(row) - 1) + [math.sqrt(scale * following)]
        if not np.allclose(row, expected, atol=CLOSE) or of_map[:-1] != ratios[1][:-1] or of_map[-1] != 1:
            raise ConfigError(
                f"{graph.source}: its anchors have the scales {row} and the ratios {of_map} of a cell: our maps share "
                f"their ratios, on one scale, and add a square between two scales"
            )
    yield "head.first_map_anchors", [list(pair) for pair in zip(scales[0], ratios[0])]
    yield "head.anchor_scales", own
    yield "head.anchor_ratios", ratios[-1][:-1]


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in np.atleast_1d(values)]
