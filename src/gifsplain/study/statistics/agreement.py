"""Agreement between readers, and of a reader with himself: weighted kappa and intraclass correlations."""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from gifsplain.errors import InputError
from gifsplain.study.statistics.table import Table

Numbers = npt.NDArray[np.float64]


def weighted_kappa(
    first: Numbers, second: Numbers, points: int, weights: Literal["linear", "quadratic", "none"] = "quadratic"
) -> float:
    """Cohen's weighted kappa (Cohen 1968) of two raters on a scale 1..points; nan where chance alone agrees fully.

    >>> weighted_kappa(np.array([1.0, 2, 3]), np.array([1.0, 2, 3]), 5)
    1.0
    """
    if len(first) != len(second):
        raise InputError(f"expected two ratings of the same cases, got {len(first)} and {len(second)}; pair them first")
    if not len(first):
        return float("nan")
    observed = np.zeros((points, points))
    np.add.at(observed, (first.astype(int) - 1, second.astype(int) - 1), 1 / len(first))
    steps = np.abs(np.subtract.outer(np.arange(points), np.arange(points))).astype(float)
    cost = {"linear": steps, "quadratic": steps**2, "none": (steps > 0).astype(float)}[weights]
    chance = float((cost * np.outer(observed.sum(1), observed.sum(0))).sum())
    return float(1 - (cost * observed).sum() / chance) if chance > 0 else float("nan")


@dataclass(frozen=True)
class Icc:
    """One intraclass correlation with its 95 % interval, in the naming of Shrout & Fleiss 1979."""

    form: str
    value: float
    low: float
    high: float


def icc(ratings: Numbers) -> tuple[Icc, ...]:
    """The six forms of Shrout & Fleiss (1979) for cases in rows and raters in columns, without missing ratings.

    ICC(2,1) treats raters as a random sample (agreement), ICC(3,1) as the only ones (consistency); k forms are of the
    raters' mean. Undefined values (fewer than 2 cases or raters, no variance at all) are nan.
    """
    n, k = ratings.shape
    names = ("ICC(1,1)", "ICC(2,1)", "ICC(3,1)", "ICC(1,k)", "ICC(2,k)", "ICC(3,k)")
    between, within, raters, error = _mean_squares(ratings) if n > 1 and k > 1 else (0.0,) * 4
    if between + within <= 0:
        return tuple(Icc(name, *(float("nan"),) * 3) for name in names)
    one = _quotient(between - within, between + (k - 1) * within)
    two = _quotient(between - error, between + (k - 1) * error + k * (raters - error) / n)
    three = _quotient(between - error, between + (k - 1) * error)
    values = (one, two, three)
    limits = (
        _f_limits(_ratio(between, within), n - 1, n * (k - 1), k),
        _two_limits((between, raters, error), two, n, k),
        _f_limits(_ratio(between, error), n - 1, (n - 1) * (k - 1), k),
    )
    single = [Icc(name, *map(float, (v, *lim))) for name, v, lim in zip(names[:3], values, limits, strict=True)]
    return (*single, *(_average(i, k) for i in single))


def _mean_squares(ratings: Numbers) -> tuple[float, float, float, float]:
    n, k = ratings.shape
    grand = ratings.mean()
    rows, columns = ratings.mean(1), ratings.mean(0)
    between = k * ((rows - grand) ** 2).sum() / (n - 1)
    within = ((ratings - rows[:, None]) ** 2).sum() / (n * (k - 1))
    raters = n * ((columns - grand) ** 2).sum() / (k - 1)
    error = ((ratings - rows[:, None] - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    return float(between), float(within), float(raters), float(error)


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0 else float("inf")


def _quotient(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0 else float("nan")


def _f_limits(f: float, df1: int, df2: int, k: int) -> tuple[float, float]:
    if np.isinf(f):
        return 1.0, 1.0
    low, high = f / stats.f.ppf(0.975, df1, df2), f * stats.f.ppf(0.975, df2, df1)
    return (low - 1) / (low + k - 1), (high - 1) / (high + k - 1)


def _two_limits(squares: tuple[float, float, float], value: float, n: int, k: int) -> tuple[float, float]:
    between, raters, error = squares
    if error <= 0:
        return (float("nan"), float("nan")) if raters > 0 else (1.0, 1.0)
    fj = raters / error
    top = (k - 1) * (n - 1) * (k * value * fj + n * (1 + (k - 1) * value) - k * value) ** 2
    bottom = (n - 1) * (k * value * fj) ** 2 + (n * (1 + (k - 1) * value) - k * value) ** 2
    v = top / bottom
    upper, lower = stats.f.ppf(0.975, n - 1, v), stats.f.ppf(0.975, v, n - 1)
    low = n * (between - upper * error) / (upper * (k * raters + (k * n - k - n) * error) + n * between)
    high = n * (lower * between - error) / (k * raters + (k * n - k - n) * error + n * lower * between)
    return float(low), float(high)


def _average(single: Icc, k: int) -> Icc:
    """Spearman-Brown step-up of every number; it equals the formulas of Shrout & Fleiss for the mean of k raters."""
    stepped = [
        k * v / (1 + (k - 1) * v) if 1 + (k - 1) * v > 0 else float("nan")
        for v in (single.value, single.low, single.high)
    ]
    return Icc(single.form.replace(",1)", ",k)"), *stepped)


def between_readers(table: Table) -> pd.DataFrame:
    """Kappa of every two readers and the ICC of all readers, per question and condition ("all" first), first readings."""
    found: list[dict[str, object]] = []
    for question in table.questions:
        for condition in ("all", *table.conditions):
            rows = table.first.dropna(subset=[question])
            if condition != "all":
                rows = rows[rows["condition"] == condition]
            wide = rows.pivot(index=["case", "target", "condition"], columns="reader", values=question)
            found += _pairwise(wide, table.points, {"question": question, "condition": condition})
    return pd.DataFrame(found)


def _pairwise(wide: pd.DataFrame, points: int, common: dict[str, object]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for one, two in combinations(wide.columns, 2):
        both = wide[[one, two]].dropna().to_numpy(float)
        found.append(common | {"readers": f"{one} & {two}", "n": len(both)} | _kappas(both, points))
    if wide.shape[1] > 1:
        full = wide.dropna().to_numpy(float)
        values = icc(full)
        found.append(common | {"readers": "all", "n": len(full)} | _icc_columns(values))
    return found


def _kappas(both: Numbers, points: int) -> dict[str, object]:
    return {
        "kappa_quadratic": weighted_kappa(both[:, 0], both[:, 1], points),
        "kappa_linear": weighted_kappa(both[:, 0], both[:, 1], points, "linear"),
        "exact_agreement": float((both[:, 0] == both[:, 1]).mean()) if len(both) else float("nan"),
    }


def _icc_columns(values: tuple[Icc, ...]) -> dict[str, object]:
    return {f"{v.form}{suffix}": x for v in values for suffix, x in (("", v.value), (" low", v.low), (" high", v.high))}


def within_readers(table: Table) -> pd.DataFrame:
    """Agreement of each reader's first reading with the first repeat of the same case, target and condition."""
    found: list[dict[str, object]] = []
    unit = ["reader", "case", "target", "condition"]
    again = table.rows[table.rows["repeat"]].sort_values("read").drop_duplicates(unit)
    joined = table.first.merge(again, on=unit, suffixes=("", " again"))
    for question in table.questions:
        for reader in ("all", *table.readers):
            rows = joined if reader == "all" else joined[joined["reader"] == reader]
            both = rows[[question, f"{question} again"]].dropna().to_numpy(float)
            if len(both):
                numbers = _kappas(both, table.points) | _icc_columns(icc(both)[:2])
                found.append({"question": question, "reader": reader, "n": len(both)} | numbers)
    return pd.DataFrame(found)
