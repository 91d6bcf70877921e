"""What training scripts put around a state_dict: other entries, averaged weights, prefixes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mnv2_tasks.errors import ConfigError

AVERAGED = ("state_dict_ema", "model_ema")  # timm's, torchvision's
PLAIN = ("state_dict", "model", "model_state_dict", "net")


def unwrap(content: Any, source: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state_dict in a file, and {entry left out: why}.

    Averaged weights are preferred: it is their score that projects report.

    Raises:
        ConfigError: there is none.
    """
    if _is_state(content):
        return dict(content), {}
    entries = content if isinstance(content, Mapping) else {}
    found = [key for key in (*AVERAGED, *PLAIN) if _is_state(entries.get(key))]
    if not found:
        holds = ", ".join(str(key) for key in list(entries)[:8]) or type(content).__name__
        raise ConfigError(
            f"{source}: no weights in it: neither {{name: tensor}} nor an entry {', '.join((*AVERAGED, *PLAIN))}. "
            f"It holds: {holds}"
        )
    best, *others = found
    state = {name: tensor for name, tensor in entries[best].items() if name != "n_averaged"}  # torch's AveragedModel
    reason = f"its moving average, {best}, was taken instead" if best in AVERAGED else f"{best} was taken instead"
    return state, dict.fromkeys(others, reason)


def common_prefix(state: Mapping[str, Tensor]) -> str:
    """What every name starts with, such as "module." of DataParallel and "_orig_mod." of torch.compile; else ""."""
    first = {name.partition(".")[0] for name in state if "." in name}
    return f"{first.pop()}." if len(first) == 1 and all("." in name for name in state) else ""


def _is_state(content: Any) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, Tensor) for v in content.values())
