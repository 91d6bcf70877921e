"""What losses with a weight for each class have in common."""

from torch import Tensor, nn


class Weighted(nn.Module):
    """
    Attributes:
        class_weights: (K,) float32 of the classes, set by who trains; None: all 1. It belongs to the training data,
            and is not saved with the weights.
    """

    class_weights: Tensor | None

    def __init__(self):
        super().__init__()
        self.register_buffer("class_weights", None, persistent=False)

    def weights_of(self, labels: Tensor) -> Tensor | float:
        """Of each label its class's, in the shape of the labels; those beyond the classes, as background, weigh 1.

        Args:
            labels: int64, at least 0.
        """
        if self.class_weights is None:
            return 1.0
        return nn.functional.pad(self.class_weights, (0, 1), value=1.0)[labels.clamp(max=len(self.class_weights))]
