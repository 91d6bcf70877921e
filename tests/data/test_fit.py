import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mnv2_tasks.contracts import Frames
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.heads.deeplabv3 import DeepLabV3Head
from mnv2_tasks.tasks.segmentation import SegmentationTask

FILL = [127.5, 127.5, 127.5]


def photo(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(300, 400), (375, 500), (500, 333), (227, 227), (256, 256), (100, 900)])
def test_centre_crop_is_torchvisions(size):
    image = photo(*size)
    ours, content, _ = Fit(mode="centre_crop", size=224, resize=256, fill=FILL)(image)
    reference = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])(Image.fromarray(image))
    assert np.array_equal(ours, np.asarray(reference)) and content == (224, 224)


@pytest.mark.parametrize("size", [(227, 227), (300, 224), (100, 400), (90, 80)])
def test_centre_crop_without_resizing_is_torchvisions_too(size):
    ours, *_ = Fit(mode="centre_crop", size=224, resize=None, fill=FILL)(photo(*size))
    assert np.array_equal(ours, np.asarray(v2.CenterCrop(224)(Image.fromarray(photo(*size)))))


@pytest.mark.parametrize(
    "size, expected", [((375, 500), (513, 513)), ((513, 513), (513, 513)), ((600, 514), (609, 545))]
)
def test_padding_never_resizes_and_keeps_sizes_of_the_grid_plus_one(size, expected):
    image = photo(*size)
    padded, content, _ = Fit(mode="pad", size=513, resize=None, fill=FILL)(image)
    assert padded.shape[:2] == expected and content == size
    assert np.array_equal(padded[: size[0], : size[1]], image)
    assert (padded[size[0] :] == 128).all() and (padded[:, size[1] :] == 128).all()


def test_square_squeezes_the_whole_image():
    square, content, _ = Fit(mode="square", size=64, resize=None, fill=FILL)(photo(100, 300))
    assert square.shape == (64, 64, 3) and content == (64, 64)


def neighbours(length, side):
    """Of each of `side` places: the pixel before it, the one behind, and the weight of that one."""
    places = np.arange(side) * length / side
    first = places.astype(int)
    return first, np.minimum(first + 1, length - 1), (places - first)[:, None]


@pytest.mark.parametrize("size", [(480, 640), (100, 40), (64, 64), (1, 1), (20, 1000)])
def test_tf1_square_reads_each_pixel_at_its_corner(size):
    image, side = photo(*size), 64
    (y, below, dy), (x, right, dx) = (neighbours(length, side) for length in size)
    upper, lower = ((1 - dx) * image[row][:, x] + dx * image[row][:, right] for row in (y, below))
    expected = (1 - dy[:, None]) * upper + dy[:, None] * lower
    ours, content, offset = Fit(mode="tf1_square", size=side, resize=None, fill=FILL)(image)
    assert np.abs(ours - expected).max() < 0.5001 and (content, offset) == ((side, side), (0, 0))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"mode": "crop"}, "input.fit=crop: expected one of"),
        ({"mode": "centre_crop", "resize": 100}, "input.resize=100"),
    ],
)
def test_impossible_fits_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Fit(**{"size": 224, "resize": None, "fill": FILL, **settings})


def test_class_map_of_a_padded_image_is_cut_out_of_the_inputs():
    task = SegmentationTask(head=torch.nn.Identity(), class_names=["a", "b", "c"])
    cells = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    whole = Frames((65, 65), torch.tensor([[65, 65]]), torch.tensor([[65, 65]]))
    part = Frames((65, 65), torch.tensor([[40, 50]]), torch.tensor([[40, 50]]))
    [full], [cut] = task.results(cells, whole), task.results(cells, part)
    assert torch.equal(cut, full[:40, :50])


def test_head_reads_maps_that_are_not_square():
    from mnv2_tasks.contracts import FeatureSpec

    head = DeepLabV3Head(features={"c5": FeatureSpec(8, 16)}, num_classes=3, atrous_rates=[6], channels=4, dropout=0.0)
    assert head({"c5": torch.randn(2, 8, 5, 9)}).shape == (2, 3, 5, 9)
