"""The front page and docs/: what they name is there, and no page is left out of the site."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACES = ("", "mnv2_tasks", "conf", "tests", "tools")  # what paths in the text start from
OURS = re.compile(r"(mnv2_tasks|conf|tests|tools|docs|weights|training|network|tasks|heads|backbones|data)/[\w./-]+")


@pytest.fixture(params=PAGES, ids=lambda page: page.stem)
def page(request):
    return request.param


def test_front_page_is_short_and_starts_with_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    train, test = re.search(r"^```\n(.*?)^```", text, re.M | re.S)[1].splitlines()
    assert train.endswith("tools/train.py task=ssdlite") and test.endswith("-m pytest")


def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path, _, heading = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.M)
            slugs = [re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower())) for title in titles]
            assert heading in slugs, target


def test_files_that_are_named_exist(page):
    for span in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        for path in span.split():
            if OURS.fullmatch(path) and "foo" not in path:
                assert any((ROOT / place / path).exists() for place in PLACES), path


def test_every_page_says_first_what_it_is_for():
    for page in PAGES:
        title, nothing, first = page.read_text(encoding="utf-8").splitlines()[:3]
        assert title.startswith("# ") and not nothing and first, page


def test_site_has_every_page_in_its_navigation():
    listed = re.findall(r"^ +- ([\w]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= set(listed)
