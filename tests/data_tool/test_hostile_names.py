"""Names that strangers chose: of classes, files and runs. They are shown, and nothing that shows them acts on them."""

import csv
import io
import json
import logging
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mnv2_tasks import data_tool
from mnv2_tasks.contracts import Detections
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data_tool.examine import examine
from mnv2_tasks.data_tool.pages import plot_classes, write_samples
from mnv2_tasks.data_tool.repaired_copy import _folder_names
from mnv2_tasks.data_tool.tables import print_examination, write_bad_files, write_classes
from mnv2_tasks.drawing.predictions import draw_detections
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.prediction.result_files import write_entries
from mnv2_tasks.studies.compare import plots
from mnv2_tasks.studies.compare.page import page_environment
from mnv2_tasks.studies.compare.subjects import ClassDifference
from mnv2_tasks.wording import VisibleFormatter

CLEAR_SCREEN = "\x1b[2J"
HOSTILE = ["=1+1", "@SUM(A1)", "-5", "+x", "[red]x[/]", "[/]", r"$\frac{", "$x$", "<script>alert(1)</script>", "a|b"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path_factory.mktemp("cache")))


def coco(root, names):
    (root / "train").mkdir(parents=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(root / "train" / "0.png")
    content = {
        "images": [{"id": 0, "file_name": "0.png", "width": 64, "height": 48}],
        "annotations": [
            {"id": i + 1, "image_id": 0, "category_id": i, "bbox": [i, 1, 20, 20]} for i in range(len(names))
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "train.json").write_text(json.dumps(content))
    return folder(root=str(root), kind="detection", on_bad="refuse", train=None, val=None)


def shown(print_to):
    console = Console(file=io.StringIO(), markup=False, highlight=False, soft_wrap=True, width=200)
    print_to(console)
    return console.file.getvalue()


def test_the_doctor_shows_class_names_as_they_are_and_computes_none(tmp_path):
    source = coco(tmp_path / "data", HOSTILE)
    found = examine(source, ["val"], 320)
    screen = shown(lambda console: print_examination(found, 320, console))
    assert all(name in screen for name in HOSTILE)

    write_classes(found, tmp_path / "classes.csv")
    with (tmp_path / "classes.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[1] for row in rows] == [f"'{name}" if name[0] in "=@-+" else name for name in HOSTILE]
    assert all(re.fullmatch(r"\d+", number) for row in rows for number in (row[0], *row[2:]))

    plot_classes(found.splits, source.class_names, "boxes", tmp_path / "classes.png")
    write_samples(source, "val", 1, tmp_path / "samples.jpg")


@pytest.mark.parametrize("name", [CLEAR_SCREEN, "a\nb", "a\x9bb", "a\u202eb", "x" * 201, "\ud800"])
def test_class_names_that_cannot_be_shown_are_refused(tmp_path, name):
    with pytest.raises(
        (ConfigError, DataError), match="(class|category) .*(cannot be shown|characters|surrogate)"
    ) as error:
        coco(tmp_path, ["cat", name])
    assert CLEAR_SCREEN not in str(error.value)


def test_names_of_many_scripts_are_names(tmp_path):
    names = ["Straßenbahn", "猫　犬", "گربه‌ها", "👩‍🚒", "e\u0301", "a\xa0b"]
    composed = [unicodedata.normalize("NFC", name) for name in names]  # a letter and its accent are one sign
    assert coco(tmp_path, names).class_names == composed


def test_file_names_are_escaped_on_the_screen_and_in_lists(tmp_path):
    for split, name in (("train", "cat"), ("train", "dog"), ("val", "cat")):
        (tmp_path / "data" / split / name).mkdir(parents=True)
        Image.fromarray(np.full((9, 9, 3), len(split + name) * 9, np.uint8)).save(
            tmp_path / "data" / split / name / "0.png"
        )
    (tmp_path / "data" / "val" / "cat" / f"{CLEAR_SCREEN}[red].png").write_bytes(b"no picture")
    source = folder(root=str(tmp_path / "data"), kind="classification", on_bad="refuse", train=None, val=None)
    found = examine(source, ["val"], 320)
    write_bad_files(found, tmp_path / "bad_files.txt")
    with pytest.raises(DataError) as error:
        source.prepare(["val"])
    listed = (tmp_path / "bad_files.txt").read_text()
    for text in (shown(lambda console: print_examination(found, 320, console)), listed, str(error.value)):
        assert "\x1b" not in text and r"\x1b[2J[red].png" in text


def test_log_lines_are_escaped_and_keep_their_lines():
    record = logging.LogRecord("x", logging.INFO, "", 0, "skipped:\n  %s", (f"{CLEAR_SCREEN}.jpg",), None)
    assert VisibleFormatter("%(message)s").format(record) == "skipped:\n  \\x1b[2J.jpg"


def test_pictures_are_labelled_with_any_name():
    found = Detections(*(np.array(x) for x in ([[1.0, 1, 40, 40]] * 3, [0.9, 0.8, 0.7], [0, 1, 2])))
    draw_detections(np.zeros((60, 60, 3), np.uint8), found, [CLEAR_SCREEN, "a\nb", "x" * 100_000], min_score=0.5)


def test_tables_in_markdown_hold_neither_tags_nor_links():
    text = Table("", ["name"], [["<script>x</script>|"], ["[x](javascript:x)"], ["![](http://x)"]]).to_markdown()
    assert r"| a\\\|b \*c\* \[d] &amp;lt; |" in Table("", ["x"], [[r"a\|b *c* [d] &lt;"]]).to_markdown()
    assert "<" not in text and not re.search(r"(?<!\\)\[", text) and "script>x&lt;/script>\\|" in text


def test_every_console_takes_text_as_it_is():
    package = Path(data_tool.__file__).parent.parent
    own = {"scorecard/scorecard.py"}  # colours its own words
    for path in package.rglob("*.py"):
        if path.relative_to(package).as_posix() not in own:
            assert not re.search(r"Console\((?![^)]*markup=False)", path.read_text()), path


def test_classes_called_like_folders_stay_within_the_copy(tmp_path):
    assert _folder_names(["..", ".", "../../x", "cat", ".hidden"]) == ["--", "-", "-.-..-x", "cat", "-hidden"]


def test_plots_of_a_comparison_take_names_as_they_are():
    differences = [ClassDifference(name, 0.1, None) for name in (r"$\frac{", "$x$", "a$b")]
    assert plots.plot_classes(differences, r"1  $\frac{ run", "AP").startswith(b"\x89PNG")


def test_the_page_of_a_comparison_escapes_all_that_it_is_given():
    page = Path(plots.__file__).with_name("page.html.jinja").read_text()
    assert not re.search(r"\|\s*safe|autoescape|Markup", page)
    environment = page_environment()
    assert environment.from_string("{{ name }}").render(name="<script>") == "&lt;script&gt;"


def test_results_hold_names_that_are_no_text(tmp_path):
    entries = [{"file": "a\udcff\x1b.jpg", "classes": {"Köln": 1.0}}]
    write_entries(tmp_path, entries)
    text = (tmp_path / "results.json").read_text(encoding="utf-8")
    assert json.loads(text) == entries and "\x1b" not in text and "Köln" in text
