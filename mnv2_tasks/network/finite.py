"""Numbers that are NaN or infinite: found where they leave the network, and traced to the first layer that has them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.errors import ConfigError


def is_finite(values: Any) -> bool:
    """Of all tensors in what a layer takes or returns; those that have no numbers, on meta, are."""
    return all(tensor.is_meta or bool(torch.isfinite(tensor).all()) for tensor in _tensors(values))


def check_finite(outputs: Mapping[str, Any], network: nn.Module, run: Callable[[], Any]) -> None:
    """
    Args:
        outputs: {task: what its head returned}.
        run: computes them once more.

    Raises:
        ConfigError: one is not finite; it names the first layer.
    """
    wrong = [task for task, output in outputs.items() if not is_finite(output)]
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)}: what the network computes is not finite (NaN or infinite), first in "
            f"{first_not_finite(network, run) or 'no layer of its own'}. Such weights find nothing: take others, or "
            f"train anew with a lower rate (lr=...)"
        )


def first_not_finite(network: nn.Module, run: Callable[[], Any]) -> str:
    """The layer whose results are first not finite, and why; "" where there is none.

    Args:
        run: a pass through the network.
    """
    found: list[str] = []

    def look_at(name: str) -> Callable[..., None]:
        def look(layer: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not is_finite(output):
                found.append(f"{name} ({type(layer).__name__}), {_why(layer, inputs, output)}")

        return look

    hooks = [layer.register_forward_hook(look_at(name)) for name, layer in network.named_modules() if name]
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else ""


def _why(layer: nn.Module, inputs: Any, output: Any) -> str:
    for name, own in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
        if count := int((~torch.isfinite(own)).sum()):
            return f"whose {name} holds {count} such number{'s' if count > 1 else ''} of {own.numel()}"
    if not is_finite(inputs):
        return "whose input is not finite either: see input.mean and input.std"
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in _tensors(output)})
    return f"whose weights and input are finite: its results exceed {' and '.join(types)}"


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
