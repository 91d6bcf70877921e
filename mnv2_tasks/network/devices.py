"""What this machine computes on, and in which precision."""

import os

import torch

from mnv2_tasks.errors import ConfigError


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


def choose_precision(name: str) -> str:
    """`auto`: bf16 autocast on GPUs and CPUs that multiply bf16 natively, else 32-bit; other names are Lightning's."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"
