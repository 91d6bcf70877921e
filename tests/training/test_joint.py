"""Several tasks on one backbone: data, batches, loss weights, norms and frozen parts of each."""

import csv
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from frames import filling
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file

from mnv2_tasks.build import build_network, build_sources, class_names_of, load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.images.augment import Augment
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.shapes import Shapes
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.loading.loaders import TasksData
from mnv2_tasks.loading.samplers import TrainingSampler
from mnv2_tasks.optim import parameter_groups
from mnv2_tasks.runs.run_folder import write_config
from mnv2_tasks.training.module import TasksModule
from mnv2_tasks.training.task_weights import FixedWeights, UncertaintyWeights
from mnv2_tasks.training.train import train

TASKS = ["classification", "ssdlite", "mobile_deeplabv3"]
KINDS = {"cls": "classification", "det": "detection", "seg": "segmentation"}
GREY = [127.5] * 3


def joint(tiny, *more):
    return train(compose("train", ["task=multitask", *tiny, *more]))


def network_of(*overrides):
    config = compose("train", ["task=multitask", "width=0.35", "imgsz=64", "weights=none", *overrides])
    torch.manual_seed(0)
    return build_network(config, class_names_of(build_sources(config)))


def images(count=2, seed=0):
    return torch.randint(0, 256, (count, 3, 64, 64), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def predictions(network, pictures, names):
    """Numbers of each task's results, to be compared bit for bit."""
    with torch.no_grad():
        found = network.eval().predict(pictures, filling((64, 64), [[64, 64]] * len(pictures)))
    return {
        n: [torch.cat([t.flatten().float() for t in of_image]) for of_image in map(_tensors, found[n])] for n in names
    }


def _tensors(result):
    return list(result) if isinstance(result, tuple) else [result]


def equal(one, two):
    return all(torch.equal(a, b) for name in one for a, b in zip(one[name], two[name], strict=True))


@pytest.fixture
def photos(tmp_path):
    """An ImageFolder of two classes, eight pictures for training and four for validation."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("dark", "light")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 100, (40, 50, 3), np.uint8) + np.uint8(150 * label)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "photos"


# ---------------------------------------------------------------- a data set per task


@pytest.mark.slow
def test_each_task_trains_and_is_evaluated_on_a_data_set_of_its_own(tiny, photos, caplog):
    caplog.set_level("INFO")
    run = joint(
        tiny, "data.classification=folder", f"data.classification.root={photos}",
        "data.ssdlite=shapes", "data.ssdlite.source.seed=5", "data.ssdlite.source.train_size=12",
        "data.ssdlite.source.val_size=6",
    )  # fmt: skip
    described = json.loads((run / "run.json").read_text())
    assert described["class_names"]["classification"] == ["dark", "light"]
    assert len(set(described["data_fingerprint"].values())) == 3
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["classification/images"] == 4
    assert "data: folder, found" in caplog.text and "data: shapes, found" in caplog.text
    assert evaluate(compose("eval", [f"run={run}"])) == metrics
    _, passport = load_network(str(run / "weights.safetensors"))
    assert passport["config"]["choices"]["datasets"] == {"classification": "folder", "ssdlite": "shapes"}
    moved = photos.rename(photos.with_name("moved"))
    again = compose("eval", [f"run={run}", f"data.classification.root={moved}"])
    assert again.data.classification.source.root == str(moved) and evaluate(again) == metrics


@pytest.mark.slow
def test_weights_bring_the_data_sets_of_their_tasks(tiny, photos):
    run = joint(tiny, "data.classification=folder", f"data.classification.root={photos}")
    weights = f"weights={run}/weights.safetensors"
    whole = compose("eval", [weights, f"data.classification.root={photos}"])
    assert (whole.choices.data, whole.choices.datasets) == ("shapes", {"classification": "folder"})
    alone = compose("eval", ["task=classification", weights, f"data.root={photos}", f"runs={photos.parent}"])
    assert alone.choices.data == "folder"
    assert evaluate(alone)["top1"] == json.loads((run / "metrics.json").read_text())["classification/top1"]


def test_keys_of_a_task_are_its_own_and_follow_the_command_line():
    config = compose(
        "train",
        [
            "task=multitask",
            "data=voc",
            "data.root=/voc",
            "data.ssdlite=coco",
            "data.ssdlite.root=/a, b",
            "weights=none",
        ],
    )
    assert config.data.source.root == "/voc" and config.data.ssdlite.source.root == "/a, b"
    assert config.data.ssdlite.source._target_.endswith("coco.coco")
    assert config.data.on_bad != config.data.ssdlite.on_bad == config.data.ssdlite.source.on_bad


@pytest.mark.parametrize(
    "override, message",
    [
        ("data.ssdlite=cocoo", r"data.ssdlite=cocoo: unknown data. Did you mean coco"),
        ("data.ssdlite=coco,voc", r"sweep over it is not possible"),
        ("data.ssdlite.rot=/x", r"no key 'ssdlite' in data"),
        ("batch_ratio.ssdlit=0.5", r"no key 'ssdlit' in batch_ratio. Did you mean ssdlite"),
    ],
)
def test_mistakes_are_answered_with_the_right_word(override, message):
    with pytest.raises(ConfigError, match=message):
        compose("train", ["task=multitask", override])


def test_data_for_a_task_that_there_is_not_is_refused(tiny):
    with pytest.raises(ConfigError, match=r"data.ssd: this run has no task ssd; it has classification, ssdlite"):
        joint(tiny, "data.ssd=shapes")


def test_data_set_of_a_task_cannot_change_once_a_run_is_made(tmp_path):
    write_config(tmp_path, compose("train", ["task=multitask"]))
    with pytest.raises(ConfigError, match=r"the run has its own data.ssdlite"):
        compose("eval", [f"run={tmp_path}", "data.ssdlite=coco"])


def test_config_of_a_run_made_before_a_key_existed_takes_its_default(tmp_path):
    write_config(tmp_path, compose("train", ["task=multitask", "epochs=3"]))
    stored = OmegaConf.load(tmp_path / "config.yaml")
    del stored.task_weighting, stored.freeze_norms
    OmegaConf.save(stored, tmp_path / "config.yaml")
    config = compose("eval", [f"run={tmp_path}"])
    assert (config.task_weighting, config.freeze_norms, config.epochs) == ("fixed", False, 3)


# ---------------------------------------------------------------- epochs of data sets of different lengths


def keys(sampler, epochs):
    out = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        out += list(sampler)
    return out


@pytest.mark.parametrize("length, steps, batch_size, world", [(10, 5, 2, 1), (7, 5, 2, 1), (7, 1, 3, 2), (3, 4, 3, 1)])
def test_every_image_is_used_as_often_as_every_other(length, steps, batch_size, world):
    """Whether a data set is shorter or longer than an epoch, and for any number of processes."""
    settings = {"steps": steps, "batch_size": batch_size, "seed": 1, "world": world}
    seen = [key for rank in range(world) for key in keys(TrainingSampler(length, rank=rank, **settings), 6)]
    assert len(seen) == len(set(seen)) == 6 * steps * batch_size * world
    counts = Counter(index for _, index in seen)
    assert set(counts) == set(range(length)) and max(counts.values()) - min(counts.values()) <= 1


def test_a_data_set_that_starts_again_within_an_epoch_does_so_in_a_new_order():
    stream = keys(TrainingSampler(6, steps=9, batch_size=2, seed=0), 1)
    passes = [[index for number, index in stream if number == n] for n in range(3)]
    assert all(sorted(one) == list(range(6)) for one in passes) and len({tuple(one) for one in passes}) == 3


@pytest.mark.parametrize("done", [1, 3])
def test_sampler_goes_on_in_mid_epoch_with_what_was_left(done):
    settings = {"steps": 5, "batch_size": 2, "seed": 0}
    whole, resumed = TrainingSampler(7, **settings), TrainingSampler(7, **settings, done=(1, done))
    for sampler in (whole, resumed):
        sampler.set_epoch(1)
    assert list(resumed) == list(whole)[2 * done :]
    for sampler in (whole, resumed):
        sampler.set_epoch(2)
    assert list(resumed) == list(whole)


def data_of(lengths, **changes):
    sources = {
        name: Shapes(kind=KINDS[name], train_size=length, val_size=4, image_size=64, seed=0)
        for name, length in lengths.items()
    }
    fit = Fit(mode="square", size=64, resize=None, fill=GREY)
    settings = {"augment": lambda task: Augment("light", 64, GREY), "fit": fit, "batch_size": 4, "workers": 0}
    return TasksData(sources=sources, seed=0, **{**settings, **changes})


def test_longest_data_set_decides_the_epoch_and_ratios_the_batches():
    data = data_of({"cls": 24, "det": 8, "seg": 16}, batch_ratio={"det": 0.5, "cls": 1.5})
    batches = {name: [len(batch.images) for batch in loader] for name, loader in data.train_dataloader().items()}
    assert batches == {"cls": [6] * 4, "det": [2] * 4, "seg": [4] * 4}
    assert "4 steps" in data.describe_epoch() and "cls 1 times in batches of 6" in data.describe_epoch()
    longer = data_of({"cls": 24, "det": 20, "seg": 16}, batch_ratio={"det": 0.5, "cls": 1.5})
    assert "10 steps, as det takes the most" in longer.describe_epoch()
    assert "cls 2.5 times" in longer.describe_epoch()


@pytest.mark.parametrize(
    "ratio, message",
    [
        ({"det": 0.1}, r"batch_ratio.det=0.1: expected a factor that leaves at least one"),
        ({"det": -1.0}, r"batch_ratio.det=-1.0"),
        ({"dot": 1.0}, r"there is no task dot; there are cls, det"),
        ({"det": 3.0}, r"batch=12 \(det, by batch_ratio\): expected at most the 8"),
    ],
)
def test_impossible_ratios_are_refused(ratio, message):
    with pytest.raises(ConfigError, match=message):
        data_of({"cls": 24, "det": 8}, batch_ratio=ratio).train_dataloader()


UNEVEN = ["data.ssdlite=shapes", "data.ssdlite.source.train_size=7", "data.ssdlite.source.val_size=4",
          "batch_ratio.ssdlite=0.5", "task_weighting=uncertainty", "epochs=2"]  # fmt: skip


@pytest.mark.slow
def test_run_on_data_sets_of_different_lengths_resumes_in_mid_epoch_to_the_same_weights(tiny, monkeypatch):
    whole = joint(tiny, *UNEVEN)
    step = TasksModule.training_step

    def interrupted(self, batches, batch_index):
        if self.trainer.current_epoch == 1 and batch_index == 2:
            raise KeyboardInterrupt
        return step(self, batches, batch_index)

    monkeypatch.setattr(TasksModule, "training_step", interrupted)
    with pytest.raises(SystemExit):
        joint(tiny, *UNEVEN)
    monkeypatch.undo()
    run = whole.with_name("shapes-mobilenet_v2-2")
    train(compose("train", [f"resume={run}"]))
    one, two = (torch.load(r / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for r in (whole, run))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# ---------------------------------------------------------------- loss weights


def test_uncertainty_weighting_has_the_gradient_of_its_closed_form():
    """d/ds (exp(-s) L + s / 2) = 1/2 - exp(-s) L, and dL/dw is scaled by exp(-s)."""
    weighting = UncertaintyWeights({"a": 1.0, "b": 4.0})
    losses = {"a": torch.tensor(0.3, requires_grad=True), "b": torch.tensor(2.0, requires_grad=True)}
    total = weighting(losses)
    assert total.item() == pytest.approx(0.3 + 4 * 2.0 - math.log(4) / 2)
    total.backward()
    for task, weight in {"a": 1.0, "b": 4.0}.items():
        assert weighting.log_variances[task].grad.item() == pytest.approx(0.5 - weight * losses[task].item())
        assert losses[task].grad.item() == pytest.approx(weight)


def test_uncertainty_weighting_comes_to_rest_at_one_over_twice_the_loss():
    weighting = UncertaintyWeights({"a": 1.0, "b": 1.0})
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        weighting({"a": torch.tensor(0.25), "b": torch.tensor(5.0)}).backward()
        optimizer.step()
    assert weighting.current() == {"a": pytest.approx(2.0, rel=1e-3), "b": pytest.approx(0.1, rel=1e-3)}


def test_both_weightings_start_from_the_fixed_weights():
    losses, weights = {"a": torch.tensor(0.7), "b": torch.tensor(3.0)}, {"a": 2.0, "b": 0.5}
    assert FixedWeights(weights)(losses).item() == pytest.approx(2.9)
    assert UncertaintyWeights(weights).current() == {task: pytest.approx(w) for task, w in weights.items()}


@pytest.mark.slow
def test_uncertainty_weights_are_learned_logged_saved_and_do_not_decay(tiny):
    run = joint(tiny, "task_weighting=uncertainty", "lr=0.05", "schedule.warmup=0.0")
    with (run / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for task, start in {"classification": 1.0, "mobile_deeplabv3": 4.0}.items():
        assert float(row[f"train/weight/{task}"]) != pytest.approx(start, rel=1e-3)
        assert f"task_weights.log_variances.{task}" in state
    (group,) = parameter_groups({UncertaintyWeights({"a": 1.0, "b": 1.0}): 1.0}, weight_decay=0.1)
    assert group["weight_decay"] == 0 and len(group["params"]) == 2


def test_impossible_weightings_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"task_weighting=learned: expected fixed or uncertainty"):
        joint(tiny, "task_weighting=learned")
    with pytest.raises(ConfigError, match=r"starts from positive weights"):
        joint(tiny, "task_weighting=uncertainty", "loss_weights.ssdlite=0.0")


@pytest.mark.slow
def test_a_task_can_be_left_out(tiny):
    run = joint(tiny, "~tasks.classification")
    metrics = evaluate(compose("eval", [f"run={run}"]))
    assert "ssdlite/AP" in metrics and "mobile_deeplabv3/mIoU" in metrics and "classification/top1" not in metrics


# ---------------------------------------------------------------- frozen parts, added heads


@pytest.mark.slow
def test_frozen_head_and_norms_keep_every_bit_while_the_rest_learns(tiny):
    start = joint(tiny)
    run = joint(tiny, f"weights={start}/weights.safetensors", "freeze=[classification]", "freeze_norms=true")
    before, after = (load_file(r / "weights.safetensors") for r in (start, run))
    head = [name for name in before if name.startswith("tasks.classification.")]
    assert head and all(torch.equal(before[name], after[name]) for name in head)
    others = [n for n in before if n.startswith(("backbone.", "tasks.ssdlite.")) and n.endswith("weight")]
    assert others and not any(torch.equal(before[name], after[name]) for name in others)
    statistics = [name for name in before if name.startswith("backbone.") and "running" in name]
    assert statistics and all(torch.equal(before[name], after[name]) for name in statistics)


def test_head_added_to_a_frozen_backbone_leaves_the_predictions_of_the_old_tasks_as_they_were(tiny, caplog):
    caplog.set_level("INFO")
    start = train(compose("train", ["task=classification", *tiny, "output_stride=16"]))
    frozen = ["freeze=[backbone,classification]", "output_stride=16", "data.source.val_size=4"]
    run = joint(tiny, f"weights={start}/weights.safetensors", *frozen)
    assert "head tensors of ssdlite start anew" in caplog.text
    old, new = (load_network(str(r / "weights.safetensors"))[0] for r in (start, run))
    assert list(new.tasks) == TASKS
    assert equal(*(predictions(network, images(), ["classification"]) for network in (old, new)))
    before, after = (load_file(r / "weights.safetensors") for r in (start, run))
    assert all(torch.equal(before[name], after[name]) for name in before)
    with (run / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert "train/ssdlite/box" in row and not any(key.startswith("train/classification") for key in row)
    assert "val/classification/top1" in row  # a task that has nothing to learn is still measured


def test_frozen_parts_stay_in_evaluation_mode_when_training_begins_again():
    network = network_of()
    network.freeze(["classification"], norms=True)
    for _ in range(2):  # after a validation, say
        network.train()
        assert network.training and network.tasks.ssdlite.training and network.backbone.training
        assert not any(m.training for m in network.tasks.classification.modules())
        norms = [m for m in network.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert norms and not any(m.training for m in norms) and all(m.weight.requires_grad for m in norms)
        network.eval()


def test_first_layers_of_the_backbone_can_be_frozen_alone():
    network = network_of()
    network.freeze(["backbone.stem", "backbone.blocks.0"])
    parts = ("backbone.stem.", "backbone.blocks.0.")
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad != name.startswith(parts), name
    network.train()
    assert not any(m.training for m in network.backbone.stem.modules()) and network.backbone.blocks[1].training


@pytest.mark.parametrize(
    "freeze, message",
    [
        ("[backbone.stam]", r"freeze=backbone.stam: no such part; .* parts of the backbone such as backbone.stem"),
        ("[backbon]", r"freeze=backbon: no such part; there are backbone, classification, ssdlite, mobile_deeplabv3"),
        ("[backbone,classification,ssdlite,mobile_deeplabv3]", r"leaves nothing to train"),
    ],
)
def test_freezing_what_is_not_there_or_everything_is_refused(tiny, freeze, message):
    with pytest.raises(ConfigError, match=message):
        joint(tiny, f"freeze={freeze}")


# ---------------------------------------------------------------- one pass for all


def test_prediction_takes_a_single_pass_through_the_backbone():
    network = network_of().eval()
    seen = []
    network.backbone.register_forward_hook(lambda *_: seen.append(1))
    predictions(network, images(), TASKS)
    assert len(seen) == 1
