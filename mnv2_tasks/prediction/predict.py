"""predict(config): pictures, masks, crops and results.json of each input, into one folder; or a video, or shards."""

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from mnv2_tasks.contracts import Model
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.drawing.predictions import sheet
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.prediction.asked import asked_predictor, asked_words
from mnv2_tasks.prediction.formats.save_formats import SAVE_FORMATS, check_format
from mnv2_tasks.prediction.predict_shards import predict_shards
from mnv2_tasks.prediction.predict_video import predict_video
from mnv2_tasks.prediction.predictor import Unread
from mnv2_tasks.prediction.result_files import OURS, SAVED, ResultFiles
from mnv2_tasks.prediction.sources import DEMO, find_inputs
from mnv2_tasks.prediction.tars import find_shards
from mnv2_tasks.prediction.video import find_video
from mnv2_tasks.runs.run_folder import make_folder
from mnv2_tasks.wording import first_few, nearest, visible


def predict(config: DictConfig) -> None:
    """Go through what `source` names, and tell each image's results as they come.

    Pictures are read, looked at by the network, drawn and written side by side, by threads.

    Raises:
        ConfigError: the source, the weights or the device cannot work.
        DataError: some of the images could not be read; the others are done.
    """
    video = find_video(str(config.source))
    shards = None if video else find_shards(str(config.source))
    if config.share is not None and not shards:
        raise ConfigError(f"share={config.share}: shards can be shared among processes, source={config.source} is none")
    if video:
        return predict_video(config, video)
    if shards:
        return predict_shards(config, shards)
    inputs = find_inputs(str(config.source))
    saved = _saved(config)
    predictor, least = asked_predictor(config)
    network = predictor.network
    _check_files(saved, network)
    results = predictor.results(inputs, batch=config.batch, least=least)
    out = make_folder(config.out, Path("runs/predict")) if saved else None
    files = ResultFiles(out, saved, waiting=config.batch) if out else None

    console = Console(highlight=False, markup=False, soft_wrap=True)
    broken: list[str] = []
    began, number = time.perf_counter(), 0
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("images", total=len(inputs))
            for number, result in enumerate(results, start=1):
                if isinstance(result, Unread):
                    broken.append(result.name)
                    line = str(result.error)
                else:
                    if files:
                        files.write(result)
                    line = result.in_words
                console.print(f"{number}/{len(inputs)} {visible(line)}")
                progress.update(bar, completed=number)
    finally:  # what was done stays usable when Ctrl-C ends the rest
        if files and number:
            files.finish()
        elif out and config.out is None:
            out.rmdir()  # weights that compute nothing leave nothing
    spent = time.perf_counter() - began
    if files and config.source == DEMO and "pictures" in saved:
        pictures = [read_image(files.folder / entry["picture"]) for entry in files.entries]
        write_picture(files.folder / "sheet.png", sheet(pictures, columns=2))

    if done := number - len(broken):
        seconds = predictor.seconds | ({"drawing": files.seconds} if files else {})
        parts = ", ".join(f"{1000 * of_part / done:.1f} ms {part}" for part, of_part in seconds.items())
        place = f"saved to {out}" if out else "nothing is saved"
        console.print(f"Speed: {number / spent:.1f} images/s on {network.device}, at once {parts} per image; {place}")
    if broken:
        raise DataError(f"{len(broken)} of {len(inputs)} images could not be read: {first_few(broken, 10)}")


def _saved(config: DictConfig) -> list[str]:
    """What `save=` asks for."""
    saved = asked_words(config, [word for word in OURS if word != "crops"])
    for word in saved:
        if word not in SAVED:
            raise ConfigError(f"save={word}: unknown; say none, or some of these. {nearest(str(word), SAVED)}")
    return saved


def _check_files(saved: list[str], network: Model) -> None:
    """Raise a ConfigError if nothing would come of what was asked for."""
    kinds = [task.kind for task in network.tasks.values()]
    made: set[Any] = {KINDS[kind].FILES for kind in kinds} | {"pictures", "json", *SAVE_FORMATS}
    for word in saved:
        if word in SAVE_FORMATS:
            check_format(word, kinds)
    if "crops" in saved and "crops" not in made:
        raise ConfigError("save=crops: no task of this network finds boxes. Leave it out")
    if saved and not made & set(saved):
        raise ConfigError("save=masks: no task of this network finds masks. Add pictures or json")
