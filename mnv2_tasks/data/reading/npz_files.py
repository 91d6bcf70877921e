"""A stranger's `.npz`: arrays of numbers, and nothing that is unpickled or unpacks without end."""

import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from mnv2_tasks.errors import ConfigError


def read_arrays(file: Path | IO[bytes], name: str, *, most_bytes: int) -> dict[str, np.ndarray]:
    """{name: array}

    Args:
        name: of the file, for errors.
        most_bytes: that it may unpack to.

    Raises:
        ConfigError: it is no such file, is damaged, or unpacks to more.
    """
    try:
        with zipfile.ZipFile(file) as packed:
            unpacked = sum(member.file_size for member in packed.infolist())
        if unpacked > most_bytes:
            raise ValueError(f"it would unpack to {unpacked:,} bytes, more than {most_bytes:,}")
        with np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
    except Exception as error:  # zipfile and numpy raise nearly anything on a damaged file
        raise ConfigError(
            f"{name}: cannot be read as .npz of arrays, it is damaged or something else ({error})"
        ) from None
    strange = [key for key, array in found.items() if not isinstance(array, np.ndarray)]
    if strange:
        raise ConfigError(f"{name}: cannot be read as .npz of arrays, it holds {strange[0]!r}, which is none")
    return found
