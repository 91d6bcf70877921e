import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.reading.class_counts import class_counts
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training.prepared_run import prepare
from mnv2_tasks.training.rare_classes import balanced, factors
from mnv2_tasks.training.train import train

COUNTS = csr_array(np.array([[5, 0, 0], [2, 1, 0], [1, 0, 0], [0, 0, 0], [9, 0, 0], [3, 2, 0]]))


def test_labels_are_counted_by_image_and_those_beyond_the_classes_left_out():
    labels = [np.array([2, 2, 0]), np.zeros((0,), np.int64), np.array([[1, 255], [1, 1]], np.uint8)]
    np.testing.assert_array_equal(class_counts(labels, 3).toarray(), [[1, 0, 2], [0, 0, 0], [0, 3, 0]])


def test_balanced_classes_count_as_much_in_all_and_the_mean_stays_1():
    weights = balanced(COUNTS)
    of_class = COUNTS.sum(axis=0)
    assert weights[0] * of_class[0] == pytest.approx(weights[1] * of_class[1])
    assert (weights * of_class).sum() / of_class.sum() == pytest.approx(1)
    assert weights[2] == 1  # does not occur


def test_factors_are_lvis_of_the_rarest_class_of_an_image():
    shares = [5 / 6, 2 / 6]
    np.testing.assert_allclose(factors(COUNTS, 0.5), [1, (0.5 / shares[1]) ** 0.5, 1, 1, 1, (0.5 / shares[1]) ** 0.5])
    both = factors(COUNTS, 0.9)
    np.testing.assert_allclose(both[:2], [(0.9 / shares[0]) ** 0.5, (0.9 / shares[1]) ** 0.5])
    assert both[3] == 1  # without objects


def test_a_threshold_below_every_class_changes_nothing():
    np.testing.assert_array_equal(factors(COUNTS, 0.1), np.ones(6))


def prepared(*words):
    return prepare(compose("train", ["data.source.train_size=64", "data.source.val_size=8", "imgsz=64", *words]))


@pytest.mark.parametrize("task", ["classification", "ssdlite", "yolov2", "mobile_deeplabv3"])
def test_every_tasks_loss_takes_weights_and_every_tasks_images_can_be_repeated(task):
    words = [f"task={task}", f"class_weights.{task}=balanced", f"repeat_threshold.{task}=0.9", "batch=4", "width=0.35"]
    run = prepared(*words)
    weights = run.network.tasks[task].criterion.class_weights
    assert len(weights) == len(run.network.tasks[task].class_names) and weights.min() > 0 and len(weights.unique()) > 1
    loader = run.data.train_dataloader()[task]
    assert len(loader) == int(np.ceil(run.data.repeats[task].sum())) // 4 > 64 // 4
    batch = next(iter(loader))
    outputs = run.network.outputs({task: batch})
    assert all(torch.isfinite(term) for term in run.network.loss(outputs, {task: batch})[task].values())


def test_weights_by_name_are_those_and_the_others_1():
    run = prepared("task=ssdlite", "class_weights.ssdlite={disc: 2.5, star: 0}")
    names = run.network.tasks["ssdlite"].class_names
    wanted = {"disc": 2.5, "star": 0.0}
    assert run.network.tasks["ssdlite"].criterion.class_weights.tolist() == [wanted.get(name, 1.0) for name in names]


def test_a_run_says_what_it_does_for_rare_classes(tmp_path, tiny, caplog):
    words = ["task=classification", *tiny, "class_weights.classification={disc: 3}"]
    with caplog.at_level("INFO"):
        train(compose("train", [*words, "repeat_threshold.classification=0.5"]))
    assert "classification: classes weigh disc 3, " in caplog.text
    assert "training images are read more than once in an epoch, up to 2." in caplog.text


@pytest.mark.parametrize(
    "wrong, message",
    [
        ("class_weights.ssdlite=balance", r"class_weights.ssdlite=balance: expected balanced, null or"),
        ("class_weights.ssdlite={dic: 2}", r"class_weights.ssdlite.dic: there is no such class. Did you mean disc"),
        ("class_weights.ssdlite={disc: -1}", r"class_weights.ssdlite.disc=-1: expected a number, at least 0"),
        ("class_weights.ssdlite={disc: much}", r"class_weights.ssdlite.disc=much: expected a number"),
        ("class_weights.ssdlit=balanced", r"no key 'ssdlit' in class_weights. Did you mean ssdlite"),
        ("repeat_threshold.ssdlite=2", r"repeat_threshold.ssdlite=2: expected a share"),
        ("repeat_threshold.ssdlite=often", r"repeat_threshold.ssdlite=often: expected a number"),
        ("tasks.ssdlite.loss.focal_gamma=-1", "focal_gamma=-1: expected 0"),
        ("tasks.ssdlite.loss.focal_alpha=1", "focal_alpha=1: expected a share"),
    ],
)
def test_what_neither_key_can_mean_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        prepared("task=ssdlite", wrong)


def test_a_loss_that_takes_no_weights_is_named():
    words = ["task=classification", "class_weights.classification={disc: 2}"]
    with pytest.raises(ConfigError, match="its loss, CrossEntropyLoss, takes no class weights"):
        prepared(*words, "tasks.classification.loss._target_=torch.nn.CrossEntropyLoss")
