import itertools

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from mnv2_tasks.build import build_network, build_sources, class_names_of, partial_of, task_kinds
from mnv2_tasks.config.compose import compose, launch
from mnv2_tasks.config.words import CONF
from mnv2_tasks.contracts import SSDOutput
from mnv2_tasks.errors import ConfigError


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("task, backbone", list(itertools.product(options("task"), options("backbone"))))
def test_every_task_composes_builds_and_runs_on_every_backbone(task, backbone):
    config = compose("train", [f"task={task}", f"backbone={backbone}", "width=1.0"])  # some come in few widths
    names = class_names_of(build_sources(config))
    with torch.device("meta"):
        network = build_network(config, names).eval()
        outputs = network(torch.zeros(2, 3, 96, 96))
    assert list(outputs) == list(config.tasks)
    for name, kind in task_kinds(config).items():
        if kind == "classification":
            assert outputs[name].shape == (2, len(names[name]))
        elif kind == "detection":
            background = isinstance(outputs[name], SSDOutput)  # has a column; YOLOv2 has the objectness
            assert outputs[name].class_logits.shape[2] == len(names[name]) + background
            assert outputs[name].class_logits.shape[1] == len(outputs[name].anchors)
        else:
            assert outputs[name].shape[:2] == (2, len(names[name]))


@pytest.mark.parametrize("optim, schedule", list(itertools.product(options("optim"), options("schedule"))))
def test_every_optimizer_and_schedule_builds(optim, schedule):
    config = compose("train", ["task=ssdlite", f"optim={optim}", f"schedule={schedule}"])
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = partial_of(config.optim.optimizer)([{"params": [weight]}])
    weight.grad = torch.ones(2)
    optimizer.step()
    assert (weight < 1).all()
    factor = partial_of(config.schedule.shape)
    assert factor(0.01) == pytest.approx(1.0, abs=0.02) and 0 <= factor(1.0) < 1  # darknet's begins at 0


def test_recipe_is_chosen_by_the_pair_of_task_and_data():
    assert compose("train", ["task=multitask"]).epochs != compose("train", ["task=ssdlite"]).epochs


def test_command_line_wins_over_the_recipe():
    config = compose("train", ["task=ssdlite", "epochs=3", "lr=0.5", "batch=7", "imgsz=64", "workers=0"])
    assert (config.epochs, config.lr, config.batch, config.imgsz, config.workers) == (3, 0.5, 7, 64, 0)
    assert config.optim.optimizer.lr == 0.5 and config.data.source.image_size == 64


def test_sweep_takes_what_weights_imply(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["train.py"])
    jobs = []
    words = ["task=ssdlite", "weights=multitask_shapes", "width=0.35", "lr=0.1,0.2", f"runs={tmp_path}"]
    launch("train", lambda config: jobs.append((config.lr, config.input.fit)), ["-m", *words])
    assert jobs == [(0.1, "square"), (0.2, "square")]


def test_another_optimizer_brings_its_own_rate():
    assert compose("train", ["task=ssdlite", "optim=sgd"]).lr != compose("train", ["task=ssdlite"]).lr


def test_config_that_is_stored_needs_nothing_to_be_resolved():
    config = compose("train", ["task=multitask"])
    assert OmegaConf.to_container(config, resolve=False) == OmegaConf.to_container(config, resolve=True)
    assert config.choices == {"task": "multitask", "data": "shapes", "backbone": "mobilenet_v2"}


@pytest.mark.parametrize("group", ["backbone", "task"])
def test_every_target_exists(group):
    for option in options(group):
        config = compose(
            "train",
            [
                "task=ssdlite" if group == "backbone" else f"task={option}",
                *([f"backbone={option}"] if group == "backbone" else []),
            ],
        )
        for target in [config.backbone._target_, *(task._target_ for task in config.tasks.values())]:
            assert isinstance(get_class(target), type)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["task=sdlite"], r"task=sdlite: unknown task. Did you mean ssdlite"),
        (["task=ssdlite", "backbone=mobilenetv2"], r"backbone=mobilenetv2.*Did you mean mobilenet_v2"),
        (["task=ssdlite", "epoch=3"], r"epoch=3: there is no key 'epoch'. Did you mean epochs"),
        (["tsk=ssdlite", "task=ssdlite"], r"tsk=ssdlite: there is no key 'tsk'. Did you mean task"),
        (["task=ssdlite", "trainer.precison=16"], r"no key 'precison' in trainer. Did you mean precision"),
        (["task=ssdlite", "tasks.ssdlite.head.lit=true"], r"no key 'lit' in tasks.ssdlite.head. Did you mean lite"),
        (["task=ssdlite", "epochs=abc"], r"epochs=abc: expected a whole number, such as"),
        (["task=ssdlite", "epochs=2.5"], r"epochs=2.5: expected a whole number"),
        (["task=ssdlite", "lr=fast"], r"lr=fast: expected a number"),
        (["task=ssdlite", "debug=3"], r"debug=3: expected true or false"),
        (["task=ssdlite", "resume=/nowhere/run"], r"resume=/nowhere/run: not a run folder, /nowhere/run/config.yaml"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line_are_answered_with_the_right_word(overrides, message):
    with pytest.raises(ConfigError, match=message):
        compose("train", overrides)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["backbone.width=9"], r"width=9: expected a multiplier between"),
        (["output_stride=12"], r"output_stride=12: expected 8, 16 or 32"),
        (["backbone.padding=valid"], r"padding='valid': expected 'torch'"),
        (["backbone.shortcut=all"], r"shortcut='all'"),
        (["backbone.projection_activation=gelu"], r"projection_activation='gelu'"),
    ],
)
def test_values_out_of_range_are_refused_where_they_are_used(overrides, message):
    config = compose("train", ["task=ssdlite", *overrides])
    with pytest.raises(ConfigError, match=message):
        build_network(config, {"ssdlite": ["thing"]})


def built(config):
    with torch.device("meta"):
        return build_network(config, class_names_of(build_sources(config))).tasks


def test_every_tasks_loss_is_chosen_in_its_config():
    tasks = built(compose("train", ["task=multitask", "tasks.classification.loss._target_=torch.nn.MultiMarginLoss"]))
    found = {name: type(task.criterion).__name__ for name, task in tasks.items()}
    assert found == {
        "classification": "MultiMarginLoss",
        "ssdlite": "MultiBoxLoss",
        "mobile_deeplabv3": "PixelCrossEntropy",
    }


def test_a_part_of_ones_own_is_given_what_it_takes_and_what_was_said():
    words = ["task=classification", "tasks.classification.loss._target_=torch.nn.CrossEntropyLoss"]
    loss = compose("train", words).tasks.classification.loss
    assert set(loss) == {"_target_", "label_smoothing"}
    said = compose("train", [*words, "tasks.classification.loss.focal_gamma=2"]).tasks.classification.loss
    assert said.focal_gamma == 2  # which the class then refuses


def test_label_smoothing_reaches_the_loss_from_where_it_always_stood():
    tasks = built(compose("train", ["task=classification", "tasks.classification.label_smoothing=0.3"]))
    assert tasks["classification"].criterion.label_smoothing == 0.3


def test_configs_that_name_no_loss_mean_cross_entropy():
    config = compose("train", ["task=multitask"])
    OmegaConf.set_struct(config, False)
    for name in ("classification", "mobile_deeplabv3"):
        del config.tasks[name].loss
    former, ours = built(config), built(compose("train", ["task=multitask"]))
    assert [repr(task.criterion) for task in former.values()] == [repr(task.criterion) for task in ours.values()]
    assert former["classification"].criterion.label_smoothing == ours["classification"].criterion.label_smoothing == 0.1
