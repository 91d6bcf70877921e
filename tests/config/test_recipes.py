"""Every recipe: its header, what it composes to, and that what it describes can be built."""

import pytest
import torch

from mnv2_tasks.build import build_network, data_config, partial_of, task_kinds
from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.words import CONF
from mnv2_tasks.data.images.augment import Augment, check_preset
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training.assemble import build_distillation, build_mixing

RECIPES = sorted(path.stem for path in (CONF / "recipe").glob("*.yaml"))
TASKS = sorted((path.stem for path in (CONF / "task").glob("*.yaml")), key=len, reverse=True)
CLASSES = {"imagenet": 1000, "coco": 80, "voc": 20, "shapes": 8, "folder": 3}


def pair_of(recipe):
    """Task and data set of `<task>_<data>[_<variant>]`."""
    task = next(task for task in TASKS if recipe.startswith(f"{task}_"))
    return task, recipe.removeprefix(f"{task}_").split("_")[0]


def composed(recipe, *more):
    task, data = pair_of(recipe)
    return compose("train", [f"task={task}", f"data={data}", f"recipe={recipe}", *more])


@pytest.mark.parametrize("recipe", RECIPES)
def test_header_says_where_it_comes_from_and_what_it_reached(recipe):
    package, title, *lines = (CONF / "recipe" / f"{recipe}.yaml").read_text().split("\n\n")[0].splitlines()
    assert package == "# @package _global_" and len(title) > 12
    words = [line[2:].split("  ")[0] for line in lines]
    fields = [word for word in words if word in ("command", "hardware", "published", "measured")]
    assert fields == ["command", "hardware", "published", "measured"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_command_in_the_header_is_the_one_that_chooses_the_recipe(recipe):
    task, data = pair_of(recipe)
    text = (CONF / "recipe" / f"{recipe}.yaml").read_text()
    commands = [line.split("train.py ")[1].split() for line in text.splitlines() if "tools/train.py " in line]
    last = dict(word.split("=", 1) for word in commands[-1] if "=" in word)
    assert (last["task"], last.get("data", "shapes")) == (task, data)
    assert last.get("recipe", f"{task}_{data}") == recipe


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_part_that_it_names_can_be_built(recipe):
    config = composed(recipe)
    kinds, classes = task_kinds(config), CLASSES[pair_of(recipe)[1]]
    names = {name: [str(i) for i in range(classes + (kind == "segmentation"))] for name, kind in kinds.items()}
    with torch.device("meta"):
        network = build_network(config, names).train()
        network(torch.zeros(2, 3, 96, 96))
    for name, kind in kinds.items():
        preset = data_config(config, name).augmentation[kind]
        check_preset(preset, kind)
        Augment(preset, config.imgsz, list(config.input.mean))
    build_mixing(config, network)
    optimizer = partial_of(config.optim.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    assert optimizer.param_groups[0]["lr"] == config.lr
    assert 0 <= partial_of(config.schedule.shape)(1.0) < 1 and 0 <= config.schedule.warmup < 1
    assert config.epochs % config.trainer.validate_every == 0
    assert all(chosen in (CONF / group / f"{chosen}.yaml").stem for group, chosen in config.groups.items())


@pytest.mark.parametrize(
    "recipe, lr, optimizer, epochs, batch",
    [
        ("classification_imagenet", 0.045, "TFRMSProp", 300, 96),
        ("classification_imagenet_torchvision_v1", 0.045, "SGD", 300, 256),
        ("classification_imagenet_torchvision_v2", 0.5, "SGD", 600, 1024),
        ("classification_imagenet_randaugment", 0.032, "TFRMSProp", 450, 512),
        ("classification_imagenet_distilled", 0.4, "SGD", 300, 1024),
        ("classification_imagenet_darknet19", 0.1, "SGD", 160, 128),
        ("classification_imagenet_nasnet", 0.04, "TFRMSProp", 312, 32),
        ("ssdlite_coco", 0.004, "TFRMSProp", 40, 24),
        ("ssdlite_coco_scratch", 0.015, "SGD", 600, 192),
        ("mobile_deeplabv3_voc_paper", 0.007, "SGD", 46, 16),
        ("mobile_deeplabv3_voc_imagenet", 0.01, "SGD", 46, 16),
    ],
)
def test_settings_are_the_published_ones(recipe, lr, optimizer, epochs, batch):
    config = composed(recipe)
    assert config.optim.optimizer._target_.rsplit(".", 1)[1] == optimizer
    assert (config.lr, config.epochs, config.batch) == (lr, epochs, batch)
    assert config.reference_batch == batch  # so the published rate holds as it stands, and scales with more devices


def test_decay_of_tfs_detector_is_a_twentieth_every_800720_steps():
    shape = partial_of(composed("ssdlite_coco").schedule.shape)
    epochs = 800_720 * 24 / 118_287
    assert shape(epochs / 40) == pytest.approx(0.95, abs=1e-4)


def test_rate_of_darknet19_falls_with_the_fourth_power():
    config = composed("classification_imagenet_darknet19", "backbone=darknet19")
    shape = partial_of(config.schedule.shape)
    assert [shape(done) for done in (0.0, 0.5, 0.75)] == pytest.approx([1, 0.5**4, 0.25**4])
    assert config.optim.weight_decay == 5e-4 and config.schedule.warmup * 160 * 1_281_167 / 128 == pytest.approx(
        1000, 0.05
    )


def test_nasnets_recipe_is_slims():
    config = composed("classification_imagenet_nasnet")
    assert config.choices.backbone == "nasnet_mobile"
    assert (config.auxiliary, config.backbone.drop_path, config.tasks.classification.head.dropout) == (0.4, 0.0, 0.5)
    assert (config.optim.optimizer.decay, config.optim.optimizer.eps, config.trainer.gradient_clip) == (0.9, 1.0, 10.0)
    assert (config.optim.weight_decay, config.optim.decay_depthwise) == (4e-5, True)
    shape = partial_of(config.schedule.shape)
    assert shape(2.4 / config.epochs) == pytest.approx(0.97, abs=1e-4)
    assert composed("classification_imagenet_nasnet", "backbone=mobilenet_v2").choices.backbone == "mobilenet_v2"


def test_a_recipe_named_by_hand_brings_its_groups_and_the_command_line_still_wins():
    base = ["task=classification", "data=imagenet"]
    named = compose("train", [*base, "recipe=classification_imagenet_torchvision_v2"])
    assert named.optim.optimizer._target_ == "torch.optim.SGD" and "cosine" in named.schedule.shape._target_
    assert named.train_imgsz == 176 and named.mixing.cutmix == 1.0
    changed = compose("train", [*base, "recipe=classification_imagenet_torchvision_v2", "optim=adamw", "lr=0.1"])
    assert changed.optim.optimizer._target_ == "torch.optim.AdamW" and changed.lr == 0.1
    assert "exponential" in compose("train", base).schedule.shape._target_  # the pair's own


@pytest.mark.parametrize(
    "name, message",
    [
        ("classification_imagnet_distiled", r"unknown recipe. Did you mean classification_imagenet_distilled"),
        ("ssdlite_coco", r"recipe=ssdlite_coco: unknown recipe.*There are: classification_"),
    ],
)
def test_a_recipe_that_there_is_not_for_this_task_is_answered_with_the_nearest(name, message):
    with pytest.raises(ConfigError, match=message):
        compose("train", ["task=classification", f"recipe={name}"])


def test_distilled_recipe_asks_for_its_teacher():
    config = composed("classification_imagenet_distilled")
    with pytest.raises(ConfigError, match=r"say distillation.teacher=<name or path"):
        build_distillation(config, None)


def test_papers_multi_scale_test_runs_at_output_stride_8():
    scales = "scales=[0.5,0.75,1.0,1.25,1.5,1.75]"
    config = compose(
        "eval", ["task=mobile_deeplabv3", "weights=multitask_shapes", "output_stride=8", scales, "flip=true"]
    )
    assert config.backbone.output_stride == 8 and len(config.scales) == 6 and config.flip
