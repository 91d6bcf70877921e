"""Anchors, decoding, suppression and AP against what Google's detectors and the COCO API say of real pictures."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from mnv2_tasks.boxes.anchors import ssd_anchors
from mnv2_tasks.boxes.postprocess import detect
from mnv2_tasks.contracts import Detections
from mnv2_tasks.data.class_lists import coco_categories
from mnv2_tasks.data.coco import coco
from mnv2_tasks.metrics.coco_map import CocoMAP

ASSETS = Path(__file__).parent.parent.parent / "shared" / "assets"
ORACLE = ASSETS / "ssd_oracle"
FIXTURE = ASSETS / "coco" / "fixtures" / "dataset" / "cocoapi"
pytestmark = pytest.mark.skipif(not ORACLE.is_dir(), reason="needs the assets that are not part of the project")

GRIDS = [(side, side) for side in (19, 10, 5, 3, 2, 1)]  # at 300 pixels
STEP = 0.0064531  # of the official anchors, which are stored in 8 bits
OFFICIAL_AP, OFFICIAL_AP50 = 0.2476, 0.3971  # of the SSD-MobileNet-V1 on the 128 images, by pycocotools


@pytest.fixture(scope="module")
def images():
    """The 128 images of val2017 and their boxes, as data=coco reads them."""
    source = coco(root=str(ASSETS / "coco"), kind="detection", on_bad="refuse")
    assert source.length("val") == 128
    return source


def update(metric, image_id, found):
    metric.update([found], SimpleNamespace(image_ids=torch.tensor([image_id])))


def scored(ground_truth, results):
    """COCO's numbers by our metric, of detections in COCO's results format."""
    metric = CocoMAP(ground_truth)
    labels = {number: label for label, number in enumerate(metric.category_ids)}
    rows = {image["id"]: [] for image in ground_truth["images"]}
    for result in results:
        rows[result["image_id"]].append(result)
    for image_id, found in rows.items():
        boxes = torch.tensor([r["bbox"] for r in found]).reshape(-1, 4)
        boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
        scores = torch.tensor([r["score"] for r in found])
        update(
            metric, image_id, Detections(boxes, scores, torch.tensor([labels[r["category_id"]] for r in found]).long())
        )
    return metric.compute()


def test_anchors_are_those_of_the_official_graph():
    official = np.load(ORACLE / "ssd_anchors_300_1917x4_cycxhw.npy")
    x0, y0, x1, y1 = ssd_anchors(GRIDS).numpy().T
    ours = np.stack([(y0 + y1) / 2, (x0 + x1) / 2, y1 - y0, x1 - x0], axis=1)
    np.testing.assert_allclose(ours, official, atol=STEP, rtol=0)


def test_coco_apis_own_example_gets_the_numbers_that_it_documents():
    truth = json.loads((FIXTURE / "instances_val2014_100.json").read_text())
    results = json.loads((FIXTURE / "instances_val2014_fakebbox100_results.json").read_text())
    numbers = scored(truth, results)
    assert {key: round(numbers[key], 3) for key in ("AP", "AP50", "AP75")} == {"AP": 0.505, "AP50": 0.697, "AP75": 0.573}


def test_detections_of_the_official_ssd_get_its_ap_on_the_boxes_that_our_reader_reads(images):
    results = json.loads((ORACLE / "results_ssd_mobilenet_v1_quant_val2017_128.json").read_text())
    numbers = scored(images.coco_ground_truth(), results)
    print({k: v for k, v in numbers.items() if k != "AP_per_class"})
    assert numbers["AP"] == pytest.approx(OFFICIAL_AP, abs=0.002)
    assert numbers["AP50"] == pytest.approx(OFFICIAL_AP50, abs=0.002)


def dequantised(interpreter, name, shape):
    (detail,) = [
        d for d in interpreter.get_tensor_details() if d["name"] == name and d["shape"].tolist() == [1, *shape]
    ]
    scale, zero = detail["quantization"]
    return torch.from_numpy((interpreter.get_tensor(detail["index"])[0].astype(np.float32) - zero) * scale)


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors:UserWarning")  # we want what precedes the last op
def test_official_ssds_raw_outputs_get_its_ap_by_our_anchors_decoding_and_suppression(images):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = interpreters.Interpreter(
        str(ORACLE / "ssd_mobilenet_v1_quant_detect.tflite"), experimental_preserve_all_tensors=True, num_threads=1
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    anchors, columns = ssd_anchors(GRIDS), [*coco_categories(), 0]  # their column 0 is the background, ours is the last
    metric = CocoMAP(images.coco_ground_truth())
    for index in range(images.length("val")):
        sample = images.sample("val", 0, index)
        interpreter.set_tensor(entry["index"], cv2.resize(sample.image, (300, 300))[None])
        interpreter.invoke()
        codes = dequantised(interpreter, "Squeeze", (1917, 4))  # ty, tx, th, tw
        scores = dequantised(interpreter, "convert_scores", (1917, 91))
        size = torch.tensor(sample.image.shape[:2])
        found = detect(
            scores[:, columns].logit(),
            codes[:, [1, 0, 3, 2]],
            anchors,
            size,
            size,
            scores="sigmoid",
            score_threshold=0.005,
            iou_threshold=0.6,
            candidates=len(anchors) * 80,
            max_detections=100,
        )
        update(metric, sample.image_id, found)
    numbers = metric.compute()
    print({k: v for k, v in numbers.items() if k != "AP_per_class"})
    assert numbers["AP"] == pytest.approx(OFFICIAL_AP, abs=0.002)
    assert numbers["AP50"] == pytest.approx(OFFICIAL_AP50, abs=0.002)
