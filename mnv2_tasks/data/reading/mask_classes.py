"""Which classes each mask holds, remembered until a file changes."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mnv2_tasks.data.download.cache import cache_folder, make_cache
from mnv2_tasks.data.images.mask_values import MaskValues
from mnv2_tasks.data.reading.file_stamps import stamps
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.plain_data import parse_json
from mnv2_tasks.whole_files import write_text

MOST_REMEMBERED = 1 << 30  # bytes, of our own writing


def mask_classes(masks: Sequence[str], values: MaskValues, num_classes: int) -> np.ndarray:
    """(m, 2) int64 index of a mask and a class that it holds; none of one that cannot be read."""

    def look(file: str) -> list[int]:
        try:
            return [label for label in np.unique(values.read(file)).tolist() if label < num_classes]
        except DataError:  # which verification reports
            return []

    memory = cache_folder() / "verified" / f"{_state(masks, values, num_classes)}.classes.json"
    try:
        found = parse_json(memory.read_bytes(), str(memory), most_bytes=MOST_REMEMBERED)
        pairs = np.array(found, np.int64).reshape(-1, 2)
        if ((pairs >= 0) & (pairs < [len(masks), num_classes])).all():
            return pairs
    except (OSError, ConfigError, ValueError, TypeError, OverflowError):
        pass  # nothing is remembered, or it is damaged
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders release the interpreter's lock
        found = [(index, label) for index, labels in enumerate(pool.map(look, masks)) for label in labels]
    try:
        make_cache(memory.parent)
        write_text(memory, json.dumps(found))
    except ConfigError:
        pass  # verification says that nothing can be kept
    return np.array(found, np.int64).reshape(-1, 2)


def _state(masks: Sequence[str], values: MaskValues, num_classes: int) -> str:
    digest = hashlib.sha256(f"classes 1 {values} {num_classes}".encode())
    digest.update(b"".join(stamps(masks)))
    return digest.hexdigest()[:32]
