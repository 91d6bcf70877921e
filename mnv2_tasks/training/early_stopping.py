"""Ends a run whose score no longer grows."""

import sys
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping


class Patience(EarlyStopping):
    """Ends training after the epoch in which `val/score` has not been better than its best for so many epochs.

    A score that is NaN is none that is better, as `Checkpoints` has it. Every run counts, also one that never stops:
    resumed with a patience, it knows how long it has waited.

    Args:
        epochs: None never ends it.
        validate_every: epochs from one validation to the next, of which `epochs` is a multiple.
    """

    state_key = "EarlyStopping"  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, epochs: int | None, validate_every: int):
        validations = epochs // validate_every if epochs else sys.maxsize
        super().__init__(
            "val/score", mode="max", patience=validations, check_finite=False, check_on_train_epoch_end=False
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"patience": self.patience})  # a resumed run may have another


def best_score(trainer: L.Trainer) -> float:
    """The best `val/score` of a run that has `Patience`."""
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    return next(float(callback.best_score) for callback in callbacks if isinstance(callback, Patience))
