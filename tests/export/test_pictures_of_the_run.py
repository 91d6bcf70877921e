"""What an export is compared on and calibrated with: pictures of the run's own data, where they still lie."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from mnv2_tasks.build import load_with_passport
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.export import export
from mnv2_tasks.export.images import comparison_images
from mnv2_tasks.export.prepare import prepare
from mnv2_tasks.runtimes.exported import Exported
from mnv2_tasks.runtimes.formats import FORMATS
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.find import find_weights

RED, BLUE, GREEN = (0, 2, 1)  # the channel that is bright
WORDS = [word for word in TINY if not word.startswith("data.")]


def pictures(folder, channel, count, classes=("one", "two")):
    for number in range(count):
        path = folder / classes[number % len(classes)] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number + 100 * channel).integers(0, 60, (64, 64, 3), np.uint8)
        pixels[..., channel] = 250
        Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The data, whose splits have names of their own, and a run on them: training pictures are red, the others blue."""
    place = tmp_path_factory.mktemp("trained")
    pictures(place / "data" / "learn", RED, 12)
    pictures(place / "data" / "judge", BLUE, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNV2_CACHE", str(place / "cache"))
        splits = ["data.train=learn", "data.val=judge"]
        words = ["task=classification", "data=folder", f"data.root={place / 'data'}", *splits, "logger=none"]
        return place / "data", train(compose("train", [*words, *WORDS, f"runs={place}"]))


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch, caplog):
    monkeypatch.delenv("MNV2_DATA", raising=False)
    caplog.set_level("INFO")


def prepared(weights, *words):
    config = compose("export", [f"weights={weights}", "format=onnx", "precision=int8", *words])
    path = find_weights(str(weights))
    (found,) = prepare(config, path, load_with_passport(path, trust=config.trust))
    return found


def brightest(images):
    """The channel that is bright in all of them."""
    (channel,) = {int(image.mean(axis=(0, 1)).argmax()) for image in images}
    return channel


@pytest.mark.parametrize("named", [".", "weights.safetensors", "checkpoints/best.ckpt"])
def test_they_are_those_that_the_run_was_trained_and_scored_on(named, trained, caplog):
    data, run = trained
    found = prepared(run / named)
    assert brightest(found.example) == RED and len(found.example) == 12
    assert brightest(found.pictures) == BLUE and found.sources["classification"].length("val") == 4
    assert f"data.root={data}, where the run's own data lie by {run / 'config.yaml'}" in caplog.text
    assert f"compared on 4 validation images of folder in {data}" in caplog.text
    assert f"calibrated on 12 training images of folder in {data}" in caplog.text


def test_a_place_that_the_user_names_stands_before_it_with_the_runs_other_settings(trained, tmp_path, caplog):
    pictures(tmp_path / "moved" / "learn", GREEN, 6)
    pictures(tmp_path / "moved" / "judge", GREEN, 4)
    found = prepared(trained[1], f"data.root={tmp_path / 'moved'}")
    assert brightest(found.example) == GREEN and len(found.example) == 6
    assert "where the run's own data lie" not in caplog.text


def test_data_that_are_gone_give_way_to_those_of_the_environment(trained, tmp_path, monkeypatch, caplog):
    run = tmp_path / "run"
    shutil.copytree(trained[1], run)
    config = (run / "config.yaml").read_text().replace(str(trained[0]), "/gone/photos")
    (run / "config.yaml").write_text(config)
    monkeypatch.setenv("MNV2_DATA", str(trained[0]))
    assert brightest(prepared(run).example) == RED
    assert (
        f"data.root=/gone/photos of {run / 'config.yaml'} is not there; MNV2_DATA is taken, {trained[0]}" in caplog.text
    )


def test_without_any_data_scenes_are_compared_on_and_int8_says_what_it_needs(trained, tmp_path, caplog):
    run = tmp_path / "run"
    shutil.copytree(trained[1], run)
    (run / "config.yaml").unlink()
    found = prepared(run / "weights.safetensors", "precision=fp32")
    assert not found.sources and "compared on 16 drawn scenes; images=<folder> names others" in caplog.text
    with pytest.raises(ConfigError, match="say calibration=<folder or glob>, or data.root=<folder>"):
        prepared(run / "weights.safetensors")
    assert not prepared(trained[1], "data.root=null", "precision=fp32").sources


def test_pictures_that_the_user_names_stand_before_all(trained, tmp_path, caplog):
    pictures(tmp_path / "mine", GREEN, 3)
    found = prepared(trained[1], f"images={tmp_path / 'mine'}", f"calibration={tmp_path / 'mine'}")
    assert brightest(found.example) == brightest(found.pictures) == GREEN
    assert f"calibrated on 3 pictures of calibration={tmp_path / 'mine'}" in caplog.text


def test_other_data_of_the_users_choice_take_nothing_from_the_run(trained):
    config = compose("export", [f"weights={trained[1]}", "data=shapes"])
    assert "root" not in config.data
    config = compose("export", [f"weights={trained[1]}", "data=imagenet"])
    assert config.data.root is None


def test_data_that_are_others_by_now_are_refused_with_both_ways_out(trained, tmp_path):
    pictures(tmp_path / "data" / "learn", RED, 6, ("one", "two", "three"))
    pictures(tmp_path / "data" / "judge", RED, 3, ("one", "two", "three"))
    message = r"has 3 classes, not those of the weights. Name their own with data.root=<folder>.*data.root=null"
    with pytest.raises(ConfigError, match=message):
        prepared(trained[1], f"data.root={tmp_path / 'data'}")


@pytest.mark.parametrize("damage", ["root: 'pipe:touch canary'", "_target_: os.system"])
def test_a_config_that_is_not_to_be_trusted_is_left_alone_and_the_weights_go_on(damage, trained, tmp_path, caplog):
    run = tmp_path / "run"
    shutil.copytree(trained[1], run)
    path = run / "config.yaml"
    key = damage.partition(":")[0]
    lines = [damage.join(line.split(line.strip())) if line.strip().startswith(f"{key}:") else line
             for line in path.read_text().splitlines()]  # fmt: skip
    path.write_text("\n".join(lines))
    assert not prepared(run, "precision=fp32").sources
    assert "the data of this run are not taken from its config.yaml" in caplog.text and not Path("canary").exists()


def drawn(channel):
    """A data set of one picture, which is bright there."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[..., channel] = 250
    return SimpleNamespace(length=lambda split: 2, sample=lambda *_: SimpleNamespace(image=pixels))


def test_data_sets_of_several_tasks_give_pictures_in_turn_and_a_shared_one_gives_its_own_once(tmp_path, caplog):
    own = ["data.ssdlite=folder", f"data.ssdlite.root={tmp_path}"]
    config = compose("export", ["task=multitask", "data=shapes", *own])
    sources = {"classification": drawn(RED), "ssdlite": drawn(GREEN), "mobile_deeplabv3": drawn(RED)}
    fit = Fit(mode="square", size=64, resize=None, fill=[0, 0, 0])
    seen = comparison_images(config, sources, fit, 16)
    assert [brightest([image]) for image in seen] == [RED, GREEN] * 2
    assert f"compared on 4 validation images of shapes and folder in {tmp_path}" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino", "torch", "executorch"])
def test_every_format_names_the_classes(format, trained, tmp_path):
    out = tmp_path / f"m{FORMATS[format].suffix}"
    exported = Exported(
        export(compose("export", [f"weights={trained[1]}", f"format={format}", f"out={out}"])), trust=True
    )
    assert exported.metadata["class_names"] == '{"classification": ["one", "two"]}'
