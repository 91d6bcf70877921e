"""ExecuTorch: one .pte for XNNPACK, run by ExecuTorch's Python runtime."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import Dim

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runtimes.formats import SMALLEST

LARGEST = 1025  # pixels of a side, where any size is taken: the file's memory is planned for it


def write(graph: Any, example: torch.Tensor, metadata: dict[str, str], path: Path, precision: str) -> None:
    """One file for the example's height and width, or up to `LARGEST` where the graph takes any; images go one by one.

    Args:
        example: (N, H, W, 3) uint8; int8 takes the ranges of activations from what it sees on them.
    """
    # AUTO, because torch cannot prove of a rounding network that it takes all of a named dimension's sizes
    side: Any = Dim.AUTO(min=SMALLEST, max=LARGEST) if graph.any_size else Dim.STATIC
    constants = metadata | {"smallest": json.dumps([SMALLEST] * 2 if graph.any_size else example.shape[1:3])}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's affairs
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        graph.network(_planes(example[:1]))  # anchors are remembered: they must be made of real numbers first
        if precision == "int8":
            graph.network = _quantised(graph.network, example, side)
        program = torch.export.export(graph, (example[:1],), dynamic_shapes=({1: side, 2: side},), strict=False)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], constant_methods=constants)
        path.write_bytes(lowered.to_executorch().buffer)


def _planes(images: torch.Tensor) -> torch.Tensor:
    return images.float().permute(0, 3, 1, 2)


def _quantised(network: torch.nn.Module, images: torch.Tensor, side: Any) -> Any:
    """A network whose layers round weights, for each channel, and activations, by fixed ranges, to 8 bits."""
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    symmetric = xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True)
    quantizer = xnnpack_quantizer.XNNPACKQuantizer().set_global(symmetric)
    shape = ({2: side, 3: side},)
    program: Any = torch.export.export(network, (_planes(images[:1]),), dynamic_shapes=shape, strict=False).module()
    prepared = prepare_pt2e(program, quantizer)
    for image in images.split(1):
        prepared(_planes(image))
    return convert_pt2e(prepared)


class Session:
    """
    Args:
        threads: of ExecuTorch's pool, which the whole process shares.
    """

    def __init__(self, path: Path, threads: int | None = None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # all of its Python interface is called experimental
            from executorch.extension.pybindings import portable_lib

            if threads:
                portable_lib._unsafe_reset_threadpool(threads)
            self.module: Any = portable_lib._load_for_executorch(str(path))
        constants = [name for name in self.module.method_names() if name != "forward"]
        self.metadata: dict[str, str] = {name: self.module.run_method(name, ())[0] for name in constants}
        self.largest = tuple(self.module.method_meta("forward").input_tensor_meta(0).sizes())[1:3]
        self.smallest = tuple(json.loads(self.metadata.pop("smallest", "null")) or self.largest)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        size = images.shape[1:3]
        if not all(low <= side <= high for low, side, high in zip(self.smallest, size, self.largest)):
            low, high = (" x ".join(map(str, sides)) for sides in (self.smallest, self.largest))
            takes = low if low == high else f"{low} to {high}"
            raise ConfigError(f"images of {size[0]} x {size[1]} pixels: this file takes {takes}")
        results = [self.module.forward((torch.from_numpy(image[None]),)) for image in images]
        return [torch.cat(parts).numpy() for parts in zip(*results)]
