import pytest
import torch
from one_image_at_a_time import detect_image, match_image
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou, nms

from mnv2_tasks.boxes.anchors import FIRST_MAP, RATIOS, anchor_shapes, ssd_anchors, tf_scales
from mnv2_tasks.boxes.coding import decode_boxes, encode_boxes
from mnv2_tasks.boxes.matching import UNMATCHED, best_pairs_first, best_pairs_in_rounds, match_anchors, overlaps
from mnv2_tasks.boxes.postprocess import unpadded, within_images
from mnv2_tasks.boxes.suppression import survivors, survivors_at_once
from mnv2_tasks.contracts import Frames, SSDOutput
from mnv2_tasks.tasks.detection import DetectionTask

GRIDS_320 = [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


def random_boxes(seed, count, smallest=0.02):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 0.7
    return torch.cat([corner, corner + smallest + torch.rand(count, 2, generator=generator) * 0.25], dim=1)


def match_one(boxes, anchors, iou_threshold):
    """(A,) of one image whose boxes, (N, 4), are all objects."""
    [match] = match_anchors(boxes[None], torch.ones(1, len(boxes), dtype=torch.bool), anchors, iou_threshold)
    return match


@pytest.mark.parametrize("seed", range(5))
def test_encode_then_decode_returns_the_boxes(seed):
    boxes, anchors = random_boxes(seed, 50), random_boxes(seed + 100, 50)
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes, atol=1e-6, rtol=1e-5)


def test_box_coding_equals_torchvisions():
    boxes, anchors = random_boxes(0, 40), random_boxes(1, 40)
    coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    torch.testing.assert_close(encode_boxes(boxes, anchors), coder.encode_single(boxes, anchors), atol=1e-5, rtol=1e-5)
    deltas = torch.randn(40, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        decode_boxes(deltas, anchors), coder.decode_single(deltas, anchors), atol=1e-5, rtol=1e-5
    )


def test_encoding_does_not_change_when_an_axis_is_rescaled():
    boxes, anchors, scale = (
        random_boxes(0, 20),
        random_boxes(1, 20),
        torch.tensor([640.0, 480.0, 640.0, 480.0]),
    )
    torch.testing.assert_close(
        encode_boxes(boxes * scale, anchors * scale), encode_boxes(boxes, anchors), atol=1e-4, rtol=1e-4
    )


def test_anchors_of_320_pixels_are_2034_with_three_per_cell_on_the_first_map():
    assert [len(shapes) for shapes in anchor_shapes(FIRST_MAP, tf_scales(6), RATIOS)] == [3, 6, 6, 6, 6, 6]
    assert ssd_anchors(GRIDS_320).shape == (2034, 4)
    assert ssd_anchors([(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]).shape == (1917, 4)


def test_anchors_have_the_scales_and_ratios_of_tf():
    last = ssd_anchors(GRIDS_320)[-6:]
    size = last[:, 2:] - last[:, :2]
    area_side = size.prod(1).sqrt()
    torch.testing.assert_close(area_side, torch.tensor([0.95] * 5 + [0.9747]), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        size[:, 0] / size[:, 1], torch.tensor([1.0, 2.0, 0.5, 3.0, 1 / 3, 1.0]), atol=1e-4, rtol=1e-4
    )
    first = ssd_anchors(GRIDS_320)[:3]
    torch.testing.assert_close((first[:, 2:] - first[:, :2]).prod(1).sqrt(), torch.tensor([0.1, 0.2, 0.2]))


def test_anchors_run_row_by_row_over_the_image():
    anchors = ssd_anchors([(2, 3), (1, 1)])
    centres = (anchors[:, :2] + anchors[:, 2:])[: 2 * 3 * 3 : 3] / 2
    expected = torch.tensor([[x, y] for y in (0.25, 0.75) for x in (1 / 6, 0.5, 5 / 6)])
    torch.testing.assert_close(centres, expected)


@pytest.mark.parametrize("seed", range(5))
def test_every_object_gets_at_least_one_anchor(seed):
    boxes = random_boxes(seed, 30)
    match = match_one(boxes, ssd_anchors(GRIDS_320), iou_threshold=0.5)
    assert set(range(30)) <= set(match.tolist())


def test_two_objects_with_one_best_anchor_both_keep_an_anchor():
    boxes = torch.tensor([[0.40, 0.40, 0.60, 0.60], [0.41, 0.40, 0.61, 0.60]])
    anchors = torch.tensor([[0.40, 0.40, 0.60, 0.60], [0.0, 0.0, 0.1, 0.1], [0.3, 0.3, 0.5, 0.5]])
    assert set(match_one(boxes, anchors, 0.5)[[0, 2]].tolist()) == {0, 1}


@pytest.mark.parametrize("seed", range(5))
def test_anchors_above_the_threshold_answer_for_the_object_they_overlap_most(seed):
    boxes, anchors = random_boxes(seed, 6), ssd_anchors(GRIDS_320)
    match, iou = match_one(boxes, anchors, 0.5), box_iou(boxes, anchors)
    best = iou.max(0)
    forced = match != best.indices.where(best.values >= 0.5, torch.tensor(UNMATCHED))
    assert forced.sum() <= 6  # one forced match per object at most
    assert (match[best.values >= 0.5] != UNMATCHED).all()


@pytest.mark.parametrize("count, num_anchors", [(1, 300), (7, 300), (40, 300), (40, 25)])
def test_forced_matches_are_made_best_pair_first_and_of_equal_pairs_the_first(count, num_anchors):
    # on a coarse grid, so that many pairs overlap alike, some boxes are equal, and some overlap no anchor
    boxes, anchors = ((random_boxes(seed, n) * 6).round() / 6 for seed, n in [(count, count), (1, num_anchors)])
    boxes[:, 2:] = boxes[:, :2] + (boxes[:, 2:] - boxes[:, :2]).clamp(min=1 / 6)
    boxes[0] += 2.0
    iou = box_iou(boxes, anchors)
    match = torch.where(iou.amax(0) >= 0.5, iou.argmax(0), UNMATCHED)
    for _ in range(min(iou.shape)):
        box, anchor = divmod(int(iou.argmax()), num_anchors)
        match[anchor] = box
        iou[box], iou[:, anchor] = -1.0, -1.0
    assert torch.equal(match_one(boxes, anchors, 0.5), match)


def test_image_without_objects_leaves_every_anchor_unmatched():
    match = match_one(torch.zeros(0, 4), ssd_anchors(GRIDS_320), 0.5)
    assert (match == UNMATCHED).all() and match.shape == (2034,)


def padded(objects):
    """Boxes (B, N, 4) and which of them count, (B, N), of each image's (n, 4)."""
    most = max(len(boxes) for boxes in objects)
    boxes, valid = torch.full((len(objects), most, 4), 0.3), torch.zeros(len(objects), most, dtype=torch.bool)
    for i, of_image in enumerate(objects):
        boxes[i, : len(of_image)], valid[i, : len(of_image)] = of_image, True
    return boxes, valid


@pytest.mark.parametrize("counts", [[0, 7, 1, 60, 0], [500], [0, 0], [3, 500]])
@pytest.mark.parametrize("coarse", [False, True], ids=["", "ties"])
def test_a_batch_is_matched_as_its_images_are_one_by_one(counts, coarse):
    objects, anchors = [random_boxes(seed, count) for seed, count in enumerate(counts)], ssd_anchors(GRIDS_320)
    if coarse:  # many boxes are equal, or overlap several anchors alike
        objects = [(boxes * 8).round() / 8 + torch.tensor([0.0, 0.0, 0.125, 0.125]) for boxes in objects]
    expected = torch.stack([match_image(boxes, anchors, 0.5) for boxes in objects])
    assert torch.equal(match_anchors(*padded(objects), anchors, 0.5), expected)


def test_objects_without_an_anchor_left_stay_unmatched():
    boxes, anchors = random_boxes(0, 40).expand(2, -1, -1), random_boxes(1, 25)
    match = match_anchors(boxes, torch.ones(2, 40, dtype=torch.bool), anchors, 2.0)
    assert torch.equal(match, match_image(boxes[0], anchors, 2.0).expand(2, -1))
    assert all(len(of_image.unique()) == 25 for of_image in match)


def test_matching_is_one_graph_and_takes_shapes_without_values():
    boxes, valid = padded([random_boxes(0, 5), random_boxes(1, 30)])
    anchors = ssd_anchors(GRIDS_320)
    compiled = torch.compile(match_anchors, fullgraph=True, backend="eager")
    assert torch.equal(compiled(boxes, valid, anchors, 0.5), match_anchors(boxes, valid, anchors, 0.5))
    with FakeTensorMode() as mode:
        match = match_anchors(*map(mode.from_tensor, (boxes, valid, anchors)), 0.5)
    assert match.shape == (2, 2034) and match.dtype == torch.int64


SETTINGS = {
    "scores": "softmax",
    "score_threshold": 0.05,
    "iou_threshold": 0.5,
    "candidates": 400,
    "max_detections": 100,
}


def ssd(**settings):
    without = {"head": torch.nn.Identity(), "loss": torch.nn.Identity(), "class_names": [], "ground_truth": None}
    return DetectionTask(**without, backend="hotcoco", **SETTINGS | settings)


def detect_one(logits, deltas, anchors, size, **settings):
    """Of a single image that fills the input."""
    size = torch.tensor([size])
    [found] = ssd(**settings).results(
        SSDOutput(logits[None], deltas[None], anchors), Frames((320, 320), torch.tensor([[320, 320]]), size)
    )
    return found


def perfect_output(boxes, labels, anchors, num_classes):
    """Logits and offsets that say each box exactly, at the anchors matched to it."""
    match = match_one(boxes, anchors, 0.5)
    logits = torch.zeros(len(anchors), num_classes + 1)
    logits[:, -1] = 20.0
    deltas = torch.zeros(len(anchors), 4)
    for i in (match != UNMATCHED).nonzero().flatten():
        logits[i, -1], logits[i, labels[match[i]]] = 0.0, 20.0
        deltas[i] = encode_boxes(boxes[match[i]], anchors[i])
    return logits, deltas


def test_perfect_predictions_come_out_in_the_pixels_of_the_original_image():
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.6], [0.6, 0.5, 0.9, 0.95]])
    anchors, labels = ssd_anchors(GRIDS_320), torch.tensor([3, 1])
    logits, deltas = perfect_output(boxes, labels, anchors, 5)
    found = detect_one(logits, deltas, anchors, [480, 640])
    order = found.labels.argsort(descending=True)
    assert found.labels[order].tolist() == [3, 1]
    torch.testing.assert_close(
        found.boxes[order], boxes * torch.tensor([640.0, 480.0, 640.0, 480.0]), atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("seed", range(3))
def test_suppression_equals_torchvisions_nms_class_by_class(seed):
    generator = torch.Generator().manual_seed(seed)
    anchors = ssd_anchors([(4, 4), (2, 2)])
    logits = torch.randn(len(anchors), 4, generator=generator) * 3
    deltas = torch.randn(len(anchors), 4, generator=generator)
    found = detect_one(logits, deltas, anchors, [100, 100], candidates=10_000)
    scores, boxes = logits.softmax(1), decode_boxes(deltas, anchors).clamp(0, 1)
    expected = []
    for label in range(3):
        above = scores[:, label] > 0.05
        kept = nms(boxes[above], scores[above, label], 0.5)
        expected += [(round(float(s), 5), label) for s in scores[above, label][kept]]
    assert sorted(expected, reverse=True)[:100] == [
        (round(float(s), 5), int(label)) for s, label in zip(found.scores, found.labels)
    ]


def test_scores_descend_and_detections_are_capped():
    anchors = ssd_anchors(GRIDS_320)
    generator = torch.Generator().manual_seed(0)
    logits, deltas = torch.randn(2034, 6, generator=generator), torch.randn(2034, 4, generator=generator)
    found = detect_one(logits, deltas, anchors, [320, 320], max_detections=7)
    assert len(found.scores) == 7
    assert (found.scores.diff() <= 0).all()


@pytest.mark.parametrize("most", [1, 5, 40])
def test_of_each_class_the_best_are_kept_before_the_best_of_all(most):
    anchors, generator = ssd_anchors(GRIDS_320), torch.Generator().manual_seed(0)
    logits, deltas = torch.randn(2034, 4, generator=generator), torch.randn(2034, 4, generator=generator)
    logits[:, 0] += 2  # the class that fills the hundred
    shared = {"candidates": 10_000, "score_threshold": 1e-8}
    every = detect_one(logits, deltas, anchors, [320, 320], max_detections=10_000, **shared)
    of_class = [(every.labels == label).nonzero()[:most, 0] for label in range(3)]
    kept = torch.cat(of_class).sort().values[:100]
    found = detect_one(logits, deltas, anchors, [320, 320], max_per_class=most, **shared)
    assert len(kept) == min(100, 3 * most)
    for ours, theirs in zip(found, every):
        torch.testing.assert_close(ours, theirs[kept], rtol=0, atol=0)


def test_nothing_above_the_score_threshold_gives_empty_detections():
    anchors = ssd_anchors(GRIDS_320)
    logits = torch.zeros(2034, 4)
    logits[:, -1] = 30.0
    found = detect_one(logits, torch.zeros(2034, 4), anchors, [320, 320])
    assert found.boxes.shape == (0, 4) and found.labels.dtype == torch.int64


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize("images", [1, 8])
@pytest.mark.parametrize("threshold", [0.01, 0.6, 1.0])
def test_detections_of_a_batch_are_to_the_bit_those_of_each_image_alone(scores, images, threshold):
    """With many, a few and none above the threshold, and with ties: scores and boxes in coarse steps."""
    generator = torch.Generator().manual_seed(images)
    anchors = ssd_anchors(GRIDS_320)
    logits = 2 * torch.randn(images, 2034, 6, generator=generator)
    deltas = torch.randn(images, 2034, 4, generator=generator)
    logits[::2], deltas[::2] = logits[::2].round(), deltas[::2].round()
    originals = torch.randint(50, 900, (images, 2), generator=generator)
    extents = originals * torch.tensor([1.5, 1.0])
    frames = Frames((300, 300), torch.tensor([[200, 300]]).expand(images, 2), originals)
    settings = {**SETTINGS, "scores": scores, "score_threshold": threshold}
    output = SSDOutput(logits, deltas, anchors)
    padded = ssd(**settings).detect(output, lambda boxes: within_images(boxes, frames))
    for row, ours in enumerate(unpadded(*padded)):
        alone = detect_image(logits[row], deltas[row], anchors, extents[row], originals[row], **settings)
        assert all(torch.equal(*pair) for pair in zip(ours, alone, strict=True))
        assert not any(field[row, len(ours.scores) :].any() for field in padded[:3])


def test_detections_of_a_batch_without_any_place_for_one_are_none():
    empty = torch.zeros(2, 0)
    found = unpadded(torch.zeros(2, 0, 4), empty, empty.long(), torch.zeros(2, dtype=torch.int64))
    assert [(of.boxes.shape, len(of.scores), of.labels.dtype) for of in found] == [((0, 4), 0, torch.int64)] * 2


@pytest.mark.parametrize("images, count, num_anchors", [(1, 1, 300), (4, 40, 300), (3, 40, 25), (2, 30, 700)])
def test_forced_matches_in_rounds_are_those_of_bids(images, count, num_anchors):
    """The operator's way on a GPU; on a coarse grid, so that many pairs overlap alike, and some boxes no anchor."""
    boxes = (torch.stack([random_boxes(seed, count) for seed in range(images)]) * 6).round() / 6
    boxes[..., 2:] = boxes[..., :2] + (boxes[..., 2:] - boxes[..., :2]).clamp(min=1 / 6)
    boxes[:, 0] += 2.0
    boxes[:, count // 2 :] = boxes[:, count // 2 :][:, :1]  # all want the same anchors
    valid = torch.rand(images, count, generator=torch.Generator().manual_seed(0)) > 0.2
    boxes, anchors = boxes * valid[..., None], (random_boxes(1, num_anchors) * 6).round() / 6
    anchors[:, 2:] = anchors[:, :2] + (anchors[:, 2:] - anchors[:, :2]).clamp(min=1 / 6)
    best, anchor = overlaps(boxes, anchors).max(dim=2)
    expected = best_pairs_first(boxes, valid, anchors, best, anchor)
    assert torch.equal(best_pairs_in_rounds(boxes, valid, anchors, best, anchor), expected)


@pytest.mark.parametrize("count", [5, 100, 200])
@pytest.mark.parametrize("size", [10, 60])
def test_survivors_of_all_images_at_once_are_those_of_each(size, count):
    """The operator's way on a GPU; of boxes that are sparse or crowded, some twice, and some without an area."""
    generator = torch.Generator().manual_seed(0)
    low = 200 * torch.rand(3, 200, 2, generator=generator)
    boxes = torch.cat([low, low + size * torch.rand(3, 200, 2, generator=generator)], dim=-1)
    boxes[:, 10:40] = boxes[:, :1]
    boxes[:, 50:60, 2:] = boxes[:, 50:60, :2]
    ranks = torch.arange(200, 0, -1.0) * (torch.rand(3, 200, generator=generator) > 0.2)
    ranks[1] = 0
    assert torch.equal(survivors_at_once(boxes, ranks, 0.45, count), survivors(boxes, ranks, 0.45, count))
