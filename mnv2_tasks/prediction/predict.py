"""predict(config): a picture, and the masks, of each input into one folder, with results.json."""

import time
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from mnv2_tasks.build import build_fit
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.drawing.predictions import sheet
from mnv2_tasks.errors import DataError
from mnv2_tasks.prediction.predictor import Predictor, Unread, load_model
from mnv2_tasks.prediction.result_files import ResultFiles
from mnv2_tasks.prediction.sources import DEMO, find_inputs
from mnv2_tasks.runs.run_folder import make_folder
from mnv2_tasks.wording import first_few, visible


def predict(config: DictConfig) -> None:
    """Go through what `source` names, and tell each image's results as they come.

    Raises:
        ConfigError: the source, the weights or the device cannot work.
        DataError: some of the images could not be read; the others are done.
    """
    inputs = find_inputs(str(config.source))
    network, passport = load_model(str(config.weights), str(config.device), compiled=config.compile, trust=config.trust)
    predictor = Predictor(network, build_fit(DictConfig(passport["config"])))
    results = predictor.results(inputs, batch=config.batch, min_score=config.min_score)
    out = make_folder(config.out, Path("runs/predict"))
    files = ResultFiles(out)

    console = Console(highlight=False, markup=False, soft_wrap=True)
    broken: list[str] = []
    pictures: list[np.ndarray] = []
    drawing, number = 0.0, 0
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("images", total=len(inputs))
            for number, result in enumerate(results, start=1):
                if isinstance(result, Unread):
                    broken.append(result.name)
                    line = str(result.error)
                else:
                    began = time.perf_counter()
                    picture = files.write(result)
                    drawing += time.perf_counter() - began
                    line = result.in_words
                    if config.source == DEMO:
                        pictures.append(picture)
                console.print(f"{number}/{len(inputs)} {visible(line)}")
                progress.update(bar, completed=number)
    finally:  # what was done stays usable when Ctrl-C ends the rest
        if number:
            files.finish()
        elif config.out is None:
            out.rmdir()  # weights that compute nothing leave nothing
    if pictures:
        write_picture(out / "sheet.png", sheet(pictures, columns=2))

    if done := len(files.entries):
        seconds = predictor.seconds | {"drawing": drawing}
        speed = ", ".join(f"{1000 * spent / done:.1f} ms {part}" for part, spent in seconds.items())
        console.print(f"Speed: {speed} per image, on {network.device}; saved to {out}")
    if broken:
        raise DataError(f"{len(broken)} of {len(inputs)} images could not be read: {first_few(broken, 10)}")
