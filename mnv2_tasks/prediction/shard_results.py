"""Results of shards as files of one folder: results-<shard>.jsonl of each, which is there once the shard is done.

Beside it, shard-<shard>.json says which file that was: one that is replaced is done again.

Several processes may write into the folder. `predict.json` says what the results were predicted with: others are not
mixed with them.
"""

import glob
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import parse_json, read_json
from mnv2_tasks.prediction.predictor import Unread
from mnv2_tasks.prediction.results import Result
from mnv2_tasks.runs.run_folder import make_folder
from mnv2_tasks.weights.fetched import sha256
from mnv2_tasks.weights.find import find_weights
from mnv2_tasks.whole_files import remove_parts, write_json, written_whole
from mnv2_tasks.wording import brief

RECORD = "predict.json"
SETTINGS = ["weights", "precision", "min_score", "classes", "thresholds"]  # of conf/predict.yaml, that lines depend on
DIGEST = "_sha256"
LONGEST_LINE = 1 << 20  # bytes


def settings_of(config: DictConfig) -> dict[str, Any]:
    """What lines depend on, with the digests of the files among it, as plain data."""
    settings: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, SETTINGS))
    files = {"weights": _files(find_weights(str(config.weights)))}
    if config.thresholds is not None:
        files["thresholds"] = [Path(config.thresholds).expanduser()]
    return settings | {f"{key}{DIGEST}": [sha256(file) for file in of_key] for key, of_key in files.items()}


def _files(path: Path) -> list[Path]:
    """OpenVINO's are two, TensorFlow's checkpoints several with a prefix."""
    if not path.is_file():
        return [Path(name) for name in sorted(glob.glob(f"{glob.escape(str(path))}.*"))]
    return [path, *(other for other in [path.with_suffix(".bin")] if path.suffix == ".xml" and other.is_file())]


class ShardResults:
    """
    Args:
        out: the folder; None: the next free runs/predict/<n>.
        settings: what lines depend on, see `settings_of`.

    Raises:
        ConfigError: the folder holds other things, or results that depend on others.
    """

    def __init__(self, out: str | None, settings: Mapping[str, Any]):
        self.folder = make_folder(out, Path("runs/predict"), unless=RECORD)
        remove_parts(self.folder)
        record = self.folder / RECORD
        if not record.is_file():
            write_json(record, settings)
        _check_equal(record, settings)

    def is_complete(self, shard: Path) -> bool:
        """Whether a shard is done, as it is now, and all its pictures have results.

        Raises:
            ConfigError: there are those of another shard that is called alike.
        """
        path = self._path(shard)
        try:
            last = parse_json(_last_line(path), str(path))
            file, failed = str(last["file"]), "error" in last
        except (FileNotFoundError, ConfigError, TypeError, KeyError):  # not there, or not as we leave it
            return False
        if file != str(shard) and not file.startswith(f"{shard}/"):
            raise ConfigError(f"{path}: holds results of {brief(file)}, not of {shard}. Choose another out=")
        try:
            return not failed and read_json(self._state_path(shard)) == _state(shard)
        except ConfigError:  # not there, or not as we leave it
            return False

    def write(self, shard: Path, results: Iterable[Result | Unread]) -> tuple[int, list[Unread]]:
        """A line for each picture; those that could not be read come last, with an `error` in place of results.

        Returns:
            How many have results, and those that have none.
        """
        count, unread, state = 0, [], _state(shard)
        with written_whole(self._path(shard)) as file:
            for result in results:
                if isinstance(result, Unread):
                    unread.append(result)
                else:
                    file.write(_line(result.to_dict()))
                    count += 1
            for name, error in unread:
                file.write(_line({"file": name, "error": str(error)}))
        write_json(self._state_path(shard), state)
        return count, unread

    def _path(self, shard: Path) -> Path:
        return self.folder / f"results-{shard.stem}.jsonl"

    def _state_path(self, shard: Path) -> Path:
        return self.folder / f"shard-{shard.stem}.json"


def _state(shard: Path) -> dict[str, int] | None:
    """By which one that was replaced is known; None: it is gone."""
    try:
        found = shard.stat()
    except OSError:
        return None
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}


def _check_equal(record: Path, settings: Mapping[str, Any]) -> None:
    try:
        before = read_json(record)
    except ConfigError as error:
        raise ConfigError(f"{error} It says what the results there depend on: choose another out=") from None
    if not isinstance(before, dict) or not before.keys() >= settings.keys():
        raise ConfigError(f"{record}: was not written by tools/predict.py. Choose another out=")
    for key, value in settings.items():
        if before.get(key) != value and key != "weights":  # which may be called otherwise
            name = key.removesuffix(DIGEST)
            held = f"{'' if name == key else 'other '}{name}={brief(before.get(name))}"
            raise ConfigError(
                f"{record.parent}: holds results of {held}. Choose another out=, or say what its {RECORD} says"
            )


def _line(entry: dict[str, Any]) -> bytes:
    # a name may be bytes that are no text: these become escapes, which JSON reads as it reads others
    return (json.dumps(entry, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def _last_line(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_LINE))
        return file.read().rstrip(b"\n").rpartition(b"\n")[2]
