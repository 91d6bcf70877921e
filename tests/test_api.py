"""Python in three lines: `mnv2_tasks.load`, what it returns, and the other verbs."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY
from PIL import Image

import mnv2_tasks
from mnv2_tasks import api
from mnv2_tasks.api import _overrides
from mnv2_tasks.build import load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.words import CONF
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError, DataError

SCENES = [draw_scene(0, "val", index, 120).image for index in range(6)]
OWN = {"workers": 0, "trainer.accelerator": "cpu"}


@pytest.fixture(scope="module")
def model():
    return mnv2_tasks.load("multitask_shapes", device="cpu")


def same(a, b):
    return a.to_dict() | {"file": ""} == b.to_dict() | {"file": ""} and (a.mask == b.mask).all()


def test_import_alone_loads_neither_torch_nor_numpy_and_prediction_no_lightning():
    code = (
        "import sys, mnv2_tasks\n"
        "assert not {'torch', 'numpy', 'cv2', 'mnv2_tasks.api'} & set(sys.modules)\n"
        "assert {'load', 'train', '__version__'} <= set(dir(mnv2_tasks))\n"
        "assert not hasattr(mnv2_tasks, 'lod')\n"
        "mnv2_tasks.load\n"
        "assert 'torch' in sys.modules and 'lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_types_of_the_lazy_names_are_those_of_api():
    stub = Path(mnv2_tasks.__file__).with_suffix(".pyi").read_text()
    named = re.search(r"^from mnv2_tasks\.api import (.*)$", stub, re.M)[1].split(", ")
    assert named == list(mnv2_tasks.PUBLIC)
    assert all(getattr(mnv2_tasks, name) is getattr(api, name) for name in named)


def test_defaults_are_those_of_the_tool():
    config = yaml.safe_load((Path(__file__).parent.parent / "conf" / "predict.yaml").read_text())
    assert (api.MIN_SCORE, api.BATCH) == (config["min_score"], config["batch"])


def test_one_picture_gives_one_result_and_several_a_list(model, tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(SCENES[0]).save(path)
    result = model(path)
    assert result.name == str(path) and (result.image == SCENES[0]).all()
    assert same(result, model(SCENES[0])) and same(result, model(path.read_bytes()))
    assert result.boxes.shape[1] == 4 and result.mask.shape == (120, 120) and result.top(1)[0][1] > 0.5
    several = [*model([path, SCENES[0]]), *model(iter([Image.open(path)])), *model.predict(path)]
    assert len(several) == 4 and all(same(result, other) for other in several)
    assert model([]) == []


def test_predict_goes_through_a_folder_which_a_call_refuses(model, tmp_path):
    for index, scene in enumerate(SCENES[:3]):
        Image.fromarray(scene).save(tmp_path / f"{index}.png")
    results = model.predict(tmp_path, batch=2)
    assert [Path(result.name).name for result in results] == ["0.png", "1.png", "2.png"]
    with pytest.raises(ConfigError, match=r"are 3 pictures; say model\.predict\('"):
        model(str(tmp_path))


def test_file_of_several_pages_is_for_predict(model, tmp_path):
    scan = tmp_path / "scan.tif"
    first, *rest = map(Image.fromarray, SCENES[:3])
    first.save(scan, save_all=True, append_images=rest)
    for source, said in (
        (scan, r"scan\.tif: are 3 pictures; say model\.predict\('/"),
        (scan.read_bytes(), "^picture: are 3"),
    ):
        with pytest.raises(ConfigError, match=said):
            model(source)
        assert all(same(found, model(scene)) for found, scene in zip(model.predict(source), SCENES[:3], strict=True))
    assert [Path(found.name).name for found in model([scan])] == [f"scan.tif, page {n}" for n in (1, 2, 3)]


def test_stream_reads_a_batch_when_it_is_asked_for_and_yields_what_came_before_a_bad_picture(model):
    asked = []

    def frames():
        for index in range(5):
            asked.append(index)
            yield SCENES[index] if index < 4 else np.zeros((3, 3))

    results = model.predict(frames(), batch=2, stream=True)
    assert not asked and same(next(results), model(SCENES[0])) and asked == [0, 1]
    assert [same(next(results), model(SCENES[index])) for index in (1, 2, 3)] == [True] * 3
    with pytest.raises(DataError, match="picture 4: is an array"):
        next(results)


def test_min_score_and_batch_are_checked_at_once(model):
    assert len(model(SCENES[0], min_score=0).boxes) > len(model(SCENES[0], min_score=0.9).boxes)
    for wrong, said in (({"min_score": 2}, "min_score=2"), ({"batch": 0}, "batch=0: expected at least 1")):
        with pytest.raises(ConfigError, match=said):
            model.predict(SCENES, stream=True, **wrong)


def test_classes_and_thresholds_choose_among_boxes_and_leave_masks_whole(model):
    whole = model(SCENES[0], min_score=0)
    labels = model.names["ssdlite"]
    kept = model(SCENES[0], min_score=0, classes=["disc"])
    assert (kept.boxes == whole.boxes[whole.labels == labels.index("disc")]).all() and len(kept.boxes)
    assert (kept.mask == whole.mask).all() and (kept.probabilities == whole.probabilities).all()
    scores = {"ssdlite": dict.fromkeys(labels, 0.0) | {"disc": 1.0}}
    for found in (model(SCENES[0], thresholds=scores), *model.predict([SCENES[0]], thresholds=scores)):
        assert (found.boxes == whole.boxes[whole.labels != labels.index("disc")]).all()
    with pytest.raises(ConfigError, match="classes=dics: no class that these weights find. Did you mean disc"):
        model.predict(SCENES, stream=True, classes=["dics"])


def test_threads_share_a_model_and_each_gets_its_own_results(model, tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(len(SCENES))]
    for path, scene in zip(paths, SCENES):
        Image.fromarray(scene).save(path)
    alone = [model(path) for path in paths]
    wrong, start = [], threading.Barrier(4)

    def work(first):
        start.wait()
        try:
            for step in range(6):
                index = (first + step) % len(paths)
                if not same(model(paths[index]), alone[index]):
                    wrong.append(index)
            wrong.extend(i for i, found in enumerate(model.predict(paths, batch=4)) if not same(found, alone[i]))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_pass_runs_at_a_time_however_many_threads_ask(model, monkeypatch):
    inside, most, predict = [], [], model._predictor.network.predict

    def counted(*args):
        inside.append(1)
        most.append(len(inside))
        found = predict(*args)
        inside.pop()
        return found

    monkeypatch.setattr(model._predictor.network, "predict", counted)
    threads = [threading.Thread(target=model, args=(scene,)) for scene in SCENES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * len(SCENES)


def test_repr_says_what_a_model_knows(model):
    assert repr(model) == (
        "LoadedModel(multitask_shapes: classification (8 classes), ssdlite (8 classes), "
        "mobile_deeplabv3 (9 classes); on cpu)"
    )
    assert model.names["mobile_deeplabv3"][0] == "background"


def test_a_model_in_shares_finds_the_same(model):
    split = mnv2_tasks.load("multitask_shapes", device="cpu", split=3)
    assert [result.to_dict() for result in split(SCENES[:2])] == [result.to_dict() for result in model(SCENES[:2])]
    with pytest.raises(ConfigError, match="memory=1k: .* alone takes"):
        mnv2_tasks.load("multitask_shapes", device="cpu", split="auto", memory="1k")


def test_what_cannot_be_loaded_is_told():
    with pytest.raises(ConfigError, match=r"weights=nothing: no such file, and no such name in manifest\.yaml"):
        mnv2_tasks.load("nothing")
    with pytest.raises(ConfigError, match="device=gpu: not usable here"):
        mnv2_tasks.load("multitask_shapes", device="gpu")


def test_backbone_has_its_weights_and_their_normalisation():
    taps = {"taps": ["c3", "c5"], "output_stride": 16, "width": 0.35}
    maps = mnv2_tasks.backbone("mobilenet_v2", weights="shapes_backbone", **taps)
    images = torch.from_numpy(np.stack(SCENES[:2])).permute(0, 3, 1, 2)
    found = maps(images)
    assert {tap: tuple(x.shape) for tap, x in found.items()} == {"c3": (2, 16, 15, 15), "c5": (2, 112, 8, 8)}
    assert {tap: spec.stride for tap, spec in maps.features.items()} == {"c3": 8, "c5": 16} and not maps.training
    network, _ = load_network("shapes_backbone")
    stem = network.backbone.stem[0].weight
    assert (maps.backbone.stem[0].weight == stem).all() and (maps.mean == network.mean).all()
    assert (mnv2_tasks.backbone("mobilenet_v2", **taps).backbone.stem[0].weight != stem).any()
    torch.testing.assert_close(maps(images.float())["c5"], found["c5"])


def test_backbone_of_another_width_or_name_is_told():
    with pytest.raises(ConfigError, match=r"safetensors: is of another network, width or expansion: of \d+"):
        mnv2_tasks.backbone("mobilenet_v2", weights="shapes_backbone", taps=["c5"])
    with pytest.raises(ConfigError, match="backbone=mobilenet: unknown backbone.*Did you mean mobilenet_v"):
        mnv2_tasks.backbone("mobilenet", taps=["c5"])
    with pytest.raises(ConfigError, match=r"unknown taps \['c9'\]"):
        mnv2_tasks.backbone("resnet18", taps=["c9"])


def test_backbone_comes_as_conf_has_it_without_a_recipe():
    maps = mnv2_tasks.backbone("mobilenet_v2", taps=["final"])
    assert maps.features["final"].channels == 1280 and maps.features["final"].stride == 32
    assert not (CONF / "recipe" / "classification_voc.yaml").exists()


def test_lists_name_what_can_be_had():
    assert {"multitask_shapes", "imagenet_mobilenet_v2"} <= set(mnv2_tasks.list_weights())
    assert {"mobilenet_v2", "resnet50"} <= set(mnv2_tasks.list_backbones())


def test_settings_are_those_of_the_command_line():
    settings = {"task": "ssdlite", "freeze": ["backbone", "ssdlite"], "flip": True, "train_imgsz": None, "lr": 1e-3}
    config = compose("train", _overrides({**settings, "batch_ratio": {"ssdlite": 0.5}, "runs": Path("a b,c")}))
    assert list(config.freeze) == ["backbone", "ssdlite"] and config.flip is True and config.train_imgsz is None
    assert (config.lr, config.batch_ratio.ssdlite, config.runs) == (0.001, 0.5, "a b,c")
    with pytest.raises(ConfigError, match="there is no key 'epoch'.*Did you mean epochs"):
        mnv2_tasks.train("ssdlite", epoch=3)


@pytest.mark.slow
def test_run_has_metrics_and_a_model_that_is_scored_and_exported_and_loaded_again(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    tiny = dict(word.split("=", 1) for word in TINY if not word.startswith("epochs"))
    run = mnv2_tasks.train("mobile_deeplabv3", epochs=1, runs=tmp_path / "runs", **tiny)
    assert run.folder.parent == tmp_path / "runs" / "mobile_deeplabv3" and repr(run) == f"Run({run.folder})"
    model = run.model(device="cpu")
    of_val = {key: value for key, value in tiny.items() if key.startswith("data.source.")}
    scores = model.evaluate(out=tmp_path / "eval", **OWN, **of_val)
    assert scores["mIoU"] == pytest.approx(run.metrics["mIoU"], abs=1e-6) and (tmp_path / "eval").is_dir()
    file = model.export("onnx", out=tmp_path / "model.onnx", count=4, **OWN)
    exported = mnv2_tasks.load(file, device="cpu")
    assert file == tmp_path / "model.onnx" and exported.names == model.names
    assert (exported(SCENES[0]).mask == model(SCENES[0]).mask).mean() > 0.99
    found = dict(zip(range(4), [None] * 4))
    threads = [threading.Thread(target=lambda i=i: found.update({i: exported(SCENES[i]).mask})) for i in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((found[i] == exported(SCENES[i]).mask).all() for i in found)
    with pytest.raises(ConfigError, match="is an exported network already"):
        exported.export("onnx")
