"""Anchors, decoding, suppression and AP against what Google's detectors and the COCO API say of real pictures."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_convert

from mnv2_tasks.boxes.anchors import ssd_anchors
from mnv2_tasks.contracts import Detections, Frames, SSDOutput
from mnv2_tasks.data.class_lists import coco_categories
from mnv2_tasks.data.coco import coco
from mnv2_tasks.metrics.coco_map import CocoMAP
from mnv2_tasks.tasks.detection import DetectionTask

ASSETS = Path(__file__).parents[3] / "shared" / "assets"
ORACLE = ASSETS / "ssd_oracle"
FIXTURE = ASSETS / "coco" / "fixtures" / "dataset" / "cocoapi"
pytestmark = pytest.mark.skipif(not ORACLE.is_dir(), reason="needs the assets that are not part of the project")

GRIDS = [(side, side) for side in (19, 10, 5, 3, 2, 1)]  # at 300 pixels
STEP = 0.0064531  # of the official anchors, which are stored in 8 bits
OFFICIAL = {"AP": 0.2476, "AP50": 0.3971, "AP75": 0.2695, "AR100": 0.3759}  # SSD-MobileNet-V1's, by pycocotools alone


@pytest.fixture(scope="module")
def images():
    """The 128 images of val2017 and their boxes, as data=coco reads them."""
    source = coco(root=str(ASSETS / "coco"), kind="detection", on_bad="refuse")
    assert source.length("val") == 128
    return source


def official_anchors():
    """(A, 4) xyxy fractions."""
    cy, cx, height, width = torch.from_numpy(np.load(ORACLE / "ssd_anchors_300_1917x4_cycxhw.npy")).float().T
    return box_convert(torch.stack([cx, cy, width, height], dim=1), "cxcywh", "xyxy")


def update(metric, image_id, found):
    metric.update([found], SimpleNamespace(image_ids=torch.tensor([image_id])))


def scored(ground_truth, results):
    """COCO's numbers by our metric, of detections in COCO's results format; an image may have none."""
    metric = CocoMAP(ground_truth)
    for image in ground_truth["images"]:
        rows = [result for result in results if result["image_id"] == image["id"]]
        # float64: the API's example has boxes whose overlap is a threshold to the last bit
        boxes = torch.tensor([row["bbox"] for row in rows], dtype=torch.float64).reshape(-1, 4)
        scores = torch.tensor([row["score"] for row in rows], dtype=torch.float64)
        labels = torch.tensor([metric.category_ids.index(row["category_id"]) for row in rows], dtype=torch.int64)
        update(metric, image["id"], Detections(box_convert(boxes, "xywh", "xyxy"), scores, labels))
    return metric.compute()


def test_anchors_are_those_of_the_official_graph():
    centre_size = (
        box_convert(anchors, "xyxy", "cxcywh").numpy() for anchors in (ssd_anchors(GRIDS), official_anchors())
    )
    np.testing.assert_allclose(*centre_size, atol=STEP / 2 + 1e-6, rtol=0)


def test_coco_apis_own_example_gets_the_numbers_that_it_documents():
    truth = json.loads((FIXTURE / "instances_val2014_100.json").read_text())
    results = json.loads((FIXTURE / "instances_val2014_fakebbox100_results.json").read_text())
    numbers = scored(truth, results)
    assert {key: round(numbers[key], 3) for key in ("AP", "AP50", "AP75")} == {
        "AP": 0.505,
        "AP50": 0.697,
        "AP75": 0.573,
    }


def test_detections_of_the_official_ssd_get_its_ap_on_the_boxes_that_our_reader_reads(images):
    results = json.loads((ORACLE / "results_ssd_mobilenet_v1_quant_val2017_128.json").read_text())
    numbers = scored(images.coco_ground_truth(), results)
    assert {key: numbers[key] for key in OFFICIAL} == pytest.approx(OFFICIAL, abs=0.0001)


def dequantised(interpreter, name, shape):
    (detail,) = [
        d for d in interpreter.get_tensor_details() if d["name"] == name and d["shape"].tolist() == [1, *shape]
    ]
    scale, zero = detail["quantization"]
    return torch.from_numpy((interpreter.get_tensor(detail["index"])[0].astype(np.float32) - zero) * scale)


def test_official_ssds_raw_outputs_get_its_ap_by_our_decoding_and_suppression(images):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(
        str(ORACLE / "ssd_mobilenet_v1_quant_detect.tflite"),
        # the reference kernels: the fast ones round otherwise, and gain 0.004 of AP by it
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    # theirs, since rounding them moves AP by 0.003; their column 0 is the background, ours is the last
    anchors, columns = official_anchors(), [*coco_categories(), 0]
    metric = CocoMAP(images.coco_ground_truth())
    task = DetectionTask(
        head=torch.nn.Identity(),
        loss=torch.nn.Identity(),
        class_names=[],
        ground_truth=None,
        backend="hotcoco",
        scores="sigmoid",
        score_threshold=0.005,
        iou_threshold=0.6,
        candidates=4000,  # all of them, some 20,000, take half a minute more for 0.0005 of AP
        max_detections=100,
    )
    for index in range(images.length("val")):
        sample = images.sample("val", 0, index)
        picture = Image.fromarray(sample.image).resize((300, 300), Image.Resampling.BILINEAR)
        interpreter.set_tensor(entry["index"], np.asarray(picture)[None])
        interpreter.invoke()
        codes = dequantised(interpreter, "Squeeze", (1917, 4))  # ty, tx, th, tw
        scores = dequantised(interpreter, "convert_scores", (1917, 91))
        [found] = task.results(
            SSDOutput(scores[None, :, columns].logit(), codes[None, :, [1, 0, 3, 2]], anchors),
            Frames((300, 300), torch.tensor([[300, 300]]), torch.tensor([sample.image.shape[:2]])),
        )
        update(metric, sample.image_id, found)
    numbers = metric.compute()
    assert numbers["AP"] == pytest.approx(OFFICIAL["AP"], abs=0.002)
    assert numbers["AP50"] == pytest.approx(OFFICIAL["AP50"], abs=0.004)
