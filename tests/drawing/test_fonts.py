"""Names in any script are drawn with a font that has their letters, or it is said which font to install."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from mnv2_tasks.data_tool.examine import Counts
from mnv2_tasks.data_tool.pages import plot_classes
from mnv2_tasks.drawing import fonts
from mnv2_tasks.drawing.canvas import Canvas, legend

CAT, HELLO = "猫", "สวัสดี"


def block(width):
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((width, 0), (width, 700), (0, 700)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


def small_font(path, letters, width):
    """A font whose letters are black blocks of this width."""
    names = [".notdef", *(f"u{ord(letter):04X}" for letter in dict.fromkeys(letters))]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"u{ord(letter):04X}" for letter in letters})
    builder.setupGlyf({name: block(width) for name in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (width, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.fixture
def system(monkeypatch):
    """Calling it with fonts makes them those of the system."""

    def has(*paths):
        for function in (fonts._path_for, fonts._letters_of):
            function.cache_clear()
        monkeypatch.setattr(fonts, "system_fonts", lambda: list(paths))
        monkeypatch.setattr(fonts, "_said", set())

    yield has
    for function in (fonts._path_for, fonts._letters_of):
        function.cache_clear()


def test_letters_that_dejavu_lacks_come_from_the_systems_fonts(tmp_path, system):
    chinese = small_font(tmp_path / "Chinese.ttf", CAT, 3000)
    thai = small_font(tmp_path / "Thai.ttf", HELLO, 500)
    system(chinese, thai)
    parts = fonts.pieces(f"cat {CAT}, {HELLO}!", 20, False)
    assert [part for part, _ in parts] == ["cat ", CAT, ", ", HELLO, "!"]
    assert [font.path for _, font in parts][1::2] == [chinese, thai]
    canvas = Canvas(np.zeros((40, 300, 3), np.uint8), 20)
    assert canvas.text_width(CAT) == 60  # three times its height, as that font alone has it
    canvas.write(10, 20, CAT, (255, 255, 255))
    white = np.flatnonzero((canvas.array() > 200).all(axis=(2)).any(axis=0))
    assert (white.min(), white.max()) == (10, 69)
    assert canvas.elide(CAT * 20, 200) == f"{CAT * 3}…"
    counts = Counts(np.array([3]), np.array([3]), 0, 0)
    plot_classes([type("Split", (), {"counts": counts, "name": "train"})], [CAT], "images", tmp_path / "a.png")
    assert fonts.families([CAT, HELLO]) == {"font.family": ["DejaVu Sans", "Chinese", "Thai"]}


def test_where_no_font_has_them_it_is_said_once_which_to_install(system, caplog):
    system()
    for _ in range(2):
        legend(np.zeros((200, 200, 3), np.uint8), [(CAT, (1, 2, 3)), (f"犬 {HELLO}", (1, 2, 3))], "")
    told = [record.getMessage() for record in caplog.records]
    assert sum("fonts-noto-cjk" in line for line in told) == 1
    assert sum("Thai letters" in line and "fonts-noto-core" in line for line in told) == 1


def test_what_dejavu_has_needs_no_look_at_the_system(monkeypatch):
    monkeypatch.setattr(fonts, "system_fonts", lambda: pytest.fail("looked for fonts"))
    for text in ("", "cat", "Straße", "кот", "γάτα", "گربه", "e\u0301"):
        assert len(fonts.pieces(text, 16, True)) == 1
