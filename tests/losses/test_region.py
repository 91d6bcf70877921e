"""The region loss beside a plain transcription of its definition: loops over cells, gradients written down by hand."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mnv2_tasks.boxes.anchors import grid_anchors
from mnv2_tasks.contracts import YOLOv2Output
from mnv2_tasks.kinds.detection import padded_targets
from mnv2_tasks.losses.region import RegionLoss

GRID = (4, 6)  # rows, columns
SIZES = [(0.1, 0.15), (0.3, 0.25), (0.5, 0.7)]  # of the anchors of a cell, fractions of the image
CLASSES = 4
SETTINGS = {
    "object_scale": 5.0, "noobject_scale": 1.0, "class_scale": 1.0, "coord_scale": 1.0, "ignore_threshold": 0.6,
    "rescore": True, "scale_by_size": True, "prior_images": 12800,
}  # fmt: skip
NOTHING = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)


def made_output(seed=0, batch=3):
    generator = torch.Generator().manual_seed(seed)
    anchors = grid_anchors([GRID], [SIZES])
    shapes = (batch, len(anchors), CLASSES), (batch, len(anchors)), (batch, len(anchors), 4)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64).float() for shape in shapes]
    return YOLOv2Output(*(tensor.requires_grad_() for tensor in tensors), anchors, GRID)


def made_objects(seed=0):
    """Many, among them two in one anchor and one of the shape of a prediction; none; one that is too thin."""
    generator = torch.Generator().manual_seed(seed)
    centre = 0.1 + 0.8 * torch.rand(7, 2, generator=generator)
    size = torch.minimum(0.05 + 0.5 * torch.rand(7, 2, generator=generator), 2 * torch.minimum(centre, 1 - centre))
    many = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    many[6] = many[0] + 1e-3
    labels = torch.randint(CLASSES, (7,), generator=generator)
    thin = torch.tensor([[0.2, 0.2, 0.2005, 0.8], [0.5, 0.5, 0.9, 1.0]])
    return [(many, labels), NOTHING, (thin, torch.tensor([1, 2]))]


def loss_of(output, objects, seen=0, **changes):
    criterion = RegionLoss(**SETTINGS | changes)
    criterion.seen.fill_(seen)
    return criterion(output, padded_targets(*map(list, zip(*objects))))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def iou(a, b):
    """Of (x, y, w, h), centres."""
    shared = 1.0
    for axis in (0, 1):
        left = max(a[axis] - a[axis + 2] / 2, b[axis] - b[axis + 2] / 2)
        right = min(a[axis] + a[axis + 2] / 2, b[axis] + b[axis + 2] / 2)
        shared *= max(0.0, right - left)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def transcribed(output, objects, seen, object_scale, rescore, scale_by_size, ignore_threshold, prior_images, **_):
    """The gradients of each image's sums, divided by the images, as darknet's deltas; one cell after another."""
    rows, columns = GRID
    gradients = [torch.zeros_like(tensor, dtype=torch.float64) for tensor in output[:3]]
    classes, objectness, deltas = gradients
    values = [tensor.detach().double() for tensor in output[:3]]
    for image, (boxes, labels) in enumerate(objects):
        truths = []
        for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels.tolist()):
            if x1 - x0 >= 0.001 and y1 - y0 >= 0.001:
                truths.append((((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0), label))

        def place(row, column, a):
            return (row * columns + column) * len(SIZES) + a

        def prediction(row, column, a, image=image):
            x, y, w, h = values[2][image, place(row, column, a)].tolist()
            width, height = SIZES[a]
            return (
                (column + sigmoid(x)) / columns, (row + sigmoid(y)) / rows, math.exp(w) * width, math.exp(h) * height
            )  # fmt: skip

        def pull(row, column, a, box, weight, image=image):
            x, y, w, h = values[2][image, place(row, column, a)].tolist()
            wanted = (
                box[0] * columns - column, box[1] * rows - row,
                math.log(box[2] / SIZES[a][0]), math.log(box[3] / SIZES[a][1]),
            )  # fmt: skip
            for side, (raw, found) in enumerate(((x, sigmoid(x)), (y, sigmoid(y)), (w, w), (h, h))):
                slope = sigmoid(raw) * (1 - sigmoid(raw)) if side < 2 else 1.0
                deltas[image, place(row, column, a), side] = -weight * (wanted[side] - found) * slope

        for row in range(rows):
            for column in range(columns):
                for a, (width, height) in enumerate(SIZES):
                    at = place(row, column, a)
                    best = max((iou(prediction(row, column, a), truth) for truth, _ in truths), default=0.0)
                    o = sigmoid(values[1][image, at].item())
                    objectness[image, at] = 0.0 if best > ignore_threshold else o * o * (1 - o)
                    if seen < prior_images:
                        middle = (column + 0.5) / columns, (row + 0.5) / rows
                        pull(row, column, a, (*middle, width, height), 0.01)
        for truth, label in truths:
            column, row = int(truth[0] * columns), int(truth[1] * rows)
            shapes = [iou((0, 0, *truth[2:]), (0, 0, *size)) for size in SIZES]
            a = shapes.index(max(shapes))
            at = place(row, column, a)
            pull(row, column, a, truth, 2 - truth[2] * truth[3] if scale_by_size else 1.0)
            o = sigmoid(values[1][image, at].item())
            target = iou(prediction(row, column, a), truth) if rescore else 1.0
            objectness[image, at] = -object_scale * (target - o) * o * (1 - o)
            shares = values[0][image, at].softmax(0)
            shares[label] -= 1
            classes[image, at] = shares
    return [gradient / len(objects) for gradient in gradients]


@pytest.mark.parametrize("seen", [0, 20000])
@pytest.mark.parametrize("changes", [{}, {"rescore": False, "scale_by_size": False}, {"ignore_threshold": 0.2}])
def test_gradients_are_those_of_a_plain_transcription_cell_by_cell(seen, changes):
    for seed in range(4):
        output, objects = made_output(seed), made_objects(seed)
        sum(loss_of(output, objects, seen, **changes).values()).backward()
        expected = transcribed(output, objects, seen, **SETTINGS | changes)
        for ours, theirs in zip(output[:3], expected):
            assert (ours.grad - theirs).abs().max() < 1e-6


def test_the_transcription_is_tried_on_what_matters():
    """Two objects in one anchor, and boxes that overlap an object too well to be background."""
    output, objects = made_output(), made_objects()
    moved = [(objects[0][0].flip(0), objects[0][1].flip(0)), *objects[1:]]
    last_wins = [transcribed(output, o, 0, **SETTINGS)[2] for o in (objects, moved)]
    assert not torch.equal(*last_wins)
    ignored = [(transcribed(output, objects, 0, **SETTINGS | {"ignore_threshold": t})[1] == 0).sum() for t in (0.2, 2)]
    assert ignored[0] > ignored[1] == 0


def test_images_without_objects_have_finite_gradients_and_learn_that_nothing_is_there():
    output = made_output()
    terms = loss_of(output, [NOTHING] * 3, seen=20000)
    assert terms["box"] == 0 and terms["class"] == 0
    terms["objectness"].backward()
    assert torch.isfinite(output.objectness.grad).all() and (output.objectness.grad > 0).all()


def test_an_output_that_says_the_objects_exactly_has_almost_no_loss():
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.35], [0.3, 0.2, 0.8, 0.9]])  # of the shapes of anchors 1 and 2
    output = made_output(batch=1)
    for tensor in output[:3]:
        tensor.data.zero_()
    output.objectness.data -= 20
    for (x0, y0, x1, y1), label, anchor in zip(boxes.tolist(), (3, 0), (1, 2)):
        x, y = (x0 + x1) / 2 * GRID[1], (y0 + y1) / 2 * GRID[0]
        at = (int(y) * GRID[1] + int(x)) * len(SIZES) + anchor
        output.box_deltas.data[0, at, :2] = torch.tensor([x % 1, y % 1]).logit()
        output.objectness.data[0, at] = 20
        output.class_logits.data[0, at, label] = 20
    assert sum(loss_of(output, [(boxes, torch.tensor([3, 0]))], seen=20000).values()) < 1e-5


def test_images_are_counted_while_training_alone():
    criterion = RegionLoss(**SETTINGS)
    targets = padded_targets(*map(list, zip(*made_objects())))
    criterion(made_output(), targets)
    assert criterion.seen == 3
    criterion.eval()(made_output(), targets)
    assert criterion.seen == 3
    assert criterion.state_dict()["seen"] == 3


def test_a_box_that_has_shrunk_to_nothing_leaves_all_finite():
    output = made_output()
    output.box_deltas.data[..., 2:] = -1000
    terms = loss_of(output, made_objects())
    sum(terms.values()).backward()
    assert all(torch.isfinite(tensor.grad).all() for tensor in output[:3])


def test_no_shape_depends_on_the_data():
    targets = padded_targets(*map(list, zip(*made_objects())))
    criterion = RegionLoss(**SETTINGS)
    compiled = torch.compile(criterion, fullgraph=True, backend="eager")
    output = made_output()
    for name, value in RegionLoss(**SETTINGS)(output, targets).items():
        torch.testing.assert_close(compiled(output, targets)[name], value)
        criterion.seen.zero_()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = YOLOv2Output(*(mode.from_tensor(tensor) for tensor in output[:4]), GRID)
        terms = RegionLoss(**SETTINGS)(fake, type(targets)(*map(mode.from_tensor, targets)))
    assert all(value.shape == () for value in terms.values())
