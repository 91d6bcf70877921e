"""How many shares each bottleneck has, as `split=` and `memory=` ask for."""

import logging
import re
from typing import Any, NamedTuple

from mnv2_tasks.backbones.mobilenet_v2 import InvertedResidual
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.activation_memory import held, operations_of, peak
from mnv2_tasks.network.network import Network
from mnv2_tasks.network.split import split_bottlenecks
from mnv2_tasks.wording import brief, counted

log = logging.getLogger(__name__)

AUTO = "auto"
FLOAT_BYTES = 4
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
MEMORY = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?(|k|m|g|ki|mi|gi)b?", re.IGNORECASE)


class SplitPlan(NamedTuple):
    shares: dict[str, int]  # {name of a bottleneck: in how many it computes}, those with several
    told: str  # what that comes to, for people


def check_split(split: Any, memory: Any) -> None:
    """Raise a ConfigError for what no network could be asked."""
    if split != AUTO and (isinstance(split, bool) or not isinstance(split, int) or split < 1):
        shown = f'"{brief(split)}" (text)' if isinstance(split, str) and split.isdecimal() else brief(split)
        raise ConfigError(f"split={shown}: expected a number of shares, such as 4, 1 for none, or auto")
    if split == AUTO and memory is None:
        raise ConfigError("split=auto: say what the activations may take, such as memory=1500k")
    if split != AUTO and memory is not None:
        raise ConfigError(f"memory={brief(memory)}: is for split=auto, not split={split}. Leave out one of them")
    if memory is not None:
        bytes_of(memory)


def bytes_of(memory: Any) -> int:
    """1500000, 1500k, "1.5 MB" or 1465KiB -> bytes.

    Raises:
        ConfigError: it is none of these.
    """
    found = None if isinstance(memory, bool) else MEMORY.fullmatch(str(memory).strip())
    factors = {unit.lower(): factor for unit, factor in UNITS.items()}
    size = int(float(found[1]) * factors[found[2].lower()]) if found else 0
    if size < 1:
        raise ConfigError(f"memory={brief(memory)}: expected bytes, such as 1500k, 1.5M or 512KiB")
    return size


def split_as_asked(
    network: Network, split: int | str, memory: Any, *, size: int, value_bytes: int = FLOAT_BYTES
) -> Network:
    """A copy in shares, and a line that says in how many; with split=1 the network itself. See `split_plan`."""
    if split == 1:
        return network
    plan = split_plan(network, split, memory, size=size, value_bytes=value_bytes)
    log.info("%s", plan.told)
    return split_bottlenecks(network, plan.shares)


def split_plan(network: Network, split: int | str, memory: Any, *, size: int, value_bytes: int) -> SplitPlan:
    """The shares of each bottleneck: as many as asked for, or the fewest with which the memory suffices.

    What is counted is an image's way through backbone and heads, see `operations_of`.

    Args:
        split, memory: that `check_split` has nothing against; split is not 1.
        size: side of the input, in pixels.
        value_bytes: of each value that is computed.

    Raises:
        ConfigError: the network has no bottlenecks that can be split, or too few channels or too little memory for it.
    """
    hidden = _channels(network, split)
    operations = operations_of(network, size)
    least, bits = peak(operations, max(hidden.values())), 8 * value_bytes
    limit = value_bytes * held(least, max(hidden.values()))
    if split == AUTO:
        budget = bytes_of(memory)
        if budget < limit:
            narrowest = "with its channels one by one" if least.channels else "which cannot be split"
            raise ConfigError(
                f"memory={memory}: {least.name} alone takes {_kilobytes(limit + 499)} of an image of {size} x {size} "
                f"pixels in {bits} bits, {narrowest}. Allow that, or take a smaller imgsz, width or precision"
            )
        shares = {}
        for operation in operations:
            if operation.channels:
                room = (budget // value_bytes - operation.around) // operation.cells  # channels at once
                shares[operation.name] = -(-operation.channels // room)
    else:
        name = min(hidden, key=lambda name: hidden[name])
        if int(split) > hidden[name]:
            raise ConfigError(
                f"split={split}: {name} has {counted(hidden[name], 'channel')} to share out. Use split={hidden[name]} "
                f"or less; 2 to 5 are useful"
            )
        shares = dict.fromkeys(hidden, int(split))
    shares = {name: number for name, number in shares.items() if number > 1}
    before, after = (value_bytes * held(peak(operations, of), of) for of in (1, shares))
    return SplitPlan(shares, _told(shares, before, after, limit, size, bits))


def _channels(network: Network, split: int | str) -> dict[str, int]:
    """{bottleneck: channels of its inner tensor}."""
    found: dict[str, Any] = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, InvertedResidual) and hasattr(module, "project")
    }
    if not found:
        raise ConfigError(
            f"split={split}: {type(network.backbone).__name__} has no bottlenecks that can be split; MobileNetV2 has. "
            f"Use split=1"
        )
    if network.backbone.shortcut == "expansion":
        raise ConfigError(f"split={split}: backbone.shortcut=expansion reads whole expansions. Use split=1")
    return {name: block.hidden for name, block in found.items()}


def _told(shares: dict[str, int], before: int, after: int, limit: int, size: int, bits: int) -> str:
    parts = [f"{name.removeprefix('backbone.')} in {number}" for name, number in shares.items()]
    if len(parts) > 3 and len(set(shares.values())) == 1:
        parts = [f"{counted(len(parts), 'bottleneck')} in {next(iter(shares.values()))} shares"]
    return (
        f"split: {', '.join(parts) or 'nothing, it fits whole'}; activations of an image of {size} x {size} pixels in "
        f"{bits} bits take {_kilobytes(after)}, whole {_kilobytes(before)}, at least {_kilobytes(limit)}"
    )


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB"
