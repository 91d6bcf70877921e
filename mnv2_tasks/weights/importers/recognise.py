"""PyTorch weights of other projects: the layout is known by the names of its modules, the width by the shapes."""

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any

from torch import Tensor

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers import d_li14_tonylins as flat
from mnv2_tasks.weights.importers import huggingface, nasnet_names, timm, torchvision
from mnv2_tasks.weights.importers.complete import complete_family
from mnv2_tasks.weights.importers.family import Family, Imported

# What training scripts put around a state_dict
AVERAGED = ("state_dict_ema", "model_ema")  # timm's, torchvision's
PLAIN = ("state_dict", "model", "model_state_dict", "net")


def families() -> Iterator[Family]:
    """The frequent ones first: the others are built when they are asked for."""
    yield from (
        torchvision.MOBILENET_V2, timm.MOBILENET_V2, flat.D_LI14, flat.TONYLINS, flat.TONYLINS_WITH_DROPOUT,
        huggingface.CLASSIFICATION, huggingface.SEGMENTATION,
    )  # fmt: skip
    yield nasnet_names.pretrainedmodels()
    yield from torchvision.adapters()


def recognise(content: Mapping[str, Any], source: str) -> Imported:
    """Convert another project's weights.

    What tensors do not tell is taken as the family publishes it: the size of the input (224, DeepLab's 513, or what
    Google's names of files and folders say), its normalisation, and ImageNet's names for 1000 classes.

    Args:
        content: a state_dict, or what a training script put around one; averaged weights are preferred.
        source: the file, for messages and for the size in its name.

    Raises:
        ConfigError: the layout is of no family known, or nearly of one but of another network.
    """
    theirs, others = _unwrap(content, source)
    family, theirs = _family_of(theirs, source)
    state: dict[str, Tensor] = {}
    unused: dict[str, str] = {}
    for name, tensor in theirs.items():
        module, _, leaf = name.rpartition(".")
        if module in family.unused:
            unused[name] = family.unused[module]
        else:
            reduced = family.reduced.get(name)
            if reduced and tensor.shape == reduced.shape:  # of another shape it is refused below, with the others
                tensor = reduced.part(tensor).contiguous()
            state[f"{family.modules[module]}.{leaf}"] = _plain(tensor)
    if f"{family.head}.bias" not in theirs:
        raise ConfigError(f"{source}: {family.head}.bias, of the classifier of {family.name}, is missing")
    return complete_family(family, state, len(theirs[f"{family.head}.bias"]), source, others | unused)


def _unwrap(content: Any, source: str) -> tuple[dict[str, Tensor], dict[str, str]]:
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


def _common_prefix(state: Mapping[str, Tensor]) -> str:
    """What every name starts with, such as "module." of DataParallel and "_orig_mod." of torch.compile; else ""."""
    first = {name.partition(".")[0] for name in state if "." in name}
    return f"{first.pop()}." if len(first) == 1 and all("." in name for name in state) else ""


def _is_state(content: Any) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def _plain(tensor: Tensor) -> Tensor:
    """Without a graph, and float32 where it was stored in halves."""
    return tensor.detach().float() if tensor.is_floating_point() else tensor


def _family_of(state: dict[str, Tensor], source: str) -> tuple[Family, dict[str, Tensor]]:
    """The family whose modules these are, exactly, and the tensors without what wrappers put before their names."""
    shown = ", ".join(list(state)[:4])
    closest: list[tuple[float, Family, set[str]]] = []  # (share of modules in common, family, modules)
    while True:
        modules = {name.rpartition(".")[0] for name in state}
        for family in families():
            if family.modules.keys() <= modules <= family.modules.keys() | family.unused.keys():
                return family, state
            shared = len(modules & family.modules.keys()) / len(modules | family.modules.keys())
            closest.append((shared, family, modules))
        prefix = _common_prefix(state)
        if not prefix:
            break
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    shared, family, modules = max(closest, key=itemgetter(0))
    if shared > 0.5:
        raise ConfigError(f"{source}: {_differences(family, modules)}")
    known = ", ".join(sorted({family.name for family in families()}))
    raise ConfigError(
        f"{source}: a layout of weights that is not known. Known are: {known}. The first tensors of this file are "
        f"{shown}. Load it in its own project and save the state_dict of one of these networks"
    )


def _differences(family: Family, modules: set[str]) -> str:
    surplus = sorted(modules - family.modules.keys() - family.unused.keys())
    missing = sorted(family.modules.keys() - modules)
    parts = [f"it {verb} {', '.join(names[:3])}" for verb, names in (("adds", surplus), ("lacks", missing)) if names]
    return f"nearly {family.name}, but {' and '.join(parts)}: another network{family.note}"
