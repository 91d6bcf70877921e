"""Transforms of albumentations by their names, with arguments: what a configuration lists."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version
import albumentations as A  # noqa: E402
from albumentations.core.type_definitions import Targets  # noqa: E402

from mnv2_tasks.errors import ConfigError  # noqa: E402
from mnv2_tasks.wording import brief, did_you_mean  # noqa: E402

NEEDED = {"detection": Targets.BBOXES, "segmentation": Targets.MASK}  # what a transform that moves pixels must move too
ABSTRACT = ("BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D", "BaseCompose")
OF_CODE = (  # or of further pictures
    "Lambda", "FDA", "HistogramMatching", "PixelDistributionAdaptation", "TextImage", "OverlayElements", "Mosaic",
)  # fmt: skip
CLASSES: dict[str, type] = {
    name: found
    for name, found in vars(A).items()
    if isinstance(found, type)
    and issubclass(found, A.BasicTransform | A.BaseCompose)
    and name not in (*ABSTRACT, *OF_CODE)
}


def transform_of(step: Any, kind: str, key: str) -> A.BasicTransform | A.BaseCompose:
    """One transform, or a group of them such as OneOf, whose `transforms` are a list of such steps.

    Args:
        step: a name, or {name: {argument: value}}.
        kind: "classification", "detection" or "segmentation": what it must move together with the picture.
        key: where the step stands, for the message.

    Raises:
        ConfigError: there is no such transform, it does not take these arguments, or it leaves boxes or masks behind.
    """
    name, arguments = _parts(step, key)
    if name in OF_CODE:
        raise ConfigError(
            f"{key}.{name}: needs functions or further pictures; write a function with it, docs/extend.md"
        )
    if name not in CLASSES:
        meant = did_you_mean(name, CLASSES)
        raise ConfigError(f"{key}: albumentations has no transform {brief(name)}. {meant}See its list of transforms")
    if "transforms" in arguments:
        inner = arguments["transforms"]
        if not isinstance(inner, Sequence) or isinstance(inner, str):
            raise ConfigError(f"{key}.{name}.transforms={brief(inner)}: expected a list of transforms")
        made = [transform_of(one, kind, f"{key}.{name}[{number}]") for number, one in enumerate(inner)]
        arguments = {**arguments, "transforms": made}
    transform = _made(name, arguments, f"{key}.{name}")
    needed = NEEDED.get(kind)
    if isinstance(transform, A.DualTransform) and needed and needed not in [*cast(Iterable, transform._targets)]:
        raise ConfigError(f"{key}.{name}: moves the picture without its {needed.value.lower()}, it is not for {kind}")
    return transform


def _parts(step: Any, key: str) -> tuple[str, dict[str, Any]]:
    if isinstance(step, str):
        return step, {}
    if isinstance(step, Mapping) and len(step) == 1:
        ((name, arguments),) = step.items()
        if arguments is None or isinstance(arguments, Mapping):
            return str(name), dict(arguments or {})
    raise ConfigError(
        f"{key}={brief(step)}: expected the name of a transform or of a preset, or a transform with its arguments, "
        f"such as {{HorizontalFlip: {{p: 0.5}}}}"
    )


def _made(name: str, arguments: dict[str, Any], key: str) -> Any:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            made = CLASSES[name](**arguments)
        except (TypeError, ValueError, AttributeError) as error:  # pydantic's is a ValueError
            raise ConfigError(f"{key}: {_in_a_line(error)}") from None
    for warning in told:  # an unknown argument is but warned about
        if "not valid for transform" in str(warning.message):
            raise ConfigError(f"{key}: {str(warning.message).rpartition(' for transform')[0]}. See albumentations")
    return made


def _in_a_line(error: Exception) -> str:
    """The reason; of pydantic's lines the name of each argument and what is wrong with it."""
    first, *lines = str(error).splitlines()
    if "validation error" not in first:
        return first
    told = [line.partition(" [type=")[0] for line in lines if "further information" not in line]
    return " ".join(line.strip() + ("" if line.startswith(" ") else ":") for line in told)
