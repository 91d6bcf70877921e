import pytest
import torch
import torch.nn.functional as F
from one_image_at_a_time import match_image, multibox_loss
from torch._subclasses.fake_tensor import FakeTensorMode

from mnv2_tasks.boxes.anchors import ssd_anchors
from mnv2_tasks.boxes.coding import encode_boxes
from mnv2_tasks.boxes.matching import UNMATCHED
from mnv2_tasks.contracts import SSDOutput
from mnv2_tasks.kinds.detection import padded_targets
from mnv2_tasks.losses.multibox import MultiBoxLoss

ANCHORS = ssd_anchors([(6, 6), (3, 3)])
NOTHING = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
ONE_BOX = torch.tensor([[0.2, 0.2, 0.6, 0.7]]), torch.tensor([1])
SETTINGS = {
    "iou_threshold": 0.5, "negatives_per_positive": 3, "min_negatives": 3, "box_weight": 1.0, "scores": "softmax"
}  # fmt: skip


def loss(**changes):
    """Of an output, and of (boxes, labels) of each image."""
    of_batch = MultiBoxLoss(**{**SETTINGS, **changes})
    return lambda output, objects: of_batch(output, padded_targets(*map(list, zip(*objects))))


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
    match = match_image(ONE_BOX[0], ANCHORS, 0.5)
    logits = torch.zeros(1, len(ANCHORS), 4)
    logits[0, :, 3] = 30.0
    logits[0, match != UNMATCHED, 3], logits[0, match != UNMATCHED, 1] = 0.0, 30.0
    deltas = torch.zeros(1, len(ANCHORS), 4)
    deltas[0, match != UNMATCHED] = encode_boxes(ONE_BOX[0], ANCHORS[match != UNMATCHED])
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
    matched = match_image(ONE_BOX[0], ANCHORS, 0.5) != UNMATCHED
    logits = torch.zeros(1, len(ANCHORS), 4)
    logits[0, :, 3] = 9.0
    logits[0, matched, 3], logits[0, matched, 1] = 0.0, 9.0
    deltas = torch.zeros(1, len(ANCHORS), 4)
    deltas[0, matched] = encode_boxes(ONE_BOX[0], ANCHORS[matched])
    made = SSDOutput(logits, deltas, ANCHORS)
    right = loss()(made, [ONE_BOX])
    boxes, labels = ONE_BOX
    wrong = (boxes, labels + 1) if fault == "label" else (boxes + 0.02, labels)
    faulty = loss()(made, [wrong])
    term = "class" if fault == "label" else "box"
    assert faulty[term] > right[term] + 0.1


def test_sigmoid_scores_are_learned_class_by_class_with_background_among_them():
    made = output(batch=1)
    term = loss(scores="sigmoid", min_negatives=1000)(made, [NOTHING])["class"]
    logits = made.class_logits[0]
    wanted = -(F.logsigmoid(logits[:, -1]) + F.logsigmoid(-logits[:, :-1]).sum(1)).sum()
    torch.testing.assert_close(term, wanted)


def crowd(seed, count, *, coarse=False):
    """Boxes and labels of one image; `coarse` makes many overlap alike."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 0.6
    boxes = torch.cat([corners, corners + 0.05 + torch.rand(count, 2, generator=generator) * 0.3], dim=1)
    if coarse:
        boxes = (boxes * 8).round() / 8 + torch.tensor([0.0, 0.0, 0.125, 0.125])
    return boxes, torch.randint(0, 3, (count,), generator=generator)


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize("coarse", [False, True], ids=["", "ties"])
@pytest.mark.parametrize("counts", [[0, 7, 1, 40], [500], [0, 0, 0], [1]])
def test_loss_and_gradients_of_a_batch_are_those_of_the_images_one_by_one(counts, coarse, scores):
    objects = [crowd(seed, count, coarse=coarse) for seed, count in enumerate(counts)]
    settings = {**SETTINGS, "scores": scores}
    found = []
    for compute in (loss(**settings), lambda made, objects: multibox_loss(made, objects, **settings)):
        made = output(batch=len(counts))
        if coarse:  # of equal losses the same negatives count
            made.class_logits.data.round_()
        terms = compute(made, objects)
        sum(terms.values()).backward()
        found.append([*terms.values(), made.class_logits.grad, made.box_deltas.grad])
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_padding_changes_nothing_whatever_it_holds():
    made, targets = output(batch=1), padded_targets([crowd(0, 5)[0]], [crowd(0, 5)[1]])
    more = targets._replace(
        boxes=F.pad(targets.boxes, (0, 0, 0, 3), value=0.5),
        labels=F.pad(targets.labels, (0, 3), value=2),
        valid=F.pad(targets.valid, (0, 3)),
    )
    assert MultiBoxLoss(**SETTINGS)(made, targets) == MultiBoxLoss(**SETTINGS)(made, more)


@pytest.mark.parametrize("counts", [[0, 7, 40], [0, 0]])
def test_loss_is_one_graph_and_takes_shapes_without_values(counts):
    made, of_batch = output(batch=len(counts)), MultiBoxLoss(**SETTINGS)
    targets = padded_targets(*map(list, zip(*[crowd(seed, count) for seed, count in enumerate(counts)])))
    compiled = torch.compile(of_batch, fullgraph=True, backend="eager")(made, targets)
    for name, term in of_batch(made, targets).items():
        torch.testing.assert_close(compiled[name], term)
    with FakeTensorMode() as mode:
        made, targets = (type(given)(*map(mode.from_tensor, given)) for given in (made, targets))
        assert all(term.shape == () for term in of_batch(made, targets).values())
