"""LiteRT, once TensorFlow Lite: one .tflite, run by LiteRT's interpreter.

Metadata is a zip archive behind the network, where TensorFlow keeps its own: {key}.txt for each.
"""

import logging
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnv2_tasks.errors import ConfigError

MOST_METADATA = 16 << 20  # bytes: a passport has at most a quarter of it


def write(graph: Any, example: torch.Tensor, metadata: dict[str, str], path: Path, precision: str) -> None:
    """One file for the example's height and width, since the converter knows no others; images go one by one.

    Args:
        example: (N, H, W, 3) uint8.
    """
    convert(graph, example, path, precision)
    append(metadata, path)


def convert(graph: Any, example: torch.Tensor, path: Path, precision: str) -> None:
    """The file without its metadata. fp16 stores the weights in half and computes in float32.

    Args:
        graph: a module that takes one image and keeps its network under that name.
        example: (N, H, W, 3) of the type that it takes; int8 takes the ranges of activations from what it sees on them.
    """
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    import litert_torch  # pyright: ignore[reportMissingImports]

    graph = graph.eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the converter's affairs
        graph.network(example[:1].permute(0, 3, 1, 2))  # anchors are remembered: made of real numbers first
        logging.disable(logging.WARNING)
        try:
            litert_torch.convert(graph, (example[:1],)).export(str(path))
            if precision == "fp16":
                path.write_bytes(_halved(path))
            if precision == "int8":
                path.write_bytes(_quantised(path, example))
        finally:
            logging.disable(logging.NOTSET)


def append(metadata: dict[str, str], path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        for key, value in metadata.items():
            archive.writestr(f"{key}.txt", value)


def _halved(path: Path) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer  # pyright: ignore[reportMissingImports]
    from ai_edge_quantizer.algorithm_manager import AlgorithmName  # pyright: ignore[reportMissingImports]

    half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    weights = qtyping.OpQuantizationConfig(
        weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    recipe = quantizer.Quantizer(path)
    for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        recipe.update_quantization_recipe(".*", qtyping.TFLOperationName(kind), weights, AlgorithmName.FLOAT_CASTING)
    return bytes(recipe.quantize(enable_progress_bar=False, enable_progress_report=False).quantized_model)


def _quantised(path: Path, images: torch.Tensor) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer  # pyright: ignore[reportMissingImports]

    recipe = quantizer.Quantizer(path)
    # a slash: in a part of the network; normalisation before and post-processing behind it stay in float32
    recipe.add_static_config(".*Network_network/.*", qtyping.TFLOperationName.ALL_SUPPORTED, 8, 8)
    seen = recipe.calibrate({"serving_default": [{"args_0": image.numpy()} for image in images.split(1)]})
    return bytes(recipe.quantize(seen, enable_progress_bar=False, enable_progress_report=False).quantized_model)


class Session:
    def __init__(self, path: Path, threads: int | None = None):
        from ai_edge_litert.interpreter import Interpreter

        self.metadata: dict[str, str] = {}
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > MOST_METADATA:
                    raise ConfigError(f"its metadata has more than {MOST_METADATA:,} bytes")
                self.metadata = {Path(name).stem: archive.read(name).decode() for name in archive.namelist()}
        self.interpreter = Interpreter(str(path), num_threads=threads)
        self.interpreter.allocate_tensors()
        self.network: Any = self.interpreter.get_signature_runner()
        (about,) = self.interpreter.get_input_details()
        self.shape, self.dtype = tuple(about["shape"]), about["dtype"]

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        if images.shape[1:] != self.shape[1:]:
            height, width = self.shape[1:3]
            raise ConfigError(
                f"images of {images.shape[1]} x {images.shape[2]} pixels: this file takes {height} x {width}"
            )
        results = [self.network(args_0=image[None].astype(self.dtype)) for image in images]
        joined = [np.concatenate([result[f"output_{i}"] for result in results]) for i in range(len(results[0]))]
        return [array.astype(np.int64) if array.dtype == np.int32 else array for array in joined]  # as in `Graph`
