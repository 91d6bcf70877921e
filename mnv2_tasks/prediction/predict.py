"""predict(config): a picture, and the masks, of each input into one folder, with results.json."""

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from mnv2_tasks.build import build_fit
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.drawing.predictions import sheet
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.prediction.predictor import DEMO, Predictor, find_inputs, load_model
from mnv2_tasks.prediction.results import write_entries
from mnv2_tasks.wording import first_few, visible


def predict(config: DictConfig) -> None:
    """Go through what `source` names, and tell each image's results as they come.

    Raises:
        ConfigError: the source, the weights or the device cannot work.
        DataError: some of the images could not be read; the others are done.
    """
    if config.batch < 1:
        raise ConfigError(f"batch={config.batch}: expected at least 1")
    inputs = find_inputs(str(config.source))
    network, passport = load_model(str(config.weights), str(config.device), compiled=config.compile, trust=config.trust)
    fit = build_fit(DictConfig(passport["config"]))
    predictor = Predictor(network=network, fit=fit, min_score=config.min_score, out=config.out)
    out = predictor.out

    console = Console(highlight=False, markup=False, soft_wrap=True)
    outcomes = []
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("images", total=len(inputs))
            for start in range(0, len(inputs), config.batch):
                for outcome in predictor(inputs[start : start + config.batch]):
                    outcomes.append(outcome if config.source == DEMO else outcome._replace(picture=None))
                    console.print(f"{len(outcomes)}/{len(inputs)} {visible(outcome.line)}")
                progress.update(bar, completed=len(outcomes))
    finally:  # what was done stays usable when Ctrl-C ends the rest
        done = [outcome for outcome in outcomes if outcome.entry]
        if outcomes:
            write_entries(out, [outcome.entry for outcome in done])
        elif config.out is None:
            out.rmdir()  # weights that compute nothing leave nothing
    if config.source == DEMO:
        write_picture(out / "sheet.png", sheet([outcome.picture for outcome in done], columns=2))

    broken = [outcome for outcome in outcomes if not outcome.entry]
    if done:
        speed = ", ".join(f"{1000 * s / len(done):.1f} ms {part}" for part, s in predictor.seconds.items())
        console.print(f"Speed: {speed} per image, on {network.device}; saved to {out}")
    if broken:
        names = first_few((outcome.name for outcome in broken), 10)
        raise DataError(f"{len(broken)} of {len(inputs)} images could not be read: {names}")
