"""Google's DeepLabv3 on genuine VOC images, against its forward pass written down a second time."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mnv2_tasks.build import build_network, load_strictly
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import Frames
from mnv2_tasks.data.class_lists import VOC_SEGMENTATION
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.weights.weight_files import load_weights

ASSETS = Path(__file__).parents[3] / "shared" / "assets"
VOC = ASSETS / "VOCdevkit" / "VOC2012"
WEIGHTS = ASSETS / "weights" / "tf_deeplabv3_mnv2_pascal_trainval_fp32.npz"
pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs the assets that are not part of the project")

STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
SIZE, VOID = 513, 255
TASK = "mobile_deeplabv3"
CLASS_NAMES = {TASK: VOC_SEGMENTATION}


def picture(name):
    return np.array(Image.open(VOC / "JPEGImages" / f"{name}.jpg").convert("RGB"))


def truth(name):
    return np.asarray(Image.open(VOC / "SegmentationClass" / f"{name}.png"))


@pytest.fixture(scope="module")
def names():
    """24 images out of the 223, evenly spread."""
    return (VOC / "ImageSets" / "Segmentation" / "val.txt").read_text().split()[::9][:24]


@torch.inference_mode()
def reference(image, output_stride):
    """(H, W) classes by functions of torch alone, from TF DeepLab's description of the network."""
    file = np.load(WEIGHTS)
    layers = iter([(torch.from_numpy(file[f"{n:03d}_w"]), torch.from_numpy(file[f"{n:03d}_b"])) for n in range(55)])
    assert len(file.files) == 2 * 55

    def layer(x, activation=F.relu6, stride=1, rate=1):
        weight, bias = next(layers)
        pads = []
        for side in (x.shape[3], x.shape[2]):  # TF's SAME
            total = max((-(-side // stride) - 1) * stride + rate * (weight.shape[2] - 1) + 1 - side, 0)
            pads += [total // 2, total - total // 2]
        groups = x.shape[1] // weight.shape[1]
        return activation(F.conv2d(F.pad(x, pads), weight, bias, stride, 0, rate, groups))

    def linear(x):
        return x

    height, width = image.shape[:2]
    x = torch.zeros(1, 3, SIZE, SIZE)  # what the mean pixel is normalised to
    x[0, :, :height, :width] = torch.from_numpy(image).permute(2, 0, 1) / 127.5 - 1
    x = layer(x, stride=2)
    reached, rate = 2, 1
    for expansion, channels, repeats, first_stride in STAGES:
        for stride in [first_stride] + [1] * (repeats - 1):
            dilates = reached * stride > output_stride
            y = layer(x) if expansion > 1 else x
            y = layer(y, stride=1 if dilates else stride, rate=rate)
            y = layer(y, linear)
            x = x + y if x.shape == y.shape else y
            assert x.shape[1] == channels
            reached, rate = (reached, rate * stride) if dilates else (reached * stride, rate)
    aspp = layer(x, F.relu)
    pooled = layer(x.mean((2, 3), keepdim=True), F.relu).expand_as(aspp)
    x = layer(layer(torch.cat([pooled, aspp], dim=1), F.relu), linear)
    x = F.interpolate(x, size=(SIZE, SIZE), mode="bilinear", align_corners=True)
    return x[0, :, :height, :width].argmax(0).numpy()


def mean_iou(pairs):
    """Of (predicted, true) class maps; classes that are nowhere in the truth do not count."""
    predicted, true = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    predicted, true = predicted[true != VOID], true[true != VOID]
    ious = [np.sum((predicted == c) & (true == c)) / np.sum((predicted == c) | (true == c)) for c in np.unique(true)]
    return np.mean(ious), np.mean(predicted == true)


def built(output_stride):
    weights = load_weights(WEIGHTS)
    network = build_network(compose("eval", [f"weights={WEIGHTS}", f"output_stride={output_stride}"]), CLASS_NAMES)
    load_strictly(network, weights.state, weights.family)
    return network.eval()


def framed(image):
    """A batch of one image in the corner of the network's input, as fit=pad has it."""
    padded = np.full((SIZE, SIZE, 3), 128, np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    size = torch.tensor([image.shape[:2]])
    return torch.from_numpy(padded).permute(2, 0, 1)[None], Frames((SIZE, SIZE), size, size)


@pytest.mark.slow
def test_mean_iou_is_that_of_the_second_implementation_and_no_worse_at_stride_8(tmp_path, names):
    tree = tmp_path / "VOCdevkit" / "VOC2012"
    lists = tree / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(names) + "\n")
    for inside in ("JPEGImages", "SegmentationClass"):
        (tree / inside).symlink_to(VOC / inside)
    overrides = [
        f"weights={WEIGHTS}", "data=voc", f"data.root={tmp_path}", f"runs={tmp_path / 'runs'}",
        "batch=4", "workers=0", "trainer.precision=32-true", "trainer.accelerator=cpu",
    ]  # fmt: skip
    coarse, fine = (evaluate(compose("eval", [*overrides, f"output_stride={stride}"])) for stride in (16, 8))
    expected = mean_iou([(reference(picture(name), 16), truth(name)) for name in names])
    # 0.8751 and 0.9789; the padding is 128 here and 127.5 there
    assert (coarse["mIoU"], coarse["pixel_accuracy"]) == pytest.approx(expected, abs=5e-4)
    assert len(coarse["IoU"]) == 9 and coarse["mIoU"] > 0.8
    assert fine["mIoU"] > coarse["mIoU"] - 0.005


@pytest.mark.parametrize("output_stride", [8, 16])
@torch.inference_mode()
def test_class_maps_are_those_of_the_second_implementation(names, output_stride):
    network = built(output_stride)
    for name in names[:2]:
        (ours,) = network.predict(*framed(picture(name)))[TASK]
        theirs = reference(picture(name), output_stride)
        assert len(np.unique(theirs)) > 1
        assert (ours.numpy() == theirs).mean() > 0.999


@torch.inference_mode()
def test_one_view_at_scale_1_is_the_plain_prediction(names):
    network, (images, frames) = built(16), framed(picture(names[0]))
    (plain,) = network.predict(images, frames)[TASK]
    (view,) = network.predict_views(TASK, images, frames, scales=[1.0], flip=False)
    assert (view == plain).float().mean() > 0.9999  # ties aside


@pytest.mark.parametrize("scales, least", [([1.0], 1.0), ([0.75, 1.0], 0.9999)])  # views of another size are resampled
@torch.inference_mode()
def test_mirrored_image_gives_the_mirrored_prediction_when_mirrored_views_are_averaged(names, scales, least):
    side = 321
    image = torch.from_numpy(picture(names[0])[:side, :side]).permute(2, 0, 1)[None]
    size = torch.tensor([[side, side]])
    assert image.shape[2:] == (side, side)
    network, frames = built(16), Frames((side, side), size, size)
    (straight,), (mirrored,) = (
        network.predict_views(TASK, view, frames, scales=scales, flip=True) for view in (image, image.flip(3))
    )
    assert len(straight.unique()) > 1
    assert (mirrored.flip(1) == straight).float().mean() >= least
    (plain,), (plain_mirrored,) = (network.predict(view, frames)[TASK] for view in (image, image.flip(3)))
    assert not torch.equal(plain_mirrored.flip(1), plain)  # the average is what makes them equal
