"""The dependency rule: plain columns that never import one another, one spine that puts them together."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mnv2_tasks"
BASE = {"contracts", "errors", "wording", "whole_files", "layers"}
COLUMNS = {  # column -> what of the package it may import, besides itself and BASE
    "backbones": set(),
    "boxes": set(),
    "heads": {"boxes"},
    "losses": {"boxes"},
    "metrics": set(),
    "data": set(),
    "tasks": {"heads", "losses", "metrics", "boxes"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module


def part_of(name):
    return name.split(".")[1] if name.startswith("mnv2_tasks.") else None


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_imports_only_what_lies_below_it(path):
    column = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        assert not name.startswith(("tests", "tools")), f"{path} imports {name}"
        part = part_of(name)
        if column in BASE:
            assert part is None or part in BASE, f"{path} imports {name}"
        elif column in COLUMNS and part is not None:
            assert part in BASE | {column} | COLUMNS[column], f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_hydra_and_lightning_stay_on_the_spine(path):
    name = path.relative_to(PACKAGE).as_posix()
    roots = {module.split(".")[0] for module in imports(path)}
    if "hydra" in roots:
        assert name in ("config/compose.py", "config/words.py", "config/stored.py", "build.py")
    if "lightning" in roots:
        assert name.startswith("training/") or name == "loading/loaders.py"


def test_no_name_of_the_standard_library_is_shadowed_by_a_tool():
    import sys

    for script in (PACKAGE.parent / "tools").glob("*.py"):
        assert script.stem not in sys.stdlib_module_names, script
