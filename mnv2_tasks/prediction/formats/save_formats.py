"""What other tools read, by its word of `predict save=`."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.prediction.formats import coco_file, csv_file, cvat_file, label_studio, yolo_files
from mnv2_tasks.prediction.formats.annotated import Annotated


class SaveFormat(Protocol):
    """A module of this folder. It writes into a folder of its own, for one task."""

    KINDS: tuple[str, ...]  # of tasks, whose results it holds
    COPIES: bool  # whether the pictures lie beside, in images/

    def row(self, picture: Annotated, kind: str, class_names: Sequence[str], folder: Path) -> Any:
        """What `write` needs of a picture, small; files of the picture's own are written. By any thread."""
        ...

    def write(self, rows: Sequence[Any], task: str, kind: str, class_names: Sequence[str], folder: Path) -> None:
        """What is one for all pictures, whose `rows` are in their order."""
        ...


SAVE_FORMATS: dict[str, SaveFormat] = {
    "yolo": yolo_files,
    "coco": coco_file,
    "labelstudio": label_studio,
    "cvat": cvat_file,
    "csv": csv_file,
}


def check_format(word: str, kinds: Collection[str]) -> None:
    """Raise a ConfigError if a format holds nothing of what tasks of these kinds find."""
    if set(SAVE_FORMATS[word].KINDS) & set(kinds):
        return
    serving = [name for name, fmt in SAVE_FORMATS.items() if set(fmt.KINDS) & set(kinds)]
    raise ConfigError(
        f"save={word}: is for {' and '.join(SAVE_FORMATS[word].KINDS)}, and this network's tasks are "
        f"{', '.join(sorted(set(kinds)))}. Say save={' or save='.join(serving)}"
    )
