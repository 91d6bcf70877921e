import pytest
import torch
import torch.nn.functional as F

from mnv2_tasks.boxes.anchors import ssd_anchors
from mnv2_tasks.boxes.coding import encode_boxes
from mnv2_tasks.contracts import BoxTargets, SSDOutput
from mnv2_tasks.losses.multibox import MultiBoxLoss

ANCHORS = ssd_anchors([(6, 6), (3, 3)])
NOTHING = BoxTargets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
ONE_BOX = BoxTargets(torch.tensor([[0.2, 0.2, 0.6, 0.7]]), torch.tensor([1]))


def loss(**changes):
    settings = {"iou_threshold": 0.5, "negatives_per_positive": 3, "min_negatives": 3, "box_weight": 1.0}
    return MultiBoxLoss(**{**settings, **changes})


def output(seed=0, batch=2, classes=3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, len(ANCHORS), classes + 1, generator=generator, requires_grad=True)
    deltas = torch.randn(batch, len(ANCHORS), 4, generator=generator, requires_grad=True)
    return SSDOutput(logits, deltas, ANCHORS)


def test_image_without_objects_is_all_background_and_loss_is_finite():
    made = output()
    terms = loss()(made, [NOTHING, NOTHING])
    assert torch.isfinite(terms["class"]) and terms["class"] > 0
    assert terms["box"] == 0
    sum(terms.values()).backward()
    assert torch.isfinite(made.class_logits.grad).all() and torch.isfinite(made.box_deltas.grad).all()
    assert (made.class_logits.grad[..., -1] <= 0).all()  # background is pushed up


def test_image_without_objects_counts_min_negatives():
    made = output(batch=1)
    loss(min_negatives=5)(made, [NOTHING])["class"].backward()
    assert (made.class_logits.grad[0].abs().sum(1) > 0).sum() == 5


def test_perfect_output_has_almost_no_loss():
    from mnv2_tasks.boxes.matching import UNMATCHED, match_anchors

    match = match_anchors(ONE_BOX.boxes, ANCHORS, 0.5)
    logits = torch.zeros(1, len(ANCHORS), 4)
    logits[0, :, 3] = 30.0
    logits[0, match != UNMATCHED, 3], logits[0, match != UNMATCHED, 1] = 0.0, 30.0
    deltas = torch.zeros(1, len(ANCHORS), 4)
    deltas[0, match != UNMATCHED] = encode_boxes(ONE_BOX.boxes, ANCHORS[match != UNMATCHED])
    terms = loss()(SSDOutput(logits, deltas, ANCHORS), [ONE_BOX])
    assert sum(terms.values()) < 1e-5


def test_three_hardest_negatives_count_for_each_positive():
    made = output(batch=1)
    loss()(made, [ONE_BOX])["class"].backward()
    touched = made.class_logits.grad[0].abs().sum(1) > 0
    positives = touched & (made.class_logits.grad[0, :, 1] < 0)
    labels = torch.full((len(ANCHORS),), 3)
    entropy = F.cross_entropy(made.class_logits[0].detach(), labels, reduction="none")
    negatives = touched & ~positives
    assert negatives.sum() == 3 * positives.sum()
    assert entropy[negatives].min() >= entropy[~touched].max()


def test_loss_is_the_mean_over_matched_anchors_of_the_batch():
    one = loss(min_negatives=0)(SSDOutput(*(t[:1] for t in output()[:2]), ANCHORS), [ONE_BOX])
    both = loss(min_negatives=0)(SSDOutput(*(t[:1].repeat(2, 1, 1) for t in output()[:2]), ANCHORS), [ONE_BOX, ONE_BOX])
    for term in one:
        torch.testing.assert_close(one[term], both[term])


@pytest.mark.parametrize("fault", ["label", "box"])
def test_a_shifted_label_or_box_raises_its_own_term(fault):
    from mnv2_tasks.boxes.matching import UNMATCHED, match_anchors

    matched = match_anchors(ONE_BOX.boxes, ANCHORS, 0.5) != UNMATCHED
    logits = torch.zeros(1, len(ANCHORS), 4)
    logits[0, :, 3] = 9.0
    logits[0, matched, 3], logits[0, matched, 1] = 0.0, 9.0
    deltas = torch.zeros(1, len(ANCHORS), 4)
    deltas[0, matched] = encode_boxes(ONE_BOX.boxes, ANCHORS[matched])
    made = SSDOutput(logits, deltas, ANCHORS)
    right = loss()(made, [ONE_BOX])
    wrong = (
        ONE_BOX._replace(labels=ONE_BOX.labels + 1)
        if fault == "label"
        else ONE_BOX._replace(boxes=ONE_BOX.boxes + 0.02)
    )
    faulty = loss()(made, [wrong])
    term = "class" if fault == "label" else "box"
    assert faulty[term] > right[term] + 0.1


def test_sigmoid_scores_are_learned_class_by_class_with_background_among_them():
    made = output(batch=1)
    term = loss(scores="sigmoid", min_negatives=1000)(made, [NOTHING])["class"]
    logits = made.class_logits[0]
    wanted = -(F.logsigmoid(logits[:, -1]) + F.logsigmoid(-logits[:, :-1]).sum(1)).sum()
    torch.testing.assert_close(term, wanted)
