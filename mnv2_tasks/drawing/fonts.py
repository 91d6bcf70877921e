"""A font for every letter: DejaVu Sans, which has Latin, Greek, Cyrillic and Arabic, else one of the system's."""

import logging
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distribution
from typing import Any

from PIL import ImageFont

log = logging.getLogger(__name__)

LATIN = 0x250  # characters before it are in DejaVu, without a look
EAST_ASIA = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")  # first words of their letters' names in Unicode
_said: set[str] = set()  # scripts


def pieces(text: str, size: int, bold: bool) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """The text in parts, each with the font that has its letters."""
    own = font(_dejavu(bold), size)
    if all(ord(letter) < LATIN for letter in text):
        return [(text, own)]
    found: list[tuple[str, str]] = []
    for letter in text:
        path = _path_for(letter, bold) if not _attached(letter) or not found else found[-1][1]
        if found and found[-1][1] == path:
            found[-1] = (found[-1][0] + letter, path)
        else:
            found.append((letter, path))
    return [(part, own if path == _dejavu(bold) else font(path, size)) for part, path in found]


def families(texts: Iterable[str]) -> dict[Any, Any]:
    """Settings of matplotlib with which it has the letters of these texts too."""
    letters = {letter for text in texts for letter in text if ord(letter) >= LATIN and not _attached(letter)}
    others = sorted({path for letter in letters if (path := _path_for(letter, False)) != _dejavu(False)})
    if not others:
        return {}
    from matplotlib import font_manager

    for path in others:
        font_manager.fontManager.addfont(path)
    return {"font.family": ["DejaVu Sans", *(font_manager.FontProperties(fname=path).get_name() for path in others)]}


@cache
def font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@cache
def _dejavu(bold: bool) -> str:
    """From matplotlib's folder but without its import: OpenCV's own letters are ASCII alone."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(distribution("matplotlib").locate_file(f"matplotlib/mpl-data/fonts/ttf/{name}"))


def _attached(letter: str) -> bool:
    """Whether it is drawn with the letter before it: an accent, a vowel sign, a joiner, a space."""
    return unicodedata.category(letter)[0] in "MZ" or unicodedata.category(letter) == "Cf"


@cache
def _path_for(letter: str, bold: bool) -> str:
    if ord(letter) < LATIN or ord(letter) in _letters_of(_dejavu(bold)):
        return _dejavu(bold)
    for path in system_fonts():
        if ord(letter) in _letters_of(path):
            return path
    _say(letter)
    return _dejavu(bold)


def _say(letter: str) -> None:
    """Once for each script."""
    script = unicodedata.name(letter, "UNNAMED").split()[0]
    east = script in EAST_ASIA
    what, package = ("Chinese, Japanese or Korean", "cjk") if east else (script.title(), "core")
    if what not in _said:
        _said.add(what)
        log.warning(
            "no font here has %s letters such as %s: pictures show boxes in their place. Install one, such as Noto "
            "Sans (package fonts-noto-%s of Debian and Ubuntu)", what, letter, package,
        )  # fmt: skip


@cache
def system_fonts() -> list[str]:
    """Plain faces of Noto first, then the others."""
    from matplotlib.font_manager import findSystemFonts

    found = [path for path in findSystemFonts() if "color" not in path.lower() and "emoji" not in path.lower()]
    return sorted(found, key=lambda path: ("Noto" not in path, "Sans" not in path, "Regular" not in path, path))


@cache
def _letters_of(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        font(path, 16)
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):  # a bitmap font, or a damaged one
        return frozenset()
