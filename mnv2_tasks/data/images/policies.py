"""TrivialAugment and RandAugment: torchvision's, drawn from the sample's own random state."""

from typing import Any

import albumentations as A
import numpy as np
import torch
from PIL import Image


class Policy(A.ImageOnlyTransform):
    """Random operations on colours and shape of the picture, for classification: boxes and masks do not follow.

    Args:
        name: "trivial" (Mueller and Hutter 2021: one operation of any strength) or "rand" (Cubuk et al. 2020).
        operations, magnitude: of "rand": how many, and how strong on torchvision's scale of 31 steps.
        fill: RGB of what lies outside the picture.
    """

    def __init__(self, name: str, *, fill: tuple[int, int, int], operations: int = 2, magnitude: int = 9):
        from torchvision.transforms import v2  # a tenth of a second that others need not wait for

        super().__init__(p=1.0)
        self.name, self.fill, self.operations, self.magnitude = name, fill, operations, magnitude
        settings = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": list(fill)}
        if name == "trivial":
            self.policy = v2.TrivialAugmentWide(**settings)
        else:
            self.policy = v2.RandAugment(num_ops=operations, magnitude=magnitude, **settings)

    def get_params(self) -> dict[str, Any]:
        return {"seed": self.py_random.getrandbits(63)}

    def apply(self, img: np.ndarray, seed: int, **params: Any) -> np.ndarray:
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator, which others rely on
            torch.manual_seed(seed)
            return np.asarray(self.policy(Image.fromarray(img)))  # twice as fast on PIL's images as on tensors

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        return "name", "fill", "operations", "magnitude"
