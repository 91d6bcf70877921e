"""How much memory this process took at most."""

import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None


def peak_memory() -> int | None:
    """Most bytes that this process ever had resident; None where the system does not tell."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def start_measuring() -> int | None:
    """Bytes that are resident, from which `measured_peak` counts anew; None where the system cannot: Linux can.

    To be called after `give_back_memory`: else a step fills, unseen, what an earlier one has left.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the kernel's word for: forget the peak
        return _status("VmRSS")
    except (OSError, LookupError, ValueError):
        return None


def measured_peak() -> int:
    """Most bytes that were resident since `start_measuring`."""
    return _status("VmHWM")


def _status(key: str) -> int:
    words = Path("/proc/self/status").read_text(encoding="utf-8").split()
    return 1024 * int(words[words.index(f"{key}:") + 1])
