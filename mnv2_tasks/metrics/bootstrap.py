"""Intervals by the bootstrap: images are drawn anew with replacement, the same ones for every run.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile interval). Only the choice of
validation images varies: what another seed would have trained shows in the spread over seeds, not in this interval.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnv2_tasks.metrics.outcomes import Outcomes

RESAMPLES = 1000
SEED = 0
COVERAGE = 0.95
BATCH = 50  # resamples that are scored at once: in memory, 50 times the detections of a class


class Interval(NamedTuple):
    low: float
    high: float

    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


class Resampled(NamedTuple):
    """Of one run, or the mean over several of one kind."""

    scores: np.ndarray  # (S,)
    class_scores: np.ndarray  # (S, K), NaN where a resample has no such class


def draw_images(num_images: int, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """(S, I) int32: how often each resample has each image; equal arguments, equal draws."""
    generator, shares = np.random.default_rng(seed), np.full(num_images, 1 / num_images)
    return np.array([generator.multinomial(num_images, shares) for _ in range(resamples)], np.int32)


def resample(outcomes: Outcomes, draws: np.ndarray) -> Resampled:
    batches = np.array_split(draws, max(1, len(draws) // BATCH))
    scores, class_scores = zip(*(outcomes.scores(batch) for batch in batches))
    return Resampled(np.concatenate(scores), np.concatenate(class_scores))


def mean_of(runs: Sequence[Resampled]) -> Resampled:
    """Mean over runs (seeds), resample by resample."""
    scores, class_scores = zip(*runs)
    return Resampled(np.mean(scores, axis=0), np.mean(class_scores, axis=0))


def percentile_interval(samples: np.ndarray) -> Interval | None:
    """The middle 95 % of (S,) samples; those without a value do not count. None if none has one."""
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return None
    low, high = np.quantile(samples, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(float(low), float(high))


def standard_deviation(scores: Sequence[float]) -> float:
    """Standard deviation over seeds, as of a sample; NaN of a single one."""
    return float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan
