"""Image classification."""

from torch import Tensor, nn

from mnv2_tasks.contracts import ClassificationBatch, Frames, Head
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.losses.label import LabelCrossEntropy
from mnv2_tasks.metrics.accuracy import TopKAccuracy


class ClassificationTask(nn.Module):
    """Cross-entropy with label smoothing; top-1 and top-5 accuracy.

    Args:
        head: returns (B, K) logits.
        label_smoothing: share of the target spread over all classes; slim's recipe has 0.1.
        loss: maps (B, K) float32 logits and labels to a scalar. None: cross-entropy with this `label_smoothing`, which
            is what configs of before 0.2 mean; they name no loss.
    """

    kind = "classification"

    def __init__(self, *, head: Head, class_names: list[str], label_smoothing: float, loss: nn.Module | None = None):
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(f"label_smoothing={label_smoothing}: expected a share in [0, 1]")
        self.head = head
        self.class_names = class_names
        self.criterion = LabelCrossEntropy(label_smoothing=label_smoothing) if loss is None else loss
        self.metric = TopKAccuracy(class_names)

    def loss(self, output: Tensor, batch: ClassificationBatch) -> dict[str, Tensor]:
        """Labels may be classes, or the shares of each class in mixed images."""
        return {"class": self.criterion(output.float(), batch.labels)}

    def results(self, output: Tensor, frames: Frames) -> Tensor:
        """(B, K) probabilities."""
        return output.float().softmax(dim=1)
