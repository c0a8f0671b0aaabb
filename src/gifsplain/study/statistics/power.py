"""Planning: how likely a study of this size is to find an effect, by formula and by simulation."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from gifsplain.errors import InputError
from gifsplain.study.statistics.paired import wilcoxon

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """A planned comparison of two conditions; the paper's is 2 readers, 120 cases of one truth, 0.15 +- 0.95."""

    readers: int
    cases: int
    """Cases of the truth that is compared, each read by every reader under both conditions."""
    effect: float
    """Mean difference in points of the scale."""
    sd: float
    """Standard deviation of the difference."""
    correlation: float = 0.0
    """Correlation of the differences of two readers on the same case; 0 is what a pooled Wilcoxon test assumes."""
    alpha: float = 0.05

    def __post_init__(self) -> None:
        wrong = (
            self.readers < 1
            or self.cases < 2
            or self.sd <= 0
            or not 0 <= self.correlation < 1
            or not 0 < self.alpha < 1
        )
        if wrong or not math.isfinite(self.effect):
            raise InputError(
                f"expected readers >= 1, cases >= 2, sd > 0, correlation in [0, 1) and alpha in (0, 1), got {self}"
            )
        part = self.effect - math.floor(self.effect)
        least = math.sqrt(part * (1 - part))  # all differences at the two whole points around the mean
        if self.sd < least:
            raise InputError(
                f"expected sd >= {least:.3g}, since differences of whole-point answers with mean {self.effect:g} cannot "
                f"vary less, got {self.sd:g}; give the sd of single differences, not of means"
            )


def pairs_worth(plan: Plan) -> float:
    """Independent pairs that carry the same information: R C / (1 + (R - 1) correlation) (Kish 1965)."""
    return plan.readers * plan.cases / (1 + (plan.readers - 1) * plan.correlation)


def power_by_formula(plan: Plan) -> float:
    """Two-sided power of the signed-rank test: a z test whose efficiency is 3 / pi (Lehmann 1975, ch. 4).

    Exact only in the limit of many pairs and normal differences; compare with `simulate`.

    >>> round(power_by_formula(Plan(2, 120, effect=0.15, sd=0.95)), 2)
    0.67
    """
    z = float(stats.norm.ppf(1 - plan.alpha / 2))
    shift = abs(plan.effect) / plan.sd * math.sqrt(pairs_worth(plan) * 3 / math.pi)
    return float(stats.norm.cdf(shift - z) + stats.norm.cdf(-shift - z))


def cases_for(plan: Plan, power: float = 0.8) -> int:
    """Fewest cases of one truth that reach the power by formula, everything else as planned."""
    if plan.effect == 0 or not plan.alpha < power < 1:
        raise InputError(f"expected an effect that is not 0 and a power in (alpha, 1), got {plan.effect} and {power}")
    z = float(stats.norm.ppf(1 - plan.alpha / 2) + stats.norm.ppf(power))
    pairs = (z * plan.sd / plan.effect) ** 2 * math.pi / 3
    return max(2, math.ceil(pairs * (1 + (plan.readers - 1) * plan.correlation) / plan.readers))


@dataclass(frozen=True)
class Simulated:
    """Share of simulated studies with p < alpha, and its Monte-Carlo standard error."""

    power: float
    standard_error: float
    studies: int
    test: str


def simulate(
    plan: Plan, *, studies: int = 1000, seed: int = 0, test: Literal["wilcoxon", "by_case"] = "wilcoxon"
) -> Simulated:
    """Power by simulating differences between answers on a five-point scale and testing each study.

    Normal differences with the planned correlation are rounded to -4 .. 4; their mean and sd are such that the rounded
    ones have the planned mean and sd. `by_case` tests the sums per case (z of case
    sums), which allows for the correlation; `wilcoxon` pools the readers as the paper did.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    hits = 0
    for _ in range(studies):
        d = draw_differences(plan, generator)
        p = wilcoxon(d.ravel()).p_value if test == "wilcoxon" else _case_p(d)
        hits += p < plan.alpha
    share = hits / studies
    return Simulated(share, math.sqrt(max(share * (1 - share), 1e-12) / studies), studies, test)


def draw_differences(plan: Plan, generator: np.random.Generator) -> Numbers:
    """Differences of one simulated study, readers in rows and cases in columns."""
    mean, sd = _before_rounding(plan.effect, plan.sd)
    shared = generator.standard_normal(plan.cases) * math.sqrt(plan.correlation)
    own = generator.standard_normal((plan.readers, plan.cases)) * math.sqrt(1 - plan.correlation)
    return np.clip(np.rint(mean + sd * (shared + own)), -4, 4)


@cache
def _before_rounding(effect: float, sd: float) -> tuple[float, float]:
    """Mean and sd of the normal that has the given ones after it was rounded to -4 .. 4."""
    points = np.arange(-4, 5)

    def gaps(at: Numbers) -> tuple[float, float]:
        below = stats.norm.cdf((points[:-1] + 0.5 - at[0]) / np.exp(at[1]))
        shares = np.diff(np.concatenate([[0.0], below, [1.0]]))
        mean = float(shares @ points)
        return mean - effect, math.sqrt(float(shares @ (points - mean) ** 2)) - sd

    found = optimize.least_squares(gaps, [effect, math.log(max(sd, 0.3))], xtol=1e-12, ftol=1e-12, gtol=1e-12)
    if np.abs(found.fun).max() > 1e-3:
        raise InputError(
            f"expected a difference and sd that answers on a five-point scale can have, got {effect:g} and {sd:g}; "
            "give a smaller sd"
        )
    return float(found.x[0]), float(np.exp(found.x[1]))


def _case_p(d: Numbers) -> float:
    sums = d.sum(axis=0)
    spread = math.sqrt(float((sums**2).sum()))
    return float(2 * stats.norm.sf(abs(float(sums.sum())) / spread)) if spread else 1.0
