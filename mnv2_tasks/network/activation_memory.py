"""Values that a forward pass holds at once, counted as section 5.1 of the paper does: a bottleneck is one operation.

Equation 1: while an operation computes there are its input, its output, what it needs inside, and whatever later ones
still read. Equation 2 is the same without the last, which a classifier has nothing of. The inner tensors of a
bottleneck, its expansion and what the filter makes of it, are gone when it has ended, and need not be there whole.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mnv2_tasks.backbones.mobilenet_v2 import InvertedResidual

NORM = torch.ops.aten.native_batch_norm.default
# statistics, and where each maximum lay: for gradients alone
RETURN_MORE = (NORM, torch.ops.aten.max_pool2d_with_indices.default)


class Operation(NamedTuple):
    """What is held while it computes, in values: a value has 4 bytes in float32, 1 in int8."""

    name: str  # of the module
    around: int  # its inputs and outputs, and what later operations read
    channels: int = 0  # of the inner tensors of a bottleneck
    cells: int = 0  # of each of these channels, in all inner tensors together

    def values(self, shares: int = 1) -> int:
        """Where the channels are computed in so many shares, one after another."""
        return self.around + self.cells * -(-self.channels // shares)


def peak(operations: list[Operation], shares: Mapping[str, int] | int = 1) -> Operation:
    """The operation that holds most.

    Args:
        shares: of each bottleneck's channels: {name: number}, those that it lacks are whole, or one number for all.
    """
    return max(operations, key=lambda operation: held(operation, shares))


def held(operation: Operation, shares: Mapping[str, int] | int) -> int:
    """Values; no bottleneck has more shares than channels."""
    number = shares if isinstance(shares, int) else shares.get(operation.name, 1)
    return operation.values(max(1, min(number, operation.channels)))


def operations_of(network: nn.Module, size: int | tuple[int, int]) -> list[Operation]:
    """Of a pass of one image, in evaluation mode, in the order in which they run; on a copy on the meta device.

    What works value by value, as batch norm, activation and shortcut do, writes over its input where nothing else
    reads that, and is then no operation of its own. Weights are not counted.

    Args:
        network: called with (1, 3, H, W) images; returns anything. It is left as it was.
        size: side of a square image, or (height, width), in pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    network = copy.deepcopy(network).to("meta").eval().requires_grad_(False)
    images = torch.empty(1, 3, height, width, device="meta")
    trace = _Trace(images, network)
    with torch.no_grad(), trace:
        results = network(images)
    return trace.operations(results)


@dataclass
class _Step:
    name: str
    bottleneck: bool = False
    turned: dict[int, int] = field(default_factory=dict)  # {storage: the one that it became}, value by value
    filter: list[Tensor] = field(default_factory=list)  # of a bottleneck, what goes into it and what comes out


class _Trace(TorchDispatchMode):
    """Which storages each step reads and writes. Tensors are kept, so that no storage has the address of another."""

    def __init__(self, images: Tensor, network: nn.Module):
        super().__init__()
        self.steps: list[_Step] = []
        self.weights = {_address(tensor) for tensor in (*network.parameters(), *network.buffers())}
        self.kept: list[Tensor] = []
        self.size: dict[int, int] = {}  # values of each storage
        self.made: dict[int, int] = {}  # the step that wrote it
        self.last: dict[int, int] = {}  # the last one that reads it
        self.modules = [""]  # which are running
        self.block = False  # whether a bottleneck is
        self._write(images, 0)
        for name, module in network.named_modules():
            self._watch(name, module)

    def _watch(self, name: str, module: nn.Module) -> None:
        """Learn what runs, and where bottlenecks begin and end."""
        if isinstance(module, InvertedResidual) and hasattr(module, "project"):
            module.expand.register_forward_pre_hook(lambda *_: self._begin(name))
            module.depthwise.register_forward_hook(lambda _, x, filtered: self._keep(*x, filtered))
            module.project.register_forward_hook(lambda *_: self._end())
        module.register_forward_pre_hook(lambda *_: self.modules.append(name))
        module.register_forward_hook(lambda *_: self._leave())

    def _begin(self, name: str) -> None:
        self.block = True
        self.steps.append(_Step(name, bottleneck=True))

    def _keep(self, *tensors: Any) -> None:
        self.steps[-1].filter.extend(tensors)

    def _end(self) -> None:
        self.block = False

    def _leave(self) -> None:
        self.modules.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        first = result[0] if func in RETURN_MORE else result
        read = [address for address in map(_address, _tensors((args, kwargs))) if address in self.size]
        fresh = [tensor for tensor in _tensors(first) if not self._is_known(_address(tensor))]
        if not self.block:
            self.steps.append(_Step(self.modules[-1]))
        step = len(self.steps) - 1
        self.last |= dict.fromkeys(read, step)
        for tensor in fresh:
            self._write(tensor, step)
            if not self.block and (func is NORM or torch.Tag.pointwise in func.tags):
                equal = [address for address in read if self.size[address] == self.size[_address(tensor)]]
                self.steps[-1].turned.update(dict.fromkeys(equal, _address(tensor)))
        return result

    def _is_known(self, address: int) -> bool:
        return address in self.size or address in self.weights

    def _write(self, tensor: Tensor, step: int) -> None:
        address = _address(tensor)
        self.kept.append(tensor)
        self.size[address] = tensor.untyped_storage().nbytes() // tensor.element_size()
        self.made[address] = self.last[address] = step

    def operations(self, results: Any) -> list[Operation]:
        for tensor in _tensors(results):
            self.last[_address(tensor)] = len(self.steps)
        since = dict(self.made)
        for index, step in enumerate(self.steps):
            for before, after in step.turned.items():
                if self.last[before] == index:
                    since[after] = index + 1  # in the place of the one before
        return [
            self._operation(index, step, {a for a in self.size if since[a] <= index <= self.last[a]})
            for index, step in enumerate(self.steps)
        ]

    def _operation(self, index: int, step: _Step, there: set[int]) -> Operation:
        if not step.bottleneck:
            return Operation(step.name, sum(self.size[address] for address in there))
        inner = {address for address in there if self.made[address] == self.last[address] == index}
        tensors = [tensor for tensor in step.filter if _address(tensor) in inner]
        return Operation(
            step.name,
            around=sum(self.size[address] for address in there - inner),
            channels=tensors[-1].shape[1],
            cells=sum(tensor[0, 0].numel() for tensor in tensors),
        )


def _tensors(values: Any) -> list[Tensor]:
    """Those that follow from the images; a detector's anchors are made of numbers, on the CPU."""
    return [value for value in tree_leaves(values) if isinstance(value, Tensor) and value.is_meta]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
