"""What a new user types by mistake: refused before anything is made, with the word that was meant."""

import numpy as np
import pytest
import torch
from PIL import Image

from mnv2_tasks.config.compose import compose, launch
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runtimes.formats import check_format
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.weight_files import load_weights


@pytest.mark.parametrize(
    "wrong, message",
    [
        ("trainer.precision=8", "trainer: Lightning refuses its settings"),
        ("trainer.accelerator=abacus", "trainer: Lightning refuses its settings"),
        ("trainer.devices=0", "trainer: Lightning refuses its settings"),
        ("lr=-1", "lr=-1: expected a positive number"),
        ("lr=.nan", "lr=nan: expected a positive number"),
        ("epochs=0", "epochs=0: expected at least 1"),
        ("batch=0", "batch=0: expected at least 1"),
        ("workers=-1", "workers=-1: expected at least 0"),
        ("optim.weight_decay=-1", "optim.weight_decay=-1: expected at least 0"),
        ("trainer.limit_train=0", "trainer.limit_train=0: expected a positive number"),
        ("trainer.accelerator=tpu", "trainer.accelerator: expected auto, cpu, gpu or mps"),
        ("lr=inf", "lr=inf: expected a positive number, no infinite one"),
        ("seed=99999999999999", "seed=99999999999999: expected 0 to"),
        ("input.mean=[0,0]", r"input.mean=\[0, 0\]: expected three finite numbers"),
        ("input.std=[0,0,0]", r"input.std=\[0, 0, 0\]: expected three positive numbers"),
        ("optim.optimizer.lr=-1", "optim.optimizer.lr=-1: expected a positive number"),
        ("+optim.optimizer.eps=-1", "AdamW: cannot be made of its settings"),
        ("schedule.warmup=5", "schedule.warmup=5: expected a share of training"),
        ("loss_weights.classification=-1", "loss_weights.classification=-1: expected at least 0"),
        ("distillation.alpha=2", r"distillation.alpha=2: expected a share in \[0, 1\]"),
        ("trainer.save_every_steps=0", "trainer.save_every_steps=0: expected at least 1"),
        ("trainer.patience=0", "trainer.patience=0: expected at least 1"),
        ("trainer.patience=soon", "trainer.patience=soon: expected whole epochs"),
        ("trainer.patience=1.5", "trainer.patience=1.5: expected whole epochs"),
    ],
)
def test_values_are_checked_before_a_folder_is_made(tmp_path, tiny, wrong, message):
    wrong = wrong.replace(".nan", "nan")
    with pytest.raises(ConfigError, match=message):
        train(compose("train", ["task=classification", *tiny, wrong]))
    assert not (tmp_path / "classification").exists()


@pytest.mark.parametrize(
    "verb, words, message",
    [
        (
            "train",
            ["task=ssdlite", "+patience=3"],
            r"\+patience=3: nothing reads.* 'patience'. Say trainer.patience=",
        ),
        ("train", ["task=ssdlite", "+trainer.max_steps=3"], "nothing reads a key 'max_steps' in trainer"),
        ("train", ["task=ssdlite", "+foo.bar=3"], "nothing reads a key 'bar' in foo"),
        ("predict", ["+iou=0.5"], "nothing reads a key 'iou'"),
        ("train", ["task=ssdlite", "data.root=x"], "say what your files are, data=folder"),
        ("train", ["task=detection"], "task=detection: unknown task. Detectors are task=ssdlite and task=ssd"),
        ("train", ["task=segmentation"], "task=mobile_deeplabv3"),
        ("train", ["task=ssdlite", "device=cpu"], "no key 'device'. Where to compute: trainer.accelerator="),
        ("train", ["task=ssdlite", "conf=0.3"], "predict has min_score="),
        ("predict", ["conf=0.3"], "min_score="),
        ("export", ["format=onnx", "split=2"], "say what to export: weights=<name, path or run folder>"),
        ("predict", ["name=x"], "A run of train has name=<word>; predict, eval and export write to out="),
        ("train", ["task=ssdlite", "project=x"], "Say runs=<folder> for where .*, name=<word> for what one is called"),
        ("predict", ["images=a"], "Say source=<image, folder, glob or list> to predict"),
        ("predict", ["iou=0.5"], "goes with the weights: eval and export have tasks.<task>.iou_threshold="),
        ("predict", ["max_det=50"], "tasks.<task>.max_detections="),
        ("predict", ["save_txt=true"], "Save=yolo writes text files of boxes, and results.json"),
        ("predict", ["imgsz=640"], "predict takes pictures of any size"),
        ("predict", ["threshold=0.5"], "predict has min_score=, or thresholds=<file> for each class. Did you mean"),
        ("train", ["task=ssdlite", "weight_decay=1"], "Say optim.weight_decay=<number>"),
        ("train", ["task=ssdlite", "data=coco128.yaml"], "yours is data=folder data.root=coco128.yaml"),
        ("train", ["task=ssdlite", "+lr=1"], r"\+lr=1: \+ adds a key, and this one is there: lr=<value>"),
    ],
)
def test_words_of_other_programs_and_verbs_get_a_hint(verb, words, message):
    with pytest.raises(ConfigError, match=message):
        compose(verb, words)


@pytest.mark.parametrize("wrong", ["--epochs=5", "-epochs=5", "epochs:5", "epochs: 5"])
def test_other_ways_to_write_a_key_and_its_value_are_told_ours(wrong):
    with pytest.raises(SystemExit, match=f"error: {wrong}: say epochs=5"):
        launch("train", lambda config: None, ["task=ssdlite", wrong])


def of_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ...")


@pytest.mark.parametrize(
    "ask, told",
    [
        (of_gpu, "CUDA out of memory"),
        (lambda: torch.empty(2**60, dtype=torch.uint8), "DefaultCPUAllocator: can't allocate memory: .* bytes"),
        (lambda: np.empty(2**60, np.uint8), "Unable to allocate"),
    ],
    ids=["GPU", "CPU", "NumPy"],
)
def test_memory_that_runs_out_is_told_with_what_takes_less(ask, told):
    with pytest.raises(
        SystemExit, match=rf"error: there is not enough memory \({told}.*\)\. A smaller batch= or imgsz="
    ):
        launch("train", lambda config: ask(), ["task=ssdlite"])


def test_another_fault_of_torch_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="size of tensor a"):
        launch("train", lambda config: torch.ones(2) + torch.ones(3), ["task=ssdlite"])


def test_a_file_of_annotations_as_root_names_the_folder_around(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text("{}")
    with pytest.raises(ConfigError, match=f"a.json: is a file; say the folder .*: data.root={tmp_path}$"):
        root = f"data.root={tmp_path / 'annotations' / 'a.json'}"
        train(compose("train", ["task=ssdlite", "data=folder", root, "weights=none"]))


def test_what_is_read_beside_the_keys_of_conf_may_be_added():
    config = compose(
        "train",
        ["task=ssdlite", "+data.augmentation.tagging=light", "+optim.optimizer.amsgrad=true"],
    )
    assert config.optim.optimizer.amsgrad and config.data.augmentation.tagging == "light"


def test_a_text_is_no_file_of_weights_and_a_format_is_known_by_its_other_name(tmp_path):
    (tmp_path / "README.md").write_text("# weights")
    with pytest.raises(ConfigError, match="README.md: is no file of weights.*safetensors"):
        load_weights(tmp_path / "README.md")
    with pytest.raises(ConfigError, match="format=tflite: unknown; it is called litert"):
        check_format("tflite", "fp32")


def test_a_batch_larger_than_the_data_becomes_smaller_and_that_is_said(tmp_path, tiny, caplog, monkeypatch):
    def refuse(*_):
        raise ConfigError("no training of it")

    for split, number in (("train", 11), ("val", 3)):
        for i in range(number):
            path = tmp_path / "data" / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 32, 3), 20 * i + (split == "val"), np.uint8)).save(path)
    plain = [override for override in tiny if not override.startswith("data.source")]
    words = ["task=classification", "data=folder", f"data.root={tmp_path / 'data'}", *plain, "batch=32"]
    run = train(compose("train", words))
    with pytest.raises(ConfigError, match="no training of it"):
        monkeypatch.setattr("mnv2_tasks.training.prepared_run.build_data", refuse)
        train(compose("train", [*words, "batch=1000000000"]))
    assert "batch=1000000000 is more than the 11 training images: batch=11 is used" in caplog.text
    assert "batch=32 is more than the 11 training images: batch=11 is used" in caplog.text
    assert "batch: 11\n" in (run / "config.yaml").read_text()
