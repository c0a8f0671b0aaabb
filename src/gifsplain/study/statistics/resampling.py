"""Intervals and tests that know that readers share cases: bootstrap over cases and readers, sign flips by case."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from gifsplain.errors import InputError

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Percentile bootstrap interval; nan where resampling is impossible."""

    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class Intervals:
    """The same mean with cases resampled, and with cases and readers resampled apart (crossed)."""

    cases: Interval
    cases_and_readers: Interval


def cell_sums(frame: pd.DataFrame, value: str = "difference") -> tuple[Numbers, Numbers]:
    """Sum and number of `value` per reader (rows) and case (columns), so that the targets of a case stay together."""
    groups = frame.groupby(["reader", "case"])[value]
    sums = groups.sum().unstack(fill_value=0).to_numpy(float)
    counts = groups.count().unstack(fill_value=0).to_numpy(float)
    return sums, counts


def bootstrap(frame: pd.DataFrame, *, draws: int = 2000, seed: int = 0, level: float = 0.95) -> Intervals:
    """Intervals of the mean of `difference` (Davison & Hinkley 1997, ch. 5; crossed resampling: Owen 2007)."""
    if draws < 100:
        raise InputError(f"expected at least 100 bootstrap draws, got {draws}; the paper-sized default is 2000")
    sums, counts = cell_sums(frame)
    generator = np.random.Generator(np.random.PCG64(seed))
    readers, cases = sums.shape
    by_case = generator.multinomial(cases, np.full(cases, 1 / cases), size=draws).astype(float)
    by_reader = generator.multinomial(readers, np.full(readers, 1 / readers), size=draws).astype(float)
    one = np.ones_like(by_reader)
    return Intervals(
        _interval(_weighted(sums, counts, by_case, one), level, possible=cases > 1),
        _interval(_weighted(sums, counts, by_case, by_reader), level, possible=cases > 1 and readers > 1),
    )


def _weighted(sums: Numbers, counts: Numbers, by_case: Numbers, by_reader: Numbers) -> Numbers:
    top = np.einsum("dr,rc,dc->d", by_reader, sums, by_case, optimize=True)
    bottom = np.einsum("dr,rc,dc->d", by_reader, counts, by_case, optimize=True)
    return np.asarray(np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0))


def _interval(values: Numbers, level: float, *, possible: bool) -> Interval:
    if not possible:
        return Interval(float("nan"), float("nan"), level)
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def sign_flip_p(frame: pd.DataFrame, *, draws: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value of the mean difference when the signs of whole cases are flipped together.

    Keeps the dependence between readers and targets of one case, which the Wilcoxon test ignores. At most 14 cases are
    enumerated; otherwise (k + 1) / (draws + 1) (Phipson & Smyth 2010). nan without a difference.
    """
    sums = cell_sums(frame)[0].sum(axis=0)
    sums = sums[sums != 0]
    if not sums.size:
        return float("nan")
    observed = abs(sums.sum()) - 1e-9
    if sums.size <= 14:
        bits = (np.arange(2**sums.size)[:, None] >> np.arange(sums.size)) & 1
        return float((np.abs((2 * bits - 1) @ sums) >= observed).mean())
    generator = np.random.Generator(np.random.PCG64(seed))
    signs = generator.integers(0, 2, size=(draws, sums.size)) * 2 - 1
    return float((1 + (np.abs(signs @ sums) >= observed).sum()) / (draws + 1))
