"""Confidence intervals by resampling patients: pictures of one patient are not independent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A statistic with its percentile interval; bounds are nan where fewer than two patients can be resampled."""

    value: float
    low: float
    high: float


def mean_interval(
    values: Float[np.ndarray, " n"],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of `values` and its interval when whole patients are drawn with replacement; nan values are left out."""
    kept = np.isfinite(values)
    if not kept.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    numbers = np.asarray(values, dtype=float)[kept]
    _, group = np.unique(np.asarray(patients, dtype=object)[kept].astype(str), return_inverse=True)
    sums, counts = np.bincount(group, weights=numbers), np.bincount(group)
    if len(sums) < 2:
        return Interval(float(numbers.mean()), float("nan"), float("nan"))
    drawn = _draws(len(sums), resamples, seed)
    means = (drawn @ sums) / (drawn @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(numbers.mean()), float(low), float(high))


def statistic_interval(
    statistic: Callable[[NDArray[np.intp]], float],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Interval:
    """Any statistic of row indices (an AUC), with its interval; resamples in which it is undefined are left out."""
    names, group = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    order = np.argsort(group, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(group))[:-1])
    value = statistic(np.arange(len(group)))
    if len(names) < 2:
        return Interval(float(value), float("nan"), float("nan"))
    generator = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([rows[k] for k in generator.integers(0, len(names), len(names))]))
        for _ in range(resamples)
    ]
    defined = np.asarray([number for number in drawn if np.isfinite(number)])
    if defined.size == 0 or not np.isfinite(value):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def _draws(count: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each of `count` patients is drawn, for each resample."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)
