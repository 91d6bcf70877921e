"""Weights on Hugging Face's hub, by its own library: its cache, tokens and mirrors (HF_HOME, HF_TOKEN, HF_ENDPOINT)."""

import re
from collections.abc import Iterable
from pathlib import Path

from rich.filesize import decimal

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.fetched import MOST_BYTES
from mnv2_tasks.wording import brief, first_few

HUB = "hf_hub:"
ADDRESS = re.compile(r"hf_hub:(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>[\w./-]+))?")
USUAL = "model.safetensors"
ENDINGS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".tflite", ".npz", ".pb")  # the best first


def from_hub(address: str) -> Path:
    """The file of hf_hub:owner/name/file@revision in the hub's cache, from where it is taken offline once it is there.

    Without a file it is the repository's model.safetensors, or the only one of the best format; without a revision
    that of main.

    Raises:
        ConfigError: the library is not installed, there is no such file, or the hub cannot be reached.
    """
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise ConfigError(f"weights={address}: expected hf_hub:owner/name or hf_hub:owner/name/file, and @revision")
    try:
        from huggingface_hub import HfApi, constants, hf_hub_download
    except ImportError as error:
        raise ConfigError(f'weights={address}: needs huggingface_hub; pip install "mnv2-tasks[hub]"') from error
    repository, file, revision = match["repository"], match["file"], match["revision"] or "main"
    snapshot = _snapshot(Path(constants.HF_HUB_CACHE), repository, revision)
    if there := _choice(_files(snapshot), file):
        return snapshot / there
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
    except Exception as error:  # of its own, of its HTTP library and of the system, other ones in each release
        raise _unreachable(address, error) from None
    wanted = _choice(sizes, file)
    if wanted is None:
        held = [name for name in sizes if name.endswith(ENDINGS)]
        what = f"its files of weights are {first_few(held)}" if held else "it has no file of weights"
        raise ConfigError(f"weights={address}: which file? {what}. Say {HUB}{repository}/<file>")
    if sizes[wanted] > MOST_BYTES:
        raise ConfigError(f"weights={address}: {wanted} is larger than {decimal(MOST_BYTES)}, the most that is fetched")
    try:
        return Path(hf_hub_download(repository, wanted, revision=revision))
    except Exception as error:
        raise _unreachable(address, error) from None


def _snapshot(cache: Path, repository: str, revision: str) -> Path:
    """Where the hub's cache has what was fetched of a revision."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    return folder / "snapshots" / commit


def _files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _choice(names: Iterable[str], file: str | None) -> str | None:
    """The file that was asked for, or the one that can be meant."""
    names = list(names)
    if file or USUAL in names:
        return next((name for name in names if name == (file or USUAL)), None)
    of_best = next((found for ending in ENDINGS if (found := [n for n in names if n.endswith(ending)])), [])
    return of_best[0] if len(of_best) == 1 else None


def _unreachable(address: str, error: Exception) -> ConfigError:
    reason = brief(str(error).split("\n")[0] or type(error).__name__)
    return ConfigError(
        f"weights={address}: cannot be had from Hugging Face's hub ({reason}). Look at the name and the connection; "
        f"what was fetched once is used offline"
    )
