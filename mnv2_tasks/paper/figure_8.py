"""Figure 8: a segmenter's class maps at output strides 16 and 8, of one view and of several, beside the truth."""

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from omegaconf import DictConfig

from mnv2_tasks.build import build_fit, build_network, load_tasks, task_kinds
from mnv2_tasks.contracts import IGNORE, Frames, SegmentationBatch
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.drawing.canvas import fit as fit_for_looking
from mnv2_tasks.drawing.canvas import scaled_size
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.drawing.predictions import draw_mask, sheet
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.loading.collate import images_tensor
from mnv2_tasks.loading.samplers import spread_evenly
from mnv2_tasks.metrics.mean_iou import MeanIoU
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.network import ONE_VIEW, Network, Views
from mnv2_tasks.paper.figure import Claim, DrawnFigure
from mnv2_tasks.paper.material import Material, Picture
from mnv2_tasks.prediction.results import side_by_side
from mnv2_tasks.scorecard.counting import SCALES
from mnv2_tasks.wording import counted, visible

ROWS = 3  # pictures
WIDTH = 320  # pixels of a panel


class Way(NamedTuple):
    """Of evaluating the same weights."""

    output_stride: int
    views: Views


SEVERAL = Views(scales=SCALES, flip=True)
WAYS = {
    "OS 16, S": Way(16, ONE_VIEW),
    "OS 16, MS + F": Way(16, SEVERAL),
    "OS 8, S": Way(8, ONE_VIEW),
    "OS 8, MS + F": Way(8, SEVERAL),
}


def check_figure_8(material: Material) -> None:
    """Raises a ConfigError unless the weights have a segmenter, a DataError where a truth is of other classes."""
    names = material.weights.passport["class_names"][_segmenter(material)]
    for picture in _shown(material):
        if picture.truth is None:
            continue
        highest = picture.truth[picture.truth != IGNORE].max(initial=0)
        if highest >= len(names):
            known = f"weights={material.name} know 0 to {len(names) - 1}"
            raise DataError(f"{visible(picture.name)}: its mask has class {highest}, and {known}")


def draw_figure_8(material: Material) -> DrawnFigure:
    passport, task = material.weights.passport, _segmenter(material)
    names, fit = passport["class_names"][task], build_fit(DictConfig(passport["config"]))
    networks = {stride: _network_at(stride, task, material) for stride in {way.output_stride for way in WAYS.values()}}
    metrics = {name: MeanIoU(names) for name in WAYS}
    rows = []
    for number, picture in enumerate(_shown(material)):
        batch = _batch(picture, number, fit, material.device)
        panels = {"picture": fit_for_looking(picture.image)[0]}
        if picture.truth is not None:
            panels["truth"] = draw_mask(picture.image, picture.truth, names)
        for name, way in WAYS.items():
            with torch.inference_mode():
                maps = networks[way.output_stride].predict_task(task, batch.images, batch.frames, way.views)
            panels[name] = draw_mask(picture.image, maps[0], names)
            if picture.truth is not None:
                metrics[name].update(maps, batch)
        rows.append(side_by_side({title: _reduced(panel) for title, panel in panels.items()}))
    page = sheet(rows, columns=1)
    costs = {name: _madds(networks[way.output_stride], way.views, fit.size) for name, way in WAYS.items()}
    trained = f"output stride {passport['config']['output_stride']}"
    conditions = (
        f"{counted(len(rows), 'picture')}, {fit.size} px, weights={visible(material.name)}, trained at {trained}"
    )
    claim = Claim(
        "output stride 16 and one scale is a good trade between multiply-adds and accuracy (caption)",
        f"{'; '.join(_in_words(name, metrics[name], costs[name]) for name in WAYS)} ({conditions})",
    )
    return DrawnFigure("Class maps of four ways to evaluate a segmenter", partial(_write, page), [claim])


def _write(page: np.ndarray, path: Path) -> None:
    write_picture(path, page)


def _segmenter(material: Material) -> str:
    """The name of the weights' first task of segmentation."""
    kinds = task_kinds(DictConfig(material.weights.passport["config"]))
    for task, kind in kinds.items():
        if kind == "segmentation":
            return task
    raise ConfigError(
        f"weights={material.name}: figure 8 is of a segmenter, and these are for {', '.join(kinds)}; take others, such "
        f"as weights=voc_mobile_deeplabv3, or leave it out: figures=[1,5,7]"
    )


def _shown(material: Material) -> list[Picture]:
    return [material.pictures[index] for index in spread_evenly(len(material.pictures), ROWS)]


def _network_at(output_stride: int, task: str, material: Material) -> Network:
    """The segmenter alone, dilated for this stride: its weights are the same at every one."""
    passport = material.weights.passport
    config = DictConfig(copy.deepcopy(passport["config"]))
    config.output_stride = config.backbone.output_stride = output_stride
    config.tasks = {task: config.tasks[task]}
    network = build_network(config, passport["class_names"])
    load_tasks(network, material.weights.state, material.name)
    return network.eval().to(material.device).to(memory_format=torch.channels_last)


def _batch(picture: Picture, number: int, fit: Fit, device: torch.device) -> SegmentationBatch:
    fitted = fit(picture.image)
    places = ([fitted.content_size], [picture.image.shape[:2]], [fitted.offset])
    size = fitted.image.shape[:2]
    frames = Frames((size[0], size[1]), *map(torch.tensor, places))
    truth = np.full(picture.image.shape[:2], IGNORE, np.uint8) if picture.truth is None else picture.truth
    images = images_tensor(fitted.image[None]).to(device)
    return SegmentationBatch(images, torch.from_numpy(truth)[None], torch.tensor([number]), frames)


def _reduced(panel: np.ndarray) -> np.ndarray:
    return cv2.resize(panel, scaled_size(panel, WIDTH / panel.shape[1]), interpolation=cv2.INTER_AREA)


def _madds(network: Network, views: Views, side: int) -> int:
    """Of one image of this side, in all views."""
    sides = [round(scale * (side - 1)) + 1 for scale in views.scales]
    return (1 + views.flip) * sum(model_cost(network, size).madds for size in sides)


def _in_words(name: str, metric: MeanIoU, madds: int) -> str:
    scores: Mapping[str, Any] = metric.compute() if metric.counts else {}
    score = f"mIoU {scores['mIoU']:.3f}, " if scores else ""
    return f"{name}: {score}{madds / 1e9:.3g} B multiply-adds"
