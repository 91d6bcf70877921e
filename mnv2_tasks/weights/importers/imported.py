"""What every importer returns: tensors under our names, and the command line that builds the network they belong to."""

from typing import NamedTuple

from torch import Tensor


class Imported(NamedTuple):
    """Somebody else's weights, converted.

    The overrides carry what must travel with the weights: width, padding rule, batch-norm epsilon, input
    normalisation and size. Composing the training config with them gives the network that the state fits strictly.
    """

    family: str  # where the layout comes from, such as "torchvision" or "TF slim"
    state: dict[str, Tensor]  # {our name: tensor}: backbone.* and tasks.<task>.head.*, statistics included
    overrides: list[str]  # such as ["task=classification", "data=imagenet", "width=1.0", "backbone.padding=same"]
    class_names: dict[str, list[str]]  # {task: names in the order of the head's outputs}
    left_out: dict[str, str] = {}  # {their name: why it was not taken}
