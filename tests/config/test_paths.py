"""Every key that takes a path takes every path, as it was typed."""

import os
import sys

import pytest
from omegaconf import OmegaConf

from mnv2_tasks.build import build_sources
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.prediction.predict import predict

NAMES = [
    "a=b", "my photos (1)", "a, b", "[x]", "{x: 1}", "a:b", "50%", "true", "3", "1e3", "~x", "x;y", "#x", "a\\b",
    "ends\\", "ends\\\\", "it's", "'x'y", '"x', 'x"y"', "'", "\\'", "${x}", "a${oc.env:HOME}", "\\${x}", "\\\\${x}",
    "$x", "caf\u00e9 \u732b", " x ", "-x", "*.jpg", "a/b=c/(d)", "null x", "x\ty",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_path_reaches_the_config_as_it_was_typed(name):
    assert compose("predict", [f"source={name}", f"out={name}"]).source == name
    assert compose("predict", [f"out={name}"]).out == name
    images = [f"images={name}", f"calibration={name}"]
    config = compose("export", ["data=folder", f"data.root={name}", *images, "task=ssdlite"])
    assert config.data.root == config.data.source.root == config.calibration == config.images == name
    assert OmegaConf.to_container(config, resolve=True)["data"]["source"]["root"] == name
    if "${" not in name:
        assert compose("train", ["task=ssdlite", f"distillation.teacher={name}"]).distillation.teacher == name
    with pytest.raises(ConfigError) as error:
        build_sources(config)
    assert f"data.root={name}: " in str(error.value)


def test_null_and_quoted_values_are_hydras_unless_there_is_such_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = ["task=classification", "data=imagenet", "recipe=classification_imagenet_distilled"]
    assert compose("train", [*teacher, "distillation.teacher=null"]).distillation.teacher is None
    assert compose("predict", ["source='a b'"]).source == "a b"
    assert compose("predict", ["source=null"]).source == "null"
    assert compose("predict", ["out=null"]).out is None
    (tmp_path / "null").mkdir()
    assert compose("train", [*teacher, "distillation.teacher=null"]).distillation.teacher == "null"
    if sys.platform != "win32":
        (tmp_path / "'a b'").mkdir()
        assert compose("predict", ["source='a b'"]).source == "'a b'"


@pytest.mark.parametrize("key", ["run", "resume", "repeat"])
@pytest.mark.parametrize("name", ["a=b", "my run (1)", "${x}", "it's\\", "[1]"])
def test_a_run_is_looked_for_where_it_was_typed(key, name):
    verb = "eval" if key == "run" else "train"
    if verb == "train" and "${" in name:
        return
    with pytest.raises(ConfigError) as error:
        compose(verb, [f"{key}={name}"])
    assert f"{key}={name}: not a run" in str(error.value)


def test_a_run_is_not_made_of_a_place_that_its_configuration_cannot_name():
    with pytest.raises(
        ConfigError,
        match=r"data.root=\$\{x\}: this name has a \$\{, which stands for a value of elsewhere in the config.*ln -s",
    ):
        compose("train", ["task=ssdlite", "data=folder", "data.root=${x}"])


def test_interpolations_of_other_keys_stay_hydras():
    config = compose("train", ["task=classification", "train_imgsz=${imgsz}", "imgsz=96"])
    assert config.train_imgsz == config.data.source.image_size == 96


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
@pytest.mark.parametrize("name", ["a=b (1).jpg", "${x}.jpg", "'q'.jpg", "end\\"])
def test_prediction_reads_and_writes_what_was_typed(tmp_path, monkeypatch, photo, name):
    monkeypatch.chdir(tmp_path)
    os.makedirs("in")
    place = f"in/{name}" if name.endswith("jpg") else f"in/{name}.jpg"
    photo.rename(place)
    predict(compose("predict", [f"source={place}", f"out={name} out", "device=cpu"]))
    assert os.path.isfile(f"{name} out/results.json")
