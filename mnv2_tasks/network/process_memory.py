"""How much memory this process took at most."""

import sys

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
