"""ONNX Runtime for browsers: two files of the npm package onnxruntime-web, which the npm client brings."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from mnv2_tasks.errors import ConfigError

VERSION = "1.30.0"  # that the page was tested with
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # of npm's archive
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
PLACES = ("", "dist", "onnxruntime-web/dist", "node_modules/onnxruntime-web/dist")  # within a folder that is given
REMEDY = f"or say ort=<folder> with {' and '.join(FILES)} of onnxruntime-web {VERSION}"


def runtime_files(folder: str | None) -> dict[str, bytes]:
    """{name: content}.

    Args:
        folder: where they lie, or where npm installed the package; None: npm brings it.

    Raises:
        ConfigError: they are not there, or npm is missing or fails.
    """
    return _packed() if folder is None else _within(Path(folder).expanduser())


def _within(folder: Path) -> dict[str, bytes]:
    for place in PLACES:
        if all((folder / place / name).is_file() for name in FILES):
            return {name: (folder / place / name).read_bytes() for name in FILES}
    raise ConfigError(
        f"ort={folder}: has no {' and '.join(FILES)}. Name the folder in which `npm install onnxruntime-web@{VERSION}` "
        f"was called, or leave ort= out, and npm brings them"
    )


def _packed() -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(
            f"format=web: npm brings onnxruntime-web, and there is no npm. Install Node.js, such as by apt-get install "
            f"npm, {REMEDY}"
        )
    package = f"onnxruntime-web@{VERSION}"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [npm, "pack", package, "--silent", "--ignore-scripts", "--prefer-offline", "--fetch-retries=1"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
        )
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"it ended with {done.returncode}"]
            raise ConfigError(f"format=web: npm pack {package} failed ({said[-1]}). Look at the network, {REMEDY}")
        return _unpacked(archives[0])


def _unpacked(path: Path) -> dict[str, bytes]:
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if digest != SHA512:
        raise ConfigError(
            f"format=web: npm brought another onnxruntime-web {VERSION} than was tested (sha512 {digest})"
        )
    with tarfile.open(path) as archive:
        members = {name: archive.extractfile(f"package/dist/{name}") for name in FILES}
        return {name: member.read() for name, member in members.items() if member is not None}
