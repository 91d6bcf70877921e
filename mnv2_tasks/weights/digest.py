"""The fingerprint of weights: where a run lies together with its run.json, its weights must be those it ended with."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.stored.run_files import read_description

WEIGHTS = "weights.safetensors"  # of a run, and of what is published


def digest_of(state: dict[str, Tensor]) -> str:
    """sha256 of the names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_digest(path: Path, state: dict[str, Tensor]) -> None:
    """Raise a ConfigError if these are not the weights whose digest the run.json beside them has."""
    expected = _expected(path.with_name("run.json")) if path.name == WEIGHTS else None
    if expected is not None and digest_of(state) != expected:
        raise ConfigError(
            f"{path}: are not the weights that this run ended with (weights_sha256 in run.json). Put the right file "
            f"there, or make it anew: python tools/train.py resume={path.parent}"
        )


def _expected(run_json: Path) -> Any:
    """None: there is none, or the run has not ended."""
    if not run_json.is_file():
        return None
    try:
        content = read_description(run_json)
    except ConfigError as error:
        raise ConfigError(f"{error}, so that its weights cannot be checked") from None
    return content.get("result", {}).get("weights_sha256")
