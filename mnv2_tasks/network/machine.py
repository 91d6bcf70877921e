"""The machine in words: what computes here."""

import platform
from pathlib import Path

import torch

from mnv2_tasks.network.devices import num_cores

EXTENSIONS = {"avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "VNNI", "avx512_bf16": "bf16", "amx_int8": "AMX"}


def machine() -> str:
    """Processor, what it computes with, threads, accelerator and versions, in one line."""
    name, flags = _processor()
    extensions = [label for flag, label in EXTENSIONS.items() if flag in flags]
    name = f"{name} ({', '.join(extensions)})" if extensions else name
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{name}, {num_cores()} cores, torch with {torch.get_num_threads()} threads, {gpu}, {versions}"


def _processor() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine(), set()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return fields.get("model name", platform.machine()), set(fields.get("flags", fields.get("Features", "")).split())
