"""format=web: a folder that any web server can show: an ONNX file, a page, and what runs the one in the other."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnv2_tasks import __version__
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.drawing.predictions import mask_colours
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.plain_data import parse_json
from mnv2_tasks.prediction.only_shapes import knows_only_shapes
from mnv2_tasks.prediction.predictor import FRAME
from mnv2_tasks.runtimes.exported import Exported

MODEL, ABOUT = "model.onnx", "model.json"
PAGE = 1  # the version of model.json: page/model.js reads this one
PAGE_FILES = Path(__file__).parent / "page"
SHOWN = ("classification", "detection", "segmentation")  # kinds that page/model.js knows
LEAST_SCORE = 0.4  # of boxes, at first: that of tools/predict.py
DRAWN = "It knows drawn shapes alone, such as the examples: of photos it tells nothing."
EXAMPLES = 6  # scenes, for those who have no drawn shapes at hand


def check_shown(kinds: Mapping[str, str]) -> None:
    """Raise a ConfigError for {task: kind} that the page cannot show."""
    for task, kind in kinds.items():
        if kind not in SHOWN:
            raise ConfigError(f"format=web: the page shows {', '.join(SHOWN)}, not {task}, which is {kind}")


def write_page(folder: Path, exported: Exported, fit: Fit, name: str, runtime: Mapping[str, bytes]) -> None:
    """All but the ONNX file, which is there already.

    Args:
        name: of the weights, for the page.
        runtime: files of onnxruntime-web by their names.
    """
    for file in PAGE_FILES.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    for file, content in runtime.items():
        (folder / file).write_bytes(content)
    drawn = knows_only_shapes(exported.passport)
    examples = [f"example_{number}.png" for number in range(1, EXAMPLES + 1)] if drawn else []
    for number, example in enumerate(examples):
        write_picture(folder / example, draw_scene(0, "val", number, fit.size).image)
    content = about(exported, fit, name) | {"remark": DRAWN if drawn else "", "examples": examples}
    (folder / ABOUT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def about(exported: Exported, fit: Fit, name: str) -> dict[str, Any]:
    """What model.json says: the page has no other way to the metadata of an ONNX file."""
    outputs = json.loads(exported.metadata["outputs"])
    return {
        "made_by": "mnv2_tasks",
        "version": __version__,
        "page": PAGE,
        "name": name,
        "model": MODEL,
        "precision": exported.precision,
        "least_score": LEAST_SCORE,
        "input": {
            "size": fit.size,
            "any_size": all(KINDS[task.kind].ANY_SIZE for task in exported.tasks.values()),
            "fit": fit.mode,
            "resize": fit.resize,
            "fill": fit.fill.tolist(),
            "frame": FRAME,
        },
        "tasks": [
            {
                "name": task,
                "kind": found.kind,
                "class_names": found.class_names,
                "colours": [mask_colours(found.class_names).get(label) for label in range(len(found.class_names))],
                "outputs": {output: f"{task}_{output}" for output in KINDS[found.kind].OUTPUTS},
            }
            for task, found in exported.tasks.items()
        ],
        "outputs": outputs,
    }


def is_page(folder: Path) -> bool:
    """Whether a folder has a model.json.

    Raises:
        ConfigError: it is not one of ours.
    """
    file = folder / ABOUT
    if not file.is_file():
        return False
    content = parse_json(file.read_text(encoding="utf-8", errors="replace"), str(file))
    if not isinstance(content, dict) or content.get("made_by") != "mnv2_tasks":
        raise ConfigError(f"{folder}: its {ABOUT} is not one of ours. Name a folder that export format=web wrote")
    return True
