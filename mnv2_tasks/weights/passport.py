"""A passport travels with weights: a plain dict with the config that rebuilds their network, and their class names.

What belongs to the weights and not to the wish of whoever uses them, such as padding, batch-norm epsilon and input
normalisation, comes back from here as values that stand before the user's own. Others' weights have no passport: their
importer says such values as overrides.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from mnv2_tasks import __version__
from mnv2_tasks.backbones.mobilenet_v2 import EXPANSION
from mnv2_tasks.boxes.anchors import FIRST_MAP, RATIOS, tf_scales
from mnv2_tasks.data.images.deep import FULL
from mnv2_tasks.weights.importers.family import Imported

# what rebuilds a network
NETWORK_KEYS = ("choices", "backbone", "tasks", "output_stride", "imgsz", "width", "input")
FOLLOW = ("output_stride", "width")  # of backbones and heads: interpolations of the keys at the top
SSD_TASK = "mnv2_tasks.tasks.detection.DetectionTask"
# of its detections. Weights of before 0.2 were scored with these, whatever recipes say since
FORMER_LIMITS = {
    "score_threshold": 0.01, "iou_threshold": 0.6, "candidates": 400, "max_detections": 100, "max_per_class": None,
}  # fmt: skip
TRAINED_WITH = ("backbone.padding", "backbone.norm_eps", "input.mean", "input.std")  # holds for fine-tuning too


class Implied(NamedTuple):
    """What weights bring to a command line: choices of groups, and values, which are never read as override text."""

    groups: dict[str, str]
    values: dict[str, Any]


def make_passport(
    config: DictConfig, class_names: dict[str, list[str]], command: str, started_from: str | None = None
) -> dict[str, Any]:
    """A passport; with what a training run `started_from`, if it is one."""
    content: Any = OmegaConf.to_container(config, resolve=True)
    kept = {key: content[key] for key in NETWORK_KEYS}
    passport = {"version": __version__, "config": kept, "class_names": class_names, "command": command}
    if started_from:
        passport["training"] = {"ema": config.ema, "qat": config.qat, "started_from": started_from}
    return passport


def head_settings(head: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a head as it was trained: before 0.2 detectors did not say their anchors, which were TF's, and no
    head its norms."""
    if head["_target_"].endswith(".DeepLabV3Head"):
        return {"norm_momentum": 0.1} | dict(head)
    if not head["_target_"].endswith(".SSDHead"):
        return dict(head)
    former = {
        "norm_eps": 1e-3,
        "norm_momentum": 0.03,
        "first_map_anchors": FIRST_MAP,
        "anchor_scales": tf_scales(2 + len(head["extra_channels"])),
        "anchor_ratios": RATIOS,
    }
    return former | dict(head)


def backbone_settings(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a backbone as it was trained: before 0.2 no MobileNetV2 said its expansion, the paper's."""
    settings = dict(backbone)  # keys in their order: resumed weights are byte-identical
    if settings["_target_"].endswith(".MobileNetV2"):
        settings.setdefault("expansion", EXPANSION)
    return settings


def input_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The config of an input as it was trained: before 0.2 the white of 16-bit pictures was that of their type."""
    return {"white": FULL} | dict(settings)


def implied_for_evaluation(passport: dict[str, Any], given: Mapping[str, str]) -> Implied:
    """What gives a command the task, the network and the input of these weights.

    Args:
        given: {key: value} that the user set; groups among them are left to the user.
    """
    config = passport["config"]
    chosen = given.get("task", config["choices"]["task"])
    choices = dict(config["choices"])
    datasets = choices.pop("datasets", {})
    if chosen in datasets:  # one taken out of several
        choices["data"], datasets = datasets[chosen], {}
    groups = {group: choices[group] for group in ("task", "data", "backbone") if group not in given}
    if chosen == choices["task"] and "data" not in given:
        groups |= {f"data.{task}": data for task, data in datasets.items() if f"data.{task}" not in given}
    values = {key: config[key] for key in ("output_stride", "imgsz", "width")}
    values |= _flat("input", input_settings(config["input"]))
    values |= _flat("backbone", backbone_settings(config["backbone"]))
    for name, task in config["tasks"].items():
        if chosen in (name, config["choices"]["task"]):  # all of them, or one taken out of several
            values |= _flat(f"tasks.{name}.head", head_settings(task["head"]))
            own = _plain(task) if passport.get("exported") else _travelling(task, given)  # what is fixed in the file
            values |= {f"tasks.{name}.{key}": value for key, value in own.items()}
    return Implied(groups, values)


def implied_for_training(passport: dict[str, Any], backbone: str) -> Implied:
    """What a network that starts from these weights must share with them."""
    config = passport["config"]
    if config["choices"]["backbone"] != backbone:
        return Implied({}, {})
    values = _flat("input", config["input"]) | _flat("backbone", config["backbone"])
    return Implied({}, {key: values[key] for key in TRAINED_WITH if key in values})


def overrides_for_evaluation(imported: Imported, given: Mapping[str, str]) -> list[str]:
    """As `implied_for_evaluation`, of others' weights."""
    kept = [override for override in imported.overrides if _key(override) not in given]
    another_task = "task" in given and f"task={given['task']}" not in imported.overrides
    return [override for override in kept if not (another_task and override.startswith("tasks."))]


def overrides_for_training(imported: Imported, backbone: str) -> list[str]:
    """As `implied_for_training`, of others' weights."""
    if f"backbone={backbone}" not in imported.overrides:
        return []
    return [override for override in imported.overrides if _key(override) in TRAINED_WITH]


def _key(override: str) -> str:
    return override.partition("=")[0]


def _plain(task: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in task.items() if key != "_target_" and not isinstance(value, dict)}


def _travelling(task: dict[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Of a task's own keys, what belongs to its weights: how scores were trained, and which boxes count."""
    scores = {"scores": task["scores"]} if "scores" in task else {}
    if "max_per_class" in task:
        return scores | {key: task[key] for key in FORMER_LIMITS if key in task}
    return scores | (FORMER_LIMITS if task["_target_"] == SSD_TASK and "recipe" not in given else {})


def _flat(prefix: str, config: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{key}": value for key, value in config.items() if key not in ("_target_", *FOLLOW)}
