"""What this machine computes on, and in which precision."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mnv2_tasks.errors import ConfigError

FLOAT32 = "32-true"
TRAINED_IN = re.compile(r"auto|(16|bf16|32|64)(-true|-mixed)?|transformer-engine(-float16)?")  # as Lightning calls them
SCORED_IN = (FLOAT32, "bf16-mixed", "16-mixed", "auto")  # none of them changes the weights


def choose_device(name: str) -> torch.device:
    """`auto` takes an accelerator if there is one.

    Raises:
        ConfigError: this machine, or this torch, does not have the device.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0].split(". ")[0]
        raise ConfigError(f"device={name}: not usable here ({reason}). Use device=auto or device=cpu") from None
    return torch.device(name)


def num_cores() -> int:
    """Cores that this process may use; those of the machine where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_helpers() -> int:
    """Threads that prepare what the network will need next, or finish what it found, on cores that it uses too."""
    return max(1, min(4, num_cores() // 2))


def choose_precision(name: str) -> str:
    """`auto`: bf16 autocast on GPUs and CPUs that multiply bf16 natively, else 32-bit; other names are Lightning's."""
    if name != "auto":
        return name
    return "bf16-mixed" if multiplies_bf16() else FLOAT32


def multiplies_bf16() -> bool:
    """Natively; without, bf16 is emulated."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


def autocast_type(precision: str) -> torch.dtype | None:
    """Of what computes in this precision, one of SCORED_IN; None: float32.

    Raises:
        ConfigError: there is no such precision.
    """
    _check_scored_in("precision", precision)
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(choose_precision(precision))


def scoring_precision(wanted: str | None, training: str) -> str:
    """Of scores that are told.

    Args:
        wanted: eval.precision. None, as of runs of former versions: that of `training`.

    Raises:
        ConfigError: there is no such precision.
    """
    if not TRAINED_IN.fullmatch(str(training)):
        raise ConfigError(f"trainer.precision={training}: expected auto, 32-true, bf16-mixed, 16-mixed or the like")
    if wanted is None:
        return choose_precision(training)
    _check_scored_in("eval.precision", wanted)
    return choose_precision(wanted)


def _check_scored_in(key: str, precision: str) -> None:
    if precision not in SCORED_IN:
        raise ConfigError(f"{key}={precision}: expected {', '.join(SCORED_IN)}")


@contextmanager
def without_tf32() -> Iterator[None]:
    """Within, GPUs multiply float32 as such: cuDNN's convolutions would round it to 10 bits of mantissa."""
    settings: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    before = [setting.allow_tf32 for setting in settings]
    try:
        for setting in settings:
            setting.allow_tf32 = False
        yield
    finally:
        for setting, allowed in zip(settings, before):
            setting.allow_tf32 = allowed
