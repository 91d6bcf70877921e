"""A user's own choices: the folder that MNV2_CONF names is searched beside conf/."""

import re
from pkgutil import resolve_name

import pytest

from mnv2_tasks.__main__ import main
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose, launch
from mnv2_tasks.config.help_text import help_text
from mnv2_tasks.errors import ConfigError


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Its folder, with a backbone whose module is nowhere, and a recipe."""
    for group, name, text in [
        ("backbone", "plain", "_target_: nowhere.Plain\nchannels: 8   # of the first stage\n"),
        ("data", "mine", "root: ???\nsource: {_target_: nowhere.mine, root: '${..root}'}\n"),
        ("recipe", "ssdlite_mine", "# @package _global_\nepochs: 77\ngroups: {schedule: poly}\n"),
    ]:
        (tmp_path / "mine" / group).mkdir(parents=True)
        (tmp_path / "mine" / group / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNV2_CONF", "mine")
    return tmp_path / "mine"


def test_own_choices_stand_beside_ours(own):
    config = compose("train", ["task=ssdlite", "backbone=plain", "backbone.channels=9", "recipe=ssdlite_mine"])
    assert config.backbone == {"_target_": "nowhere.Plain", "channels": 9}
    assert config.epochs == 77 and config.schedule.shape._target_.endswith("poly")
    assert config.choices.backbone == "plain"


def test_own_keys_may_be_left_for_the_command_line_to_say(own):
    config = compose("train", ["task=ssdlite", "data=mine", "data.root=birds"])
    assert config.data.source.root == "birds"


def test_sweep_takes_own_choices(own, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py"])
    found = []
    launch(
        "train", lambda config: found.append(config.choices.backbone), ["-m", "task=ssdlite", "backbone=plain,vgg16"]
    )
    assert found == ["plain", "vgg16"]


def test_help_and_errors_name_own_choices(own):
    assert "of the first stage" in help_text("train", ["backbone=plain"])
    with pytest.raises(ConfigError, match="backbone=plein: unknown backbone. Did you mean plain"):
        compose("train", ["task=ssdlite", "backbone=plein"])


def test_folder_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MNV2_CONF", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=f"MNV2_CONF={tmp_path}/nowhere: .* is no folder; it holds backbone/, task/"):
        compose("train", ["task=ssdlite"])


def test_module_that_python_does_not_find_is_named_with_the_way_out(own):
    config = compose("train", ["task=classification", "backbone=plain"])
    with pytest.raises(ConfigError, match="_target_=nowhere.Plain: cannot be imported .*'nowhere'.*PYTHONPATH"):
        build_network(config, {"classification": ["a", "b"]})


def test_package_that_an_own_module_imports_and_is_missing_is_named_and_no_broken_installation(
    own, monkeypatch, tmp_path, capsys
):
    (tmp_path / "garden").mkdir()
    (tmp_path / "garden" / "rake.py").write_text("import absent_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = compose("train", ["task=classification", "backbone=plain"])
    config.backbone._target_ = "garden.rake.Rake"
    with pytest.raises(ConfigError, match=r"garden.rake.Rake: cannot be imported \(No module named 'absent_package'\)"):
        build_network(config, {"classification": ["a", "b"]})
    (tmp_path / "garden" / "hoe.py").write_text("def handle():\n    import absent_package\n")
    monkeypatch.setattr("mnv2_tasks.__main__._call", lambda verb, arguments: resolve_name("garden.hoe:handle")())
    with pytest.raises(SystemExit) as ended:
        main(["data"])
    assert re.search(r"hoe\.py, line 2: No module named 'absent_package'\. Install it", str(ended.value))
    assert "broken" not in str(ended.value)
