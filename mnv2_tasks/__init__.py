import os
from importlib import import_module
from typing import Any

# OpenCV refuses to decode more pixels; it asks once, when it is first imported. The same as in data/images/limits.py
_pixels = os.environ.get("MNV2_MOST_PIXELS", "")
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", _pixels if _pixels.isdecimal() else "178956970")
os.environ.setdefault("OPENCV_LOG_LEVEL", "FATAL")  # what it cannot decode is Pillow's, or told in our own words
# GNU OpenMP's threads wait for one another by running in circles, for milliseconds, on cores that whatever else runs
# could use: the threads that read and draw pictures, loaders, another program. It asks once, when torch is imported
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.2.0"
# Of api.py, which is imported with the first of them, because its torch takes seconds. __init__.pyi has their types
PUBLIC = ("backbone", "list_backbones", "list_weights", "load", "train")


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(import_module("mnv2_tasks.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
