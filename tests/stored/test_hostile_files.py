"""Whatever a stranger's weights, run folder or exported file says, it is data: nothing of it is called or resolved."""

import copy
import json

import pytest
import torch
from omegaconf import OmegaConf

from mnv2_tasks.build import build_network, build_sources, load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.evaluation.score import score_network
from mnv2_tasks.network.network import ONE_VIEW
from mnv2_tasks.runtimes.exported import Exported
from mnv2_tasks.stored.checked_passport import check_passport
from mnv2_tasks.studies.compare.finished_run import read_config
from mnv2_tasks.training.assemble import build_distillation
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import load_weights, read_passport, save_weights

NAMES = {"classification": ["a", "b"]}
WORDS = ["task=classification", "width=0.1", "imgsz=64"]
SHELL = {"_target_": "torch.utils.collect_env.run", "command": "touch canary"}  # what Hydra's own list lets through
DEEP = {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}
ATTACKS = {  # name: (key, value, what the error says)
    "a shell for a backbone": ("backbone", SHELL, "backbone._target_='torch.utils.collect_env.run': .* say trust=true"),
    "an eval for a head": ("tasks.classification.head._target_", "sympy.sympify", "head._target_='sympy.sympify'"),
    "a part of ours elsewhere": ("backbone._target_", "mnv2_tasks.heads.linear.LinearHead", "needs mnv2_tasks.heads"),
    "a tool of ours": ("backbone._target_", "mnv2_tasks.whole_files.write_json", "needs mnv2_tasks.whole_files"),
    "a part as an argument": ("backbone.padding", SHELL, "backbone.padding._target_.*no part stands there"),
    "a part in a list": ("input.mean", [SHELL, 1, 1], "input.mean"),
    "a part in a group of no meaning": ("extra", {"x": SHELL}, "extra.x._target_"),
    "another word of Hydra's": ("backbone._args_", [1], r"backbone._args_=\[1\]"),
    "a partial": ("tasks.classification._partial_", True, "classification._partial_"),
    "a secret of the environment": ("backbone.padding", "${oc.env:HOME}", r"backbone.padding: .* is no plain text"),
    "overrides in a choice": ("choices.task", "classification runs=/tmp", "is no name of a task"),
    "a path for a data set": ("choices.data", "../../etc", "is no name of a task"),
    "a path for a task": ("tasks", {"../x": {"_target_": "a.b", "head": {"_target_": "a.b"}}}, "'../x'"),
    "a terminal's escape": ("choices.backbone", "\x1b[2J", "is no plain text"),
    "levels without end": ("backbone.padding", DEEP, "groups deep"),
    "a number beyond 64 bits": ("imgsz", 10**400, "64 bits|expected at most"),
    "a picture that fills the memory": ("imgsz", 10**6, "imgsz=1000000: expected at most 8,192"),
    "no number": ("width", float("nan"), "width"),
    "channels below none": ("tasks.classification.head.channels", -1, "head.channels"),
    "a network that fills the memory": ("width", 10**9, "width=1000000000: expected at most 16"),
    "a text for a number": ("backbone.norm_eps", "small", "backbone.norm_eps='small': expected a number"),
    "truth for a number": ("output_stride", True, "output_stride=True: expected a whole number"),
    "nothing for a group": ("tasks", None, "has no tasks"),
    "a list for a group": ("input", [1, 2], "input"),
    "a mean of two channels": ("input.mean", [1, 2], r"input.mean=\[1, 2\]: expected a list of 3"),
    "nothing for a part": ("tasks.classification.loss", None, "classification.loss=nothing: names no part"),
    "a word that Hydra misses": ("backbone.padding", "???", r"padding: '\?\?\?' is no plain text"),
    "data of no task": ("choices.datasets", {"nope": "voc"}, "choices.datasets.nope: has no such task"),
}

NOT_BUILT = {"a part of ours elsewhere", "a tool of ours", "a text for a number"}  # an exported network is finished


def attacked(config, key, value):
    """The config with `value` at the dotted `key`, as plain data."""
    config = copy.deepcopy(config)
    *path, last = key.split(".")
    group = config
    for part in path:
        group = group[part]
    group[last] = value
    return config


@pytest.fixture(scope="module")
def composed():
    return compose("train", WORDS)


@pytest.fixture(scope="module")
def state(composed):
    return build_network(composed, NAMES).state_dict()


@pytest.fixture
def passport(composed):
    return make_passport(composed, NAMES, "test", "weights: none")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """Nothing that a file says may leave something here."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("attack", ATTACKS)
def test_passport_of_weights_is_refused_by_every_verb(attack, passport, state, tmp_path):
    key, value, message = ATTACKS[attack]
    path = tmp_path / "theirs.safetensors"
    save_weights(path, state, passport | {"config": attacked(passport["config"], key, value)})
    for verb in ("train", "eval", "export"):
        with pytest.raises(ConfigError, match=message) as error:
            compose(verb, [*WORDS[: verb == "train"], f"weights={path}"])
        assert str(path) in str(error.value)
    with pytest.raises(ConfigError, match=message):
        load_network(str(path))
    teaching = compose("train", [*WORDS, f"distillation.teacher={path}"])
    with pytest.raises(ConfigError, match=message):
        build_distillation(teaching, build_network(teaching, NAMES))


@pytest.mark.parametrize("attack", ATTACKS)
def test_passport_of_a_checkpoint_is_refused(attack, passport, tmp_path):
    key, value, message = ATTACKS[attack]
    path = tmp_path / "last.ckpt"
    hostile = passport | {"config": attacked(passport["config"], key, value)}
    torch.save({"passport": hostile, "state_dict": {}}, path)
    for read in (read_passport, load_weights):
        with pytest.raises(ConfigError, match=message):
            read(path)


@pytest.mark.parametrize("attack", ATTACKS)
def test_config_of_a_run_is_refused_by_every_verb(attack, composed, tmp_path):
    key, value, message = ATTACKS[attack]
    config = attacked(OmegaConf.to_container(composed), key, value)
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    (tmp_path / "run.json").write_text(json.dumps({"config": config}), encoding="utf-8")
    for verb, how in (("eval", "run"), ("train", "resume"), ("train", "repeat")):
        with pytest.raises(ConfigError, match=message):
            compose(verb, [f"{how}={tmp_path}"])
    with pytest.raises(DataError, match=message):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim.optimizer", SHELL, "optim.optimizer._target_"),
        ("optim.optimizer._target_", "torch.hub.load", "optim.optimizer._target_='torch.hub.load'"),
        ("schedule.shape._target_", "os.system", "schedule.shape._target_='os.system'"),
        ("logger._target_", "subprocess.run", "logger._target_='subprocess.run'"),
        ("logger.version", "../../elsewhere", "leaves the run folder"),
        ("data.source._target_", "pickle.loads", "data.source._target_='pickle.loads'"),
        ("data.root", "pipe:touch canary", "a command that is run on this machine"),
        ("data.root", "s3://x'; touch canary; '", "a command that is run on this machine"),
        ("data.ssdlite", {"root": "pipe:touch canary"}, "a command that is run on this machine"),
        ("data.augmentation.detection", "os.system", "augmentation.detection='os.system': is no preset"),
        ("workers", 10**6, "workers=1000000: expected at most"),
        ("seed", -1, "seed=-1: expected at least 0"),
        ("seed", 2**40, "seed=1099511627776: expected at most"),
        ("mixing", [], r"mixing=\[\]: expected a group of keys"),
        ("batch", None, "batch=nothing: expected 32 or the like"),
        ("batch_ratio", None, "batch_ratio=nothing: expected a group of keys"),
        ("runs", 7, "runs=7: expected a text"),
        ("lr", "x", "lr='x': expected a number"),
        ("logger", "x", "logger='x': names no part"),
        ("optim", {}, "optim.optimizer: has no _target_"),
        ("data.source", None, "data.source=nothing: names no part"),
        ("data.augmentation", {"classification": [["os.system"]]}, "data.augmentation: expected a preset, or a list"),
        ("epochs", "many", "epochs='many': expected"),
        ("trainer", None, "trainer=nothing: expected a group of keys"),
    ],
)
def test_what_else_a_run_says_is_no_code_either(key, value, message, composed, tmp_path):
    config = attacked(OmegaConf.to_container(composed), key, value)
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        compose("eval", [f"run={tmp_path}"])


def test_what_a_call_says_is_never_taken_from_a_run(composed, tmp_path):
    theirs = {"trust": True, "out": "/elsewhere", "run": "/x", "resume": "/x", "runs": "/elsewhere"}
    config = OmegaConf.to_container(composed) | theirs
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "run.json").write_text(json.dumps({"config": config}), encoding="utf-8")
    read = compose("eval", [f"run={tmp_path}"])
    assert not read.trust and read.out is None
    repeated = compose("train", [f"repeat={tmp_path}"])
    assert repeated.runs == "runs" and repeated.resume is None


def test_place_that_is_a_command_is_the_users_to_say_never_the_runs(composed, tmp_path):
    config = attacked(OmegaConf.to_container(composed), "data.root", "pipe:cat theirs") | {"trust": True}
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match="data.root='pipe:cat theirs'.*say data.root=<it> trust=true"):
        compose("eval", [f"run={tmp_path}", "trust=true"])
    said = compose("eval", [f"run={tmp_path}", "data.root=s3://mine", "trust=true"])
    assert said.data.root == "s3://mine" and said.trust
    with pytest.raises(DataError, match="a command that is run on this machine"):
        read_config(tmp_path, trust=True)
    (tmp_path / "config.yaml").write_text(json.dumps(config | {"data": composed_data(composed)}), encoding="utf-8")
    assert read_config(tmp_path).trust is False


def composed_data(composed):
    return OmegaConf.to_container(composed.data)


def test_places_that_are_commands_need_trust_on_the_command_line_too():
    for root in ("pipe:cat x", "s3://bucket/shards"):
        with pytest.raises(ConfigError, match="a command that is run on this machine. Say trust=true"):
            build_sources(compose("train", ["task=classification", "data=shards", f"data.root='{root}'"]))


def test_values_of_weights_reach_the_config_as_values_and_the_user_wins(passport, state, tmp_path):
    theirs = attacked(passport["config"], "input.mean", [1.0, 2.0, 3.0])
    save_weights(tmp_path / "x.safetensors", state, passport | {"config": theirs})
    word = f"weights={tmp_path / 'x.safetensors'}"
    assert list(compose("eval", [word]).input.mean) == [1.0, 2.0, 3.0]
    assert list(compose("eval", [word, "input.mean=[4,5,6]"]).input.mean) == [4, 5, 6]
    assert list(compose("train", [*WORDS, word]).input.mean) == [1.0, 2.0, 3.0]


def test_own_classes_are_built_where_the_user_trusts_the_file(passport, state, tmp_path):
    theirs = attacked(passport["config"], "tasks.classification.head._target_", f"{OwnHead.__module__}.OwnHead")
    path = tmp_path / "x.safetensors"
    save_weights(path, state, passport | {"config": theirs})
    with pytest.raises(ConfigError, match="trust=true"):
        load_network(str(path))
    network, _ = load_network(str(path), trust=True)
    assert type(network.tasks["classification"].head).__name__ == "OwnHead"
    assert compose("eval", [f"weights={path}", "trust=true"]).trust


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tasks.classification.head.dropout", 7, "LinearHead: cannot be made of its settings"),
        ("tasks.classification.label_smoothing", -1, "label_smoothing=-1: expected a share"),
        ("backbone.norm_eps", -1, "norm_eps=-1: expected 0 or more"),
    ],
)
def test_value_that_a_part_refuses_is_told_with_its_file(key, value, message, passport, state, tmp_path):
    path = tmp_path / "x.safetensors"
    save_weights(path, state, passport | {"config": attacked(passport["config"], key, value)})
    with pytest.raises(ConfigError, match=message) as error:
        load_network(str(path))
    assert str(error.value).startswith(str(path))


def test_task_is_not_called_as_torch_calls_something_else(passport, state, tmp_path):
    config = passport["config"] | {"tasks": {"keys": passport["config"]["tasks"]["classification"]}}
    path = tmp_path / "x.safetensors"
    save_weights(path, state, passport | {"config": config, "class_names": {"keys": ["a", "b"]}})
    with pytest.raises(ConfigError, match="tasks.keys: torch has another use for this name"):
        load_network(str(path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("trainer.nodes=7", "trainer.nodes=7: start a process for each"),
        ("trainer.devices=0", "trainer: Lightning refuses its settings"),
        ("trainer.precision=x", "trainer: Lightning refuses its settings"),
    ],
)
def test_machines_that_are_not_there_are_not_waited_for(changed, message):
    config = compose("eval", [*WORDS, "trainer.accelerator=cpu", changed])
    with pytest.raises(ConfigError, match=message):
        score_network(build_network(config, NAMES), dict, config.trainer, str(config.trainer.precision), ONE_VIEW)


def test_network_larger_than_its_file_is_refused_before_it_is_built(passport, state, tmp_path):
    larger = attacked(attacked(passport["config"], "width", 4), "backbone.width", 4)
    save_weights(tmp_path / "x.safetensors", state, passport | {"config": larger})
    with pytest.raises(ConfigError, match="is of a larger network than its tensors"):
        load_network(str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": {"classification": "abc"}}, "class_names: expected a list of names"),
        ({"class_names": {"other": ["a"]}}, "class_names: expected a list of names for each of classification"),
        ({"class_names": {"classification": []}}, "0 names, expected 1 to"),
        ({"class_names": {"classification": ["a\x1b[31m", "b"]}}, "is no name that can be shown"),
        ({"class_names": {"classification": ["a", 7]}}, "class_names: expected a list of names"),
        ({"command": ["x"]}, "command: expected a line of text"),
        ({"version": 3}, "version: expected a line of text"),
        ({"config": None}, "its configuration is nothing"),
        ({"training": []}, "training: expected"),
    ],
)
def test_field_of_a_passport_of_the_wrong_type_is_named(change, message, passport, tmp_path):
    with pytest.raises(ConfigError, match=message):
        check_passport(passport | change, tmp_path / "x.safetensors")


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "[" * 5000, '{"config": NaN}', "\xff", "null"])
def test_passport_that_is_no_passport_is_refused(text, tmp_path):
    with pytest.raises(ConfigError, match="x.safetensors: its passport"):
        check_passport(text, tmp_path / "x.safetensors")


def test_metadata_of_an_exported_file_are_data_too(passport, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper = onnx.helper
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    ])  # fmt: skip
    path = tmp_path / "x.onnx"
    for name in ATTACKS.keys() - NOT_BUILT:
        key, value, message = ATTACKS[name]
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        hostile = passport | {"config": attacked(passport["config"], key, value), "exported": True}
        tasks = json.dumps({"classification": "classification"})
        helper.set_model_props(model, {"passport": json.dumps(hostile), "tasks": tasks, "precision": "fp32"})
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ConfigError, match=message):
            Exported(path)


def test_file_that_torch_would_unpickle_is_refused_unless_trusted(tmp_path):
    path = tmp_path / "x.pt2"
    path.write_bytes(b"anything")
    with pytest.raises(ConfigError, match="unpickles such a file.*say trust=true; else ask for"):
        Exported(path)


class OwnHead(torch.nn.Module):
    """A user's own, with the tensors of LinearHead."""

    taps = ("final",)

    def __init__(self, *, features, num_classes, dropout):
        super().__init__()
        self.linear = torch.nn.Linear(features["final"].channels, num_classes)
