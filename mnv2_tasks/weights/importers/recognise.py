"""PyTorch weights of other projects: the layout is known by the names of its modules, the width by the shapes."""

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any

from torch import Tensor

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers import d_li14_tonylins as flat
from mnv2_tasks.weights.importers import huggingface, timm, torchvision
from mnv2_tasks.weights.importers.complete import complete
from mnv2_tasks.weights.importers.family import Family
from mnv2_tasks.weights.importers.imported import Imported
from mnv2_tasks.weights.importers.unwrap import common_prefix, unwrap


def families() -> Iterator[Family]:
    """The frequent ones first: the others are built when they are asked for."""
    yield from (
        torchvision.MOBILENET_V2, timm.MOBILENET_V2, flat.D_LI14, flat.TONYLINS, flat.TONYLINS_WITH_DROPOUT,
        huggingface.CLASSIFICATION, huggingface.SEGMENTATION,
    )  # fmt: skip
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
    theirs, others = unwrap(content, source)
    family, theirs = _family_of(theirs, source)
    state: dict[str, Tensor] = {}
    unused: dict[str, str] = {}
    for name, tensor in theirs.items():
        module, _, leaf = name.rpartition(".")
        if module in family.unused:
            unused[name] = family.unused[module]
        else:
            state[f"{family.modules[module]}.{leaf}"] = _plain(tensor)
    if f"{family.head}.bias" not in theirs:
        raise ConfigError(f"{source}: {family.head}.bias, of the classifier of {family.name}, is missing")
    imported = complete(family, state, len(theirs[f"{family.head}.bias"]), source)
    return imported._replace(left_out=others | unused | imported.left_out)


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
        prefix = common_prefix(state)
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
