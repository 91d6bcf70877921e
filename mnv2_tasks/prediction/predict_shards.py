"""predict_shards(config, shards): a file of results for each tar shard, by as many processes as shall share them."""

import re
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.prediction.asked import asked_predictor, asked_words
from mnv2_tasks.prediction.shard_results import ShardResults, settings_of
from mnv2_tasks.prediction.tars import pictures_in
from mnv2_tasks.runs.processes import place_in_job, place_on_machine, wait_for_all
from mnv2_tasks.wording import counted, first_few, visible

NAMED = 10  # of those without results, at the end


def predict_shards(config: DictConfig, shards: Sequence[Path]) -> None:
    """Go through this process's share of the shards, one after the other, but for those that are done.

    Raises:
        ConfigError: the weights, the device or the folder cannot work.
        DataError: some of the pictures could not be read; all others are done.
    """
    if asked_words(config, ["json"]) != ["json"]:
        raise ConfigError(f"save={config.save}: of shards there is json alone. Leave it out")
    number, count = place_in_job() if config.share is None else _parsed(config.share)
    if count > 1 and config.out is None:
        raise ConfigError("shards are shared among processes: say out=<folder>, into which all of them write")
    if (place := place_on_machine()) and torch.cuda.is_available():
        torch.cuda.set_device(place % torch.cuda.device_count())
    predictor, least = asked_predictor(config)
    predictor.results((), batch=config.batch, least=least)  # refuses what cannot be, before a folder is there
    results = ShardResults(config.out, settings_of(config))
    share = shards[number::count]
    ours = [shard for shard in share if not results.is_complete(shard)]

    console = Console(highlight=False, markup=False, soft_wrap=True)
    who = f"share {number}/{count}: " if count > 1 else ""
    before = f", {len(share) - len(ours):,} of them done before" if len(ours) < len(share) else ""
    console.print(f"{who}{len(share):,} of {counted(len(shards), 'shard')}{before}")
    began, pictures, failed = time.perf_counter(), 0, 0
    named: list[str] = []  # of those that failed
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            for place, shard in enumerate(progress.track(ours, description="shards"), start=1):
                found = predictor.results(pictures_in(shard), batch=config.batch, least=least)
                done, unread = results.write(shard, found)
                for _, error in unread:
                    console.print(visible(f"{who}{error}"))
                console.print(visible(f"{who}{place}/{len(ours)} {shard}: {counted(done, 'picture')}"))
                pictures, failed = pictures + done, failed + len(unread)
                named += [name for name, _ in unread[: NAMED - len(named)]]
    except (KeyboardInterrupt, SystemExit):
        console.print(f"{who}interrupted; the same command with out={results.folder} goes on")
        raise
    if ours:
        spent = time.perf_counter() - began
        parts = ", ".join(
            f"{1000 * seconds / max(1, pictures):.1f} ms {part}" for part, seconds in predictor.seconds.items()
        )
        console.print(
            f"{who}{counted(pictures, 'picture')}: {pictures / spent:.1f} images/s on {predictor.network.device}, "
            f"at once {parts} per image; saved to {results.folder}"
        )
    wait_for_all()
    if failed:
        more = f" ... ({failed - len(named):,} more)" if failed > len(named) else ""
        raise DataError(
            f"{who}{failed:,} without results: {first_few(named, NAMED)}{more}. The last lines of the shards' results "
            "say why. Mend these shards and call it again, which does them alone"
        )


def _parsed(share: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(share))
    if found is None or not int(found[1]) < int(found[2]):
        raise ConfigError(f"share={share}: expected 0/4, 1/4, 2/4 or 3/4 of four processes")
    return int(found[1]), int(found[2])
