"""Published classifiers on genuine ImageNet images, against what independent implementations counted.

The 650 images are stored at 227 x 227, so `input.resize=null` cuts the crop out of them as they are.
"""

from pathlib import Path

import pytest

from mnv2_tasks.config.compose import compose
from mnv2_tasks.evaluation.evaluate import evaluate

ASSETS = Path(__file__).parents[3] / "shared" / "assets"
TORCHVISION = ASSETS / "weights" / "torchvision_mobilenet_v2_qat_float.pth"
GOOGLE = ASSETS / "weights" / "tf_mobilenet_v2_1.0_224_qat_float.npz"
ABSENT = "needs the assets that are not part of the project"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not TORCHVISION.is_file(), reason=ABSENT)]


@pytest.mark.parametrize(
    "weights, settings, top1, top5, tolerance",
    [
        (TORCHVISION, ["input.resize=null"], 514, 619, 2),
        (TORCHVISION, ["input.resize=256"], 516, 616, 3),
        (GOOGLE, ["input.resize=null"], 512, 623, 2),
        (GOOGLE, ["input.resize=null", "backbone.padding=torch"], 506, 617, 2),  # not what these weights were made for
    ],
)
def test_published_weights_recognise_as_many_images_as_elsewhere(tmp_path, weights, settings, top1, top5, tolerance):
    overrides = [
        "data=imagenet", f"data.root={ASSETS / 'imagenet_val'}", f"weights={weights}", f"runs={tmp_path}",
        "batch=16", "workers=0", "trainer.precision=32-true", "trainer.accelerator=cpu",
    ]  # fmt: skip
    metrics = evaluate(compose("eval", [*overrides, *settings]))
    assert metrics["images"] == 650
    assert round(metrics["top1"] * 650) == pytest.approx(top1, abs=tolerance)
    assert round(metrics["top5"] * 650) == pytest.approx(top5, abs=tolerance)
