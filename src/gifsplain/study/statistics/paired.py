"""Differences between two conditions within the same reader, case and target."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from gifsplain.study.statistics.table import Table

Numbers = npt.NDArray[np.float64]
UNIT = ["reader", "case", "target"]


@dataclass(frozen=True)
class Wilcoxon:
    """Signed-rank test of Wilcoxon (1945), two-sided; zero differences are dropped and tied ranks averaged.

    `statistic` is the smaller of `w_plus` and `w_minus`; `p_value` is nan where every difference is zero.
    """

    statistic: float
    p_value: float
    w_plus: float
    w_minus: float
    n: int
    """Differences that are not zero."""
    method: Literal["normal", "exact"]

    @property
    def rank_biserial(self) -> float:
        """Matched-pairs rank-biserial correlation (Kerby 2014): (W+ - W-) / (W+ + W-), from -1 to 1."""
        total = self.w_plus + self.w_minus
        return (self.w_plus - self.w_minus) / total if total else float("nan")


def wilcoxon(differences: Numbers, method: Literal["normal", "exact"] = "normal") -> Wilcoxon:
    """The signed-rank test; `normal` corrects the variance for ties and uses no continuity correction.

    `exact` enumerates all signs given the observed (tied) ranks.

    >>> round(wilcoxon(np.array([1.0, 2, -1, 3, 2, 0])).p_value, 4)
    0.1003
    """
    d = differences[differences != 0]
    ranks = stats.rankdata(np.abs(d))
    plus, minus = float(ranks[d > 0].sum()), float(ranks[d < 0].sum())
    if not d.size:
        return Wilcoxon(0.0, float("nan"), plus, minus, 0, method)
    p = _exact_p(ranks, min(plus, minus)) if method == "exact" else _normal_p(ranks, plus)
    return Wilcoxon(min(plus, minus), p, plus, minus, int(d.size), method)


def _normal_p(ranks: Numbers, plus: float) -> float:
    # sum of squared mid-ranks / 4 is the tie-corrected variance of W+ (Hollander & Wolfe 1999, 3.1)
    z = (plus - ranks.sum() / 2) / np.sqrt((ranks**2).sum() / 4)
    return float(2 * stats.norm.sf(abs(z)))


def _exact_p(ranks: Numbers, smaller: float) -> float:
    doubled = np.rint(2 * ranks).astype(int)  # mid-ranks are halves, so their doubles are whole
    chance = np.zeros(doubled.sum() + 1)
    chance[0] = 1.0
    for step in doubled:
        chance[step:] += chance[:-step].copy()
        chance /= 2
    return float(min(1.0, 2 * chance[: round(2 * smaller) + 1].sum()))


def pairs(table: Table, question: str, conditions: tuple[str, str], *, target: str, truth: int) -> pd.DataFrame:
    """One row per reader, case and target answered under both conditions: `before`, `after`, `difference`."""
    rows = table.select(target=target, truth=truth).dropna(subset=[question])
    before, after = (
        rows.loc[rows["condition"] == name, [*UNIT, question]].rename(columns={question: label})
        for name, label in zip(conditions, ("before", "after"), strict=True)
    )
    both = before.merge(after, on=UNIT).sort_values(UNIT, ignore_index=True)
    both["difference"] = both["after"] - both["before"]
    return both


@dataclass(frozen=True)
class Comparison:
    """Second condition against first, for one question, truth and target."""

    question: str
    truth: int
    target: str
    conditions: tuple[str, str]
    n: int
    """Pairs."""
    mean_first: float
    mean_second: float
    mean_difference: float
    """Second minus first."""
    sd_difference: float
    """Sample standard deviation (n - 1); nan below two pairs."""
    median_difference: float
    cohen_dz: float
    """mean_difference / sd_difference (Cohen 1988, 2.3.5)."""
    probability_higher: float
    """Share of pairs whose second answer is higher, plus half of the ties."""
    wilcoxon: Wilcoxon


def compare(frame: pd.DataFrame, method: Literal["normal", "exact"] = "normal") -> dict[str, float | Wilcoxon]:
    """Numbers of one set of pairs, as keyword arguments of `Comparison`."""
    d = frame["difference"].to_numpy(float)
    sd = float(d.std(ddof=1)) if d.size > 1 else float("nan")
    mean = float(d.mean()) if d.size else float("nan")
    return {
        "mean_first": float(frame["before"].mean()),
        "mean_second": float(frame["after"].mean()),
        "mean_difference": mean,
        "sd_difference": sd,
        "median_difference": float(np.median(d)) if d.size else float("nan"),
        "cohen_dz": mean / sd if sd > 0 else float("nan"),
        "probability_higher": float(((d > 0) + (d == 0) / 2).mean()) if d.size else float("nan"),
        "wilcoxon": wilcoxon(d, method),
    }


def slices(table: Table) -> Iterator[tuple[str, int, str, tuple[str, str]]]:
    """Every question, truth, target ("all" first) and pair of conditions, in this order."""
    for question in table.questions:
        for truth in (1, 0):
            for target in ("all", *table.targets):
                for first, second in combinations(table.conditions, 2):
                    yield question, truth, target, (first, second)


def comparisons(table: Table, method: Literal["normal", "exact"] = "normal") -> list[Comparison]:
    """All comparisons that have at least one pair."""
    found = []
    for question, truth, target, conditions in slices(table):
        frame = pairs(table, question, conditions, target=target, truth=truth)
        if len(frame):
            numbers = compare(frame, method)
            found.append(Comparison(question, truth, target, conditions, len(frame), **numbers))  # type: ignore[arg-type]
    return found


def summaries(table: Table) -> pd.DataFrame:
    """Mean, sd, median and number of answers per question, truth, target ("all" first) and condition."""
    found = []
    for question in table.questions:
        for truth in (1, 0):
            for target in ("all", *table.targets):
                rows = table.select(target=target, truth=truth)
                for condition in table.conditions:
                    values = rows.loc[rows["condition"] == condition, question].dropna()
                    found.append(
                        (question, truth, target, condition, len(values), values.mean(), values.std(), values.median())
                    )
    names = ["question", "truth", "target", "condition", "n", "mean", "sd", "median"]
    return pd.DataFrame(found, columns=names)


def holm(p_values: Numbers) -> Numbers:
    """Step-down adjusted p-values (Holm 1979); nan stays nan and does not count.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    adjusted = np.full(len(p_values), np.nan)
    order = [int(i) for i in np.argsort(p_values) if not np.isnan(p_values[i])]
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * float(p_values[i])))
        adjusted[i] = worst
    return adjusted
