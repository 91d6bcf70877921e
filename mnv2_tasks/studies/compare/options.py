"""Runs side by side: scores with intervals, costs, classes won and lost, the same images, what differs.

    python tools/compare.py runs/ssdlite/*
    python tools/compare.py runs/ssdlite/a runs/ssdlite/b out=<folder> title="V1 and V2"

The first run is what the others are compared with. Runs that differ only in their seed are averaged.
Writes compare.html (one file, with its pictures), compare.md and compare.json.

    out=<folder>      where to; default: the next free runs/compare/<n>/
    title=<text>      heads the page
    repeats=30        timed passes of each network; 0 measures no latency
    exported=auto     a format, as which each network is timed beside PyTorch; auto: onnx, if installed; none
    images=6          validation images to show
    trust=true        the runs are yours: they may name your own classes
    debug=true        show tracebacks
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.shipped import as_called_here
from mnv2_tasks.wording import log_to_screen

KEYS = {"out": str, "title": str, "repeats": int, "images": int, "exported": str, "trust": str, "debug": str}
OF_A_STUDY = ("report", "superseded")  # folders beside its runs, which a * names, too


def from_command_line(arguments: Sequence[str]) -> None:
    """Compare the run folders among the arguments; the others are keys, see above.

    Raises:
        ConfigError, DataError: an argument is wrong, or the runs cannot be compared.
    """
    log_to_screen()
    if {"-h", "--help"} & set(arguments):
        return print(as_called_here(str(__doc__)))
    folders, options = _sorted(arguments)

    from mnv2_tasks.runs.run_folder import make_folder  # after the command line was found to be right
    from mnv2_tasks.studies.compare.compare import compare

    out = Path(os.path.expanduser(options["out"])) if "out" in options else make_folder(None, Path("runs/compare"))
    said = {key: options[key] for key in ("title", "repeats", "images", "exported") if key in options}
    page = compare(folders, out, **said, trust=options.get("trust", "").lower() == "true")
    print((out / "compare.md").read_text(encoding="utf-8").replace("−", "-"))  # few consoles have it
    print(f"written: {page}, and compare.md and compare.json beside it")


def _sorted(arguments: Sequence[str]) -> tuple[list[Path], dict[str, Any]]:
    """The run folders, and {key: value}."""
    folders, options = [], {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        path = Path(argument)
        if path.is_dir():
            folders += [] if path.name in OF_A_STUDY and not (path / "config.yaml").exists() else [path]
        elif sign and key in KEYS:
            options[key] = _value(key, value)
        elif sign and Path(key).name == key:
            raise ConfigError(f"{argument}: there is no key {key!r}; there are {', '.join(KEYS)}")
        else:
            raise ConfigError(f"{argument}: no such folder")
    if not folders:
        raise ConfigError("say which runs: python tools/compare.py runs/<task>/*")
    return folders, options


def _value(key: str, value: str) -> str | int:
    if KEYS[key] is int:
        if not value.isdecimal():
            raise ConfigError(f"{key}={value}: expected a whole number, 0 or more")
        return int(value)
    return value
