"""`warnings.catch_warnings` for several threads at once, of which each would undo what another has set."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0
_before = warnings.catch_warnings()


@contextmanager
def unwarned() -> Iterator[None]:
    """Without warnings: the first thread that comes in turns them off, the last one that leaves restores them."""
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = warnings.catch_warnings()
            _before.__enter__()
            warnings.simplefilter("ignore")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _before.__exit__(None, None, None)
