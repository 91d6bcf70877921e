"""torch.compile for training (callbacks.CompiledTraining) and for prediction."""

from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.fold import fold_batch_norms
from mnv2_tasks.network.network import Network


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


def compiled_for_prediction(network: Network) -> Network:
    """A copy that predicts the same, its batch norms folded and compiled at the first image of a size.

    Its weights are settled then: what they are changed to later has no effect.
    """
    from torch._inductor import config  # seconds, which only this needs

    network = fold_batch_norms(network).to(memory_format=torch.channels_last)
    # as a whole, for one call in place of a dozen is a tenth of an image's time; the parts, for `predict_views`
    for part in (network, *parts_to_compile(network)):
        part.compile()
    # weights become constants, in the layout that each kernel likes best; the options of compile() come too late for it
    freezing = config.patch(freezing=True)
    for name in ("predict", "predict_views"):
        setattr(network, name, freezing(getattr(network, name)))
    return network
