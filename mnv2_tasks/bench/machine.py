"""What a benchmark ran on, for people."""

import os
import platform
from pathlib import Path

import torch

TOLD = {"avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "VNNI", "avx512_bf16": "bf16", "amx_int8": "AMX"}


def machine() -> str:
    """Processor, what it computes with, threads, accelerator and versions, in one line."""
    name, flags = _processor()
    told = [label for flag, label in TOLD.items() if flag in flags]
    parts = [f"{name} ({', '.join(told)})" if told else name]
    parts.append(f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores")
    parts.append(f"torch with {torch.get_num_threads()} threads")
    parts.append(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")
    return ", ".join([*parts, f"Python {platform.python_version()}, torch {torch.__version__}"])


def _processor() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine(), set()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return fields.get("model name", platform.machine()), set(fields.get("flags", fields.get("Features", "")).split())
