"""What former versions stored and this one cannot read says who wrote it, what it needs, and what replaced that."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from torchvision.models import mobilenet_v2

from mnv2_tasks import __version__
from mnv2_tasks.build import build_network, load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runs.reproduce import resume_point
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import save_weights

NAMES = {"classification": ["a", "b"]}
PER_TASK = r"was written by a version before 0.2 and needs norm_statistics=per_task, which is gone: .*0.1 is the last"


@pytest.fixture
def run(tmp_path):
    """(changes of its config, version) -> a run folder that was stored with them."""

    def stored(changes, version=None):
        made = OmegaConf.to_container(compose("train", ["task=classification"]))
        config = OmegaConf.merge(made, changes)
        OmegaConf.save(config, tmp_path / "config.yaml")
        description = {"config": OmegaConf.to_container(config)} | ({"version": version} if version else {})
        (tmp_path / "run.json").write_text(json.dumps(description))
        return tmp_path

    return stored


@pytest.fixture
def weights(tmp_path):
    """(change of the config in its passport, version) -> a file of weights."""

    def stored(change, version=None):
        config = compose("train", ["task=classification", "width=0.1", "imgsz=64"])
        passport = make_passport(config, NAMES, "test")
        passport["config"] = OmegaConf.to_container(OmegaConf.merge(passport["config"], OmegaConf.create(change)))
        passport["version"] = version
        save_weights(tmp_path / "x.safetensors", build_network(config, NAMES).state_dict(), passport)
        return tmp_path / "x.safetensors"

    return stored


@pytest.mark.parametrize("how", ["run", "resume", "repeat"])
def test_run_with_norms_for_each_task_is_refused_with_the_last_version_that_reads_it(how, run):
    folder = run({"norm_statistics": "per_task"})
    with pytest.raises(ConfigError, match=PER_TASK) as error:
        compose("eval" if how == "run" else "train", [f"{how}={folder}"])
    assert str(error.value).startswith(f"{folder}/{'run.json' if how == 'repeat' else 'config.yaml'}: ")


def test_run_whose_config_holds_no_keys_is_refused_by_name(run):
    folder = run({})
    (folder / "config.yaml").write_text("- task\n- data\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: expected a mapping of keys to values"):
        compose("eval", [f"run={folder}"])


def test_resuming_from_a_checkpoint_of_others_is_refused_by_name(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    torch.save(mobilenet_v2().state_dict(), tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigError, match=r"resume=.*: tools/train\.py did not write its checkpoints/last\.ckpt"):
        resume_point(OmegaConf.create({"resume": str(tmp_path), "epochs": 1}))


def test_run_with_shared_norms_loads_without_the_key(run):
    assert "norm_statistics" not in compose("eval", [f"run={run({'norm_statistics': 'shared'})}"])


def test_weights_with_norms_for_each_task_are_refused_by_every_command(weights):
    path = weights({"norm_statistics": "per_task"})
    for command, words in (("train", ["task=classification"]), ("eval", []), ("export", [])):
        with pytest.raises(ConfigError, match=f"{path}: {PER_TASK}"):
            compose(command, [*words, f"weights={path}"])
    with pytest.raises(ConfigError, match=PER_TASK):
        load_network(str(path))


def test_code_that_is_gone_is_named_with_the_version_that_wrote_the_config(run, weights):
    head = "mnv2_tasks.heads.gone.Head"
    needs = rf"was written by version 0.2.7 and needs {head}, which version {__version__} does not have"
    changes = {"tasks": {"classification": {"head": {"_target_": head}}}}
    with pytest.raises(ConfigError, match=needs):
        compose("eval", [f"run={run(changes, '0.2.7')}"])
    with pytest.raises(ConfigError, match=needs):
        load_network(str(weights(changes, "0.2.7")))
    changes["tasks"]["classification"]["head"]["_target_"] = "mnv2_tasks.heads.linear.Gone"
    with pytest.raises(ConfigError, match=r"needs mnv2_tasks.heads.linear.Gone"):
        load_network(str(weights(changes)))


def test_argument_that_is_gone_is_named_by_its_key(run, weights):
    changes = {"backbone": {"padding_of_old": "same"}}
    needs = r"was written by a version before 0.2 and needs backbone.padding_of_old=same, which version"
    with pytest.raises(ConfigError, match=needs):
        compose("eval", [f"run={run(changes)}"])
    with pytest.raises(ConfigError, match=needs):
        compose("eval", [f"weights={weights(changes)}"])


def test_choice_that_is_gone_is_named_but_only_where_it_is_needed(weights):
    path = weights({"choices": {"backbone": "gone"}}, "0.2.7")
    with pytest.raises(ConfigError, match=r"x.safetensors: was written by version 0.2.7 and needs backbone=gone"):
        compose("eval", [f"weights={path}"])
    assert compose("eval", [f"weights={path}", "backbone=mobilenet_v2"]).width == 0.1
    assert load_network(str(path))  # its passport rebuilds it


def test_passports_name_the_version_that_wrote_them():
    assert make_passport(compose("train", ["task=classification"]), NAMES, "test")["version"] == __version__
