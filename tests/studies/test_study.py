"""Studies: what a file expands to, what is run of it and what is not, and what the report says."""

import copy
import functools
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf, open_dict
from rich.console import Console

from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.words import CONF
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.studies.study.jobs import locked
from mnv2_tasks.studies.study.paper_figures import Point, plot_variants, plot_widths, summary_of
from mnv2_tasks.studies.study.plan import merge_overrides, plan_runs, study_from
from mnv2_tasks.studies.study.run_state import write_record
from mnv2_tasks.studies.study.slots import device_slots
from mnv2_tasks.studies.study.study import run_study

pytestmark = pytest.mark.slow

STUDIES = sorted(path.stem for path in (CONF / "study").glob("*.yaml"))
PLANNED = {}  # see plan_once
SEEDS = {"title": "Seeds", "tasks": ["classification"], "seeds": [0, 1, 2]}

# train and eval of a study that is only about who is called when: they note their call and leave a score
FAKE = """
import json, os, signal, sys, time
from pathlib import Path
given = dict(argument.split("=", 1) for argument in sys.argv[2:])
tool = Path(sys.argv[0])
folder = Path(given.get("out") or given.get("resume") or os.environ["MNV2_RUN_FOLDER"])
folder.mkdir(exist_ok=True)
with (tool.parent / "calls.jsonl").open("a") as calls:
    call = {"tool": sys.argv[1], **given, "folder": folder.name, "threads": os.environ.get("OMP_NUM_THREADS")}
    calls.write(json.dumps(call) + "\\n")
(folder / "checkpoints").mkdir(exist_ok=True)
checkpoint = folder / "checkpoints" / "last.ckpt"
behaviour = tool.parent / "behaviour.json"
wanted = json.loads(behaviour.read_text()).get(folder.name, "") if behaviour.exists() else ""
if wanted == "fail":
    print("step 1")
    print("error: the loss is not finite at step 2")
    print("(debug=true shows where in the code)")
    sys.exit(1)
if wanted == "wait":
    def save(*_):
        checkpoint.write_text("half")
        sys.exit(143)
    signal.signal(signal.SIGTERM, save)
    (folder / "waiting").write_text("")
    time.sleep(60)
if wanted.startswith("meet "):
    for _ in range(600):
        if (folder.parent / wanted[5:]).exists():
            break
        time.sleep(0.05)
    else:
        sys.exit("the other run did not start")
if wanted != "nothing":
    (folder / "metrics.json").write_text(json.dumps({"top1": 0.5, "top5": 0.9}))
"""


def plan_once(study, passed):
    """Composing is most of what these tests would do."""
    key = repr((study, passed))
    if key not in PLANNED:
        PLANNED[key] = plan_runs(study, passed)
    return PLANNED[key]


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder with the fake mnv2; comparisons are noted in `tools / "compared"` instead of made."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "mnv2.py").write_text(FAKE)

    def compare(runs, out, *, title="", failed=None, exported="auto", trust=False):
        out.mkdir(parents=True, exist_ok=True)
        noted = {"runs": [run.name for run in runs], "title": title, "failed": dict(failed or {})}
        (folder / "compared").write_text(json.dumps(noted | {"exported": exported}))
        return out / "compare.html"

    monkeypatch.setattr("mnv2_tasks.studies.study.study_report.compare", compare)
    monkeypatch.setattr("mnv2_tasks.studies.study.plan", plan_once)
    return folder


def program_in(tools):
    return [sys.executable, str(tools / "mnv2.py")]


def calls(tools):
    path = tools / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def behave(tools, **wanted):
    (tools / "behaviour.json").write_text(json.dumps({name.replace("__", "-"): how for name, how in wanted.items()}))


@functools.cache
def composed(*overrides):
    return compose("study", ["study=ablations", *overrides])


def settings(tmp_path, content, *overrides):
    config = copy.deepcopy(composed(*overrides))
    with open_dict(config):
        config.study = OmegaConf.create(content)
        config.runs = str(tmp_path / "runs")
    return config


def study(tmp_path, tools, content=SEEDS, *overrides, passed=()):
    """(whether every run is done, what was printed)."""
    console = Console(file=io.StringIO(), width=200)
    done = run_study(settings(tmp_path, content, *overrides), passed, program=program_in(tools), console=console)
    return done, console.file.getvalue()


def folder_of(tmp_path, name="classification-seed1"):
    return tmp_path / "runs" / "studies" / "ablations" / "shapes" / name


def names(content, **more):
    return [run.name for run in plan_runs(study_from(content, **more))]


def test_grid_is_the_product_of_its_axes_seed_by_seed():
    content = {
        "title": "", "tasks": ["classification", "ssdlite"], "widths": [0.35, 1], "sizes": [96], "seeds": [0, 1],
        "ablations": {"plain": [], "relu6": ["backbone.projection_activation=relu6"]},
    }  # fmt: skip
    runs = plan_runs(study_from(content))
    assert len(runs) == 2 * 2 * 1 * 2 * 2
    assert runs[0].name == "classification-w0.35-96px-plain-seed0"
    assert [run.config.seed for run in runs] == [0] * 8 + [1] * 8
    last = runs[-1]
    assert last.name == "ssdlite-w1-96px-relu6-seed1" and last.ablation == "relu6"
    assert last.config.choices.task == "ssdlite" and last.config.width == 1 and last.config.imgsz == 96
    assert last.config.backbone.projection_activation == "relu6"


def test_names_stay_when_an_axis_grows():
    small = {"title": "", "tasks": ["classification"], "widths": [0.5], "seeds": [0]}
    large = {**small, "widths": [0.35, 0.5], "seeds": [3, 0], "tasks": ["ssdlite", "classification"]}
    assert set(names(small)) < set(names(large))


def test_what_the_command_line_says_wins_over_the_study():
    content = {**SEEDS, "common": ["epochs=7"], "for_data": {"shapes": ["batch=8"], "voc": ["batch=64"]}}
    for run in plan_runs(study_from(content), ["epochs=2", "lr=0.5"]):
        assert (run.config.epochs, run.config.lr, run.config.batch) == (2, 0.5, 8)
    (run, *_) = plan_runs(study_from(SEEDS), ["recipe=classification_folder"])
    assert run.config.epochs == 20 != compose("train", ["task=classification"]).epochs
    assert merge_overrides(["data=shapes", "epochs=1", "data=voc"]) == ["data=voc", "epochs=1"]


def test_runs_besides_the_grid_have_every_seed_and_go_when_an_axis_is_narrowed():
    content = {**SEEDS, "seeds": [0, 1], "runs": {"wide": ["task=classification", "width=1.4"]}}
    assert names(content) == ["classification-seed0", "wide-seed0", "classification-seed1", "wide-seed1"]
    assert names(content, narrowed=True) == ["classification-seed0", "classification-seed1"]


@pytest.mark.parametrize("name", STUDIES)
def test_every_shipped_study_composes_and_builds_all_its_runs(name):
    config = compose("study", [f"study={name}", "study.seeds=[0]"])
    shipped = study_from(OmegaConf.to_container(config.study))
    runs = plan_once(shipped, ())
    assert len({run.name for run in runs}) == len(runs) > 1
    assert shipped.title
    head = (CONF / "study" / f"{name}.yaml").read_text()
    assert f"study={name}" in head and "# runs" in head


def test_shipped_studies_cover_what_the_paper_and_the_readme_promise():
    def shipped(name):
        return study_from(OmegaConf.to_container(compose("study", [f"study={name}"]).study))

    assert len(shipped("backbones").tasks) == 3 and len(shipped("backbones").backbones) >= 5
    assert len(shipped("widths").widths) * len(shipped("widths").sizes) + len(shipped("widths").runs) == 22
    assert list(shipped("ablations").ablations)[0] == "linear" and len(shipped("ablations").seeds) == 3
    assert len(shipped("expansion").ablations) == 6 and len(shipped("expansion").widths) == 3
    assert set(shipped("ssd_vs_ssdlite").tasks) == {"ssd", "ssdlite"}


def test_joint_study_trains_alone_and_together_with_the_same_settings():
    config = compose("study", ["study=joint", "study.seeds=[0]"])
    runs = plan_once(study_from(OmegaConf.to_container(config.study)), ())
    assert [run.config.choices.task for run in runs][-1] == "multitask"
    for key in ("imgsz", "epochs", "batch", "output_stride", "width", "ema", "lr", "weights", "seed"):
        assert len({str(run.config[key]) for run in runs}) == 1, key


@pytest.mark.parametrize(
    "content, passed, message",
    [
        ({**SEEDS, "widht": [1]}, [], "there is no key 'widht'. Did you mean widths"),
        ({**SEEDS, "tasks": ["sdlite"]}, [], "run sdlite-seed0: task=sdlite: unknown task. Did you mean ssdlite"),
        ({**SEEDS, "backbones": ["mobilenetv2"]}, [], "unknown backbone. Did you mean mobilenet_v2"),
        ({**SEEDS, "common": ["epoch=3"]}, [], "no key 'epoch'. Did you mean epochs"),
        ({**SEEDS, "ablations": {"a": ["backbone.shortcut=all"]}}, [], "classification-a-seed0: shortcut='all'"),
        ({**SEEDS, "evaluations": {"a": ["flop=true"]}}, [], "no key 'flop'"),
        ({**SEEDS, "ablations": {"a/b": []}}, [], "'a/b' names a folder"),
        ({**SEEDS, "ablations": ["a"]}, [], "ablations is .* expected a {name: "),
        ({**SEEDS, "seeds": []}, [], "seeds=.*expected at least one"),
        ({**SEEDS, "seeds": [1, 1]}, [], "named twice"),
        ({**SEEDS, "widths": ["wide"]}, [], "widths=.*expected numbers"),
        ({**SEEDS, "widths": [9]}, [], "width=9"),
        ({"title": "nothing"}, [], "neither tasks nor runs"),
        (SEEDS, ["wdiths=[1]"], "there is no key 'wdiths'. Did you mean widths"),
        (SEEDS, ["epochs=many"], "expected a whole number"),
        (SEEDS, ["epochs=0"], "run classification-seed0: epochs=0: expected"),
        ({**SEEDS, "seeds": [-1]}, [], "seed=-1: expected 0 to"),
        (SEEDS, ["seed=4"], r"say seeds=\[4\]"),
        (SEEDS, ["task=ssdlite"], r"say tasks=\[ssdlite\]"),
        (SEEDS, ["resume=there"], "resumes its runs by itself"),
        ({**SEEDS, "ablations": {"a": [], "b": ["epochs=2"]}}, ["epochs=3"], "is what the ablation b varies"),
        ({**SEEDS, "ablations": {"a": [], "b": ["+epochs=2"]}}, ["epochs=3"], "is what the ablation b varies"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_runs(tmp_path, tools, content, passed, message):
    with pytest.raises(ConfigError, match=message):
        study(tmp_path, tools, content, passed=passed)
    assert not calls(tools) and not (tmp_path / "runs").exists()


def test_an_unknown_ablation_on_the_command_line_is_answered_with_the_right_word(tmp_path, tools):
    content = {**SEEDS, "ablations": {"linear": [], "relu6": ["backbone.projection_activation=relu6"]}}
    with pytest.raises(ConfigError, match="ablations=liner.*Did you mean linear"):
        study(tmp_path, tools, content, "ablations=[liner]")
    assert study(tmp_path, tools, content, "ablations=[relu6]")[0]
    assert {call["folder"] for call in calls(tools)} == {f"classification-relu6-seed{seed}" for seed in (0, 1, 2)}


def test_exported_is_the_comparisons_key_and_is_checked_before_anything_runs(tmp_path, tools):
    with pytest.raises(ConfigError, match="exported=onx: unknown. Did you mean onnx"):
        study(tmp_path, tools, SEEDS, "exported=onx")
    assert not calls(tools) and not (tmp_path / "runs").exists()
    study(tmp_path, tools, SEEDS, "exported=none")
    assert json.loads((tools / "compared").read_text())["exported"] == "none"
    assert calls(tools) and not any("exported" in call for call in calls(tools))


def test_finished_runs_are_kept_and_only_new_ones_are_trained(tmp_path, tools):
    assert study(tmp_path, tools)[0] and len(calls(tools)) == 3
    assert study(tmp_path, tools)[0] and len(calls(tools)) == 3
    done, printed = study(tmp_path, tools, {**SEEDS, "seeds": [0, 1, 2, 5]})
    assert done and [call["seed"] for call in calls(tools)] == ["0", "1", "2", "5"]
    assert "4 done, 0 running, 0 failed, 0 left" in printed
    assert json.loads((tools / "compared").read_text())["runs"] == [f"classification-seed{s}" for s in (0, 1, 2, 5)]


def test_a_run_that_fails_is_stated_and_tried_again_and_sinks_no_other(tmp_path, tools):
    behave(tools, classification__seed1="fail")
    done, printed = study(tmp_path, tools)
    assert not done and len(calls(tools)) == 3
    assert "2 done, 0 running, 1 failed" in printed and "the loss is not finite at step 2" in printed
    compared = json.loads((tools / "compared").read_text())
    assert compared["runs"] == ["classification-seed0", "classification-seed2"]
    assert "not finite" in compared["failed"]["classification-seed1"]
    page = (folder_of(tmp_path, "report") / "README.md").read_text()
    assert "2 of 3 runs are done" in page and "classification-seed1: train: exit code 1: error: the loss" in page
    assert "debug=true" not in page

    behave(tools)
    assert study(tmp_path, tools)[0] and [call["seed"] for call in calls(tools)] == ["0", "1", "2", "1"]
    assert "Not done" not in (folder_of(tmp_path, "report") / "README.md").read_text()


def test_a_process_that_ends_well_but_leaves_no_score_has_failed(tmp_path, tools):
    behave(tools, classification__seed0="nothing")
    done, printed = study(tmp_path, tools)
    assert not done and "ended without metrics.json" in printed


def test_an_interrupted_run_is_resumed_and_anew_if_that_fails(tmp_path, tools):
    checkpoint = folder_of(tmp_path) / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("half")
    behave(tools, classification__seed1="fail")
    assert not study(tmp_path, tools, passed=["workers=0"])[0]
    resumed = next(call for call in calls(tools) if call.get("resume"))
    assert resumed["resume"] == str(folder_of(tmp_path)) and resumed["workers"] == "0" and "seed" not in resumed
    behave(tools)
    assert study(tmp_path, tools)[0]
    assert calls(tools)[-1]["seed"] == "1" and "resume" not in calls(tools)[-1]
    aside = folder_of(tmp_path) / "failed_checkpoints-1" / "last.ckpt"
    assert aside.read_text() == "half"


def test_a_run_in_which_another_process_trains_is_left_as_it_is(tmp_path, tools):
    checkpoint = folder_of(tmp_path) / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("half")
    write_record(folder_of(tmp_path), failed="resume: exit code 1", last="resume")
    hold = "import sys; from pathlib import Path; from mnv2_tasks.runs.lock import written_alone\n"
    hold += "with written_alone(Path(sys.argv[1])):\n    print(flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(folder_of(tmp_path))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    other.stdout.readline()
    try:
        with pytest.raises(ConfigError, match="is writing there. Wait for it, or end it"):
            study(tmp_path, tools)
    finally:
        other.communicate()
    assert checkpoint.read_text() == "half"
    assert all(call["folder"] != "classification-seed1" for call in calls(tools))


def test_evaluations_follow_each_training_and_are_made_up_for(tmp_path, tools):
    content = {**SEEDS, "seeds": [0]}
    assert study(tmp_path, tools, content)[0]
    content["evaluations"] = {"flipped": ["flip=true"]}
    assert study(tmp_path, tools, content)[0]
    assert [call["tool"] for call in calls(tools)] == ["train", "eval"]
    assert calls(tools)[1]["flip"] == "true" and calls(tools)[1]["folder"] == "flipped"
    page = (folder_of(tmp_path, "report") / "README.md").read_text()
    assert "| run | score | as trained | flipped |" in page and "| top1 | 0.5000 | 0.5000 |" in page


def test_other_settings_are_never_answered_with_old_runs(tmp_path, tools):
    study(tmp_path, tools, passed=["epochs=2"])
    for seed in (0, 1, 2):  # as train.py does
        run = plan_runs(study_from(SEEDS), ["epochs=2"])[seed]
        OmegaConf.save(run.config, folder_of(tmp_path, run.name) / "config.yaml")
    assert study(tmp_path, tools, passed=["epochs=2", "workers=0"])[0], "how many load data changes no result"
    with pytest.raises(ConfigError, match="3 of the study's runs .*classification-seed0: epochs: 2 -> 3.*retrain=true"):
        study(tmp_path, tools, passed=["epochs=3"])
    assert len(calls(tools)) == 3
    done, printed = study(tmp_path, tools, SEEDS, "retrain=true", passed=["epochs=3"])
    assert done and len(calls(tools)) == 6 and "superseded" in printed
    old = folder_of(tmp_path, "superseded") / "classification-seed0-1" / "config.yaml"
    assert OmegaConf.load(old).epochs == 2


def test_a_changed_recipe_is_noticed_too(tmp_path, tools):
    study(tmp_path, tools)
    run = plan_runs(study_from(SEEDS))[0]
    run.config.lr = 0.123
    OmegaConf.save(run.config, folder_of(tmp_path, run.name) / "config.yaml")
    with pytest.raises(ConfigError, match="lr: 0.123 ->"):
        study(tmp_path, tools)


def test_what_a_run_takes_from_its_data_is_no_other_setting_and_what_is_asked_for_is(tmp_path, tools):
    study(tmp_path, tools)
    for seed in (0, 1, 2):  # of 11 pictures with 12 bits
        run = copy.deepcopy(plan_runs(study_from(SEEDS))[seed])
        run.config.batch, run.config.input.white = 11, 4095
        OmegaConf.save(run.config, folder_of(tmp_path, run.name) / "config.yaml")
    assert study(tmp_path, tools)[0] and len(calls(tools)) == 3
    with pytest.raises(ConfigError, match=r"input.white: None -> 1023"):
        study(tmp_path, tools, passed=["input.white=1023"])
    with pytest.raises(ConfigError, match="batch: [0-9]+ -> 11"):
        study(tmp_path, tools, passed=["batch=11"])


def test_dry_lists_every_run_and_its_command_and_runs_none(tmp_path, tools):
    done, printed = study(tmp_path, tools, SEEDS, "dry=true", passed=["epochs=2"])
    assert done and not calls(tools) and not (tmp_path / "runs").exists()
    assert printed.count("train.py task=classification") == 3 and "epochs=2" in printed and "3 runs" in printed


def test_two_jobs_run_side_by_side_and_share_the_cores(tmp_path, tools, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("mnv2_tasks.studies.study.slots._cuda_devices", lambda: [])
    behave(tools, classification__seed0="meet classification-seed1", classification__seed1="meet classification-seed0")
    assert study(tmp_path, tools, {**SEEDS, "seeds": [0, 1]}, "jobs=2")[0]
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {call["threads"] for call in calls(tools)} == {str(threads)}


def test_each_run_gets_devices_of_its_own():
    assert device_slots(None, 1, []) == [None]
    assert device_slots(3, 1, []) == [None] * 3
    assert device_slots(None, 1, ["0", "1", "5"]) == ["0", "1", "5"]
    assert device_slots(None, 2, ["0", "1", "2", "3"]) == ["0,1", "2,3"]
    assert device_slots(1, 1, ["0", "1"]) == ["0"]
    assert device_slots(4, 1, ["0", "1"]) == ["0", "1", "0", "1"]
    with pytest.raises(ConfigError, match="jobs=0"):
        device_slots(0, 1, [])


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_study import SEEDS, program_in, settings
from mnv2_tasks.studies.study.study import run_study
run_study(settings(Path({tmp!r}), SEEDS), program=program_in(Path({tools!r})))
"""


def test_sigterm_lets_a_run_save_its_checkpoint_and_the_next_call_resumes_it(tmp_path, tools):
    behave(tools, classification__seed0="wait")
    script = SCRIPT.format(tests=str(Path(__file__).parent), tmp=str(tmp_path), tools=str(tools))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    folder = folder_of(tmp_path, "classification-seed0")
    deadline = time.monotonic() + 120
    while not (folder / "waiting").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    with pytest.raises(ConfigError, match="another study is at work there.*classification-seed0"):
        with locked(folder.parent, ["classification-seed0"]):
            pass
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "the same command goes on" in printed
    assert (folder / "checkpoints" / "last.ckpt").read_text() == "half"
    assert not json.loads((folder / "study.json").read_text()).get("failed")
    behave(tools)
    assert study(tmp_path, tools)[0]
    assert [("resume" in call, call["folder"][-1]) for call in calls(tools)] == [
        (False, "0"), (True, "0"), (False, "1"), (False, "2"),
    ]  # fmt: skip


def test_interval_is_students_t_and_leaves_out_what_is_not_a_number():
    found = summary_of([1.0, 2.0, 3.0, math.nan])
    assert found.count == 3 and found.mean == 2.0 and found.std == 1.0
    assert found.margin == pytest.approx(4.302653 / math.sqrt(3), abs=1e-5)  # tables: t(0.975, 2) = 4.302653
    assert math.isnan(summary_of([0.5]).margin) and math.isnan(summary_of([]).mean)


def test_figures_are_drawn_of_whatever_is_done(tmp_path):
    plot_variants({"linear": [0.7, 0.72, 0.71], "one seed": [0.6], "none yet": []}, "top1", tmp_path / "6.png")
    points = [
        Point(width=0.35, size=96, madds=11_000_000, scores=[0.45, 0.46]),
        Point(width=1.0, size=224, madds=300_000_000, scores=[0.72]),
        Point(width=0.5, size=96, madds=18_000_000, scores=[math.nan]),
    ]
    plot_widths(points, "top1", tmp_path / "5.png")
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("5.png", "6.png"))


def test_ablations_end_in_a_figure_and_a_table(tmp_path, tools):
    content = {**SEEDS, "ablations": {"linear": [], "none": ["backbone.shortcut=none"]}}
    behave(tools, **{"classification-none-seed2": "fail"})
    study(tmp_path, tools, content)
    report = folder_of(tmp_path, "report")
    page = (report / "README.md").read_text()
    assert "| linear | 0.5000 | ± 0.0000 | 0.0000 | 3 |" in page and "| none | 0.5000 | ± 0.0000 | 0.0000 | 2 |" in page
    assert (report / "ablations-classification-mobilenet_v2.png").stat().st_size > 10_000


def test_widths_end_in_a_figure_against_multiply_adds(tmp_path, tools):
    study(tmp_path, tools, {**SEEDS, "seeds": [0], "widths": [0.35, 1.0], "sizes": [224]})
    page = (folder_of(tmp_path, "report") / "README.md").read_text()
    assert "| 224 | 0.35 | 58.0 | 0.5000 | 1 |" in page and "| 224 | 1 | 299.5 | 0.5000 | 1 |" in page


def test_ablations_of_several_widths_end_in_a_curve_each(tmp_path, tools):
    ablations = {"expansion6": [], "expansion3": ["backbone.expansion=3"]}
    study(tmp_path, tools, {**SEEDS, "seeds": [0], "widths": [0.35, 1.0], "ablations": ablations})
    page = (folder_of(tmp_path, "report") / "README.md").read_text()
    lines = [line.split(" | ")[1:3] for line in page.splitlines() if line.startswith("| 96 | ")]
    assert lines == [[name, width] for name in ablations for width in ("0.35", "1")]
    assert "![top1 against multiply-adds]" in page and "standard deviation" not in page  # of widths it would be


def test_a_real_study_ends_in_a_comparison(tmp_path):
    tiny = ["data.source.train_size=16", "data.source.val_size=8", "imgsz=64", "batch=8", "epochs=1", "ema=0.5"]
    tool = Path(__file__).parents[2] / "tools" / "study.py"
    place = ["seeds=[0]", "ablations=[linear]", f"runs={tmp_path}", "trainer.accelerator=cpu"]
    done = subprocess.run(
        [sys.executable, str(tool), "study=ablations", *place, *tiny], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "studies" / "ablations" / "shapes"
    assert (folder / "classification-linear-seed0" / "weights.safetensors").is_file()
    assert (folder / "report" / "classification" / "compare.html").stat().st_size > 0
    assert "1 of 1 runs are done" in (folder / "report" / "README.md").read_text()


def test_tool_tells_mistakes_without_a_traceback(tmp_path):
    tool = Path(__file__).parents[2] / "tools" / "study.py"
    for arguments, message in [(["study=ablatoins"], "Did you mean ablations"), ([], "say which study: study=")]:
        done = subprocess.run([sys.executable, str(tool), *arguments], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr
