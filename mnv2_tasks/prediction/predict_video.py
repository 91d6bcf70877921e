"""predict_video(config, video): the video with what was found drawn on it, and a line of JSON for each frame."""

import time
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.prediction.asked import asked_predictor, asked_words
from mnv2_tasks.prediction.predictor import Unread
from mnv2_tasks.prediction.video import Video
from mnv2_tasks.prediction.video_files import SAVED, VideoFiles, check_writer
from mnv2_tasks.runs.run_folder import make_folder
from mnv2_tasks.runs.stopping import hear, stop
from mnv2_tasks.wording import counted, visible


def predict_video(config: DictConfig, video: Video) -> None:
    """Go through the frames of a video, a few batches at a time. Ctrl-C ends it between two frames.

    Raises:
        ConfigError: the weights, the device or what is to be saved cannot work.
        DataError: a frame cannot be taken; those before it are done.
    """
    saved = _saved(config)
    if "pictures" in saved:
        check_writer()
    predictor, least = asked_predictor(config)
    batch = min(config.batch, 1) if video.live else config.batch  # of a camera each frame at once
    results = predictor.results(video.frames(), batch=batch, least=least)
    out = make_folder(config.out, Path("runs/predict")) if saved else None
    files = VideoFiles(out, saved, video) if out else None

    console = Console(highlight=False, markup=False, soft_wrap=True)
    asked: list[int] = []  # signals to end
    broken, done, began = None, 0, time.perf_counter()

    def ask(number: int) -> None:
        if asked:
            stop(number)
        asked.append(number)

    undo = hear(ask)
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("frames", total=video.total)
            for result in results:
                if isinstance(result, Unread):
                    broken = result.error
                    break
                seconds_in = video.times.popleft()
                if files:
                    files.write(result, seconds_in)
                else:
                    console.print(visible(result.in_words))
                done += 1
                progress.update(bar, completed=done)
                if asked:
                    break
    finally:
        try:
            if files:
                files.finish()
        finally:
            undo()
            if out and not done and config.out is None:
                out.rmdir()  # weights that compute nothing leave nothing
    spent = time.perf_counter() - began
    of_all = f" of {video.total:,}" if video.total and (asked or broken) else ""
    place = f"saved to {out}" if out else "nothing is saved"
    seconds = predictor.seconds | ({"drawing": files.seconds} if files else {})
    parts = ", ".join(f"{1000 * of_part / max(1, done):.1f} ms {part}" for part, of_part in seconds.items())
    console.print(
        f"{counted(done, 'frame')}{of_all}: {done / spent:.1f} frames/s on {predictor.network.device}, "
        f"at once {parts} per frame; {place}"
    )
    if asked:
        stop(asked[0])
    if broken:
        raise DataError(f"{broken}. The {counted(done, 'frame')} before it are done")
    if missing := video.missing():
        console.print(visible(missing))


def _saved(config: DictConfig) -> list[str]:
    saved = asked_words(config, SAVED)
    for word in saved:
        if word not in SAVED:
            raise ConfigError(f"save={word}: of a video there are pictures, json, or none. Leave it out")
    return saved
