"""The house: a file imports from its own room and from the floors below, and nothing goes in circles."""

import ast
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mnv2_tasks"
FLOORS = [  # bottom up; rooms of one floor do not know each other. A file at the package's root is a room of its own
    ["__init__", "errors", "contracts", "wording"],
    ["plain_data"],
    ["shipped", "whole_files", "importing", "layers", "optim"],
    ["stored"],
    ["backbones", "boxes", "metrics", "drawing", "data/download"],
    ["data/images"],
    ["heads", "losses", "data/reading"],
    ["tasks", "kinds", "data/layouts"],
    ["data"],
    ["loading", "network"],
    ["runtimes", "scorecard", "model_card"],
    ["weights/importers"],
    ["weights"],
    ["config", "runs"],
    ["build"],
    ["prediction/formats"],
    ["prediction"],
    ["evaluation", "data_tool", "paper"],
    ["training", "export/int8"],
    ["export"],
    ["studies/compare"],  # exports what it times
    ["studies/study"],
    ["studies/search"],
    ["studies"],
    ["api", "bench", "demo", "publish", "checks"],  # bench exports what it measures
    ["__main__"],
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
AT_ROOT = 13  # files at most
PARALLEL_FILES = {  # of one name, because they are two sides of one thing
    *(path.name for path in (PACKAGE / "kinds").glob("*.py")),  # a task and its kind
    "coco.py", "voc.py",  # a data set and its layout
    "darknet.py", "timm.py",  # networks and their weights
    "yolov2.py",  # a head and its task
    "predict.py", "train.py",  # a tool, and what measures it
}  # fmt: skip
PARALLEL_CLASSES = {"Session"}  # a file of each format that is run
HYDRA = {"config/compose.py", "config/own_parts.py", "config/words.py", "config/stored.py", "build.py"}
LIGHTNING = {"training", "evaluation", "loading"}


def room_of(path):
    """The folder of a file below the package; of one at its root, the file."""
    folder = path.parent.as_posix()
    return path.stem if folder == "." else folder


FILES = sorted(
    path.relative_to(PACKAGE)
    for path in PACKAGE.rglob("*.py")
    if path.stat().st_size or path.parent == PACKAGE  # an empty __init__.py makes a folder a package, no more
)
MODULES = {".".join(("mnv2_tasks", *path.with_suffix("").parts)).removesuffix(".__init__"): path for path in FILES}
TREES = {path: ast.parse((PACKAGE / path).read_text()) for path in FILES}


def imported(path):
    """Full names of all that a file imports, those within functions too."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(path):
    """The files of this package that a file imports."""
    for name in imported(path):
        if name.split(".")[0] == "mnv2_tasks":
            yield MODULES.get(name) or MODULES.get(name.rpartition(".")[0], Path("__init__.py"))


def ids(paths):
    return [str(path) for path in paths]


@pytest.mark.parametrize("path", FILES, ids=ids(FILES))
def test_file_stands_in_a_listed_room_and_imports_from_the_floors_below(path):
    room = room_of(path)
    assert room in FLOOR_OF, f"{path}: the room {room} has no floor yet"
    for other in map(room_of, own(path)):
        assert other == room or FLOOR_OF[other] < FLOOR_OF[room], f"{path} of {room} imports upward, from {other}"


def test_every_listed_room_is_there_and_the_root_is_small():
    rooms = {room_of(path) for path in FILES}
    assert set(FLOOR_OF) == rooms
    assert len([path for path in FILES if len(path.parts) == 1]) <= AT_ROOT


def test_no_file_and_no_room_imports_itself_through_others():
    list(TopologicalSorter({path: set(own(path)) - {path} for path in FILES}).static_order())  # raises CycleError
    arrows = defaultdict(set)
    for path in FILES:
        arrows[room_of(path)] |= {room_of(other) for other in own(path)} - {room_of(path)}
    list(TopologicalSorter(arrows).static_order())


def test_no_two_files_and_no_two_public_classes_have_one_name():
    files, classes = defaultdict(list), defaultdict(list)
    for path, tree in TREES.items():
        if path.name != "__init__.py":
            files[path.name].append(str(path))
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(str(path))
    twins = [paths for name, paths in files.items() if len(paths) > 1 and name not in PARALLEL_FILES]
    twins += [[name, *paths] for name, paths in classes.items() if len(paths) > 1 and name not in PARALLEL_CLASSES]
    assert not twins


@pytest.mark.parametrize("path", FILES, ids=ids(FILES))
def test_hydra_and_lightning_stay_on_the_spine(path):
    packages = {name.split(".")[0] for name in imported(path)}
    assert not packages & {"tests", "tools"}
    assert "hydra" not in packages or path.as_posix() in HYDRA
    assert "lightning" not in packages or room_of(path) in LIGHTNING


def test_no_name_of_the_standard_library_is_shadowed_by_a_tool():
    for script in (PACKAGE.parent / "tools").glob("*.py"):
        assert script.stem not in sys.stdlib_module_names, script


def test_tests_lie_in_the_rooms_that_they_test():
    tests = PACKAGE.parent / "tests"
    rooms = {path.parts[0].removesuffix(".py") for path in FILES}
    assert {path.name for path in tests.iterdir() if path.is_dir() and list(path.glob("test_*.py"))} <= rooms
    assert len({path.name for path in tests.rglob("test_*.py")}) == len(list(tests.rglob("test_*.py")))
