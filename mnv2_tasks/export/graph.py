"""What is written to a file: pixels in, results out, every shape known from the input's alone."""

from typing import Any

from torch import Tensor, nn
from torch.export import Dim

from mnv2_tasks.boxes.postprocess import Suppress
from mnv2_tasks.boxes.suppression import suppress
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.network.fold import fold_batch_norms
from mnv2_tasks.network.network import Network
from mnv2_tasks.runtimes.formats import LARGEST, SMALLEST, output_names


class Graph(nn.Module):
    """A network with its batch norms folded, normalisation before it and post-processing behind it.

    Called with (B, H, W, 3) uint8 RGB pixels that were fitted to the network's input (data/images/fit.py), it returns a
    flat tuple named by `output_names`, of every task from one pass; `Kind.OUTPUTS` says what each is.

    Args:
        suppress: how boxes are chosen, see also nms.py.
    """

    def __init__(self, network: Network, suppress: Suppress = suppress):
        super().__init__()
        self.network = fold_batch_norms(network)
        self.suppress = suppress
        self.tasks: dict[str, Any] = dict(self.network.tasks.items())

    @property
    def output_names(self) -> list[str]:
        return output_names({name: task.kind for name, task in self.tasks.items()})

    def outputs(self, example: Tensor) -> list[dict[str, Any]]:
        """Name, task, meaning and shape of each, in order, for those who run the file without us.

        Args:
            example: (B, H, W, 3) uint8, of the network's own size.
        """
        free = {"height", "width"} if self.any_size else set()
        about = [(name, output) for name, task in self.tasks.items() for output in KINDS[task.kind].OUTPUTS.values()]
        return [
            {
                "name": name,
                "task": task,
                "meaning": output.meaning,
                "shape": ["batch", *(axis if axis in free else n for axis, n in zip(output.shape, found.shape[1:]))],
            }
            for name, (task, output), found in zip(self.output_names, about, self(example), strict=True)
        ]

    @property
    def any_size(self) -> bool:
        """Whether the input may have any height and width: SSD's anchors and their number belong to one size."""
        return all(KINDS[task.kind].ANY_SIZE for task in self.tasks.values())

    @property
    def dynamic_shape(self) -> dict[int, Any]:
        """{dimension of the images: what it may be} for torch's exporters."""
        shape: dict[int, Any] = {0: Dim("batch", min=1, max=4096)}
        if self.any_size:
            shape |= {1: Dim("height", min=SMALLEST, max=LARGEST), 2: Dim("width", min=SMALLEST, max=LARGEST)}
        return shape

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        size = (images.shape[1], images.shape[2])
        heads = self.network(images.float().permute(0, 3, 1, 2))  # in this order the runtimes move less
        results: list[Tensor] = []
        for name, task in self.tasks.items():
            results += KINDS[task.kind].exported(heads[name], size, task, self.suppress)
        return tuple(results)
