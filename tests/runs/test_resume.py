"""A run that was stopped, however, and resumed is to the last bit the run that was not; and a run can be repeated."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from omegaconf import OmegaConf
from safetensors.torch import load_file

from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.words import CONF
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.runs import stopping
from mnv2_tasks.runs.lock import written_alone
from mnv2_tasks.runs.reproduce import described
from mnv2_tasks.training.checkpoints import StepRandomness
from mnv2_tasks.training.module import TasksModule
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.weight_files import load_weights, read_passport, save_weights
from mnv2_tasks.whole_files import written_whole

pytestmark = pytest.mark.usefixtures("lean")

TASKS = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))
SMALL = [*TINY, "epochs=4", "imgsz=33", "data.source.train_size=8", "data.source.val_size=4"]  # two steps an epoch
MORE = {  # what else is to come out equal, beside the averaged weights, cosine schedule and dropout of the defaults
    "classification": ["mixing.mixup=0.2", "mixing.cutmix=1.0"],
    "ssd": ["ema=0", "trainer.accumulate=2", "data.source.train_size=12"],
    "yolov2": ["imgsz=64"],
    "deeplabv3": ["optim=rmsprop", "schedule=exponential", "trainer.validate_every=2"],
}
MEASURED = ("seconds", "images_per_second", "wait_share", "memory_mib")  # columns of metrics.csv that no two runs share


class PowerCut(Exception):
    """Ends a run within a step, as kill -9 would: nothing is saved any more."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def whole_runs():
    return {}


@pytest.fixture
def whole(runs, whole_runs):
    """task -> its run that nothing stopped."""

    def of(task):
        if task not in whole_runs:
            whole_runs[task] = start(task, runs / "whole")
        return whole_runs[task]

    return of


def start(task, runs, *more):
    return train(compose("train", [f"task={task}", *SMALL, *MORE.get(task, []), f"runs={runs}", *more]))


def resume(run, *more):
    return train(compose("train", [f"resume={run}", *more]))


def at(monkeypatch, epoch, batch, action):
    """`action` happens within this step."""
    step = TasksModule.training_step

    def acting(self, batches, batch_index):
        out = step(self, batches, batch_index)  # so batch norm has seen the batch
        if (self.trainer.current_epoch, batch_index) == (epoch, batch):
            action()
        return out

    monkeypatch.setattr(TasksModule, "training_step", acting)
    return lambda: monkeypatch.setattr(TasksModule, "training_step", step)


def cut_power():
    raise PowerCut


def stopped(monkeypatch, epoch, batch, run):
    """`run()`, which a power cut ends within this step."""
    undo = at(monkeypatch, epoch, batch, cut_power)
    with pytest.raises(PowerCut):
        run()
    undo()


def only_run(folder):
    (run,) = folder.glob("*/*")
    return run


def rows(run):
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in MEASURED} for row in csv.DictReader(file)]


def assert_equal(one, two, where):
    assert type(one) is type(two), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert list(one) == list(two), where
        for key in one:
            assert_equal(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), where
        for i, (a, b) in enumerate(zip(one, two)):
            assert_equal(a, b, f"{where}[{i}]")
    else:
        assert one == two, where


def assert_same(one, two):
    """Weights, scores, and every state that the last checkpoint holds."""
    assert_equal(load_file(one / "weights.safetensors"), load_file(two / "weights.safetensors"), "weights")
    assert (one / "metrics.json").read_text() == (two / "metrics.json").read_text()
    assert rows(one) == rows(two)
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, two)]
    for key in set(states[0]) | set(states[1]):
        if key not in ("loops", "passport"):  # the loops count how often they were started
            assert_equal(states[0].get(key), states[1].get(key), key)


@pytest.mark.parametrize("task", TASKS)
def test_run_stopped_after_an_epoch_and_within_one_equals_the_run_that_was_not(task, runs, whole, monkeypatch):
    folder = runs / "stopped" / task
    stopped(monkeypatch, 2, 0, lambda: start(task, folder))  # train(2) ...
    run = only_run(folder)
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4  # what failed within a step does not replace the checkpoint before it
    stopped(monkeypatch, 3, 2 if task == "ssd" else 1, lambda: resume(run, "trainer.save_every_steps=1"))
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 3 and not saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
    assert resume(run, "trainer.save_every_steps=null") == run
    assert_same(run, whole(task))


def test_loader_processes_go_on_where_the_run_was_stopped(runs, whole, monkeypatch):
    folder = runs / "workers"
    more = ("workers=1", "trainer.save_every_steps=1")
    stopped(monkeypatch, 1, 1, lambda: start("mobile_deeplabv3", folder, *more))
    stopped(monkeypatch, 3, 0, lambda: resume(only_run(folder)))
    assert_same(resume(only_run(folder)), whole("mobile_deeplabv3"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, stopping.SIGPIPE])
def test_ctrl_c_sigterm_and_closed_output_wait_for_the_step_and_save_it(number, runs, whole, monkeypatch):
    folder = runs / str(int(number))
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background
    closed = number == stopping.SIGPIPE  # which no signal tells, but the first line that is printed
    undo = at(monkeypatch, 1, 0, lambda: stopping._hears(number) if closed else os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as ended:
        start("classification", folder)
    undo()
    assert ended.value.code == 128 + number
    assert signal.getsignal(signal.SIGINT) is before and stopping._hears is stopping.stop
    run = only_run(folder)
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert {"top1", "top5"} <= set(evaluate(compose("eval", [f"run={run}"])))  # what there is can be used already
    assert "result" not in described(run)
    assert_same(resume(run), whole("classification"))
    assert described(run)["result"]["files"] == [
        "weights.safetensors", "per_image.npz", "model_card.md", "metrics.json"
    ]  # fmt: skip


# tools/train.py, killed in the middle of writing the checkpoint of the second epoch
KILLED = """
import io, os, signal, sys
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from mnv2_tasks.config.compose import launch
save = torch.save

def killed(content, file):
    bytes = io.BytesIO()
    save(content, bytes)
    if content["global_step"] == 4 and "last.ckpt." in file.name:
        file.write(bytes.getvalue()[:100_000])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    file.write(bytes.getvalue())

def run(config):
    from mnv2_tasks.training.train import train
    torch.set_num_threads(1)
    torch.save = killed
    train(config)

launch("train", run)
"""


@pytest.mark.slow
def test_kill_9_while_a_checkpoint_is_written_leaves_the_one_before_and_the_run_ends_equal(runs, whole):
    command = [
        sys.executable,
        "-c",
        KILLED,
        "task=classification",
        *SMALL,
        *MORE["classification"],
        f"runs={runs}/killed",
    ]
    done = subprocess.run([*command, "trainer.save_every_steps=1"], capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    run = only_run(runs / "killed")
    (part,) = (run / "checkpoints").glob("last.ckpt.*.part")
    assert part.stat().st_size == 100_000
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3  # within the epoch
    assert_same(resume(run), whole("classification"))
    assert not list(run.rglob("*.part"))


@pytest.mark.slow
def test_sigterm_to_all_processes_at_once_saves_though_the_loaders_hear_it_first(runs):
    words = ["task=classification", *SMALL, *MORE["classification"], "workers=2", f"runs={runs}/all"]
    command = [sys.executable, "-m", "mnv2_tasks", "train", *words, "epochs=500"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    next(line for line in process.stdout if line.startswith("epoch 2/"))
    loaders = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    for loader in loaders:
        os.kill(int(loader), signal.SIGTERM)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and len(loaders) >= 2, errors
    run = only_run(runs / "all")
    assert f"resume={run}" in printed and "killed" not in errors
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 2


def test_run_stopped_after_its_last_epoch_is_finished_by_resuming(runs, whole, monkeypatch):
    folder = runs / "unfinished"
    with monkeypatch.context() as patch:
        patch.setattr("mnv2_tasks.training.conclude.score_network", lambda *_: cut_power())
        with pytest.raises(PowerCut):
            start("classification", folder)
    run = only_run(folder)
    assert_same(resume(run), whole("classification"))
    with pytest.raises(ConfigError, match=r"its 4 epochs are done; say epochs=<more>"):
        resume(run)


@pytest.mark.parametrize("killed_at", ["per_image.npz", "metrics.json", "run.json"])
def test_run_killed_while_results_are_written_is_finished_and_until_then_says_so(killed_at, runs, whole, monkeypatch):
    folder = runs / f"results-{killed_at}"
    with monkeypatch.context() as patch:
        replace, renamed = Path.replace, []

        def cut(self, target):
            renamed.append(target.name)
            if target.name == killed_at and (killed_at != "run.json" or renamed.count(killed_at) == 2):
                cut_power()
            return replace(self, target)

        patch.setattr(Path, "replace", cut)
        with pytest.raises(PowerCut):
            start("classification", folder)
    run = only_run(folder)
    assert "result" not in described(run) and not (killed_at != "run.json" and (run / killed_at).exists())
    assert_same(resume(run), whole("classification"))
    assert described(run)["result"] == described(whole("classification"))["result"]


@pytest.mark.parametrize("name", ["weights.safetensors", "per_image.npz", "metrics.json", "model_card.md"])
@pytest.mark.parametrize("broken", [True, False])
def test_a_result_that_is_missing_or_broken_is_named_and_made_anew(name, broken, runs, whole, caplog):
    run = runs / f"{name}-{broken}"
    shutil.copytree(whole("classification"), run)
    content = (run / name).read_bytes()
    (run / name).unlink()
    if broken:
        (run / name).write_bytes(content[: len(content) // 2])
    assert_same(resume(run), whole("classification"))
    assert f"{run / name}: {'cannot be read' if broken else 'is missing'}" in caplog.text
    if name != "per_image.npz":  # an archive, with the time in it
        assert (run / name).read_bytes() == content


def test_weights_that_are_not_the_runs_own_are_refused(runs, whole):
    run = runs / "other_weights"
    shutil.copytree(whole("classification"), run)
    state = load_file(run / "weights.safetensors")
    state["backbone.stem.0.weight"][0] += 1
    save_weights(run / "weights.safetensors", state, read_passport(run / "weights.safetensors"))
    with pytest.raises(ConfigError, match=r"not the weights that this run ended with.*resume="):
        load_weights(run / "weights.safetensors")
    shutil.copy(run / "weights.safetensors", runs / "weights.safetensors")  # by itself it is what it is
    assert load_weights(runs / "weights.safetensors").state
    (run / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"run.json, line 1.*so that its weights cannot be checked"):
        load_weights(run / "weights.safetensors")


HOLDING = """
import os, sys, time
from pathlib import Path
from mnv2_tasks.runs.lock import written_alone
with written_alone(Path(sys.argv[1])):
    if not os.fork():  # as the processes do that load images: they do not hold it
        time.sleep(20)
    print("holds", flush=True)
    time.sleep(60)
"""


def test_a_run_that_is_being_written_says_by_whom_and_a_dead_process_lets_it_go(runs, whole):
    run = runs / "held"
    shutil.copytree(whole("classification"), run)
    holder = subprocess.Popen([sys.executable, "-c", HOLDING, run], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "holds\n"
    with pytest.raises(ConfigError, match=rf"held: process {holder.pid} on .*, since 20.*, is writing there"):
        resume(run, "epochs=5")
    holder.kill()
    holder.wait()
    with pytest.raises(ConfigError, match="its 4 epochs are done"):
        resume(run)
    holder.stdout.close()


def test_folder_is_held_alone_where_the_system_has_no_fcntl_too(tmp_path, monkeypatch):
    monkeypatch.setattr("mnv2_tasks.runs.lock.fcntl", None)
    with written_alone(tmp_path), pytest.raises(ConfigError, match="another process is writing there"):
        with written_alone(tmp_path):
            pass
    with written_alone(tmp_path):  # again, once it is let go
        pass


def test_more_epochs_go_on_at_the_rate_of_the_longer_schedule(runs):
    longer = ("schedule=exponential", "lr=0.002", "schedule.warmup=0.0")
    run = start("ssdlite", runs / "longer", *longer, "epochs=1")
    resume(run, "epochs=2")
    assert [row["epoch"] for row in rows(run)] == ["0", "1"]
    assert float(rows(run)[1]["lr"]) == pytest.approx(0.002 * 0.98**2)
    assert OmegaConf.load(run / "config.yaml").schedule.shape.epochs == 2
    (part,) = json.loads((run / "run.json").read_text())["resumed"]
    assert (part["epoch"], part["epochs_before"], part["epochs"]) == (1, 1, 2)
    first = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["lr_schedulers"][0]
    assert first["last_epoch"] == 4  # steps


def test_repeated_run_is_equal_and_another_seed_is_not(runs, whole, caplog):
    caplog.set_level("INFO")
    first = whole("classification")
    again = train(compose("train", [f"repeat={first / 'run.json'}", f"runs={runs / 'again'}"]))
    assert again != first
    assert_same(again, first)
    assert f"equal: every weight is that of {first}" in caplog.text and "differs from" not in caplog.text
    for key in ("config", "data_fingerprint", "initial_weights", "result"):
        one, two = (json.loads((run / "run.json").read_text())[key] for run in (first, again))
        assert one == two if isinstance(one, str) else {**one, "runs": ""} == {**two, "runs": ""}
    other = load_file(start("classification", runs / "seed", "seed=1", "epochs=1") / "weights.safetensors")
    assert not torch.equal(
        other["backbone.stem.0.weight"], load_file(first / "weights.safetensors")["backbone.stem.0.weight"]
    )


def edited(run, folder, **changes):
    """A run.json that tells another story."""
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads((run / "run.json").read_text()) | changes))
    return path


def test_repeating_says_what_differs_and_refuses_other_data_or_weights(whole, tmp_path, caplog):
    caplog.set_level("INFO")
    run = whole("classification")

    def repeat(**changes):
        train(compose("train", [f"repeat={edited(run, tmp_path, **changes)}", f"runs={tmp_path}"]))

    with pytest.raises(ConfigError, match=r"the data of classification are not those.*data.root="):
        repeat(data_fingerprint={"classification": "other"})
    with pytest.raises(ConfigError, match=r"started from other weights. Then: weights: gone"):
        repeat(started_from="weights: gone")
    with pytest.raises(ConfigError, match=r"trained on the classes \['pear'\]"):
        repeat(class_names={"classification": ["pear"]})
    assert not list(tmp_path.glob("classification/*"))  # nothing was begun
    repeat(git_commit="0123", result={"epochs": 4, "weights_sha256": "other"})
    assert "git_commit: 0123 then, " in caplog.text and "not equal: the weights differ" in caplog.text


def test_data_that_changed_since_are_not_trained_on_by_resuming(whole, monkeypatch):
    run = whole("classification")
    monkeypatch.setattr("mnv2_tasks.data.shapes.Shapes.fingerprint", lambda self: "other")
    with pytest.raises(ConfigError, match=r"have changed.*start a new run, for example with weights="):
        resume(run, "epochs=5")


@pytest.mark.parametrize(
    "how, change, message",
    [
        ("resume", "lr=0.1", r"lr=0.1: cannot change with resume=.*epochs"),
        ("resume", "batch=8", r"batch=8: cannot change with resume="),
        ("resume", "epochs=3", r"epochs=3: the run is in its epoch 4 already"),
        ("resume", "trainer.save_every=-1", r"trainer.save_every=-1: expected at least 0"),
        ("resume", "trainer.save_every_steps=0", r"trainer.save_every_steps=0: expected at least 1"),
        ("repeat", "seed=1", r"seed=1: cannot change with repeat=, it would be another run"),
        ("repeat", "epochs=5", r"epochs=5: cannot change with repeat="),
    ],
)
def test_what_cannot_change_is_refused_with_the_reason(how, change, message, whole):
    with pytest.raises(ConfigError, match=message):
        train(
            compose("train", [f"{how}={whole('classification')}", change, *(["epochs=9"] if "save" in change else [])])
        )


def rewrite(path, change):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    "in_config, in_checkpoint, message",
    [
        ({"freeze": ["backbone"]}, None, "group"),
        ({"optim.optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}, None, "the optimizer has no dampening"),
        ({"backbone.width": 0.5}, None, "loading state_dict"),
        ({}, lambda content: content.pop("loops"), "does not say how far"),
        ({}, lambda content: content["loops"]["fit_loop"].update(epoch_progress=3), "int"),
        ({}, lambda content: content.pop("optimizer_states"), "has no optimizer_states"),
        ({}, lambda content: content["optimizer_states"][0].update(param_groups=[]), "group"),
        (
            {},
            lambda content: content["optimizer_states"][0]["state"][0].update(exp_avg=torch.ones(7)),
            "exp_avg is [7]",
        ),
        ({}, lambda content: content.update(lr_schedulers=[]), "has no lr_schedulers"),
        ({}, lambda content: content.pop("averaging_state"), "has no averaging_state"),
        ({}, lambda content: content["callbacks"].update(Checkpoints={"score": 1}), "best_score"),
    ],
)
def test_checkpoint_that_does_not_fit_its_config_is_named(in_config, in_checkpoint, message, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole("classification"), run)
    stored = OmegaConf.load(run / "config.yaml")
    for key, value in in_config.items():
        OmegaConf.update(stored, key, value, merge=False)
    OmegaConf.save(stored, run / "config.yaml")
    if in_checkpoint:
        rewrite(run / "checkpoints" / "last.ckpt", in_checkpoint)
    with pytest.raises(ConfigError, match=r"last.ckpt\b") as error:
        resume(run, "epochs=5")
    assert message in str(error.value)


@pytest.mark.parametrize("content", [None, "{", "{}", '{"config": 3}'])
def test_repeating_what_is_no_run_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(ConfigError, match=r"repeat=.*run.json"):
        compose("train", [f"repeat={tmp_path}"])


def test_every_batch_and_process_draws_other_numbers_and_the_same_again():
    def draws(batch, rank, seed=0):
        trainer = SimpleNamespace(fit_loop=SimpleNamespace(total_batch_idx=batch), global_rank=rank)
        StepRandomness(seed).on_train_start(trainer, None)
        return torch.rand(3).tolist()

    keys = [(batch, rank, seed) for batch in range(-1, 20) for rank in range(2) for seed in range(2)]
    assert len({tuple(draws(*key)) for key in keys}) == len(keys)
    assert draws(5, 1) == draws(5, 1)


def test_file_that_fails_half_way_leaves_the_one_before(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(PowerCut), written_whole(path) as file:
        file.write(b"half")
        cut_power()
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    with written_whole(path) as file:
        file.write(b"after")
    assert path.read_text() == "after"
