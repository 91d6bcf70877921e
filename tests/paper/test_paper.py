"""mnv2 paper: which figures it draws, where it writes, and what it refuses."""

import json
import re

import pytest

from mnv2_tasks.__main__ import main
from mnv2_tasks.errors import DataError
from mnv2_tasks.paper.figure import Claim, DrawnFigure
from mnv2_tasks.paper.paper import FIGURES, page


def run(*words):
    main(["paper", "device=cpu", "count=1", *words])


def test_figures_that_are_asked_for_are_written_with_a_page_of_claims(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("figures=[7,1]")
    out = tmp_path / "runs" / "paper"
    assert sorted(path.name for path in out.iterdir()) == ["figure_1.png", "figure_7.png", "paper.json", "paper.md"]
    content, text = json.loads((out / "paper.json").read_text()), (out / "paper.md").read_text()
    assert [figure["figure"] for figure in content] == [1, 7]
    told = capsys.readouterr().out
    for figure in content:
        assert f"![figure {figure['figure']}]({figure['picture']})" in text and (out / figure["picture"]).is_file()
        assert all(claim["ours"] in told and claim["paper"] in told for claim in figure["claims"])


def test_the_page_names_what_is_left_out_and_what_other_commands_do():
    figure = DrawnFigure("A title", lambda path: None, [Claim("it says | so", "it is <so>")])
    text = page({1: figure}, {8: "weights=x: no segmenter"})
    assert r"| it says \| so | it is &lt;so> |" in text
    assert "Figure 8 is not drawn: weights=x: no segmenter" in text and "study=ablations" in text


def test_a_figure_that_the_weights_cannot_give_is_left_out_unless_it_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mnv2_tasks.paper.paper.FIGURES", {n: figure for n, figure in FIGURES.items() if n != 5})
    run("weights=shapes_backbone")
    assert "figure 8: not drawn, weights=shapes_backbone: figure 8 is of a segmenter" in capsys.readouterr().out
    assert not (tmp_path / "runs" / "paper" / "figure_8.png").exists()


def test_a_figure_that_fails_leaves_those_that_were_drawn_before(tmp_path, monkeypatch):
    def fails():
        raise DataError("a picture is broken")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mnv2_tasks.paper.paper.FIGURES", {1: FIGURES[1], 5: fails})
    with pytest.raises(SystemExit, match="a picture is broken"):
        run()
    assert (tmp_path / "runs" / "paper" / "figure_1.png").is_file()


def test_a_video_in_place_of_images_is_told_how_to_predict_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(SystemExit, match=r"error: images=\S*clip.mp4: is a video.*, source=<its path>"):
        run("figures=[7]", "images=clip.mp4")


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit, match="error: out=taken: cannot be made a folder .*Choose another"):
        run("figures=1", "out=taken")
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["figures=[9]"],
            "figures=9: the paper has figures 1 to 8. Those to draw are 1, 5, 7, 8, such as figures=",
        ),
        (["figures=[1,3]"], "figures=3: is a drawing of blocks."),
        (["figures=6"], "figures=6: is of trained networks: .*study=ablations"),
        (["figures=all"], "figures=all: the paper has figures 1 to 8"),
        (["figures=[]"], "figures=.*names none"),
        (["figures=[7]", "images=nowhere"], "images=nowhere: no such file or folder"),
        (["figures=[7]", "weights=nowhere"], "weights=nowhere: no such file"),
        (["figures=[8]", "weights=shapes_backbone"], "figure 8 is of a segmenter"),
        (["masks=nowhere"], "masks=nowhere: the embedded scenes have their own; say images=<folder> too"),
        (["count=0"], "count=0: expected a number of images, at least 1"),
        (["count=null"], "count=None: expected a number of images, at least 1"),
        (["figures=1.0"], "figures=1.0: the paper has figures 1 to 8"),
        (["figures=1", "out=null"], "out=None: expected a folder, such as out=runs/paper"),
        (["figures=1", "out="], "out=: expected a folder, such as out=runs/paper"),
        (["images=."], "images=.: the folder has no images"),
    ],
)
def test_what_cannot_work_is_one_line_and_nothing_is_written(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(*words)
    lines = str(ended.value).strip().splitlines()
    assert len(lines) == 2 and lines[1].startswith("(debug=true")
    assert re.search(message, lines[0])
    assert not list(tmp_path.iterdir())
