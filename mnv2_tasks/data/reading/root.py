"""Where a data set lies, and what to say when it does not lie there."""

import itertools
import os
from pathlib import Path

from mnv2_tasks.data.download.published import how_to_get
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import visible

SHOWN = 12  # entries of a folder in an error


def data_root(root: str | None, name: str) -> Path:
    """The folder behind `data.root=` or, as conf/data/*.yaml fill it in, the environment variable MNV2_DATA.

    Raises:
        ConfigError: none was given, or it is no folder.
    """
    if not root:
        raise ConfigError(
            f"data={name} needs data.root=<folder>, or the environment variable MNV2_DATA.\n"
            f"{how_to_get(name, '<folder>')}"
        )
    path = Path(os.path.expanduser(root))  # Path's own raises where there is no such user
    if path.is_file() and path.suffix.lower() == ".json":
        around = path.parent.parent if path.parent.name.lower() == "annotations" else path.parent
        raise ConfigError(f"data.root={root}: is a file; say the folder of annotations and images: data.root={around}")
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise ConfigError(f"data.root={root}: {path.absolute()} {what}.\n{how_to_get(name, root)}")
    return path


def not_found(name: str, root: Path, missing: str, tree: str, how: str | None = None) -> ConfigError:
    """An error that shows what was missed, the tree that is expected, what lies there instead, and how to get the set.

    Args:
        missing: such as "annotations/instances_val2017.json".
        tree: the expected layout below the root, a line each.
        how: to get it; None: as the whole set.
    """
    expected = "\n".join(f"    {line}" for line in tree.strip().splitlines())
    return ConfigError(
        f"data={name}: {root / missing} does not exist.\n  expected in {root}:\n{expected}\n"
        f"  found there:\n    {listing(root)}\n{how or how_to_get(name, str(root))}"
    )


def listing(folder: Path) -> str:
    entries = sorted(itertools.islice(folder.iterdir(), 1000))
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
    more = f"  ... and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return visible("  ".join(names[:SHOWN])) + more if names else "nothing"
