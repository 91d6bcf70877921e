"""OpenVINO's IR: an .xml and, beside it, a .bin with the weights; converted from ONNX."""

from pathlib import Path

import numpy as np
import torch

from mnv2_tasks.export.int8.quantise import Score
from mnv2_tasks.export.int8.report import Report
from mnv2_tasks.network.network import Network


def write(
    network: Network,
    example: torch.Tensor,
    metadata: dict[str, str],
    path: Path,
    precision: str,
    *,
    budget: float | None = None,
    score: Score | None = None,
    qat: bool = False,
) -> Report | None:
    """fp16 stores the weights in half and computes in float32 where the processor has no half; bf16 is computed in.

    Args:
        budget, score, qat: of int8, see `quantise.quantise`.
    """
    from mnv2_tasks.runtimes import onnx

    def convert(source: Path) -> Path:
        _convert(source, metadata, source.with_suffix(".xml"), "fp32")
        return source.with_suffix(".xml")

    source = path.with_suffix(".onnx.part")
    try:
        exact = "int8" if precision == "int8" else "fp32"
        report = onnx.write(
            network, example, metadata, source, exact, budget=budget, score=score, convert=convert, qat=qat
        )
        _convert(source, metadata, path, precision)
    finally:
        source.unlink(missing_ok=True)
    return report


def _convert(source: Path, metadata: dict[str, str], path: Path, precision: str) -> None:
    """From a .onnx file."""
    import openvino

    model = openvino.convert_model(source)
    for key, value in metadata.items():
        model.set_rt_info(value, ["mnv2_tasks", key])
    model.set_rt_info({"bf16": "bf16"}.get(precision, "f32"), ["mnv2_tasks", "computed_in"])
    openvino.save_model(model, path, compress_to_fp16=precision == "fp16")


class Session:
    def __init__(self, path: Path, threads: int | None = None):
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        self.metadata = {key: str(value.value) for key, value in model.get_rt_info()["mnv2_tasks"].items()}
        # without the hint OpenVINO takes bf16 wherever the processor has it, whatever the file says
        settings = {"INFERENCE_PRECISION_HINT": self.metadata["computed_in"], "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        self.model = core.compile_model(model, "CPU", settings)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        return list(self.model(images).values())
