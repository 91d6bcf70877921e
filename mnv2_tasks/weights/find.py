"""`weights=` -> a file: a name of weights/manifest.yaml, a path, a run, an address, or Hugging Face's hub."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mnv2_tasks.data.images.file_bytes import WEB
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.shipped import broken_installation, shipped
from mnv2_tasks.weights.digest import WEIGHTS
from mnv2_tasks.weights.fetched import Published, fetched, fetched_from, sha256
from mnv2_tasks.weights.hub import HUB, from_hub
from mnv2_tasks.wording import did_you_mean

MANIFEST = shipped("weights") / "manifest.yaml"
ALGORITHMS = ("sha256", "sha384")
OWN = "or name a file of your own, weights=<path>"


def find_weights(weights: str, backbone: str = "mobilenet_v2") -> Path:
    """The file behind `weights=`, which is fetched into the cache if others publish it.

    Args:
        weights: a name in the manifest, a path, the folder of a run that has ended or was published, http:// or
            https://, or hf_hub:owner/name@revision.
        backbone: which of several networks a published name such as `imagenet` means.

    Raises:
        ConfigError: it is none of them, the file of the manifest is damaged, or it cannot be fetched.
    """
    try:
        if weights.startswith(WEB):
            return fetched_from(weights)
        if weights.startswith(HUB):
            return from_hub(weights)
    except (ConfigError, OSError) as error:
        raise ConfigError(f"{error}; {OWN}") from None
    entries = manifest()
    published = [name for name in entries if name == f"{weights}_{entries[name]['backbone']}"]  # one for each backbone
    if published and f"{weights}_{backbone}" not in published:
        offered = ", ".join(entries[name]["backbone"] for name in published)
        raise ConfigError(f"weights={weights}: is published for {offered}; you asked for {backbone}")
    entry = entries.get(f"{weights}_{backbone}") or entries.get(weights)
    if entry is None:
        return _of_path(weights, entries)
    if "url" in entry:
        source = published_file(entry)
        try:
            return fetched(source, source.place)
        except (ConfigError, OSError) as error:
            raise ConfigError(f"weights={weights}: {error}; {OWN}") from None
    path = MANIFEST.parent / entry["file"]
    if not path.is_file():
        raise broken_installation(f"{path}, which weights={weights} names, is missing")
    if sha256(path) != entry["sha256"]:
        raise ConfigError(f"weights={weights}: {path} is not the file that the manifest describes (sha256)")
    return path


def manifest() -> dict[str, dict[str, Any]]:
    """{name: entry} of weights/manifest.yaml, with an entry for each row of its tables."""
    found = {}
    for name, entry in _written(MANIFEST).items():
        for row in entry.get("each", [{}]):
            filled = {key: _filled(value, row) for key, value in entry.items() if key != "each"}
            found[_filled(name, row)] = filled | row
    return found


def published_file(entry: dict[str, Any]) -> Published:
    """Of an entry that has an address."""
    checksum = next((f"{algorithm}:{entry[algorithm]}" for algorithm in ALGORITHMS if algorithm in entry), None)
    return Published(entry["url"], checksum, entry.get("bytes"), entry.get("member"))


@cache  # a command asks several times, and YAML takes its time
def _written(path: Path) -> dict[str, dict[str, Any]]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _filled(text: Any, row: dict[str, Any]) -> Any:
    """With a row's values in the place of <its keys>."""
    if isinstance(text, str):
        for key, value in row.items():
            text = text.replace(f"<{key}>", str(value))
    return text


def _of_path(weights: str, entries: dict[str, Any]) -> Path:
    path = Path(os.path.expanduser(weights))
    if (path / "config.yaml").is_file():
        return _of_run(path)
    if (path / WEIGHTS).is_file():  # a folder that was published
        return path / WEIGHTS
    if path.exists() or path.with_name(f"{path.name}.index").is_file():  # TensorFlow's are named by their prefix
        return path
    raise ConfigError(
        f"weights={weights}: no such file, and no such name in {MANIFEST.name} ({', '.join(_written(MANIFEST))}). "
        f"{did_you_mean(weights, entries)}".rstrip()
    )


def _of_run(run: Path) -> Path:
    """What a run leaves at its end."""
    if not (run / WEIGHTS).is_file():
        raise ConfigError(
            f"weights={run}: this run has not ended, it has no {WEIGHTS}. "
            f"Go on with it: python tools/train.py resume={run}; or take weights={run}/checkpoints/best.ckpt as it is"
        )
    return run / WEIGHTS
