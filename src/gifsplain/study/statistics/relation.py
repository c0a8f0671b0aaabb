"""Answers against the overlap of the map with the finding (figure 6B), and time per case."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from gifsplain.study.statistics.paired import wilcoxon
from gifsplain.study.statistics.table import Table


@dataclass(frozen=True)
class Line:
    """Least-squares line of answer on IoU; standard error clustered by case (Liang & Zeger 1986, CR1)."""

    question: str
    condition: str
    n: int
    intercept: float
    slope: float
    """Points of the scale for an IoU going from 0 to 1."""
    slope_error: float
    slope_low: float
    slope_high: float
    p_value: float
    pearson: float
    spearman: float


def lines(table: Table) -> list[Line]:
    """One line per question and condition over the true positives that have an IoU; skipped below 3 cases."""
    found = []
    for question in table.questions:
        for condition in table.conditions:
            rows = table.select(truth=1).dropna(subset=[question, "iou"])
            rows = rows[rows["condition"] == condition]
            if rows["case"].nunique() >= 3 and rows["iou"].nunique() > 1:
                found.append(_line(rows, question, condition))
    return found


def _line(rows: pd.DataFrame, question: str, condition: str) -> Line:
    x, y = rows["iou"].to_numpy(float), rows[question].to_numpy(float)
    design = np.column_stack([np.ones_like(x), x])
    bread = np.linalg.inv(design.T @ design)
    beta = bread @ design.T @ y
    scores = design * (y - design @ beta)[:, None]
    codes = rows["case"].astype("category").cat.codes.to_numpy(int)
    summed = np.column_stack([np.bincount(codes, column) for column in scores.T])
    groups, n = len(summed), len(x)
    correction = groups / (groups - 1) * (n - 1) / (n - 2)
    error = float(np.sqrt((bread @ (correction * summed.T @ summed) @ bread)[1, 1]))
    reach = float(stats.t.ppf(0.975, groups - 1)) * error
    p = float(2 * stats.t.sf(abs(beta[1] / error), groups - 1)) if error > 0 else float("nan")
    varied = float(np.ptp(y)) > 0
    pearson = float(stats.pearsonr(x, y).statistic) if varied else float("nan")
    spearman = float(stats.spearmanr(x, y).statistic) if varied else float("nan")
    intercept, slope = map(float, beta)
    return Line(question, condition, n, intercept, slope, error, slope - reach, slope + reach, p, pearson, spearman)


def time_per_case(table: Table) -> pd.DataFrame:
    """Seconds per condition and reader ("all" first): n, mean, sd, median, quartiles; readings without time are left out."""
    rows = table.first.dropna(subset=["seconds"])
    found = []
    for reader in ("all", *table.readers):
        for condition in table.conditions:
            here = rows[rows["condition"] == condition]
            s = (here if reader == "all" else here[here["reader"] == reader])["seconds"]
            if len(s):
                quarter, half, three = s.quantile([0.25, 0.5, 0.75])
                found.append((reader, condition, len(s), s.mean(), s.std(), half, quarter, three))
    return pd.DataFrame(found, columns=["reader", "condition", "n", "mean", "sd", "median", "q1", "q3"])


def time_comparisons(table: Table) -> pd.DataFrame:
    """Ratio of times (second over first condition, geometric mean of pairs) with a Wilcoxon test on the log ratio."""
    rows = table.first.dropna(subset=["seconds"])
    rows = rows[rows["seconds"] > 0]
    wide = rows.pivot(index=["reader", "case", "target"], columns="condition", values="seconds")
    found = []
    for first, second in combinations(table.conditions, 2):
        if first in wide and second in wide:
            both = wide[[first, second]].dropna()
            log = np.log(both[second].to_numpy(float) / both[first].to_numpy(float))
            if log.size:
                test = wilcoxon(log)
                found.append((first, second, log.size, float(np.exp(log.mean())), test.statistic, test.p_value))
    return pd.DataFrame(found, columns=["first", "second", "n", "ratio", "wilcoxon_statistic", "p_value"])
