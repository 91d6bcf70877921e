"""Files of weights, ours and others'. Ours hold the passport that rebuilds the network (see passport.py).

Nothing is unpickled but tensors and plain containers.
"""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runtimes.contents import PICTURES, kind_of
from mnv2_tasks.runtimes.exported import Exported, is_exported
from mnv2_tasks.stored.checked_passport import check_passport
from mnv2_tasks.weights.digest import check_digest
from mnv2_tasks.weights.importers.darknet import is_darknet, read_darknet
from mnv2_tasks.weights.importers.family import Imported
from mnv2_tasks.whole_files import written_whole

NO_WEIGHTS = (  # what is named by mistake, of which torch would say that it could run code
    ".md", ".txt", ".py", ".yaml", ".yml", ".json", ".csv", ".log", ".jpg", ".jpeg", ".png", ".html", ".xml", ".tar",
    ".cfg", ".names",
)  # fmt: skip

RUNS = "is a network for {}, which predict and eval run if tools/export.py wrote it; take the weights it was made from"
NOT_READ = {  # what a file may be, by what it holds, and how to mend it
    "empty": "is empty: its download did not finish, or the disk was full",
    "onnx": RUNS.format("ONNX Runtime"),
    "openvino": RUNS.format("OpenVINO"),
    "executorch": RUNS.format("ExecuTorch"),
    "torch program": RUNS.format("torch.export"),
    "torchscript": "is a TorchScript program, which is code. Save its state_dict: "
    "torch.save(torch.jit.load(path).state_dict(), 'weights.pth')",
    "hdf5": "is an HDF5 file, as Keras writes: convert its model to .tflite",
    "keras": "is a model of Keras: convert it to .tflite",
    "web page": "is a web page, which was downloaded in place of the file: take the link of the file itself",
    "git lfs": "is a note of Git LFS in place of the file: git lfs pull fetches it",
    "tar": "is an archive: unpack it, and name the file of weights in it",
    "zip": "is an archive without weights of torch or NumPy: unpack it, and name the file of weights in it",
    **dict.fromkeys(PICTURES, "is a picture: take the link, or the name, of the file of weights"),
    "damaged archive": "is damaged: an archive whose list of members is missing. Fetch or write it again",
    "gzip": "is packed: unpack it (gunzip, tar -xzf), and name the file of weights in it",
}


class Weights(NamedTuple):
    """Weights with a passport: of this project, or of another one for which a passport was composed."""

    state: dict[str, Tensor]  # under our names
    passport: dict[str, Any]
    family: str = "ours"  # or whose layout it was
    left_out: dict[str, str] = {}  # {their tensor: why it was not taken}
    header: Any = None  # as in Imported


def save_weights(path: Path, state: dict[str, Tensor], passport: dict[str, Any]) -> None:
    """Write `state` as safetensors, with the passport in its metadata."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with written_whole(path) as file:
        file.write(save(tensors, metadata={"passport": json.dumps(passport)}))


def load_weights(path: Path, *, trust: bool = False) -> Weights | Imported:
    """Weights of this project (.safetensors, .ckpt), or of another one with the overrides that build their network.

    Known are the PyTorch layouts of `importers/recognise.py`, TensorFlow checkpoints and frozen graphs, .tflite, folded
    .npz, and Darknet's .weights with their .cfg. What a file holds counts, and its ending where that cannot be told.

    Args:
        trust: see `check_passport`.

    Raises:
        ConfigError: the file is corrupt, holds more than weights, is of an unknown kind, or needs what is gone.
    """
    kind = kind_of(path)
    if kind in NOT_READ:
        raise ConfigError(f"{path}: {NOT_READ[kind]}")
    if kind == "npz" or (not kind and path.suffix == ".npz"):
        from mnv2_tasks.weights.importers.npz import read_npz

        return read_npz(path)
    if kind == "tflite" or (not kind and path.suffix == ".tflite"):
        from mnv2_tasks.weights.importers.tflite import read_tflite

        return read_tflite(path)
    if kind in ("frozen graph", "saved model") or (not kind and path.suffix == ".pb"):
        from mnv2_tasks.weights.importers.tensorflow import read_frozen_graph

        return read_frozen_graph(path)
    if path.is_dir() or path.suffix == ".index" or not path.exists():
        from mnv2_tasks.weights.importers.tensorflow import read_tensorflow

        return read_tensorflow(path)
    if not kind and is_darknet(path):
        return read_darknet(path)
    content, metadata = _read(path)
    check_digest(path, content)
    if "passport" in metadata:
        return Weights(content, check_passport(metadata["passport"], path, trust=trust))
    if "passport" in content:
        passport, prefix = check_passport(content["passport"], path, trust=trust), "network."
        tensors = content.get("state_dict")
        if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            raise ConfigError(f"{path}: state_dict: is no group of tensors")
        return Weights({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}, passport)
    from mnv2_tasks.weights.importers.recognise import recognise

    return recognise(content, str(path))


def read_passport(path: Path, *, trust: bool = False) -> dict[str, Any] | Imported:
    """The passport of weights, or of a network that was exported; others' weights, which have none, as imported.

    Of a .safetensors the header is read, of a .ckpt and a .pth what stands around the tensors.

    Args:
        trust: see `check_passport`.

    Raises:
        ConfigError: as `load_weights` and `Exported`.
    """
    if is_exported(path):
        return Exported(path, trust=trust).passport
    if kind_of(path) == "safetensors" and "passport" in (metadata := _read_metadata(path)):
        return check_passport(metadata["passport"], path, trust=trust)
    weights = load_weights(path, trust=trust)
    return weights.passport if isinstance(weights, Weights) else weights


def _read_metadata(path: Path) -> dict[str, str]:
    with _refusing_others(path), safe_open(path, "pt") as file:
        return file.metadata() or {}


def _is_safetensors(path: Path) -> bool:
    kind = kind_of(path)
    return kind == "safetensors" or (not kind and path.suffix == ".safetensors")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The content, whose tensors are read when they are used, and the metadata of a .safetensors."""
    with _refusing_others(path):
        if _is_safetensors(path):
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
        if path.suffix == ".safetensors":  # torch would take it for one, by its name
            with open(path, "rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True), {}
        mapped = zipfile.is_zipfile(path)  # which files of torch before 1.6 are not
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped), {}


@contextmanager
def _refusing_others(path: Path) -> Iterator[None]:
    """What goes wrong as a file is read -> a ConfigError."""
    if path.suffix.lower() in NO_WEIGHTS and not kind_of(path):
        raise ConfigError(
            f"{path}: is no file of weights, by its name. Weights are .safetensors, .ckpt, .pth, .npz, .tflite, .pb, "
            f".weights or a run folder, or a name in manifest.yaml"
        )
    try:
        yield
    except (SafetensorError, RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as weights, it is damaged or of another format ({error})") from None
    except Exception as error:  # torch's UnpicklingError derives from Exception alone
        raise ConfigError(
            f"{path}: refused, it holds more than tensors and could run code when loaded "
            f"({type(error).__name__}). Ask its author for a safetensors file or a plain state_dict"
        ) from None
