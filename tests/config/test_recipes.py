"""Every recipe: its header, what it composes to, and that what it describes can be built."""

import pytest
import torch
from omegaconf import OmegaConf

from mnv2_tasks.build import build_network, data_config, partial_of, task_kinds
from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.stored import load_config
from mnv2_tasks.config.words import CONF
from mnv2_tasks.data.images.augment import Augment
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
        network(torch.zeros(2, 3, config.imgsz, config.imgsz))
    for name, kind in kinds.items():
        augmentation = OmegaConf.to_container(data_config(config, name).augmentation)[kind]
        Augment(augmentation, config.imgsz, list(config.input.mean), kind)
    build_mixing(config, network)
    optimizer = partial_of(config.optim.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    assert optimizer.param_groups[0]["lr"] == config.lr
    assert 0 <= partial_of(config.schedule.shape)(1.0) < 1 and 0 <= config.schedule.warmup < 1
    assert config.epochs % config.trainer.validate_every == 0
    assert all(chosen in (CONF / group / f"{chosen}.yaml").stem for group, chosen in config.groups.items())


@pytest.mark.parametrize("backbone", ["mobilenet_v1", "shufflenet_v2", "vgg16", "nasnet_mobile"])
def test_what_a_recipe_says_of_a_mobilenets_norms_stays_out_of_backbones_without_such_settings(backbone):
    config = composed("classification_imagenet", f"backbone={backbone}")
    own = {str(key) for key in load_config(CONF / "backbone" / f"{backbone}.yaml")}
    assert set(config.backbone) == own
    mobile = backbone == "mobilenet_v1"
    assert config.init_std.backbone == (0.09 if mobile else None)  # VGG, without norms, would learn nothing from it
    assert not mobile or (config.backbone.norm_eps, config.backbone.padding) == (1e-3, "same")
    assert (
        composed("classification_imagenet", f"backbone={backbone}", "init_std.backbone=0.01").init_std.backbone == 0.01
    )
    with torch.device("meta"):
        build_network(config, {"classification": ["a", "b"]})


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
