"""Numbers that are NaN or infinite: found where they leave the network, and traced to the first layer that has them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.errors import ConfigError

AT_ONCE = {"cpu"}  # devices whose flags are read where they are made


def is_finite(values: Any) -> bool:
    """Of all tensors in what a layer takes or returns; those that have no numbers, on meta, are."""
    return all(tensor.is_meta or bool(torch.isfinite(tensor).all()) for tensor in _tensors(values))


class FiniteWatch:
    """Flags of what was computed, read when a GPU has long gone on: what asks for one at once makes it stand idle.

    A flag is copied while the GPU works and read at the next one; where nothing is gained by it, on a CPU, at once.
    """

    def __init__(self) -> None:
        self._open: tuple[Tensor, torch.cuda.Event | None, Callable[[], None]] | None = None

    def add(self, flag: Tensor, tell: Callable[[], None]) -> None:
        """
        Args:
            flag: scalar bool, whether all was finite.
            tell: raises the error of this step; called where it was not.
        """
        self.settle()
        self._open = (*on_its_way(flag), tell)
        if flag.device.type in AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Read what has not been read: before anything is kept that came of it."""
        if self._open is None:
            return
        (flag, event, tell), self._open = self._open, None
        if event:
            event.synchronize()  # it was recorded before the work that the GPU has now
        if not flag:
            tell()


def on_its_way(flag: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A copy of it on the CPU, which is there once the event is over."""
    if not flag.is_cuda:
        return flag, None
    copy, event = flag.to("cpu", non_blocking=True), torch.cuda.Event()
    event.record()
    return copy, event


def check_finite(
    outputs: Mapping[str, Any], network: nn.Module, run: Callable[[], Any], watch: FiniteWatch | None = None
) -> None:
    """
    Args:
        outputs: {task: what its head returned}.
        run: computes them once more.
        watch: raises it later; None: here.

    Raises:
        ConfigError: one is not finite; it names the first layer.
    """

    def tell() -> None:
        wrong = [task for task, output in outputs.items() if not is_finite(output)]
        raise ConfigError(
            f"{', '.join(wrong)}: what the network computes is not finite (NaN or infinite), first in "
            f"{first_not_finite(network, run) or 'no layer of its own'}. Such weights find nothing: take others, or "
            f"train anew with a lower rate (lr=...)"
        )

    flags = [torch.isfinite(tensor).all() for tensor in _tensors(outputs) if not tensor.is_meta]
    here = watch or FiniteWatch()
    if flags:
        here.add(torch.stack(flags).all(), tell)
    if watch is None:
        here.settle()


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
