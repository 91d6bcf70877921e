"""Searches: what a space may say, which trials there are, and what becomes of those that stop, are killed or fail."""

import functools
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from optuna.storages.journal._storage import JournalOperation
from rich.console import Console

from mnv2_tasks.__main__ import main
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.studies.command_line import sort_for_search
from mnv2_tasks.studies.search import search as searching
from mnv2_tasks.studies.search import space as spaces
from mnv2_tasks.studies.search import trials as all_trials
from mnv2_tasks.studies.search.recipe_of import recipe_of
from mnv2_tasks.studies.search.space import Choice, Range, override, space_from, written
from mnv2_tasks.studies.search.trials import JOURNAL, Trials

pytestmark = pytest.mark.slow

SPACE = {"lr": {"low": 1e-4, "high": 1e-1, "log": True}, "batch": [8, 16, 32]}
COMMON = ["task=classification", "epochs=3", "weights=none"]

# train of a search that is only about who is called when: the better, the nearer lr is to 0.003
FAKE = """
import json, math, os, signal, sys, time
from pathlib import Path
given = dict(argument.split("=", 1) for argument in sys.argv[2:])
tools, resumed = Path(sys.argv[0]).parent, "resume" in given
folder = Path(given["resume"] if resumed else os.environ["MNV2_RUN_FOLDER"])
(folder / "checkpoints").mkdir(exist_ok=True)
with (tools / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({"folder": folder.name, "resumed": resumed, **given}) + "\\n")
behaviour = tools / "behaviour.json"
wanted = json.loads(behaviour.read_text()).get(folder.name, "") if behaviour.exists() else ""
if wanted == "fail":
    sys.exit("error: the loss is not finite at step 2")
def save(*_):
    (folder / "checkpoints" / "last.ckpt").write_text("half")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
given = json.loads((folder / "given.json").read_text()) if resumed else given
(folder / "given.json").write_text(json.dumps(given))
score = 1 - abs(math.log10(float(given["lr"])) + 2.5) / 3
if wanted == "worst":
    score = 0.0
rows = "epoch,val/score\\n"
for epoch in range(3):
    rows += f"{epoch},{score * (epoch + 1) / 3}\\n"
    (folder / "metrics.csv").write_text(rows)
    if wanted in ("wait", "worst"):
        (folder / "waiting").touch()
        time.sleep(60)
    if wanted.startswith("meet "):
        while not (folder.parent / wanted[5:]).exists():
            time.sleep(0.05)
(folder / "metrics.json").write_text(json.dumps({"top1": score}))
"""


@functools.cache
def composed(*overrides):
    return compose("train", list(overrides))


@pytest.fixture(autouse=True)
def unbuilt(monkeypatch):
    """Runs are composed and built where that is the question."""
    monkeypatch.setattr(all_trials, "build_on_meta", lambda config: None)
    monkeypatch.setattr(all_trials, "compose", lambda tool, overrides: composed(*COMMON))
    for module in (spaces, searching):
        monkeypatch.setattr(module, "compose", lambda tool, overrides: composed(*overrides))


@pytest.fixture
def tools(tmp_path):
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "mnv2.py").write_text(FAKE)
    return folder


def calls(tools):
    path = tools / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def behave(tools, wanted):
    (tools / "behaviour.json").write_text(json.dumps(wanted))


def settings(tmp_path, *own, space=SPACE):
    path = tmp_path / "space.yaml"
    OmegaConf.save(OmegaConf.create(space), path)
    return compose("search", [f"search={path}", f"runs={tmp_path / 'runs'}", *own])


def search(tmp_path, tools, *own, passed=COMMON, space=SPACE):
    """(whether there is a best trial, what was printed)."""
    console = Console(file=io.StringIO(), width=200)
    program = [sys.executable, str(tools / "mnv2.py")]
    found = searching.run_search(settings(tmp_path, *own, space=space), passed, program=program, console=console)
    return found, console.file.getvalue()


def folder_of(tmp_path):
    return tmp_path / "runs" / "studies" / "space" / "shapes-classification"


def trials_in(folder, *, common=COMMON, prune=True):
    folder.mkdir(exist_ok=True)
    space = {"lr": Range(1e-4, 1e-1, log=True), "batch": Choice(("8", "16", "32"))}
    return Trials(folder, space, common, composed(*common), prune=prune)


def train(job, scores):
    """What a run leaves."""
    job.folder.mkdir(exist_ok=True)
    rows = "".join(f"{epoch},{score}\n" for epoch, score in enumerate(scores))
    (job.folder / "metrics.csv").write_text(f"epoch,val/score\n{rows}")
    job.state = "done"


def proposed(trials, until, score=lambda number: number % 5 / 5):
    """What each trial tries; all are trained at once."""
    found = []
    for job in trials.coming(until):
        found.append(job.run.overrides[len(COMMON) :])
        train(job, [score(len(found))])
        trials.event(job)
    return found


@pytest.mark.parametrize(
    "space, message",
    [
        ({"lrr": [1e-3]}, "there is no key 'lrr'. Did you mean lr"),
        ({"optim": ["adam"]}, "unknown optim. Did you mean adamw"),
        ({"optim.weight_decai": [0.1]}, "no key 'weight_decai' in optim. Did you mean weight_decay"),
        ({"width": {"low": 0.35, "high": 9.0}}, "width=9"),
        ({"batch": ["many"]}, "batch=many: expected a whole number"),
        ({"batch": {"low": 8, "high": 16.5}}, "batch: high=16.5: expected a whole number, such as 32"),
        ({"lr": {"low": 1e-4, "hihg": 1e-2}}, "lr: there is no 'hihg' in a range. Did you mean high"),
        ({"lr": {"low": 1e-4}}, "lr: has no high; .*is a list to choose from"),
        ({"lr": {"low": 0.1, "high": 0.01}}, "lr: low=0.1 is not below high=0.01"),
        ({"lr": {"low": 0, "high": 0.01, "log": True}}, "lr: low=0: a logarithmic range begins above 0"),
        ({"lr": {"low": 0.1, "high": 0.2, "step": 0.01, "log": True}}, "step=0.01: a logarithmic range has none"),
        ({"lr": {"low": 0.1, "high": 0.2, "step": 3}}, "step=3: expected more than 0, and no more than high - low"),
        ({"lr": {"low": "small", "high": 0.2}}, "lr: low='?small'?: expected a number"),
        ({"lr": 0.01}, "lr: 0.01: expected values to choose from, or a range"),
        ({"lr": []}, r"lr: \[\]: expected values to choose from"),
        ({"lr": [0.1, 0.1]}, "lr: .*expected a list in which nothing is named twice"),
        ({"lr": {"low": 0.1, "high": 0.95, "step": 0.2}}, "not on a step of 0.2: say high=0.9 or high=1.1"),
        ({"data.source.val_size": [50, 500]}, "data.source.val_size is not searched for: scores on other data"),
        ({"data.root": ["a", "b"]}, "data.root is not searched for: scores on other data"),
        ({"+seed": [0, 1]}, "seed is not searched for"),
        ({"seed": [0, 1]}, "seed is not searched for: the best of several seeds is luck"),
        ({"epochs": [2, 4]}, "epochs is given beside the search, too"),
        ({"optim.optimizer._target_": ["os.system"]}, "a space holds values alone"),
        ({"data.augmentation.classification": [[{"_target_": "os.system"}]]}, "a space holds values alone"),
        ({"optim": [r"\\${oc.env:HOME}"]}, "a space holds values alone"),
        ({"trust": [True]}, "trust is not searched for"),
        ({"lr; rm": [1]}, "expected a key of tools/train.py"),
        ({}, "space.yaml: expected keys of tools/train.py"),
    ],
)  # fmt: skip
def test_mistakes_of_a_space_are_told_before_anything_is_written(tmp_path, tools, space, message):
    with pytest.raises(ConfigError, match=message) as told:
        search(tmp_path, tools, space=space)
    assert "\n" not in str(told.value)
    assert not calls(tools) and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "own, passed, message",
    [
        ([], ["epochs=3"], "a search has one task: say task=<task>"),
        ([], [*COMMON, "trails=3"], "there is no key 'trails'. Did you mean trials"),
        ([], [*COMMON, "epochs=many"], "expected a whole number"),
        ([], [*COMMON, "resume=there"], "resumed by themselves"),
        ([], [*COMMON, "study=widths"], "study=widths: stands beside search="),
        ([], ["study=widths"], "study=widths: stands beside search="),
        ([], [*COMMON, "seed=-1"], "seed=-1: expected 0 to 2"),
        ([], [*COMMON, "epochs=0"], "epochs=0: expected at least 1"),
        (["dry=true"], [*COMMON, "seed=null"], "seed=null: expected a whole number"),
        (["trials=null"], COMMON, "trials=null: expected at least 1"),
        (["trials=0"], COMMON, "trials=0: expected at least 1"),
        (["jobs=0"], COMMON, "jobs=0: expected at least 1"),
    ],
)
def test_mistakes_beside_a_space_are_told_before_anything_is_written(tmp_path, tools, own, passed, message):
    with pytest.raises(ConfigError, match=message):
        search(tmp_path, tools, *own, passed=passed)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("given", ["5", "true", "null", "", "nope.yaml", "{}"])
def test_what_is_no_space_is_told_with_its_key(given):
    with pytest.raises(ConfigError, match="^search") as told:
        searching.run_search(compose("search", [f"search={given}", "dry=true"]), COMMON)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["[x].yaml", "a=b.yaml", "ünï{}.yaml", "q'uo.yaml", "a, b.yml", "$x.yaml"])
def test_a_space_may_have_any_file_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("lr: [0.1]\n", encoding="utf-8")
    for given in (name, str(tmp_path / name)):
        assert spaces.read_space(compose("search", [f"search={given}"]).search) == {"lr": [0.1]}


def test_a_key_that_is_said_twice_is_refused(capsys):
    with pytest.raises(SystemExit) as told:
        main(["study", "search={lr: [0.1]}", "trials=3", "trials=4", "task=classification", "dry=true"])
    assert "error: trials=: is said 2 times. Say it once" in str(told.value)


@pytest.mark.parametrize(
    "given, key",
    [("{lr: [0.1], batch: [8], lr: [0.2]}", "lr"), ("{lr:[0.1],lr:[0.2]}", "lr"), ("{lr:{low:1,low:2}}", "low")],
)
def test_a_key_that_a_space_in_braces_has_twice_is_refused(given, key):
    with pytest.raises(SystemExit) as told:
        main(["study", f"search={given}", "task=classification", "dry=true"])
    assert f"error: search: {key} is there twice" in str(told.value)


def test_a_key_that_a_file_has_twice_is_told_with_its_lines(tmp_path):
    (tmp_path / "space.yaml").write_text("lr: [0.1]\nbatch: [8]\nlr: [0.2]\n")
    with pytest.raises(ConfigError, match=r"space.yaml: lr is there twice \(line 1, 3\)"):
        spaces.read_space(str(tmp_path / "space.yaml"))


@pytest.mark.parametrize(
    "space, value",
    [
        ({"optim": ["adamw", "sgd"]}, "adamw"),
        ({"optim": ["sgd", "adamw"]}, "adamw"),
        ({"width": ["0.35", "1"]}, "1"),
        ({"width": ["2", "true"]}, None),
        ({"width": Range(0.1, 1.2, step=0.1)}, 1.0),
        ({"width": Range(0.15, 1.25, step=0.1)}, None),
    ],
)
def test_values_of_the_recipe_are_found_however_they_are_written(space, value):
    ((key, one),) = space.items()
    one = Choice(tuple(one)) if isinstance(one, list) else one
    common = [*COMMON, "width=1.0"]
    assert spaces.value_of_recipe(key, one, composed(*common), common) == value


def test_without_optuna_one_line_says_what_to_install(tmp_path, tools, monkeypatch):
    monkeypatch.setattr(searching, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'^search=: needs Optuna: pip install "mnv2-tasks\[search\]"$'):
        search(tmp_path, tools)
    assert not (tmp_path / "runs").exists()


def test_values_are_written_as_a_command_line_has_them():
    config = compose("train", [*COMMON, f"scales={written([0.5, 1])}", f"trainer.patience={written(None)}"])
    assert config.scales == [0.5, 1] and config.trainer.patience is None
    for word in ("true", "it's, two", "a b", "null", "1e-3"):
        assert compose("train", [*COMMON, f"data.augmentation.classification={written(word)}"]).data.augmentation[
            "classification"
        ] == word  # fmt: skip


@pytest.mark.parametrize("value", [1e-4, 0.0999999999, 0.0031622776601683794, 0.1])
def test_a_value_is_rounded_for_people_and_never_out_of_its_range(value):
    one = Range(1e-4, 0.1, log=True)
    found = float(override("lr", one, value).removeprefix("lr="))
    assert one.low <= found <= one.high and found == pytest.approx(value, rel=1e-5)
    assert override("ema", Range(0.9, 0.99999999), 0.99999999) == "ema=0.99999999"
    assert override("batch", Range(8, 64, whole=True), 24) == "batch=24"
    assert override("optim", Choice(("adamw",)), "adamw") == "optim=adamw"


def test_the_same_seed_gives_the_same_proposals_and_another_others(tmp_path):
    first = proposed(trials_in(tmp_path / "a"), 14)
    assert proposed(trials_in(tmp_path / "b"), 14) == first
    others = proposed(trials_in(tmp_path / "c", common=[*COMMON, "seed=1"]), 5)
    assert not set(others[1:]) & set(first)
    assert len(set(first)) == 14


def test_the_first_trial_has_the_values_of_the_recipe_where_the_space_has_them(tmp_path):
    recipe = composed(*COMMON)
    assert proposed(trials_in(tmp_path / "a"), 1) == [(f"lr={recipe.lr}", f"batch={recipe.batch}")]


def test_a_search_that_was_killed_goes_on_as_it_would_have_without(tmp_path):
    whole = proposed(trials_in(tmp_path / "whole"), 13)
    killed = trials_in(tmp_path / "killed")
    found = proposed(killed, 11)
    next(killed.coming(13))  # which never ends
    again = trials_in(tmp_path / "killed")
    assert again.left(13) == 2
    for job in again.coming(13):
        found.append(job.run.overrides[len(COMMON) :])
        train(job, [len(found) % 5 / 5])
        again.event(job)
    assert found == whole
    assert [trial.state.name for trial in again.study.trials] == ["COMPLETE"] * 13


@pytest.mark.parametrize("values", [0, 1])
@pytest.mark.parametrize("number", [0, 2])
def test_a_search_that_was_killed_while_it_proposed_goes_on_as_it_would_have_without(tmp_path, number, values):
    whole = proposed(trials_in(tmp_path / "whole"), 4)
    killed = trials_in(tmp_path / "killed")
    found = proposed(killed, number)
    next(killed.coming(4))
    journal = tmp_path / "killed" / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    last = [at for at, line in enumerate(lines) if json.loads(line)["op_code"] == JournalOperation.SET_TRIAL_PARAM][-2:]
    journal.write_text("".join(lines[: last[values]]))
    again = trials_in(tmp_path / "killed")
    assert again.left(4) == 4 - number
    for job in again.coming(4):
        found.append(job.run.overrides[len(COMMON) :])
        train(job, [len(found) % 5 / 5])
        again.event(job)
    assert found == whole
    assert [trial.state.name for trial in again.study.trials].count("COMPLETE") == 4


def test_scores_of_other_settings_are_not_adopted_where_the_journal_is_gone(tmp_path):
    (job,) = trials_in(tmp_path / "a").coming(1)
    train(job, [0.9])
    OmegaConf.save(OmegaConf.merge(job.run.config, {"epochs": 7}), job.folder / "config.yaml")
    (tmp_path / "a" / JOURNAL).unlink()
    with pytest.raises(ConfigError, match="trial-000: was trained with other settings .*epochs: 7 -> 3.*runs=<folder>"):
        list(trials_in(tmp_path / "a").coming(1))


@pytest.mark.parametrize(
    "line",
    ["{}", "[1]", "not JSON", "\0", '{"op_code": 77}', '{"op_code": 5}', '{"op_code": 4, "study_id": 9}', b"\xff"],
)
@pytest.mark.parametrize("at", [1, 6])
def test_a_damaged_line_of_the_journal_is_told_by_its_number_and_left(tmp_path, line, at):
    proposed(trials_in(tmp_path / "a"), 2)
    journal = tmp_path / "a" / JOURNAL
    lines = journal.read_bytes().splitlines()
    lines[at] = line if isinstance(line, bytes) else line.encode()
    journal.write_bytes(before := b"\n".join(lines) + b"\n")
    with pytest.raises(ConfigError, match=rf"{JOURNAL}: line {at + 1} is damaged. .*runs=<folder>") as told:
        trials_in(tmp_path / "a")
    assert "\n" not in str(told.value) and journal.read_bytes() == before


def test_a_journal_whose_settings_are_damaged_is_told(tmp_path):
    proposed(trials_in(tmp_path / "a"), 1)
    journal = tmp_path / "a" / JOURNAL
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    (noted,) = [line for line in lines if "asked" in line.get("user_attr", {})]
    noted["user_attr"]["asked"] = "all"
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(ConfigError, match=f"{JOURNAL}: what its trials have in common is damaged. .*runs=<folder>"):
        trials_in(tmp_path / "a")


def test_a_journal_with_a_key_that_the_space_lacks_is_told(tmp_path):
    proposed(trials_in(tmp_path / "a"), 1)
    journal = tmp_path / "a" / JOURNAL
    journal.write_text(journal.read_text().replace('"param_name":"lr"', '"param_name":"lrr"'))
    with pytest.raises(ConfigError, match="trial-000 has a value of lrr, which the space lacks"):
        trials_in(tmp_path / "a")


def test_a_folder_in_the_place_of_the_journal_is_told(tmp_path):
    (tmp_path / "a" / JOURNAL).mkdir(parents=True)
    with pytest.raises(ConfigError, match="is not a file"):
        trials_in(tmp_path / "a")


def test_half_a_line_at_the_end_of_the_journal_costs_that_line_alone(tmp_path):
    whole = proposed(trials_in(tmp_path / "a"), 2)
    with (tmp_path / "a" / JOURNAL).open("a") as journal:
        journal.write('{"op_code": 4, "wor')
    again = trials_in(tmp_path / "a")
    assert again.left(3) == 1 and len(whole) == 2
    proposed(again, 3)
    assert trials_in(tmp_path / "a").left(3) == 0


def test_other_settings_or_another_space_never_continue_a_search(tmp_path):
    proposed(trials_in(tmp_path / "a"), 1)
    trials_in(tmp_path / "a", common=[*COMMON, "workers=3"])  # changes no score
    with pytest.raises(ConfigError, match="other settings: ema: .* -> 0.5. Choose another place with runs="):
        trials_in(tmp_path / "a", common=[*COMMON, "ema=0.5"])


def test_a_trial_that_is_behind_the_others_is_stopped_and_the_others_are_not(tmp_path, tools):
    behave(tools, {"trial-005": "worst", "trial-006": "worst"})
    began = time.monotonic()
    found, printed = search(tmp_path, tools, "trials=7")
    assert found and time.monotonic() - began < 100, "they would wait for three minutes"
    assert "trial-005: stopped" in printed and "behind the others after 1 epoch" in printed
    assert (folder_of(tmp_path) / "trial-005" / "checkpoints" / "last.ckpt").read_text() == "half", (
        "it was asked to end"
    )
    page = (folder_of(tmp_path) / "report" / "README.md").read_text()
    assert "5 done, 2 stopped, 0 failed" in page and "| trial-006 | stopped |" in page
    assert found and len(calls(tools)) == 7
    assert search(tmp_path, tools, "trials=7")[0] and len(calls(tools)) == 7, "what has ended is not tried again"


def test_nothing_is_stopped_where_pruning_is_off(tmp_path):
    def watched(folder, prune):
        trials, stopped = trials_in(folder, prune=prune), []
        for number, job in enumerate(trials.coming(7)):
            train(job, [0.5] if number < 5 else [0.1])
            job.state, job.stop = "running", stopped.append
            trials.watch()
            job.state = "done"
            trials.event(job)
        return stopped

    assert len(watched(tmp_path / "a", True)) == 2 and not watched(tmp_path / "b", False)


def test_a_trial_that_fails_is_told_and_sinks_no_other(tmp_path, tools):
    behave(tools, {"trial-001": "fail"})
    found, printed = search(tmp_path, tools, "trials=3")
    assert found and "the loss is not finite at step 2" in printed
    report = folder_of(tmp_path) / "report"
    page = (report / "README.md").read_text()
    assert "2 done, 0 stopped, 1 failed" in page and "trial-001 failed: train: exit code 1: error: the loss" in page
    assert (report / "search.png").stat().st_size > 10_000
    behave(tools, {f"trial-{number:03}": "fail" for number in range(3, 5)})
    assert search(tmp_path, tools, "trials=4")[0], "there is a best one all the same"


def test_two_trials_run_side_by_side(tmp_path, tools):
    behave(tools, {"trial-000": "meet trial-001", "trial-001": "meet trial-000"})
    assert search(tmp_path, tools, "trials=2", "jobs=2")[0]


def test_the_best_trial_is_a_command_and_a_recipe_of_the_same_configuration(tmp_path, tools, monkeypatch):
    passed = [*COMMON, "data.source.train_size=64", "optim=sgd", "trainer.patience=2", "workers=0", "seed=3"]
    assert search(tmp_path, tools, "trials=2", passed=passed)[0]
    report = folder_of(tmp_path) / "report"
    lines = [line for line in (report / "README.md").read_text().splitlines() if "tools/train.py" in line]
    command, short = (line.partition("tools/train.py ")[2].split() for line in lines)
    assert len(short) < len(command) and short[-1] == "recipe=classification_shapes_space"
    expected = compose("train", command)
    monkeypatch.setenv("MNV2_CONF", str(report / "conf"))
    found = compose("train", short)
    for config in (expected, found):
        OmegaConf.set_struct(config, False)
        config.pop("groups")
    assert found == expected and found.optim.optimizer._target_ == "torch.optim.SGD"


def test_a_recipe_stands_on_the_one_that_was_named():
    overrides = ["task=ssdlite", "recipe=ssdlite_shapes", "lr=0.01", "data.root=/mine", "~optim.weight_decay"]
    config = compose("train", ["task=ssdlite", "lr=0.01"])
    recipe = recipe_of(overrides, config, "mine", ["heading"])
    assert "- ssdlite_shapes" in recipe.text and "lr: 0.01" in recipe.text and "/mine" not in recipe.text
    assert recipe.beside[-1] == "recipe=ssdlite_shapes_mine" and "data.root=/mine" in recipe.beside


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_search import search
search(Path({tmp!r}), Path({tools!r}), "trials=3")
"""


def started(tmp_path, tools):
    """A search in a process of its own, whose second trial waits."""
    behave(tools, {"trial-001": "wait"})
    script = SCRIPT.format(tests=str(Path(__file__).parent), tmp=str(tmp_path), tools=str(tools))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder_of(tmp_path) / "trial-001" / "waiting").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_search_that_is_ended_goes_on_with_the_trial_that_was_under_way(tmp_path, tools, how):
    process = started(tmp_path, tools)
    run = folder_of(tmp_path) / "trial-001"
    trial = json.loads((run / "study.json").read_text())["pid"]
    process.send_signal(how)
    process.communicate(timeout=60)
    if how == signal.SIGKILL:
        with pytest.raises(ConfigError, match="another study is at work there.*trial-001"):
            search(tmp_path, tools, "trials=3")
        os.kill(trial, signal.SIGKILL)  # so that it has saved nothing
        time.sleep(0.5)
    behave(tools, {})
    found, printed = search(tmp_path, tools, "trials=3")
    assert found and "2 done" in printed
    resumed = how == signal.SIGTERM
    assert [(call["folder"], call["resumed"]) for call in calls(tools)] == [
        ("trial-000", False), ("trial-001", False), ("trial-001", resumed), ("trial-002", False),
    ]  # fmt: skip
    assert f"trial-001: {'resume' if resumed else 'train'}" in printed


def test_dry_tells_the_space_and_trains_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = "search={lr: {low: 1e-4, high: 1e-2, log: true}, batch: [8, 16]}"
    main(["study", space, "task=classification", "dry=true"])
    told = capsys.readouterr().out
    assert "lr: 0.0001 to 0.01, on a logarithmic scale" in told and "batch: 8, 16" in told
    assert not any(tmp_path.iterdir())


def test_arguments_are_the_searchs_or_those_of_every_trial():
    own, passed = sort_for_search(["search=a.yaml", "trials=3", "lr=0.1", "data.root=x", "--cfg"])
    assert own == ["search=a.yaml", "trials=3", "--cfg"] and passed == ["lr=0.1", "data.root=x"]


def test_a_trial_whose_network_cannot_be_built_is_told_and_the_next_is_proposed(tmp_path, monkeypatch):
    trials = trials_in(tmp_path / "a")

    def refuse(config, seen=[]):  # noqa: B006 - counts its calls
        seen.append(config)
        if len(seen) == 1:
            raise ConfigError("too wide")

    monkeypatch.setattr(all_trials, "build_on_meta", refuse)
    assert len(proposed(trials, 3)) == 2
    assert trials.study.trials[0].user_attrs["reason"] == "too wide"


def test_edges_of_a_space_are_built(monkeypatch):
    built = []
    monkeypatch.setattr(spaces, "build_on_meta", lambda config: built.append((config.lr, config.batch)))
    space_from(SPACE, COMMON)
    assert built == [(1e-4, 8), (0.1, 16), (1e-4, 32)]
