"""Weights that know nothing but the scenes this project draws say so, once, where they are given photos."""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from mnv2_tasks.prediction.sources import DEMO

log = logging.getLogger(__name__)


def say_if_only_shapes(weights: str, passport: Mapping[str, Any], source: object) -> None:
    """Log one line where photos are given to weights of drawn scenes.

    Args:
        weights: their name, for the line.
        source: of the pictures; all but the embedded scenes are photos.
    """
    if knows_only_shapes(passport) and not (isinstance(source, str) and source == DEMO):
        _say(weights)


def knows_only_shapes(passport: Mapping[str, Any]) -> bool:
    choices = passport["config"].get("choices", {})
    return {choices.get("data"), *choices.get("datasets", {}).values()} == {DEMO}


@cache  # once
def _say(weights: str) -> None:
    log.warning(
        "weights=%s know drawn shapes alone: of photos they tell nothing. These know photos: imagenet (classes), "
        "coco_ssdlite (boxes), voc_mobile_deeplabv3 (a class of each pixel)",
        weights,
    )
