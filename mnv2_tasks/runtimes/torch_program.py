"""torch: an exported program, .pt2, that needs nothing but torch to run.

`torch.compile(torch.export.load(path).module())` makes it faster where there is a compiler.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnv2_tasks.network.allocator import keep_freed_memory

METADATA = "metadata.json"


def write(graph: Any, example: Tensor, metadata: dict[str, str], path: Path, precision: str) -> None:
    """One file, for any number of images at once; of any height and width where the graph takes them.

    Args:
        example: (B, H, W, 3) uint8, B > 1.
    """
    with torch.no_grad():
        graph.network(example.permute(0, 3, 1, 2))  # anchors are remembered: they must be made of real numbers first
        if precision == "bf16":
            inner: Any = graph.network
            inner.tasks.bfloat16()
            inner.backbone = InHalf(inner.backbone)
        program = torch.export.export(graph, (example,), dynamic_shapes=(graph.dynamic_shape,), strict=False)
    content = io.BytesIO()  # torch's own writer of files aborts the process where the disk is full
    torch.export.save(program, content, extra_files={METADATA: json.dumps(metadata)})
    path.write_bytes(content.getbuffer())


class InHalf(nn.Module):
    """A backbone that computes in bfloat16, behind a normalisation in float32."""

    def __init__(self, backbone: Any):
        super().__init__()
        self.backbone = backbone.bfloat16()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.backbone(images.bfloat16())


class Session:
    def __init__(self, path: Path, threads: int | None = None):
        keep_freed_memory()
        files = {METADATA: ""}
        self.module = torch.export.load(path, extra_files=files).module()
        self.metadata: dict[str, str] = json.loads(files[METADATA] or "{}")
        self.threads = threads

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads or threads)
        try:
            return [result.numpy() for result in self.module(torch.from_numpy(images))]
        finally:
            torch.set_num_threads(threads)
