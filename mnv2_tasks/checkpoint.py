"""Files of weights: safetensors with the passport that rebuilds the network, Lightning checkpoints, torchvision's.

A passport is a plain dict: `config` (what build_network needs), `class_names` ({task: names}), `command`, `metrics`.
Nothing is unpickled but tensors and plain containers.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mnv2_tasks.errors import ConfigError

MANIFEST = Path(__file__).parent.parent / "weights" / "manifest.yaml"


def manifest() -> dict[str, dict[str, Any]]:
    """{name: entry} of weights/manifest.yaml."""
    return yaml.safe_load(MANIFEST.read_text()) or {}


def find_weights(weights: str) -> Path:
    """The file behind `weights=`: a name in the manifest, or a path.

    Raises:
        ConfigError: it is neither, or the file of the manifest is damaged.
    """
    if weights in manifest():
        entry, path = manifest()[weights], MANIFEST.parent / manifest()[weights]["file"]
        if not path.is_file():
            raise ConfigError(f"weights={weights}: {path} is missing; restore it from the repository")
        if sha256(path) != entry["sha256"]:
            raise ConfigError(f"weights={weights}: {path} is not the file that the manifest describes (sha256)")
        return path
    if not Path(weights).is_file():
        raise ConfigError(
            f"weights={weights}: no such file, and no such name in {MANIFEST.name} ({', '.join(manifest())})"
        )
    return Path(weights)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_weights(path: Path, state: dict[str, Tensor], passport: dict[str, Any]) -> None:
    """Write `state` as safetensors, with the passport in its metadata."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, path, metadata={"passport": json.dumps(passport)})


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State and passport of a .safetensors or .ckpt of ours, or of torchvision's MobileNetV2 (passport empty).

    Raises:
        ConfigError: the file is corrupt, holds more than weights, or is of an unknown kind.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                passport = json.loads((file.metadata() or {}).get("passport", "{}"))
                return {name: file.get_tensor(name) for name in file.keys()}, passport
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as weights, it is damaged or of another format ({error})") from None
    except Exception as error:  # torch's UnpicklingError derives from Exception alone
        raise ConfigError(
            f"{path}: refused, it holds more than tensors and could run code when loaded "
            f"({type(error).__name__}). Ask its author for a safetensors file or a plain state_dict"
        ) from None
    if isinstance(content, dict) and "passport" in content:
        prefix = "network."
        state = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
        return state, content["passport"]
    if isinstance(content, dict) and "features.0.0.weight" in content:
        return from_torchvision(content), {}
    raise ConfigError(f"{path}: neither a checkpoint of this project nor torchvision's mobilenet_v2")


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's mobilenet_v2 state_dict under the names of our classification network.

    features.0 is the stem, features.1..17 the blocks, features.18 the last convolution.
    """
    parts = {"0": "expand", "1": "depthwise"}
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("classifier.1."):
            renamed[f"tasks.classification.head.linear.{name.removeprefix('classifier.1.')}"] = tensor
            continue
        index, rest = re.fullmatch(r"features\.(\d+)\.(.+)", name).groups()
        index = int(index)
        if index == 0 or index == 18:
            renamed[f"backbone.{'stem' if index == 0 else 'final'}.{rest}"] = tensor
            continue
        layer, rest = rest.removeprefix("conv.").split(".", 1)  # conv.0.0.weight, or conv.2.weight of the projection
        first = 1 if index == 1 else 0  # block 1 has no expansion
        step = int(layer) + first
        if step < 2:
            part = f"{parts[str(step)]}.{rest}"
        else:
            part = f"project.{step - 2}.{rest}"
        renamed[f"backbone.blocks.{index - 1}.{part}"] = tensor
    return renamed
