"""Appropriate reliance: right predictions believed, wrong ones doubted; and how well answers tell them apart."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from gifsplain.study.statistics.resampling import Interval
from gifsplain.study.statistics.table import Table

Numbers = npt.NDArray[np.float64]


def area(positive: Numbers, negative: Numbers) -> float:
    """Chance that a right prediction got a higher answer than a wrong one, ties half (empirical ROC area)."""
    if not positive.size or not negative.size:
        return float("nan")
    ranks = stats.rankdata(np.concatenate([positive, negative]))[: positive.size]
    return float((ranks.sum() - positive.size * (positive.size + 1) / 2) / (positive.size * negative.size))


def rates(table: Table, question: str = "confidence") -> pd.DataFrame:
    """Per condition, target and reader ("all" first): shares of believed and doubted predictions, and the ROC area.

    Believed: an answer above the middle of the scale; doubted: below it; the middle is neither. `appropriate` is the
    mean of `right_believed` and `wrong_doubted`; over-reliance is `wrong_believed`, under-reliance `right_doubted`.
    """
    found = []
    for condition in table.conditions:
        for target in ("all", *table.targets):
            rows = table.select(target=target).dropna(subset=[question])
            rows = rows[rows["condition"] == condition]
            for reader in ("all", *(table.readers if target == "all" else ())):
                here = rows if reader == "all" else rows[rows["reader"] == reader]
                found.append(
                    {"condition": condition, "target": target, "reader": reader} | _rates(here, question, table.points)
                )
    return pd.DataFrame(found)


def _rates(rows: pd.DataFrame, question: str, points: int) -> dict[str, float]:
    middle = (points + 1) / 2
    right = rows.loc[rows["truth"] == 1, question].to_numpy(float)
    wrong = rows.loc[rows["truth"] == 0, question].to_numpy(float)
    share = {
        "right_believed": _share(right > middle),
        "right_doubted": _share(right < middle),
        "wrong_believed": _share(wrong > middle),
        "wrong_doubted": _share(wrong < middle),
    }
    both = (share["right_believed"] + share["wrong_doubted"]) / 2
    return {"n_right": right.size, "n_wrong": wrong.size, **share, "appropriate": both, "roc_area": area(right, wrong)}


def _share(mask: npt.NDArray[np.bool_]) -> float:
    return float(mask.mean()) if mask.size else float("nan")


@dataclass(frozen=True)
class Change:
    """Second condition minus first in one measure of reliance, with intervals from resampled cases (and readers)."""

    measure: str
    conditions: tuple[str, str]
    difference: float
    cases: Interval
    cases_and_readers: Interval


MEASURES = ("right_believed", "wrong_doubted", "wrong_believed", "right_doubted", "appropriate", "roc_area")


def changes(table: Table, question: str = "confidence", *, draws: int = 500, seed: int = 0) -> list[Change]:
    """Differences of every measure between conditions; the area is averaged over readers, as MRMC analyses do."""
    found = []
    for first, second in combinations(table.conditions, 2):
        cube = _Cube(table, question, (first, second))
        points = cube.measure(np.ones(cube.readers), np.ones(cube.cases))
        generator = np.random.Generator(np.random.PCG64(seed))
        drawn = {kind: np.array([cube.draw(generator, kind) for _ in range(draws)]) for kind in (False, True)}
        for i, measure in enumerate(MEASURES):
            intervals = [
                _interval(drawn[kind][:, i], (cube.cases > 1) and (not kind or cube.readers > 1))
                for kind in (False, True)
            ]
            found.append(Change(measure, (first, second), float(points[i]), *intervals))
    return found


def _interval(values: Numbers, possible: bool) -> Interval:
    values = values[~np.isnan(values)]
    if not possible or not values.size:
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))


class _Cube:
    """Answers of two conditions as whole-number codes, so that a bootstrap draw only reweights."""

    def __init__(self, table: Table, question: str, conditions: tuple[str, str]) -> None:
        rows = table.first.dropna(subset=[question])
        rows = rows[rows["condition"].isin(conditions)]
        self.reader = rows["reader"].astype("category").cat.codes.to_numpy()
        self.case = rows["case"].astype("category").cat.codes.to_numpy()
        self.readers, self.cases = int(self.reader.max(initial=-1)) + 1, int(self.case.max(initial=-1)) + 1
        second = (rows["condition"] == conditions[1]).to_numpy(int)
        answer = rows[question].to_numpy(int) - 1
        self.points = table.points
        self.code = ((self.reader * 2 + second) * 2 + rows["truth"].to_numpy(int)) * self.points + answer

    def draw(self, generator: np.random.Generator, resample_readers: bool) -> Numbers:
        cases = generator.multinomial(self.cases, np.full(self.cases, 1 / self.cases)).astype(float)
        readers = np.ones(self.readers)
        if resample_readers:
            readers = generator.multinomial(self.readers, np.full(self.readers, 1 / self.readers)).astype(float)
        return self.measure(readers, cases)

    def measure(self, reader_weights: Numbers, case_weights: Numbers) -> Numbers:
        """Second minus first condition, in the order of `MEASURES`."""
        size = self.readers * 4 * self.points
        flat = np.asarray(np.bincount(self.code, case_weights[self.case], minlength=size), dtype=np.float64)
        counts: Numbers = flat.reshape(self.readers, 2, 2, self.points)
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled = np.einsum("r,rctp->ctp", reader_weights, counts)
            shares = pooled / pooled.sum(-1, keepdims=True)
            middle = (self.points + 1) / 2
            value = np.arange(1, self.points + 1)
            believed, doubted = shares[..., value > middle].sum(-1), shares[..., value < middle].sum(-1)
            areas = _areas(counts)
            used = reader_weights[:, None] * ~np.isnan(areas)
            mean_area = np.nansum(used * np.nan_to_num(areas), axis=0) / used.sum(0)
        both = (believed[:, 1] + doubted[:, 0]) / 2
        columns = np.stack([believed[:, 1], doubted[:, 0], believed[:, 0], doubted[:, 1], both, mean_area])
        return np.asarray(columns[:, 1] - columns[:, 0])


def _areas(counts: Numbers) -> Numbers:
    """Empirical ROC area per reader and condition from counts by answer."""
    wrong, right = counts[:, :, 0], counts[:, :, 1]
    below = np.cumsum(wrong, axis=-1) - wrong
    top = (right * (below + wrong / 2)).sum(-1)
    return np.asarray(top / (right.sum(-1) * wrong.sum(-1)))
