"""docs/python.md is true: its code runs as it stands, from top to bottom, but for longer training and a download."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from PIL import Image
from test_docs_commands import picture, split

import mnv2_tasks

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
OF_ANY_DATA = dict(word.split("=", 1) for word in TINY if not word.startswith(("data.", "weights", "width")))
STAND_INS = {
    "epochs=20": f"weights='none', width=0.35, **{OF_ANY_DATA!r}",
    'evaluate(data="folder"': 'evaluate(workers=0, data="folder"',
    'export("onnx"': 'export("onnx", workers=0, count=2',
    'weights="imagenet"': 'weights="none"',
}


def test_code_of_the_page_runs_and_gives_what_it_says(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    picture("photo.jpg", 0)
    split(tmp_path / "photos", "train", range(1, 5))
    split(tmp_path / "photos", "val", range(5, 7))
    (tmp_path / "new_photos").mkdir()
    for number in range(3):
        picture(f"new_photos/{number}.jpg", number)

    code = "".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S))
    for said, instead in STAND_INS.items():
        assert code.count(said) == 1, said
        code = code.replace(said, instead)
    names = {}
    exec(compile(code, "docs/python.md", "exec"), names)

    for file in ("found.jpg", "found.png"):
        with Image.open(file) as image:
            assert np.array(image).std() > 20
    assert len(names["results"]) == 3 and 0 <= names["share"] <= 1 and names["probability"] > 1 / 8
    assert names["entry"]["file"] == "photo.jpg" and names["text"].startswith('{"file": "photo.jpg"')
    assert names["scores"]["AP"] == pytest.approx(names["run"].metrics["AP"], abs=1e-6)
    assert names["result"].names == ["thing"] and names["file"] == Path("model.onnx")
    shown = capsys.readouterr().out
    for printed in re.findall(r"^print\(.*\)  # (\d.*)$", PAGE, re.M):
        assert printed in shown


def test_page_names_every_function_and_every_attribute():
    for name in mnv2_tasks.PUBLIC:
        assert f"{name}(" in PAGE, name
    attributes = re.findall(r"^\| [^|]*\| `(\w+)", PAGE, re.M)
    assert {"boxes", "scores", "labels", "mask", "probabilities", "top", "names"} <= set(attributes)
