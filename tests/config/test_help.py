"""--help: every key of a tool, with its meaning."""

import re

import pytest
from omegaconf import OmegaConf

from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.help_text import help_text

CHOSEN = ["task=ssdlite", "data=coco"]
CALLS = {
    "train": CHOSEN, "eval": CHOSEN, "export": CHOSEN, "predict": [], "data_tool": ["data=coco"], "bench": [],
    "scorecard": [], "paper": [], "demo": [], "publish": [],
}  # fmt: skip


def leaves(config, parent=""):
    for key in config:
        node = config._get_node(key)
        if OmegaConf.is_dict(node) and node:
            yield from leaves(node, f"{parent}{key}.")
        else:
            yield f"{parent}{key}"


def told(text):
    """{key: its meaning, or that of those it stands within}, in the order in which they are printed."""
    found, last = {}, None
    for line in re.sub(r"\nChoices\n.*?\n\n", "\n\n", text, flags=re.DOTALL).splitlines():
        key = re.match(r"  ([a-z_][\w.<>]*)(?:=\S*|  )(.*)", line)
        if key:
            last = key[1]
            found[last] = key[2].strip()
        elif last and line.startswith(" " * 34):
            found[last] += line.strip()
    return {
        key: re.sub(r"^\[.*?\] ?", "", meaning) or found.get(key.rpartition(".")[0], "")
        for key, meaning in found.items()
    }


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("chosen", [False, True], ids=["of any choice", "of what is chosen"])
def test_help_names_every_key(name, chosen):
    keys = told(help_text(name, CALLS[name] if chosen else []))
    for key in leaves(compose(name, CALLS[name])):
        if key.split(".")[0] not in ("choices", "hydra", "tasks") and not key.startswith("init_std.tasks"):
            key = "groups" if key.startswith("groups.") else key  # filled in by the recipe
            assert (key if chosen else key.replace(".ssdlite", ".<task>")) in keys


@pytest.mark.parametrize("name", [*CALLS, "study", "search"])
def test_every_key_has_a_meaning(name):
    assert not [key for key, meaning in told(help_text(name)).items() if not meaning and not key.endswith("_target_")]


def test_what_is_changed_most_comes_first():
    keys = list(told(help_text("train")))
    assert {"lr", "epochs", "batch", "imgsz", "output_stride"} < set(keys[:8])


def test_help_beside_a_choice_shows_its_keys_alone():
    keys = told(help_text("train", [*CHOSEN, "--help"]))
    assert "data.source.train_size" not in keys and "data.on_bad" in keys
    assert "tasks.ssdlite.head.anchor_scales" in keys and "tasks.<task>.head.dropout" not in keys
    assert "tasks.mobile_deeplabv3.head.channels" in told(help_text("train", ["task=multitask"]))


def test_own_keys_of_a_tool_that_takes_those_of_training_come_first():
    assert list(told(help_text("eval")))[:2] == ["run", "out"]
    assert list(told(help_text("export")))[:2] == ["format", "precision"]
