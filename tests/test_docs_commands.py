"""Commands of README and the pages: README's own-data block is run, on tiny data; every other command is composed."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from mnv2_tasks.__main__ import VERBS, main
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data_tool import usage
from mnv2_tasks.studies.compare.options import _sorted
from mnv2_tasks.studies.study.overrides import sort_arguments

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "conf").glob("*/README.md"))]
FOLDER_RUN, SHAPES_RUN = "runs/ssdlite/folder-mobilenet_v2-1", "runs/ssdlite/shapes-mobilenet_v2-1"
STAND_INS = {
    "study=<name>": "study=joint",
    "<name>": "shapes-mobilenet_v2-1",
    "<run>": SHAPES_RUN,
    "<weights>": "multitask_shapes",
    "<f>": "photos",
}
STAND_INS |= {"<folder>": "photos", "<shards>": "shards", "<task>": "ssdlite", "<data>": "folder"}
NOT_HERE = {  # what such a command needs, and why no test has it
    "$W/": "files of weights that others publish",
    "weights=imagenet": "a download",
    "model.onnx": "a file that the own-data test exports, or that a user has",
    "runs/ssd/b": "a second run",
}
TOOL = re.compile(
    r"(?:^|[\s`(])((?:\.venv/bin/)?(?:python )?tools/(\w+)\.py(?: [^`\n]*?)?)(?=\s+#|`|\n|\s*\\\n|$)", re.M
)


def commands():
    """(verb, arguments as they are typed) of all pages, each once."""
    found = set()
    for page in PAGES:
        for match in TOOL.finditer(page.read_text(encoding="utf-8")):
            arguments = match[1].split(".py", 1)[1].strip()
            whole = match[2] in ("predict", "scorecard") or re.search(r"=|--|/", arguments)  # else a tool is mentioned
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
    """A folder with photos/ and a run on each of photos and shapes, as the pages name them."""
    folder = tmp_path_factory.mktemp("docs")
    split(folder / "photos", "train", range(1, 5))
    split(folder / "photos", "val", range(5, 7))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MNV2_CACHE", str(folder / "cache"))
        own = [word for word in TINY if not word.startswith("data.")]
        main(["train", "task=ssdlite", "data=folder", "data.root=photos", *own])
        main(["train", "task=ssdlite", *TINY])
    return folder


def test_own_data_of_the_readme_goes_from_check_to_export(workplace, monkeypatch, capsys):
    blocks = re.findall(r"^```\n(.*?)^```", PAGES[0].read_text(encoding="utf-8"), re.M | re.S)
    block = next(b for b in blocks if "data.py check" in b)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [line[1] for line in lines] == [f"tools/{verb}.py" for verb in ("data", "train", "predict", "export")]
    check, train, predict, export = (line[2:] for line in lines)
    monkeypatch.chdir(workplace)
    main(["data", *check])
    assert train == ["task=ssdlite", "data=folder", "data.root=photos"] and Path(FOLDER_RUN).is_dir()  # by the fixture
    (workplace / "photos" / "val").rename(workplace / "new_photos")
    try:
        main(["predict", *predict, "device=cpu"])
        assert len(json.loads(Path("runs/predict/1/results.json").read_text(encoding="utf-8"))) == 2
    finally:
        (workplace / "new_photos").rename(workplace / "photos" / "val")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    main(["export", *export, "count=2", "workers=0"])
    assert Path("model.onnx").is_file()


def take(verb, arguments, folder):
    """What the tool does with its arguments before it starts; raises where it would refuse them."""
    if "--help" in arguments:
        main([verb, *arguments])
    elif verb == "compare":
        _sorted([str(path) for word in arguments for path in sorted(folder.glob(word)) or [word]])
    elif verb == "data":
        assert arguments[0] in usage.VERBS
        compose("data_tool", arguments[1:])
    elif verb == "study":
        own, passed, _ = sort_arguments(arguments)
        compose("study", own)
        compose("train", ["task=ssdlite", *passed])
    else:
        if "-m" in arguments:  # the first job of a sweep
            arguments = [word.partition(",")[0] for word in arguments if word != "-m"]
        if verb == "train" and not any(word.startswith(("task=", "resume=", "repeat=")) for word in arguments):
            arguments = [*arguments, "task=ssdlite"]  # a line about one key
        compose(verb, arguments)


@pytest.mark.parametrize("verb, typed", commands(), ids=lambda text: text or "-")
def test_command_is_one_that_the_tool_takes(verb, typed, workplace, monkeypatch):
    for what, why in NOT_HERE.items():
        if what in typed:
            pytest.skip(f"needs {why}")
    monkeypatch.chdir(workplace)
    for placeholder, stand_in in STAND_INS.items():
        typed = typed.replace(placeholder, stand_in)
    assert verb in VERBS
    take(verb, shlex.split(typed), workplace)
