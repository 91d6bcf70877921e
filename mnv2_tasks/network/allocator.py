"""Memory that a step of training, evaluation or prediction frees is kept for the next one, or given back."""

import ctypes
import gc
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc's malloc not to hand large freed blocks back to the system; False where malloc is another.

    PyTorch allocates every tensor on the CPU anew. Beyond 32 MB, a single layer's output for a batch, glibc asks the
    system for each, which zeroes page after page as they are first touched: a quarter of a training step, half of an
    evaluation's, and of a batch in prediction.
    """
    if sys.platform == "win32":
        return False  # where the C library has to be named
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def give_back_memory() -> None:
    """What nothing refers to any more, to the device and to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform != "win32" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
