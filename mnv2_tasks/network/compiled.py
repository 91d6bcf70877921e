"""torch.compile for training (callbacks.CompiledTraining) and for prediction."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.contracts import Frames
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.fold import fold_batch_norms
from mnv2_tasks.network.network import ONE_VIEW, Network, Views


def parts_to_compile(network: Network) -> list[nn.Module]:
    """The backbone and the heads, nearly all of the work. Post-processing has shapes that depend on what was found."""
    parts: list[Any] = [network.backbone, *(task.head for task in network.tasks.values())]
    return parts


def check_compiler(accelerator: str) -> None:
    """Compile a trifle, before a long run starts.

    Raises:
        ConfigError: torch.compile does not work on this machine.
    """
    device = "cuda" if torch.cuda.is_available() and accelerator != "cpu" else "cpu"
    try:
        torch.compile(_trifle)(torch.ones(2, device=device))
    except Exception as error:  # a missing compiler, its missing headers and a missing Triton each have their own
        reason = " ".join(str(error).split("\n")[:2]).removeprefix("backend='inductor' raised: ")
        raise ConfigError(
            f"compile=true: torch.compile does not work here ({reason}). "
            f"Install a C++ compiler, such as g++, or say compile=false"
        ) from error


def _trifle(x: Tensor) -> Tensor:
    return x.sin() + 1


class CompiledNetwork(nn.Module):
    """A copy of a network that predicts the same, its batch norms folded and compiled at the first image of a size.

    Its weights are settled then: what they are changed to later has no effect.
    """

    def __init__(self, network: Network):
        super().__init__()
        self.network = fold_batch_norms(network).to(memory_format=torch.channels_last)
        self.tasks = self.network.tasks
        # as a whole, for one call in place of a dozen is a tenth of an image's time; the parts, for several views
        for part in (self.network, *parts_to_compile(self.network)):
            part.compile()

    @property
    def device(self) -> torch.device:
        return self.network.device

    def forward(self, images: Tensor) -> dict[str, Any]:
        with _weights_as_constants():
            return self.network(images)

    def predict(self, images: Tensor, frames: Frames) -> dict[str, Any]:
        with _weights_as_constants():
            return self.network.predict(images, frames)

    def predict_task(self, task: str, images: Tensor, frames: Frames, views: Views = ONE_VIEW) -> Any:
        with _weights_as_constants():
            return self.network.predict_task(task, images, frames, views)


def _weights_as_constants() -> AbstractContextManager:
    """While something is compiled: in the layout that each kernel likes best; compile()'s options come too late."""
    from torch._inductor import config  # seconds, which only this needs

    return config.patch(freezing=True)
