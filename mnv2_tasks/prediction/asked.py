"""What a config of predict asks for, of pictures and of videos alike."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.prediction.least_scores import least_scores
from mnv2_tasks.prediction.only_shapes import say_if_only_shapes
from mnv2_tasks.prediction.predictor import Predictor, load_predictor


def asked_predictor(config: DictConfig) -> tuple[Predictor, Any]:
    """The network, and the least scores of what is told of it, see `least_scores`.

    Raises:
        ConfigError: the weights or the device cannot work, or no such class is there.
    """
    predictor, passport = load_predictor(
        str(config.weights),
        str(config.device),
        compiled=config.compile,
        precision=str(config.precision),
        trust=config.trust,
        split=config.split,
        memory=config.memory,
    )
    say_if_only_shapes(str(config.weights), passport, config.source)
    kept = {"min_score": config.min_score, "classes": config.classes, "thresholds": config.thresholds}
    return predictor, least_scores(predictor.network.tasks, **kept)


def asked_words(config: DictConfig, default: Sequence[str]) -> list[str]:
    """What `save=` says, `default` where it says nothing; not checked but for `out=` without anything to write.

    Raises:
        ConfigError: there is.
    """
    if config.save is None:
        return list(default)
    words = [config.save] if isinstance(config.save, str) else list(config.save)
    saved = [] if words == ["none"] else words
    if not saved and config.out is not None:
        raise ConfigError(f"out={config.out}: save=none writes nothing. Leave out one of them")
    return saved
