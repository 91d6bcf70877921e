"""publish(config): a run that has ended -> a folder for others, as Hugging Face's hub has them, and onto the hub."""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.console import Console

from mnv2_tasks.build import load_network
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.metrics.outcomes import Outcomes, load_outcomes
from mnv2_tasks.model_card.card import model_card
from mnv2_tasks.model_card.facts import RunFacts
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.network import Network
from mnv2_tasks.publish.hub_upload import check_hub, upload
from mnv2_tasks.publish.public_passport import public_passport
from mnv2_tasks.runs.run_folder import make_folder
from mnv2_tasks.shipped import as_called_here
from mnv2_tasks.stored.run_files import read_config, read_description, read_scores
from mnv2_tasks.weights.digest import WEIGHTS
from mnv2_tasks.weights.hub import HUB
from mnv2_tasks.weights.weight_files import load_weights, save_weights
from mnv2_tasks.whole_files import made_whole, write_text

log = logging.getLogger(__name__)

CARD, SAMPLES = "README.md", "samples.jpg"
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def publish(config: DictConfig) -> Path:
    """Make the folder, read its weights again, and upload it where that is asked for.

    Returns:
        the folder.

    Raises:
        ConfigError: it is no run, or one that has not ended, and whatever would fail later; then nothing is written.
            An upload that breaks off leaves the folder, and says how to go on.
    """
    run, license = _run_of(config), _license(config.license)
    out = _place(config.out)
    if config.to is not None:
        check_hub(str(config.to))
    network, passport = load_network(str(run / WEIGHTS), trust=config.trust)
    facts = _facts(run, network, trust=config.trust)
    shown = public_passport(passport, facts, run / WEIGHTS)
    samples = _samples(run) if config.samples else None
    address = WEIGHTS if config.to is None else f"{HUB}{config.to}"
    card = model_card(facts, weights=address, license=license, picture=SAMPLES if samples is not None else None)

    out = out or make_folder(None, Path("runs/publish"))
    if out.is_dir():
        out.rmdir()  # it is empty
    with made_whole(out) as part:
        save_weights(part / WEIGHTS, load_weights(run / WEIGHTS, trust=config.trust).state, shown)
        load_weights(part / WEIGHTS, trust=config.trust)  # as those who get it do
        if samples is not None:
            write_picture(part / SAMPLES, samples)
        write_text(part / CARD, card)
    _tell(out, license, samples is not None)
    if config.to is not None:
        log.info("uploaded: %s", upload(out, str(config.to), private=config.private))
    use = f"weights={address if config.to else out}"
    Console(highlight=False, markup=False, soft_wrap=True).print(
        as_called_here(f"published: {out}. Use it: python tools/predict.py {use} source=<images>")
    )
    return out


def _run_of(config: DictConfig) -> Path:
    """The folder, where all that is read of it is there."""
    if config.run is None:
        raise ConfigError("say what to publish: run=<run folder>")
    run = Path(os.path.expanduser(str(config.run)))
    if not (run / "config.yaml").is_file():
        raise ConfigError(
            f"run={run}: not a run folder, {run / 'config.yaml'} does not exist. "
            f"Run folders are made by tools/train.py, as runs/<task>/<data>-<backbone>-<n>"
        )
    for name in (WEIGHTS, "metrics.json", "run.json"):
        if not (run / name).is_file():
            raise ConfigError(
                f"run={run}: this run has not ended, it has no {name}. "
                f"Go on with it: python tools/train.py resume={run}"
            )
    return run


def _license(named: Any) -> str | None:
    if named is None:
        return None
    if not LICENSE.fullmatch(str(named).lower()):
        raise ConfigError(f"license={named}: is no name of a licence as the hub has them, such as apache-2.0 or mit")
    return str(named).lower()


def _place(out: str | None) -> Path | None:
    """None: one is to be chosen."""
    if out is None:
        return None
    folder = Path(os.path.expanduser(out))
    if os.path.lexists(folder) and not folder.is_dir():
        raise ConfigError(f"out={out}: is a file; choose another name for the folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"out={out}: is not empty, and nothing is overwritten; choose another folder")
    return folder


def _facts(run: Path, network: Network, *, trust: bool) -> RunFacts:
    description = read_description(run)
    if description.get("resumed") and "result" not in description:
        raise ConfigError(
            f"run={run}: is gone on with, and its results are those of before. "
            f"Finish it: python tools/train.py resume={run}"
        )
    config = read_config(run / "config.yaml", description.get("version"), trust=trust)
    kinds = {name: task.kind for name, task in network.tasks.items()}
    for key in ("class_names", "data_fingerprint"):
        if set(description.get(key, ())) != set(kinds):
            raise ConfigError(f"{run / 'run.json'}: {key}: expected one for each of {', '.join(kinds)}")
    if set(config["tasks"]) != set(kinds):
        raise ConfigError(f"{run / 'config.yaml'}: is not of the tasks of {WEIGHTS}, which are {', '.join(kinds)}")
    cost = model_cost(network, config["imgsz"])
    return RunFacts(config, description, read_scores(run / "metrics.json"), _outcomes(run), kinds, cost)


def _outcomes(run: Path) -> Mapping[str, Outcomes]:
    """None of a run of before they were kept."""
    path = run / "per_image.npz"
    if not path.is_file():
        log.info("%s: is missing, so that the card has no intervals", path)
        return {}
    try:
        return load_outcomes(path)
    except Exception as error:  # NumPy's and zipfile's, for a file that is damaged
        raise ConfigError(
            f"{path}: cannot be read ({error}). Have it made anew: python tools/train.py resume={run}"
        ) from None


def _samples(run: Path) -> np.ndarray | None:
    """(H, W, 3) uint8."""
    path = run / "samples" / "validation.png"
    if not path.is_file():
        log.info("%s: is missing, the card goes without", path)
        return None
    return read_image(path)


def _tell(out: Path, license: str | None, pictures: bool) -> None:
    log.info("left out: the command line, paths and addresses; config.yaml, run.json and train.log, which hold them")
    if pictures:
        log.info("%s shows pictures of your validation images; samples=false goes without", out / SAMPLES)
    if license is None:
        log.warning("no licence is named, so that others may not know what they may do: license=<such as apache-2.0>")
