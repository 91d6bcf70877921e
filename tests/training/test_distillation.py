import csv

import pytest
import torch

from mnv2_tasks.build import build_network, build_sources, class_names_of
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.network_and_data import build_data
from mnv2_tasks.training.assemble import build_distillation, build_module
from mnv2_tasks.training.distillation import Distillation
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import load_weights, save_weights

SMALL = ["width=0.35", "imgsz=64", "batch=4", "workers=0", "data.source.train_size=8"]


def made(task, *overrides, classes=None, seed=0):
    """A network of this task on the shapes, and what it was made from."""
    config = compose("train", [f"task={task}", *SMALL, *overrides])
    sources = build_sources(config)
    names = class_names_of(sources)
    if classes:
        names = {name: classes for name in names}
    torch.manual_seed(seed)
    return build_network(config, names), config, sources


def batches_of(config, sources):
    return {name: next(iter(loader)) for name, loader in build_data(config, sources).train_dataloader().items()}


def taught(teacher, student, alpha=0.5, temperature=1.0):
    return Distillation(teacher=teacher, student=student, alpha=alpha, temperature=temperature, imgsz=64)


def terms_of(distillation, student, batches):
    """{task: loss terms} of a training step."""
    outputs = student.outputs(batches)
    return distillation(student.loss(outputs, batches), outputs, batches)


@pytest.mark.parametrize("task", ["classification", "ssdlite", "mobile_deeplabv3"])
def test_a_teacher_who_agrees_adds_nothing_and_one_who_differs_does(task):
    student, config, sources = made(task)
    batches = batches_of(config, sources)
    norms = [m for m in student.modules() if isinstance(m, (torch.nn.BatchNorm2d, torch.nn.Dropout))]
    teacher = made(task)[0]
    for agrees in (True, False):
        if not agrees:
            biases = [p for p in teacher.tasks.parameters() if p.ndim == 1]
            with torch.no_grad():
                for bias in biases:
                    bias.add_(torch.randn_like(bias))
        distillation = taught(teacher, student)
        student.train()
        for module in norms:
            module.eval()  # as the teacher is
        outputs = student.outputs(batches)
        labels_only = student.loss(outputs, batches)
        terms = distillation(labels_only, outputs, batches)[task]
        assert (abs(terms["distillation"].item()) < 1e-4) == agrees
        for name, value in labels_only[task].items():
            torch.testing.assert_close(terms[name], value if name == "box" else 0.5 * value)


def test_divergence_is_hintons_formula():
    student, config, sources = made("classification")
    teacher = made("classification", seed=1)[0]
    batches = batches_of(config, sources)
    images = batches["classification"].images
    distillation = taught(teacher, student, alpha=1.0, temperature=4.0)
    outputs = student.train().outputs(batches)
    terms = distillation(student.loss(outputs, batches), outputs, batches)["classification"]
    with torch.no_grad():
        wanted = teacher(images)["classification"]
    p, q = (wanted / 4).softmax(1), (outputs["classification"] / 4).softmax(1)
    torch.testing.assert_close(terms["distillation"], 16 * (p * (p / q).log()).sum(1).mean())
    assert terms["class"].item() == 0.0


def test_pixels_without_class_teach_nothing():
    student, config, sources = made("mobile_deeplabv3")
    batches = batches_of(config, sources)
    empty = {n: b._replace(masks=torch.full_like(b.masks, IGNORE)) for n, b in batches.items()}
    distillation = taught(made("mobile_deeplabv3", seed=1)[0], student)
    student.train()
    assert terms_of(distillation, student, empty)["mobile_deeplabv3"]["distillation"].item() == 0.0


def test_maps_of_another_stride_are_compared_at_the_students():
    student, config, sources = made("mobile_deeplabv3")
    teacher = made("deeplabv3", "output_stride=8", "width=0.5", seed=1)[0]
    batches = batches_of(config, sources)
    distillation = taught(teacher, student.train())
    terms = terms_of(distillation, student, batches)["mobile_deeplabv3"]
    assert torch.isfinite(terms["distillation"]) and terms["distillation"] > 0


def test_teacher_enters_neither_the_optimizer_nor_the_checkpoint_and_gets_no_gradient():
    student, config, sources = made("classification")
    teacher = made("classification", seed=1)[0]
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    module = build_module(config, student, {}, distillation=taught(teacher, student))
    assert not any("teacher" in name for name in module.state_dict())
    own = {id(p) for p in teacher.parameters()}
    assert not own & {id(p) for p in module.parameters()}
    batches = batches_of(config, sources)
    module.train()
    sum(terms_of(module.distillation, student, batches)["classification"].values()).backward()
    assert all(p.grad is None for p in teacher.parameters()) and not teacher.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_a_multi_task_network_teaches_the_tasks_that_it_shares():
    student, _, _ = made("classification")
    teacher = made("multitask", seed=1)[0]
    assert taught(teacher, student).taught_tasks == {"classification": "classification"}


@pytest.mark.parametrize(
    "teacher, student, message",
    [
        (
            ("classification", {"classes": ["a", "b"]}),
            "classification",
            r"knows 2 classes, classification has 8; .*'a'",
        ),
        (("classification", {}), "ssdlite", r"is for classification, it can teach nothing of ssdlite"),
    ],
)
def test_teachers_that_do_not_fit_are_refused(teacher, student, message):
    task, changes = teacher
    with pytest.raises(ConfigError, match=message):
        taught(made(task, **changes)[0], made(student)[0])


def test_detectors_with_other_anchors_or_scores_are_refused():
    teacher, student = made("ssdlite")[0], made("ssdlite")[0]
    teacher.tasks["ssdlite"].head.forward = lambda features: (
        student.tasks["ssdlite"].head(features)._replace(anchors=torch.zeros(3, 4))
    )
    with pytest.raises(ConfigError, match=r"has 3 anchors at 64 px"):
        taught(teacher, student)
    with pytest.raises(ConfigError, match=r"scores=softmax"):
        taught(made("ssdlite", "tasks.ssdlite.scores=sigmoid")[0], student)


@pytest.mark.parametrize(
    "changes, message", [({"alpha": 0.0}, r"alpha=0.0"), ({"temperature": 0.0}, r"temperature=0.0")]
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        taught(made("classification")[0], made("classification")[0], **changes)


def test_teacher_is_named_in_the_config_by_its_weights(tmp_path):
    network, config, sources = made("classification", seed=3)
    save_weights(
        tmp_path / "teacher.safetensors", network.state_dict(), make_passport(config, class_names_of(sources), "")
    )
    config.distillation.teacher = str(tmp_path / "teacher.safetensors")
    made_of = build_distillation(config, made("classification")[0])
    assert torch.equal(made_of.teacher.state_dict()["mean"], network.state_dict()["mean"])
    for name, tensor in network.state_dict().items():
        assert torch.equal(made_of.teacher.state_dict()[name], tensor)
    config.distillation.teacher = "nowhere"
    with pytest.raises(ConfigError, match=r"distillation.teacher=nowhere: .*no such file"):
        build_distillation(config, network)
    config.distillation.teacher = None
    assert build_distillation(config, network) is None


@pytest.mark.slow
def test_training_with_everything_on_lowers_the_loss(tiny):
    """Mixed, augmented, erased and smoothed, taught by the shipped network, over accumulated batches."""
    config = compose(
        "train",
        ["task=classification", *tiny, "data.source.train_size=64", "batch=8", "epochs=4", "lr=0.004",
         "weights=shapes_backbone",
         "mixing.mixup=0.2", "mixing.cutmix=1.0", "data.augmentation.classification=imagenet_rand",
         "distillation.teacher=multitask_shapes", "distillation.alpha=0.5", "distillation.temperature=2.0",
         "trainer.accumulate=2", "reference_batch=16", "train_imgsz=48"],
    )  # fmt: skip
    run = train(config)
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["train/loss"]) for row in rows]
    assert losses[-1] < 0.9 * losses[0], losses
    assert all(float(row["train/distillation"]) > 0 for row in rows)
    stored = load_weights(run / "checkpoints" / "last.ckpt").state
    assert len(stored) == len(build_network(config, {"classification": ["x"] * 8}).state_dict())
