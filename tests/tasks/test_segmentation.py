import pytest
import torch
import torch.nn.functional as F
from frames import filling

from mnv2_tasks.contracts import IGNORE, FeatureSpec, SegmentationBatch
from mnv2_tasks.heads.deeplabv3 import DeepLabV3Head
from mnv2_tasks.losses.pixel import PixelCrossEntropy
from mnv2_tasks.network.cost import LiveBytes
from mnv2_tasks.network.network import Network
from mnv2_tasks.tasks.segmentation import SegmentationTask


class Fixed(torch.nn.Module):
    """A head that returns the features themselves."""

    taps = ("c5",)

    def forward(self, features):
        return features["c5"]


def task(num_classes=3):
    return SegmentationTask(head=Fixed(), class_names=[str(i) for i in range(num_classes)])


@pytest.mark.parametrize("stride", [8, 16])
def test_cells_lie_on_their_pixels_at_sizes_that_are_a_multiple_of_the_stride_plus_one(stride):
    cells = torch.randn(1, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    size = (4 * stride + 1, 3 * stride + 1)
    predicted = task().results(cells, filling(size, [size]))[0]
    assert torch.equal(predicted[::stride, ::stride], cells[0].argmax(0))


def test_prediction_has_the_size_of_each_original_image():
    maps = task().results(torch.randn(2, 3, 4, 4), filling((49, 49), [[30, 50], [7, 5]]))
    assert [m.shape for m in maps] == [(30, 50), (7, 5)] and maps[0].dtype == torch.int64


def batch(masks):
    return SegmentationBatch(
        masks, masks, torch.arange(len(masks)), filling(masks.shape[1:], [list(masks.shape[1:])] * len(masks))
    )


def test_ignored_pixels_change_neither_loss_nor_gradient():
    logits = torch.randn(1, 3, 5, 5, requires_grad=True)
    masks = torch.randint(0, 3, (1, 33, 33))
    masks[:, :16] = 255
    loss = task().loss(logits, batch(masks))["pixel"]
    loss.backward()
    assert logits.grad[:, :, :2].abs().sum() == 0 and logits.grad[:, :, 3:].abs().sum() > 0


def test_batch_without_a_labelled_pixel_has_loss_zero():
    masks = torch.full((1, 33, 33), 255)
    assert task().loss(torch.randn(1, 3, 5, 5), batch(masks))["pixel"] == 0


class SmallBackbone(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 3, stride=8))

    def forward(self, images):
        return {"c5": self.layers(images)}


@torch.no_grad()
def peak(scales):
    """Most bytes alive at one moment of a prediction from views and mirrored views; only shapes are computed."""
    network = Network(backbone=SmallBackbone(), tasks={"segmentation": task()}, mean=[0.0] * 3, std=[1.0] * 3)
    network.to("meta")
    images = torch.empty(1, 3, 65, 65, dtype=torch.uint8, device="meta")
    live = LiveBytes([images, *network.parameters(), *network.buffers()])
    with live:
        network.predict_views("segmentation", images, filling((65, 65), [[65, 65]]), scales=scales, flip=True)
    return live.peak


@pytest.mark.parametrize("largest", [0.5, 1.75])  # where the probabilities decide, and where the features do
def test_memory_of_several_scales_is_that_of_the_largest_alone(largest):
    for factors in ([0.6, 1], [1, 1, 1], [1, 0.6, 0.3]):
        assert peak([factor * largest for factor in factors]) == peak([largest])


def head(rates, stride=16):
    return DeepLabV3Head(
        features={"c5": FeatureSpec(8, stride)}, num_classes=3, atrous_rates=rates, channels=4, dropout=0.0
    )


@pytest.mark.parametrize("rates", [[], [6, 12, 18]])
def test_training_batch_of_one_image_does_not_crash_the_image_pooling(rates):
    assert head(rates).train()({"c5": torch.randn(1, 8, 4, 4)}).shape == (1, 3, 4, 4)


def test_atrous_rates_scale_with_the_stride_of_the_features():
    for stride, expected in ((16, [6, 12, 18]), (8, [12, 24, 36]), (32, [3, 6, 9])):
        assert [branch[0].dilation[0] for branch in head([6, 12, 18], stride).atrous] == expected


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_loss_and_gradients_are_those_of_cross_entropy_over_maps(layout):
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 9, 11).contiguous(memory_format=layout).requires_grad_()
    masks = torch.randint(0, 5, (2, 9, 11))
    masks[0, :4] = IGNORE
    ours = PixelCrossEntropy()(logits, masks)
    theirs = F.cross_entropy(logits, masks, ignore_index=IGNORE)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)
