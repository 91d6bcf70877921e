"""Commands of README and the pages are run on tiny data, or only composed: `NOT_RUN` says why.

Those of docs/extend.md are run by test_extending.py.
"""

import json
import os
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import TINY
from PIL import Image

from mnv2_tasks.__main__ import main
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data_tool import usage
from mnv2_tasks.studies.command_line import sort_for_search
from mnv2_tasks.studies.study.overrides import sort_arguments

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "conf").glob("*/README.md"))]
STUDIES = ROOT / "conf" / "study" / "README.md"
FOLDER_RUN, SHAPES_RUN = "runs/ssdlite/folder-mobilenet_v2-1", "runs/ssdlite/shapes-mobilenet_v2-1"
OWN_TRAINING = ["task=ssdlite", "data=folder", "data.root=photos"]
STAND_INS = {
    "study=<name>": "study=joint",
    "<name>": "shapes-mobilenet_v2-1",
    "<run>": SHAPES_RUN,
    "<weights>": "multitask_shapes",
    "<f>": "photos",
    "my_photos": "photos",
    "epochs=30": "epochs=2",
}
STAND_INS |= {"<folder>": "photos", "<shards>": "shards", "<task>": "ssdlite", "<data>": "folder"}
NOT_RUN = {  # what a command matches: why it is only composed
    r"^data download|weights=(imagenet|coco_ssdlite)": "a download",
    r"\$W/": "files of weights that others publish",
    r"data=(imagenet|coco|voc)|data.root=/data": "a data set of gigabytes",
    r"^study (?!.*dry=true)": "hours: many runs",
    r"^data anchors": "the boxes here have one shape; tests/data_tool/test_anchor_shapes.py runs it",
    r"^publish .*to=": "an upload; tests/publish uploads to a hub on this machine",
    r"weights=hf_hub:owner": "nobody's repository",
    r"format=web|^demo": "npm; tests/export/test_browser.py looks at the page, tests/demo shows it",
    r"^bench": "minutes of a machine that does nothing else",
    r"format=mediapipe|\.tflite": "an environment of its own; tests/export/test_mediapipe.py runs them there",
    r"precision=int8": "minutes; tests/export/test_quantise.py judges int8 files",
    r"data.root=draft/": "what another command makes; tests/prediction/test_annotation_files.py reads it",
    r"source=-": "names that are piped in; tests/prediction/test_sources.py does",
    r"source=shards": "what another command packs; tests/prediction/test_predict_shards.py predicts them",
    r"trainer.nodes": "several machines",
    r"split=test": "tests/evaluation/test_chosen_split.py evaluates on it, of data that have one",
    r"^scorecard": "a minute; tests/scorecard computes all of it",
    r"^paper": "minutes; tests/paper draws each figure",
    r"^train (?!.*(--help|re(sume|peat)=))": "tests/training trains every task, and test_command_line.py sweeps",
}
ABSENT = (
    r"\$W/|weights=(imagenet|coco_ssdlite)|weights=model.onnx data|\.tflite source"  # whose weights are read to compose
)
TOOL = re.compile(
    r"(?:^|[\s`(])((?:\.venv/bin/)?(?:python )?tools/(\w+)\.py(?: [^`\n]*?)?)(?=\s+#|`|\n|\s*\\\n|$)", re.M
)


def commands():
    """(verb, arguments as they are typed) of all pages, each once."""
    found = set()
    for page in PAGES:
        for match in TOOL.finditer(page.read_text(encoding="utf-8")):
            arguments = match[1].split(".py", 1)[1].strip()
            whole = match[2] in ("predict", "scorecard", "paper") or re.search(
                r"=|--|/", arguments
            )  # else a tool is mentioned
            if whole and "..." not in arguments:
                found.add((match[2], arguments))
    return sorted(found)


def picture(path, number):
    """Noise with a red thing in it, which no other number has."""
    pixels = np.random.default_rng(number).integers(0, 60, (48, 64, 3), np.uint8)
    pixels[10:30, 10:40] = (250, 10, 10)
    Image.fromarray(pixels).save(path)


def split(root, name, numbers):
    """A split as COCO json."""
    (root / name).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    for number in numbers:
        picture(root / name / f"{number}.png", number)
    images = [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 48} for n in numbers]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [10, 10, 30, 20], "area": 600, "iscrowd": 0} for n in numbers
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    (root / "annotations" / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with photos/, new_photos/ and a run on each of photos and shapes, as the pages name them."""
    folder = tmp_path_factory.mktemp("docs")
    split(folder / "photos", "train", range(1, 5))
    split(folder / "photos", "val", range(5, 7))
    shutil.copytree(folder / "photos" / "val", folder / "new_photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MNV2_CACHE", str(folder / "cache"))
        main(["train", *OWN_TRAINING, *(word for word in TINY if not word.startswith("data."))])
        main(["train", "task=ssdlite", *TINY])
    return folder


def test_own_data_of_the_readme_goes_from_check_to_export(workplace):
    block = next(b for b in re.findall(r"^```\n(.*?)^```", PAGES[0].read_text(), re.M | re.S) if "data.py check" in b)
    lines = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    assert [line[0] for line in lines] == [
        f"tools/{verb}.py" for verb in ("data", "train", "predict", "export", "demo")
    ]
    assert lines[1][1:] == OWN_TRAINING and (workplace / FOLDER_RUN).is_dir()  # the others are run below


def test_extras_that_are_installed_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        name for page in PAGES for name in re.findall(r"install [^`\n]*(?:\.|mnv2-tasks)\[(\w+)\]", page.read_text())
    }
    assert {"onnx", "test"} <= named <= extras.keys()


def test_example_of_a_study_can_be_planned_from_a_folder_of_ones_own(own_workplace, monkeypatch, capsys):
    (example,) = re.findall(r"^```yaml\n# conf/(study/\w+\.yaml)\n(.*?)^```", STUDIES.read_text(), re.M | re.S)
    path = own_workplace / "own" / example[0]
    path.parent.mkdir(parents=True)
    path.write_text(example[1].replace("/data/mine", "photos"))
    monkeypatch.setenv("MNV2_CONF", "own")
    main(["study", f"study={path.stem}", "dry=true"])
    told = capsys.readouterr().out
    assert all(run in told for run in yaml.safe_load(example[1])["ablations"])


def compose_only(verb, arguments):
    """What the tool does with its arguments before it starts; raises where it would refuse them."""
    if verb == "data":
        assert arguments[0] in usage.VERBS
        compose("data_tool", arguments[1:])
    elif verb == "study" and any(word.startswith("search=") for word in arguments):
        own, passed = sort_for_search(arguments)
        compose("search", own)
        compose("train", passed)
    elif verb == "study":
        own, passed, _ = sort_arguments(arguments)
        compose("study", own)
        compose("train", ["task=ssdlite", *passed])
    else:
        if "-m" in arguments:  # the first job of a sweep
            arguments = [word.partition(",")[0] for word in arguments if word != "-m"]
        if verb == "train" and not any(word.startswith("task=") for word in arguments):
            arguments = [*arguments, "task=ssdlite"]  # a line about one key
        compose(verb, arguments)


TINY_TOO = {  # said beside the command
    "predict": ["device=cpu"],
    "eval": ["workers=0", "trainer.accelerator=cpu"],
    "export": ["workers=0", "count=2"],
    "compare": ["repeats=1", "images=2", "exported=none"],
    "train": ["workers=0", "trainer.accelerator=cpu"],
}


@pytest.fixture
def own_workplace(workplace, tmp_path, monkeypatch):
    """A copy of the workplace to leave files in, as the working directory."""
    folder = tmp_path / "workplace"
    shutil.copytree(workplace, folder, copy_function=os.link)
    monkeypatch.chdir(folder)
    return folder


def run_tiny(verb, arguments):
    if verb == "compare":  # of one data set
        shutil.rmtree(FOLDER_RUN)
        for run in ("runs/ssdlite/a", "runs/ssd/b"):
            shutil.copytree(SHAPES_RUN, run)
        arguments = [str(path) for word in arguments for path in sorted(Path().glob(word)) or [word]]
    if verb == "eval" and "weights=multitask_shapes" in arguments:
        arguments = [*arguments, "data.source.val_size=8"]
    if arguments == [f"resume={SHAPES_RUN}"]:  # which was not interrupted
        arguments = [*arguments, "epochs=2"]
    main([verb, *arguments, *TINY_TOO.get(verb, [])])


@pytest.mark.parametrize("verb, typed", commands(), ids=lambda text: text or "-")
def test_command_does_what_the_page_says(verb, typed, own_workplace, capsys):
    reasons = [why for pattern, why in NOT_RUN.items() if re.search(pattern, f"{verb} {typed}")]
    if re.search(ABSENT, typed):
        pytest.skip(f"needs {reasons[0]}")
    for placeholder, stand_in in STAND_INS.items():
        typed = typed.replace(placeholder, stand_in)
    arguments = shlex.split(typed)
    if reasons:
        return compose_only(verb, arguments)
    for package in ("onnxruntime", "onnxscript") if ".onnx" in typed or "format=onnx" in typed else ():
        pytest.importorskip(package)
    if "weights=model.onnx" in typed:
        main(["export", f"weights={SHAPES_RUN}", "format=onnx", "out=model.onnx", *TINY_TOO["export"]])
    before = set(own_workplace.rglob("*"))
    run_tiny(verb, arguments)
    left = set(own_workplace.rglob("*")) - before
    only_tells = "--help" in typed or "dry=true" in typed
    assert capsys.readouterr().out.strip() and bool(left) != only_tells
