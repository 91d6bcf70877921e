"""The numbers that training can do with."""

import math
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.errors import ConfigError

Rule = tuple[str, Callable[[float], bool], tuple[str, ...]]  # (what is expected, whether it is so, of which keys)

RULES: tuple[Rule, ...] = (
    (
        "a positive number, no infinite one",
        lambda number: 0 < number < math.inf,
        ("lr", "width", "trainer.limit_train", "distillation.temperature", "optim.optimizer.lr", "batch_ratio.*"),
    ),
    (
        "at least 1",
        lambda number: 1 <= number < math.inf,
        (
            "epochs", "batch", "reference_batch", "trainer.accumulate", "trainer.nodes", "trainer.save_every_steps",
            "trainer.patience",
        ),
    ),
    (
        "at least 0, and finite",
        lambda number: 0 <= number < math.inf,
        (
            "workers", "backbone_lr", "optim.weight_decay", "trainer.gradient_clip", "trainer.save_every",
            "mixing.mixup", "mixing.cutmix", "loss_weights.*", "auxiliary",
        ),
    ),
    ("0 to 2^32 - 1", lambda number: 0 <= number < 2**32, ("seed", "data.split_seed")),
    ("a share in [0, 1]", lambda number: 0 <= number <= 1, ("distillation.alpha",)),
    ("a share of training in [0, 1)", lambda number: 0 <= number < 1, ("schedule.warmup",)),
)  # fmt: skip


def check_ranges(config: DictConfig) -> None:
    """
    Raises:
        ConfigError: a number lies beyond its range, or is NaN.
    """
    for expected, is_so, keys in RULES:
        for key, value in (found for pattern in keys for found in _values(config, pattern)):
            if isinstance(value, int | float) and not is_so(value):
                raise ConfigError(f"{key}={value}: expected {expected}")


def _values(config: DictConfig, pattern: str) -> list[tuple[str, Any]]:
    """Of a key, or of all keys of a group."""
    if not pattern.endswith(".*"):
        return [(pattern, OmegaConf.select(config, pattern))]
    group = pattern.removesuffix(".*")
    return [(f"{group}.{name}", value) for name, value in (OmegaConf.select(config, group) or {}).items()]
