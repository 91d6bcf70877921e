"""mnv2 publish: a run becomes a folder for others, from there a network again; no path of this machine goes too."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from conftest import TINY
from hub_on_loopback import COMMIT, TOKEN, hub_on_this_machine

import mnv2_tasks
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.publish.publish import publish
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.digest import digest_of
from mnv2_tasks.weights.weight_files import load_weights, read_passport, save_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained from a file whose place is nobody's business."""
    secret = tmp_path_factory.mktemp("secret")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNV2_CACHE", str(secret / "cache"))
        first = train(compose("train", ["task=classification", *TINY, "logger=none", f"runs={secret}"]))
        words = [word for word in TINY if not word.startswith("weights")]
        weights = Path(shutil.copy(first / "weights.safetensors", secret / "my weights.safetensors"))
        command = ["task=classification", *words, "logger=none", f"runs={secret}", f"weights={weights}"]
        patch.setattr(sys, "argv", ["/home/me/bin/mnv2", "train", *command])
        return train(compose("train", command))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub_on_this_machine(tmp_path / "hub", monkeypatch) as server:
        yield server


def published(run, *words):
    return publish(compose("publish", [f"run={run}", *words]))


def refused(words, message):
    with pytest.raises(ConfigError, match=message) as error:
        publish(compose("publish", words))
    assert "\n" not in str(error.value)


def result_of(weights):
    return mnv2_tasks.load(weights, device="cpu")(draw_scene(0, "val", 0, 64).image).probabilities


def test_folder_predicts_as_the_run_does_and_has_card_and_pictures(run, tmp_path):
    out = published(run, f"out={tmp_path / 'out'}", "license=MIT")
    assert {path.name for path in out.iterdir()} == {"README.md", "weights.safetensors", "samples.jpg"}
    assert (result_of(out) == result_of(run)).all() and mnv2_tasks.load(out).names == mnv2_tasks.load(run).names
    states = [load_weights(folder / "weights.safetensors").state for folder in (out, run)]
    assert digest_of(states[0]) == digest_of(states[1])
    card = (out / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "mit" and "](samples.jpg)" in card


def test_no_path_of_this_machine_is_in_any_of_it(run, tmp_path):
    assert b"secret" in (run / "weights.safetensors").read_bytes()
    out = published(run, f"out={tmp_path / 'out'}")
    for file in out.iterdir():
        content = file.read_bytes()
        assert b"secret" not in content and b"/home/me" not in content and str(tmp_path).encode() not in content
    passport = read_passport(out / "weights.safetensors")
    assert passport["training"]["started_from"].startswith("weights: my weights.safetensors (ours), transferred")
    before = read_passport(run / "weights.safetensors")
    assert all(passport[key] == before[key] for key in ("config", "class_names", "metrics", "version"))


def test_without_samples_and_licence_the_card_says_what_is_missing(run, tmp_path, caplog):
    out = published(run, f"out={tmp_path / 'out'}", "samples=false")
    assert {path.name for path in out.iterdir()} == {"README.md", "weights.safetensors"}
    card = (out / "README.md").read_text()
    assert "Nobody has named a licence" in card and "![" not in card and "no licence is named" in caplog.text


def test_an_empty_folder_is_filled_and_by_default_one_is_made(run, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    assert (published(run, f"out={tmp_path / 'out'}") / "README.md").is_file()
    monkeypatch.chdir(tmp_path)
    assert published(run) == Path("runs/publish/1") and (tmp_path / "runs" / "publish" / "1" / "README.md").is_file()


def test_what_is_uploaded_is_loaded_from_the_hub(run, tmp_path, hub, caplog):
    caplog.set_level("INFO")
    out = published(run, f"out={tmp_path / 'out'}", "to=owner/net", "private=true")
    assert hub.files == {path.name: path.read_bytes() for path in out.iterdir()}
    assert hub.made[0]["name"] == "net" and hub.made[0]["organization"] == "owner"
    assert hub.made[0].get("private") or hub.made[0].get("visibility") == "private"
    assert f"owner/net/commit/{COMMIT}" in caplog.text
    assert (result_of("hf_hub:owner/net") == result_of(run)).all()
    card = hub.files["README.md"].decode()
    assert 'mnv2_tasks.load("hf_hub:owner/net")' in card and "mnv2 predict weights=hf_hub:owner/net" in card


@pytest.mark.parametrize("to", ["net", "owner/", "owner/net/more", "/net", "https://huggingface.co/owner/net"])
def test_a_name_without_its_owner_is_refused_before_anything_is_made(to, run, tmp_path):
    refused([f"run={run}", f"out={tmp_path / 'out'}", f"to={to}"], "expected to=<owner>/<name>")
    assert not (tmp_path / "out").exists()


def test_without_a_token_or_with_a_wrong_one_nothing_is_made(run, tmp_path, hub, monkeypatch):
    words = [f"run={run}", f"out={tmp_path / 'out'}", "to=owner/net"]
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused(words, "does not take your token, or cannot be reached .*hf auth login")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    refused(words, "not logged in to the hub: hf auth login, or the variable HF_TOKEN")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused(words, r'needs huggingface_hub; pip install "mnv2-tasks\[hub\]"')
    assert not (tmp_path / "out").exists() and not hub.files


def test_an_upload_that_breaks_off_leaves_the_folder_and_says_how_to_go_on(run, tmp_path, hub):
    hub.refuses = "commit/main"
    out = tmp_path / "out"
    refused(
        [f"run={run}", f"out={out}", "to=owner/net"], f"is made, and could not be uploaded .*hf upload owner/net {out}"
    )
    assert (out / "README.md").is_file() and not hub.files


@pytest.mark.parametrize(
    "missing, message",
    [
        ("config.yaml", "not a run folder"),
        ("metrics.json", "has not ended, it has no metrics.json. Go on with it: python tools/train.py resume="),
        ("weights.safetensors", "has not ended, it has no weights.safetensors"),
        ("run.json", "has not ended, it has no run.json"),
    ],
)
def test_what_is_no_run_that_has_ended_is_refused(missing, message, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / missing).unlink()
    refused([f"run={tmp_path / 'run'}", f"out={tmp_path / 'out'}"], message)
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_gone_on_with_is_refused_until_it_has_ended_again(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    described = json.loads((run / "run.json").read_text())
    del described["result"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(described | {"resumed": [{"epochs": 2}]}))
    refused([f"run={tmp_path / 'run'}", f"out={tmp_path / 'out'}"], "is gone on with.*resume=")


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "say what to publish: run=<run folder>"),
        (["run=nothing"], "not a run folder"),
        (["license='my own, see below'"], "is no name of a licence"),
        (["out={full}"], "is not empty, and nothing is overwritten"),
        (["out={full}/file"], "is a file"),
        (["lisense=mit"], "there is no key 'lisense'. Did you mean license"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(words, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    given = [word.format(full=tmp_path / "full") for word in words]
    refused(given if not words or words[0].startswith("run=") else [f"run={run}", *given], message)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]


def test_damaged_outcomes_are_named_and_missing_ones_leave_the_card_without_intervals(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "per_image.npz").write_bytes(b"half")
    refused([f"run={tmp_path / 'run'}", f"out={tmp_path / 'out'}"], "per_image.npz: cannot be read .*resume=")
    (tmp_path / "run" / "per_image.npz").unlink()
    assert "bootstrap" not in (published(tmp_path / "run", f"out={tmp_path / 'out'}") / "README.md").read_text()


def test_a_network_that_needs_a_place_on_this_machine_is_refused(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "weights.safetensors"
    passport = read_passport(path)
    passport["config"]["input"]["note"] = "/home/me/file"
    save_weights(path, load_weights(path).state, passport)
    with pytest.raises(ConfigError, match="input.note=/home/me/file"):
        published(tmp_path / "run", f"out={tmp_path / 'out'}", "trust=true")
