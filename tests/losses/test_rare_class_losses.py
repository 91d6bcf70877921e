"""Class weights, focal and Dice losses, beside independent implementations."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from mnv2_tasks.boxes.anchors import ssd_anchors
from mnv2_tasks.boxes.matching import UNMATCHED, match_anchors
from mnv2_tasks.contracts import IGNORE, SSDOutput
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.kinds.detection import padded_targets
from mnv2_tasks.losses.label import LabelCrossEntropy
from mnv2_tasks.losses.multibox import MultiBoxLoss
from mnv2_tasks.losses.pixel import PixelCrossEntropy

ANCHORS = ssd_anchors([(6, 6), (3, 3)])
SETTINGS = {"iou_threshold": 0.5, "negatives_per_positive": 3, "min_negatives": 3, "box_weight": 1.0}
MASK = torch.tensor([[[0, 0, 1, 2], [0, 1, 1, IGNORE]], [[2, 2, 2, 2], [IGNORE, 0, 0, 0]]], dtype=torch.uint8)


def logits_of(*shape, seed=0):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weighed(loss, weights):
    loss.class_weights = torch.tensor(weights)
    return loss


def test_class_weights_multiply_an_images_loss():
    logits, labels = logits_of(4, 3), torch.tensor([0, 1, 2, 2])
    each = F.cross_entropy(logits, labels, reduction="none")
    found = weighed(LabelCrossEntropy(), [1.0, 2.0, 5.0])(logits, labels)
    torch.testing.assert_close(found, (each * torch.tensor([1.0, 2.0, 5.0, 5.0])).mean())


def test_equal_weights_change_nothing_in_mixed_and_smoothed_labels_too():
    logits, shares = logits_of(4, 3), logits_of(4, 3, seed=1).softmax(1)
    for labels in (torch.tensor([0, 1, 2, 2]), shares):
        plain = LabelCrossEntropy(label_smoothing=0.1)(logits, labels)
        torch.testing.assert_close(weighed(LabelCrossEntropy(label_smoothing=0.1), [1.0] * 3)(logits, labels), plain)


def test_class_weights_multiply_a_pixels_loss_with_and_without_focus():
    logits, weights = logits_of(2, 3, 2, 4), [0.5, 1.0, 4.0]
    counted = (MASK != IGNORE).sum()
    expected = F.cross_entropy(logits, MASK.long(), torch.tensor(weights), ignore_index=IGNORE, reduction="sum")
    torch.testing.assert_close(weighed(PixelCrossEntropy(), weights)(logits, MASK), expected / counted)
    focused = weighed(PixelCrossEntropy(focal_gamma=1e-9), weights)(logits, MASK)
    torch.testing.assert_close(focused, expected / counted)


def test_a_class_that_weighs_nothing_teaches_a_detector_nothing_but_its_boxes():
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.5, 0.5, 0.95, 0.95]])
    targets = padded_targets([boxes], [torch.tensor([0, 1])])
    match = match_anchors(targets.boxes, targets.valid, ANCHORS, 0.5)[0]
    logits = logits_of(1, len(ANCHORS), 3).requires_grad_()
    output = SSDOutput(logits, logits_of(1, len(ANCHORS), 4), ANCHORS)
    weighed(MultiBoxLoss(**SETTINGS), [0.0, 1.0])(output, targets)["class"].backward()
    moved = logits.grad[0].abs().sum(1) > 0
    assert not moved[match == 0].any() and moved[match == 1].all()
    assert moved[match == UNMATCHED].sum() == 3 * (match != UNMATCHED).sum()  # background weighs 1


def test_class_weights_are_not_saved():
    assert not weighed(PixelCrossEntropy(), [1.0, 2.0]).state_dict()
    assert not weighed(LabelCrossEntropy(), [1.0, 2.0]).state_dict()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_two_classes_is_torchvisions_of_their_difference(gamma):
    logits, labels = logits_of(9, 2), torch.arange(9) % 2
    theirs = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], labels.float(), alpha=-1, gamma=gamma)
    torch.testing.assert_close(LabelCrossEntropy(focal_gamma=gamma)(logits, labels), theirs.mean())
    pixels, mask = logits.T.reshape(1, 2, 3, 3), labels.reshape(1, 3, 3)
    torch.testing.assert_close(PixelCrossEntropy(focal_gamma=gamma)(pixels, mask), theirs.mean())


def test_focal_loss_of_a_detector_counts_every_anchor_as_torchvisions_does():
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5]])
    targets = padded_targets([boxes, boxes[:0]], [torch.tensor([0]), torch.zeros(0, dtype=torch.int64)])
    match = match_anchors(targets.boxes, targets.valid, ANCHORS, 0.5)
    logits = logits_of(2, len(ANCHORS), 2)
    loss = MultiBoxLoss(**SETTINGS, focal_gamma=2.0, focal_alpha=0.3)
    found = loss(SSDOutput(logits, logits_of(2, len(ANCHORS), 4), ANCHORS), targets)["class"]
    objects = (match != UNMATCHED).float()
    theirs = sigmoid_focal_loss(logits[..., 0] - logits[..., 1], objects, alpha=0.3, gamma=2.0)
    torch.testing.assert_close(found, theirs.sum() / objects.sum())


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_has_a_finite_slope_where_it_is_certain(gamma):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    LabelCrossEntropy(focal_gamma=gamma)(logits, torch.tensor([0, 0])).backward()
    assert torch.isfinite(logits.grad).all()


def dice_one_by_one(logits, masks):
    """The mean over the classes of the masks, by sets of pixels."""
    shares = np.moveaxis(logits.double().softmax(1).numpy(), 1, -1)[masks.numpy() != IGNORE]
    truth = masks.numpy()[masks.numpy() != IGNORE]
    found = []
    for label in np.unique(truth):
        own = truth == label
        found.append(1 - 2 * shares[own, label].sum() / (shares[:, label].sum() + own.sum()))
    return np.mean(found)


def test_dice_is_the_overlap_of_regions_counted_one_by_one():
    logits = logits_of(2, 4, 2, 4)  # of class 3 there is no pixel
    entropy = PixelCrossEntropy()(logits, MASK)
    found = PixelCrossEntropy(dice=0.5)(logits, MASK) - entropy
    assert found.item() == pytest.approx(0.5 * dice_one_by_one(logits, MASK), abs=1e-6)


def test_dice_is_0_for_the_right_answer_and_1_for_a_wrong_one():
    right = torch.where(F.one_hot(MASK.long().where(MASK != IGNORE, 0), 3).movedim(-1, 1) > 0, 50.0, -50.0)
    dice = {shift: PixelCrossEntropy(dice=1.0)(right.roll(shift, 1), MASK) for shift in (0, 1)}
    entropy = {shift: PixelCrossEntropy()(right.roll(shift, 1), MASK) for shift in (0, 1)}
    assert (dice[0] - entropy[0]).item() == pytest.approx(0, abs=1e-5)
    assert (dice[1] - entropy[1]).item() == pytest.approx(1, abs=1e-5)


def test_a_batch_without_a_class_has_no_loss_and_a_finite_slope():
    logits = logits_of(1, 3, 2, 2).requires_grad_()
    loss = PixelCrossEntropy(dice=1.0, focal_gamma=2.0)(logits, torch.full((1, 2, 2), IGNORE))
    loss.backward()
    assert loss == 0 and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("make", [LabelCrossEntropy, PixelCrossEntropy, lambda **one: MultiBoxLoss(**SETTINGS, **one)])
@pytest.mark.parametrize("gamma", [-1.0, math.nan, math.inf])
def test_a_gamma_that_is_none_is_refused(make, gamma):
    with pytest.raises(ConfigError, match="focal_gamma"):
        make(focal_gamma=gamma)
