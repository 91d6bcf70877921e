"""The networks of a comparison as the files that people ship, to be timed beside PyTorch."""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.differences import differences, exceeding
from mnv2_tasks.export.images import fitted
from mnv2_tasks.export.prepare import COMPARED
from mnv2_tasks.export.write import least_metadata, write
from mnv2_tasks.runtimes.exported import Exported
from mnv2_tasks.runtimes.formats import FORMATS, format_module
from mnv2_tasks.studies.compare.groups import Group
from mnv2_tasks.studies.compare.measure import MeasuredNetwork, predicting
from mnv2_tasks.wording import nearest, visible

log = logging.getLogger(__name__)

TIMED = [name for name, about in FORMATS.items() if not about.one_task]  # a file of all tasks, as the network has them
PRECISION = "fp32"


def format_to_time(exported: str) -> tuple[str | None, list[str]]:
    """The format that is asked for, None for none; and a note where `auto` finds what it needs not installed.

    Args:
        exported: a format; auto: onnx, if it can be had; none.

    Raises:
        ConfigError: a format that there is not, or that needs what is not installed.
    """
    if exported not in ("auto", "none", *TIMED):
        raise ConfigError(f"exported={exported}: unknown. {nearest(exported, ['auto', 'none', *TIMED])}")
    if exported == "none":
        return None, []
    format = "onnx" if exported == "auto" else exported
    try:
        format_module(format, to_write=True)
    except ConfigError as error:
        if exported != "auto":
            raise
        return None, [f"Exported networks were not timed: {error}"]
    return format, []


def export_networks(
    groups: Sequence[Group], format: str | None, images: Sequence[np.ndarray], folder: Path
) -> tuple[list[Exported | None], list[str]]:
    """The file of each group's network, or None; notes say why one has none.

    Args:
        format: None writes no file.
        images: (H, W, 3) uint8 RGB, of any sizes, to compare results on.
    """
    files: list[Exported | None] = [None] * len(groups)
    notes = []
    for index, group in enumerate(groups):
        if format is None or group.network is None:
            continue
        log.info("%s: written as %s, to be timed", group.label, format)
        try:
            files[index] = _exported(group.network, format, images, folder / f"{index}{FORMATS[format].suffix}")
        except Exception as error:  # whatever a format's library cannot do with a network belongs in the report
            reason = visible(str(error).strip().split("\n")[0]) or type(error).__name__
            notes.append(f"{group.label}: has no exported latency: as {format}: {reason}")
    return files, notes


def _exported(measured: MeasuredNetwork, format: str, images: Sequence[np.ndarray], file: Path) -> Exported:
    """
    Raises:
        ConfigError: its results are not PyTorch's. What the format's library raises comes as it is.
    """
    network = copy.deepcopy(measured.network).cpu().to(memory_format=torch.contiguous_format)
    pictures = fitted(iter(images), measured.fit, COMPARED)
    example = torch.from_numpy(np.concatenate([pictures, pictures])[:2])
    write(network, format, example, least_metadata(network, measured.passport, PRECISION), file, PRECISION)
    exported = Exported(file, torch.get_num_threads(), trust=True)
    if wrong := exceeding(differences(network, exported, pictures, PRECISION)):
        raise ConfigError(f"its results are not PyTorch's: {'; '.join(wrong)}")
    predicting(exported, measured.fit, images[0])()  # a padded one may be larger than a file of fixed size takes
    return exported
