"""The card of a run: what people and Hugging Face's hub read, and what nobody may read in it."""

import re

import numpy as np
import pytest
import yaml

from mnv2_tasks.metrics.bootstrap import draw_images, percentile_interval, resample
from mnv2_tasks.metrics.outcomes import Hits
from mnv2_tasks.model_card.card import model_card
from mnv2_tasks.model_card.facts import RunFacts
from mnv2_tasks.model_card.places import without_places
from mnv2_tasks.network.cost import Cost

HOSTILE = ["<script>alert(1)</script>", "[here](javascript:x)", "a | b", "`x`", "---", "{{ 7 * 7 }}"]


def hits(images=40, classes=2):
    numbers = np.arange(images)
    right = numbers % 4 > 0
    return Hits(numbers, (numbers % classes).astype(np.int32), right, right, np.array(classes))


def facts_of(names=("cat", "dog"), outcomes=None, kind="classification", **config):
    outcomes = {"classification": hits(classes=len(names))} if outcomes is None else outcomes
    return RunFacts(
        config={
            "choices": {"task": "classification", "data": "folder", "backbone": "mobilenet_v2"},
            "epochs": 3, "batch": 8, "imgsz": 64, "output_stride": 32, "lr": 0.05, "weights": "imagenet",
            "optim": {"optimizer": {"_target_": "torch.optim.SGD", "momentum": 0.9, "fused": True, "lr": 0.05}},
            "schedule": {"shape": {"_target_": "mnv2_tasks.optim.cosine", "final": 0.0}, "warmup": 0.1},
            "data": {"root": "/home/me/my photos", "augmentation": {"classification": "imagenet"}},
        } | config,
        description={
            "class_names": {"classification": list(names)}, "data_fingerprint": {"classification": "f" * 64},
            "data_sizes": {"classification": {"train": 120, "val": 40}}, "precision": "bf16-mixed", "version": "0.2.0",
            "started_from": "weights: imagenet (ours), transferred 260 of 262 tensors",
        },
        metrics={"top1": 0.75, "top5": 1.0, "top1_per_class": {names[0]: 0.5}, "images": 40, "precision": "32-true"},
        outcomes=outcomes,
        kinds={"classification": kind},
        cost=Cost(3_500_000, 300_000_000, 0),
    )  # fmt: skip


def front_matter(card):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.S)[1])


def test_card_says_scores_data_recipe_cost_and_limits():
    card = model_card(facts_of())
    low, high = percentile_interval(resample(hits(), draw_images(40)).scores)
    assert f"| classification | top-1 | 0.7500 | {low:.4f} to {high:.4f} |" in card
    assert "| classification | folder | 120 | 40 | ffffffffffffffff |" in card
    assert "| optimizer | SGD momentum=0.9 |" in card and "| schedule | cosine final=0.0 |" in card
    assert "3.500 M parameters, 0.300 G multiply-adds for one image at 64 px" in card
    assert "Trained in bf16-mixed, scored in 32-true." in card and "drawn shapes" not in card
    assert 'mnv2_tasks.load("weights.safetensors")' in card and "Nobody has named a licence" in card


def test_hugging_faces_library_reads_the_scores_and_metadata_of_the_card():
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(model_card(facts_of(), license="apache-2.0", weights="hf_hub:owner/name"), True)
    assert card.data.library_name == "mnv2_tasks" and card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "image-classification" and card.data.metrics == ["accuracy"]
    assert {"mnv2_tasks", "mobilenet_v2", "classification"} <= set(card.data.tags)
    (result,) = card.data.eval_results
    assert (result.task_type, result.dataset_name, result.metric_type) == ("image-classification", "folder", "accuracy")
    assert result.metric_value == 0.75 and result.dataset_split == "validation"
    assert 'mnv2_tasks.load("hf_hub:owner/name")' in card.text and "extra `hub`" in card.text
    assert "The weights: apache-2.0." in card.text


def test_public_data_have_the_hubs_names_and_ones_own_have_none():
    choices = {"task": "classification", "data": "imagenet", "backbone": "mobilenet_v2"}
    assert front_matter(model_card(facts_of(choices=choices)))["datasets"] == ["imagenet-1k"]
    assert "datasets" not in front_matter(model_card(facts_of()))


def test_names_of_classes_are_text_wherever_they_stand():
    card = model_card(facts_of(HOSTILE))
    assert "<script" not in card and "](javascript" not in card.replace("\\[here]", "") and "49" not in card
    assert "{{ 7 \\* 7 }}" in card and "\\`x\\`" in card
    markdown = card.split("\n---\n", 1)[1]
    assert "---" not in [line.strip() for line in markdown.splitlines()]  # no rule, nor a second front matter
    (row,) = (line for line in model_card(facts_of(["a | b", "c"])).splitlines() if "| b |" in line)
    assert row.startswith("| a \\| b | 0.5000 |")


def test_a_name_that_breaks_the_front_matter_is_quoted_in_it():
    choices = {"task": "classification", "data": "x: [y", "backbone": "m # no"}
    content = front_matter(model_card(facts_of(choices=choices)))
    assert content["tags"][1] == "m # no" and content["model-index"][0]["results"][0]["dataset"]["name"] == "x: [y"


def test_without_outcomes_or_a_score_the_card_has_no_interval_and_no_result():
    facts = facts_of(outcomes={})
    assert "| classification | top-1 | 0.7500 |  |" in model_card(facts) and "bootstrap" not in model_card(facts)
    facts.metrics["top1"] = None
    assert "model-index" not in front_matter(model_card(facts))


def test_a_kind_that_the_hub_does_not_know_has_a_card_without_its_words(monkeypatch):
    from mnv2_tasks.kinds import classification
    from mnv2_tasks.kinds.kinds import KINDS

    monkeypatch.setitem(KINDS, "tagging", classification)
    content = front_matter(model_card(facts_of(kind="tagging")))
    assert "pipeline_tag" not in content and content["model-index"][0]["results"][0]["task"]["type"] == "tagging"


def test_classes_beyond_a_hundred_are_counted():
    card = model_card(facts_of([f"class{i}" for i in range(150)]))
    assert "150 classes: class0" in card and "class99 ... (50 more)" in card and "class120" not in card


@pytest.mark.parametrize(
    "text, known, told",
    [
        ("weights: /home/me/net.pth (ours), 3 of 4", [], "weights: net.pth (ours), 3 of 4"),
        ("weights: /home/me/my nets/a b.pth (ours)", ["/home/me/my nets/a b.pth"], "weights: a b.pth (ours)"),
        ("weights: mine/of me/net.pth", ["mine/of me/net.pth"], "weights: net.pth"),
        (r"weights: C:\Users\me\net.pth", [], "weights: net.pth"),
        (r"weights: \\server\share\net.pth", [], "weights: net.pth"),
        ("~/nets/a.pth", [], "a.pth"),
        ("https://me:secret@example.org/a/net.pth?token=secret#sha256=1", [], "net.pth"),
        ("weights: hf_hub:owner/name (timm)", ["hf_hub:owner/name"], "weights: hf_hub:owner/name (timm)"),
        ("top-1 / top-5, 8 x 8, 1e-3", [], "top-1 / top-5, 8 x 8, 1e-3"),
        ("s3://bucket/me/shard.tar, pipe:cat /home/me/x", [], "shard.tar, pipe:cat x"),
    ],
)
def test_places_give_way_to_the_names_of_their_files(text, known, told):
    assert without_places(text, *known) == told


def test_no_place_of_the_users_machine_is_in_a_card():
    facts = facts_of(
        weights="/home/me/my nets/mine.pth", distillation={"teacher": "/home/me/the teacher/big.pth"}, mixing={}
    )
    facts.description["started_from"] = "weights: /home/me/my nets/mine.pth (ours), transferred 2 of 3 tensors"
    card = model_card(facts)
    assert "home" not in card and "/me" not in card and "my nets" not in card and "the teacher" not in card
    assert "| initial weights | weights: mine.pth (ours)" in card and "| distillation.teacher | big.pth |" in card
