"""Runs of a few steps, from the composed config to the run folder."""

import csv
import json
import pickle
import re
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from omegaconf import OmegaConf
from safetensors.torch import load_file

from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.words import CONF
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.network.network import Network
from mnv2_tasks.training.assemble import build_logger, build_module
from mnv2_tasks.training.module import TasksModule
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.weight_files import load_weights

TASKS = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))
KEYS = {
    "classification": {"top1", "top5"},
    "ssdlite": {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"},
    "mobile_deeplabv3": {"mIoU", "pixel_accuracy", "IoU"},
}


def run_of(tiny, task, *more):
    return train(compose("train", [f"task={task}", *tiny, *more]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """task -> a run that several tests only read."""
    return cache(lambda task: run_of([*TINY, f"runs={tmp_path_factory.mktemp(task)}"], task))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_eval_of_a_run_equals_its_last_validation(trained, task):
    run = trained(task)
    stored = json.loads((run / "metrics.json").read_text())
    assert evaluate(compose("eval", [f"run={run}"])) == stored
    assert json.loads((run / "eval" / "metrics.json").read_text()) == stored
    with (run / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    for key, value in stored.items():
        if isinstance(value, float):
            assert float(last[f"val/{key}"]) == pytest.approx(value, abs=1e-6)


@pytest.mark.slow
def test_scores_are_float32_whatever_precision_trained_and_eval_takes_another(tiny, monkeypatch, caplog):
    monkeypatch.setattr("mnv2_tasks.training.callbacks.MOVED", -1.0)  # equal scores are told too
    monkeypatch.setattr("mnv2_tasks.training.train.multiplies_bf16", lambda: False)
    caplog.set_level("INFO")
    run = run_of(tiny, "mobile_deeplabv3", "trainer.precision=bf16-mixed")
    assert "has no bf16 of its own and emulates it; trainer.precision=auto takes float32" in caplog.text
    stored = json.loads((run / "metrics.json").read_text())
    assert stored["precision"] == "32-true" and json.loads((run / "run.json").read_text())["precision"] == "bf16-mixed"
    assert re.search(r"mIoU: .*while it trained; it trained in bf16-mixed, and is scored in 32-true", caplog.text)
    assert re.search(r"metrics: mIoU=\S+ .* precision=32-true", caplog.text)
    assert evaluate(compose("eval", [f"run={run}"])) == stored
    assert evaluate(compose("eval", [f"run={run}", "trainer.precision=32-true"])) == stored
    coarse = evaluate(compose("eval", [f"run={run}", "eval.precision=bf16-mixed"]))
    assert coarse["precision"] == "bf16-mixed"
    former = OmegaConf.load(run / "config.yaml")
    del former.eval.precision  # as former versions stored it: what they gave
    OmegaConf.save(former, run / "config.yaml")
    assert evaluate(compose("eval", [f"run={run}"])) == coarse


def test_float32_is_scored_without_tf32_which_is_as_it_was_afterwards(trained, monkeypatch):
    run, seen, predict_task = trained("classification"), [], Network.predict_task

    def looking(*arguments, **options):
        seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        return predict_task(*arguments, **options)

    monkeypatch.setattr(Network, "predict_task", looking)
    evaluate(compose("eval", [f"run={run}"]))
    assert set(seen) == {(False, False)} and torch.backends.cudnn.allow_tf32


@pytest.mark.slow
def test_metrics_are_those_of_the_best_epoch_not_of_the_last(tiny):
    ruin = ["weights=shapes_backbone", "lr=0.02", "ema=0.9", "ema_warmup=false", "epochs=3", "data.source.val_size=40"]
    run = run_of(tiny, "classification", *ruin)
    with (run / "metrics.csv").open() as file:
        scores = [float(row["val/score"]) for row in csv.DictReader(file)]
    assert scores[-1] < max(scores), "a trained network should lose by training at this rate"
    assert json.loads((run / "metrics.json").read_text())["top1"] == pytest.approx(max(scores), abs=1e-6)
    assert evaluate(compose("eval", [f"run={run}"]))["top1"] == pytest.approx(max(scores), abs=1e-6)


def test_of_epochs_with_equal_scores_the_last_is_the_best(tiny, monkeypatch):
    scores = iter([0.9, 0.2, 0.7, 0.7, 0.1])  # the first is that of the check before training
    log_dict = TasksModule.log_dict

    def logged(module, values, **options):
        log_dict(module, {**values, "val/score": next(scores)} if "val/score" in values else values, **options)

    monkeypatch.setattr(TasksModule, "log_dict", logged)
    run = run_of(tiny, "classification", "epochs=4")
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=False)
    assert best["epoch"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("optim", ["adamw", "rmsprop"])  # one is fused, one is not
def test_gradients_are_clipped_in_bf16_with_every_kind_of_optimizer(tiny, optim, monkeypatch):
    norms = []

    def record(module, optimizer):
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        norms.extend([float(torch.nn.utils.get_total_norm(gradients))] if gradients else [])

    monkeypatch.setattr(TasksModule, "on_before_zero_grad", record)  # those of the step before are still there
    run_of(tiny, "classification", f"optim={optim}", "trainer.precision=bf16-mixed", "trainer.gradient_clip=0.001")
    assert len(norms) == 3 and max(norms) < 0.00101


def test_clipping_what_float16_has_scaled_is_refused_before_the_first_step():
    config = compose("train", ["task=classification", *TINY, "optim=adamw"])
    network = build_network(config, {"classification": ["disc", "square"]})
    module = build_module(config, network, passport={})
    module.trainer = SimpleNamespace(precision="16-mixed", gradient_clip_val=10.0)
    with pytest.raises(ConfigError, match=r"trainer\.precision=16-mixed: .* optim\.optimizer\.fused=false"):
        module.configure_optimizers()


@pytest.mark.draws
def test_run_folder_holds_what_the_design_promises(tiny):
    run = run_of(tiny, "ssdlite")
    for name in [
        "config.yaml", "run.json", "metrics.csv", "metrics.json", "train.log", "checkpoints/best.ckpt",
        "checkpoints/last.ckpt", "weights.safetensors", "plots/curves.png", "plots/confusion.png",
        "plots/labels.png", "samples/validation.png", "samples/worst.png", "model_card.md",
    ]:  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    assert any((run / "tensorboard").iterdir())
    assert run.name == "shapes-mobilenet_v2-1" and run.parent.name == "ssdlite"
    assert run_of(tiny, "ssdlite").name == "shapes-mobilenet_v2-2"  # never overwritten
    described = json.loads((run / "run.json").read_text())
    assert described["seed"] == 0 and described["class_names"]["ssdlite"][0] == "disc"
    assert {"plots/curves.png", "plots/f1.png", "samples/worst.png"} <= set(described["result"]["files"])
    assert {"versions", "hardware", "git_commit", "data_fingerprint", "command"} <= set(described)
    assert described["data_sizes"] == {"ssdlite": {"train": 16, "val": 8}}
    assert set(json.loads((run / "metrics.json").read_text())) >= KEYS["ssdlite"]


@pytest.mark.slow
@pytest.mark.parametrize("logger, files", [("csv", {"csv"}), ("none", set())])
def test_logger_is_chosen_and_goes_on_in_a_resumed_run(tiny, logger, files):
    def written(run):
        return {path.name for path in run.iterdir()} & {"tensorboard", "csv", "lightning_logs"}

    run = run_of(tiny, "classification", f"logger={logger}")
    assert written(run) == files and (run / "metrics.csv").is_file()
    train(compose("train", [f"resume={run}", "epochs=2"]))
    assert written(run) == files
    assert len(list(run.glob("csv/version_*/metrics.csv"))) == 2 * len(files)  # nothing is overwritten


def test_logger_whose_package_is_missing_names_it_and_the_others(tmp_path, monkeypatch):
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(f"lightning.fabric.loggers.tensorboard.{name}", False)
    with pytest.raises(ConfigError, match=r"logger: .*tensorboard.*pip install.* such as logger=csv or logger=none"):
        build_logger(compose("train", ["task=classification"]), tmp_path)


def test_multitask_metrics_carry_the_name_of_their_task(trained):
    metrics = json.loads((trained("multitask") / "metrics.json").read_text())
    for task, keys in KEYS.items():
        assert {f"{task}/{key}" for key in keys} <= set(metrics)


def test_saved_weights_are_the_averaged_ones_and_need_no_pickle(trained):
    run = trained("classification")
    saved = load_file(run / "weights.safetensors")
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    name = "backbone.stem.0.weight"
    assert torch.equal(saved[name], checkpoint["state_dict"][f"network.{name}"])
    assert not torch.equal(saved[name], checkpoint["current_model_state"][f"network.{name}"])


def test_loss_that_is_not_finite_stops_names_the_boxes_and_saves_the_batch(tiny, monkeypatch):
    def poisoned(self, outputs, batches):
        return {"ssdlite": {"box": torch.tensor(float("nan"), requires_grad=True)}}

    monkeypatch.setattr(Network, "loss", poisoned)
    with pytest.raises(
        DataError, match=r"(?s)not finite at step 0: .*'box': nan.*ssdlite: images \[\d+.*boxes"
    ) as stop:
        run_of(tiny, "ssdlite")
    saved = torch.load(str(stop.value).rsplit("saved: ", 1)[1].rstrip("."), weights_only=True)["ssdlite"]
    assert saved["images"].shape == (4, 3, 64, 64) and saved["targets"]["boxes"].shape[0] == 4


@pytest.mark.slow
def test_training_starts_from_weights_and_says_what_was_taken(tiny, trained, caplog):
    run = trained("classification")
    caplog.set_level("INFO")
    run_of(tiny, "ssdlite", f"weights={run}/weights.safetensors")
    assert "tensors of ssdlite start anew" in caplog.text
    run_of(tiny, "classification", f"weights={run}/weights.safetensors", "data.source.seed=3")
    taken = next(r.message for r in caplog.records[::-1] if "transferred" in r.message)
    total = len(load_file(run / "weights.safetensors")) - 2  # mean and std are set, not trained
    assert f"transferred {total} of {total}" in taken


def test_weights_of_another_width_or_backbone_are_refused(tiny, trained):
    weights = f"weights={trained('classification')}/weights.safetensors"
    with pytest.raises(ConfigError, match=r"is width 0.35; you asked for 0.5"):
        run_of(tiny, "ssdlite", weights, "width=0.5")
    with pytest.raises(ConfigError, match=r"is a MobileNetV2; you asked for MobileNetV1"):
        run_of(tiny, "ssdlite", weights, "backbone=mobilenet_v1")


def test_eval_refuses_weights_of_another_head_or_other_classes(tiny, trained, monkeypatch):
    weights = f"weights={trained('classification')}/weights.safetensors"
    with pytest.raises(ConfigError, match=r"holds classification; you asked for task ssdlite"):
        evaluate(compose("eval", ["task=ssdlite", *(t for t in tiny if "weights" not in t), weights]))
    monkeypatch.setattr("mnv2_tasks.data.shapes.CLASS_NAMES", ["disc", "pear"])
    with pytest.raises(ConfigError, match=r"knows 8 classes, the data has 2.*only in the data: \['pear'\]"):
        evaluate(compose("eval", ["task=classification", *(t for t in tiny if "weights" not in t), weights]))


def test_one_task_of_multitask_weights_can_be_evaluated_alone(tiny, trained):
    run = trained("multitask")
    alone = evaluate(
        compose(
            "eval", ["task=ssdlite", *(t for t in tiny if "weights" not in t), f"weights={run}/weights.safetensors"]
        )
    )
    together = json.loads((run / "metrics.json").read_text())
    assert alone["AP"] == together["ssdlite/AP"]


class Malicious:
    def __reduce__(self):
        return (print, ("code ran",))


def test_corrupt_and_malicious_checkpoints_are_refused(tmp_path, capsys):
    (tmp_path / "noise.safetensors").write_bytes(b"\x08" * 100)
    (tmp_path / "noise.ckpt").write_bytes(b"\x08" * 100)
    (tmp_path / "cut.ckpt").write_bytes(b"PK\x03\x04")
    torch.save({"state_dict": Malicious()}, tmp_path / "evil.ckpt")
    with (tmp_path / "evil.pkl").open("wb") as file:
        pickle.dump(Malicious(), file)
    torch.save({"some": torch.zeros(1)}, tmp_path / "other.pth")
    for name, message in [
        ("noise.safetensors", "damaged or of another format"), ("noise.ckpt", "damaged|refused"),
        ("cut.ckpt", "damaged"), ("evil.ckpt", "refused"), ("evil.pkl", "refused|damaged"),
        ("other.pth", "layout of weights that is not known"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            load_weights(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


def test_full_or_read_only_run_folder_is_refused_before_training(tiny, tmp_path, monkeypatch):
    from mnv2_tasks.runs import run_folder

    with pytest.raises(ConfigError, match=r"cannot make a run folder there.*runs=<folder>"):
        run_of(tiny, "ssdlite", "runs=/proc/nowhere")
    usage = run_folder.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ConfigError, match=r"only 0 MiB free"):
        run_of(tiny, "ssdlite")


@pytest.mark.parametrize(
    "change, message",
    [
        ("batch=0", "batch=0"),
        ("epochs=0", "epochs=0"),
        ("ema=1.5", "ema=1.5"),
        ("eval.precision=32", "eval.precision=32: expected 32-true, bf16-mixed"),
        ("lr=0.0", "lr=0.0"),
        ("schedule.warmup=1.0", "warmup=1.0"),
    ],
)
def test_impossible_settings_stop_before_training(tiny, change, message):
    with pytest.raises(ConfigError, match=message):
        run_of(tiny, "ssdlite", change)
