"""Cumulative-link mixed model: do the answers rise with the condition, given readers, targets and cases?

logit P(answer <= k) = threshold_k - (condition effect within each truth + truth + target + reader + u_case)

Thresholds are ordered; readers and targets are fixed terms (first one is the reference) because a study has few of
them; cases are random intercepts u ~ N(0, sd^2), integrated out by adaptive Gauss-Hermite quadrature (McCullagh 1980;
Agresti 2010, ch. 10; Pinheiro & Bates 1995). This is maximum likelihood, no penalty. `cases="none"` leaves u
out: then it is the proportional-odds model that statsmodels' OrderedModel fits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, special, stats

from gifsplain.errors import InputError
from gifsplain.study.statistics.table import Table

Numbers = npt.NDArray[np.float64]
NODES = 21
MODE_STEPS = 100


@dataclass(frozen=True)
class Effect:
    """One coefficient on the log-odds scale: above 0 pushes answers up."""

    name: str
    value: float
    standard_error: float
    """nan where the answers are separated: then the estimate is infinite, and Wald's interval and test mean nothing."""

    @property
    def separated(self) -> bool:
        """Whether the likelihood grows without end with this coefficient (Albert & Anderson 1984); compare counts then."""
        return bool(np.isinf(self.value))

    @property
    def odds_ratio(self) -> float:
        """exp(value): odds of a higher answer."""
        return float(np.exp(self.value))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wald interval of the log odds."""
        return self.value - 1.959964 * self.standard_error, self.value + 1.959964 * self.standard_error

    @property
    def p_value(self) -> float:
        """Two-sided Wald test; nan where there is none."""
        return (
            float(2 * stats.norm.sf(abs(self.value / self.standard_error))) if self.standard_error > 0 else float("nan")
        )


@dataclass(frozen=True)
class OrdinalFit:
    """A fitted model; `effects` lists the terms in the order of the design."""

    effects: tuple[Effect, ...]
    thresholds: tuple[float, ...]
    case_sd: float
    """Standard deviation of the case intercepts on the log-odds scale; 0 where they were left out."""
    log_likelihood: float
    n: int
    converged: bool
    """Whether the search settled at a finite maximum: False as well where an effect is separated."""

    def effect(self, name: str) -> Effect:
        """The effect of that name."""
        return next(e for e in self.effects if e.name == name)


def design(rows: pd.DataFrame, conditions: Sequence[str]) -> tuple[Numbers, tuple[str, ...]]:
    """Columns for condition within truth, truth, targets and readers; names like `latentshift | truth 1`."""
    columns: dict[str, Numbers] = {}
    truth = rows["truth"].to_numpy(float)
    for condition in conditions[1:]:
        here = (rows["condition"] == condition).to_numpy(float)
        columns[f"{condition} | truth 1"] = here * truth
        columns[f"{condition} | truth 0"] = here * (1 - truth)
    columns["truth"] = truth
    for kind in ("target", "reader"):
        for level in sorted(rows[kind].unique())[1:]:
            columns[f"{kind} {level}"] = (rows[kind] == level).to_numpy(float)
    kept = {name: c for name, c in columns.items() if c.min() < c.max()}
    return np.column_stack(list(kept.values())) if kept else np.zeros((len(rows), 0)), tuple(kept)


def fit_table(table: Table, question: str) -> OrdinalFit:
    """The model of one question on the first readings."""
    rows = table.first.dropna(subset=[question])
    x, names = design(rows, table.conditions)
    groups = np.asarray(rows["case"].astype("category").cat.codes, dtype=np.int64)
    return fit(rows[question].to_numpy(int), x, groups, names)


def fit(
    answers: npt.NDArray[np.int_],
    x: Numbers,
    groups: npt.NDArray[np.int_],
    names: Sequence[str],
    *,
    cases: Literal["random", "none"] = "random",
) -> OrdinalFit:
    """Maximum likelihood by BFGS with analytic gradients; standard errors from the observed information."""
    levels, y = np.unique(answers, return_inverse=True)
    if len(levels) < 2 or not len(names):
        raise InputError(f"expected at least two different answers and one term, got {len(levels)} and {len(names)}")
    problem = _Likelihood(y, x, groups.astype(int), random=cases == "random")
    found = optimize.minimize(
        problem, problem.start(len(levels)), jac=True, method="BFGS", options={"gtol": 1e-5 * len(y), "maxiter": 500}
    )
    covariance = _inverse(_hessian(problem, found.x))
    k = len(levels) - 1
    errors = np.sqrt(np.clip(np.diag(covariance), 0, None))[k : k + x.shape[1]]
    values = found.x[k : k + x.shape[1]]
    endless = separation(y, x)
    errors[endless != 0], values = np.nan, np.where(endless > 0, np.inf, np.where(endless < 0, -np.inf, values))
    effects = tuple(Effect(n, float(v), float(e)) for n, v, e in zip(names, values, errors, strict=True))
    sd = float(np.exp(found.x[-1])) if cases == "random" else 0.0
    settled = bool(found.success or np.abs(found.jac).max() < 1e-3 * len(y)) and not endless.any()
    return OrdinalFit(effects, tuple(map(float, _thresholds(found.x[:k]))), sd, -float(found.fun), len(y), settled)


def separation(y: npt.NDArray[np.int_], x: Numbers) -> npt.NDArray[np.int_]:
    """Per column 1 or -1 where the best coefficient is plus or minus infinity, else 0; `y` counts from 0 without gaps.

    Moving thresholds t and effects b never lowers the chance of an answer y whose upper threshold rises at least as
    much as x b and whose lower one rises at most as much. A linear program looks for such a move that raises some
    chance (Konis 2007, for two answers); without one the maximum is finite.
    """
    k = int(y.max())
    steps = np.concatenate([np.zeros((1, k)), np.eye(k), np.zeros((1, k))])  # row y is the threshold below y
    gains = np.concatenate([
        np.column_stack([steps[y + 1], -x])[y < k],
        np.column_stack([-steps[y], x])[y > 0],
    ])  # fmt: skip
    gains = np.unique(gains, axis=0)
    found = optimize.linprog(-gains.sum(axis=0), A_ub=-gains, b_ub=np.zeros(len(gains)), bounds=(-1, 1), method="highs")
    if found.status != 0 or -found.fun < 1e-6:
        return np.zeros(x.shape[1], dtype=int)
    move = found.x[k:]
    return np.asarray(np.where(np.abs(move) > 1e-6, np.sign(move), 0), dtype=int)


def _thresholds(free: Numbers) -> Numbers:
    return np.concatenate([free[:1], free[0] + np.cumsum(np.exp(free[1:]))])


class _Likelihood:
    """Negative log-likelihood and its gradient in (free thresholds, effects, log sd).

    A case that many readers answered has a narrow integrand, which falls between nodes laid out for N(0, 1). So each
    case has nodes of its own: around the mode of its integrand, as far apart as the curvature there says.
    """

    def __init__(self, y: npt.NDArray[np.int_], x: Numbers, groups: npt.NDArray[np.int_], *, random: bool) -> None:
        order = np.argsort(groups, kind="stable")
        self.y, self.x, self.random = y[order], x[order], random
        self.starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        self.sizes = np.diff(np.append(self.starts, len(y)))
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES if random else 1)
        self.nodes, self.log_weights = nodes, np.log(weights / weights.sum()) + nodes**2 / 2

    def start(self, levels: int) -> Numbers:
        shares = np.cumsum(np.bincount(self.y, minlength=levels) / len(self.y))[:-1]
        cuts = special.logit(shares)
        return np.concatenate([cuts[:1], np.log(np.diff(cuts)), np.zeros(self.x.shape[1]), [-0.5] * self.random])

    def __call__(self, parameters: Numbers) -> tuple[float, Numbers]:
        p = self.x.shape[1]
        k = len(parameters) - p - self.random
        sd = float(np.exp(parameters[-1])) if self.random else 0.0
        bounds = np.concatenate([[-np.inf], _thresholds(parameters[:k]), [np.inf]])
        eta = self.x @ parameters[k : k + p]
        upper, lower = bounds[self.y + 1] - eta, bounds[self.y] - eta
        modes, spreads = self._modes(upper, lower, sd)
        z = modes[:, None] + spreads[:, None] * self.nodes  # cases nodes
        by_row = np.repeat(z, self.sizes, axis=0)  # n nodes
        log_chance, d_upper, d_lower = _chances(upper[:, None] - sd * by_row, lower[:, None] - sd * by_row)
        joint = np.add.reduceat(log_chance, self.starts, axis=0) + self.log_weights - z**2 / 2
        total = special.logsumexp(joint, axis=1)
        posterior = np.repeat(np.exp(joint - total[:, None]), self.sizes, axis=0)
        gradient = self._gradient(parameters[:k], posterior * d_upper, posterior * d_lower, sd * by_row)
        return -float((total + np.log(spreads)).sum()), -gradient

    def _modes(self, upper: Numbers, lower: Numbers, sd: float) -> tuple[Numbers, Numbers]:
        """Per case the z = u / sd where the integrand is highest, and the sd of the normal that is as curved there.

        Newton's steps, shortened to log(1 + step) in u: the curvature of a logistic term changes by at most the factor
        exp(step), so a step never passes the mode (Bach 2010).
        """
        z = np.zeros(len(self.sizes))
        for _ in range(MODE_STEPS):
            shift = np.repeat(sd * z, self.sizes)
            slope = sd * np.add.reduceat(special.expit(upper - shift) + special.expit(lower - shift) - 1, self.starts)
            curvature = 1 + sd**2 * np.add.reduceat(_density(upper - shift) + _density(lower - shift), self.starts)
            step = (slope - z) / curvature
            length = np.maximum(sd * np.abs(step), 1e-12)
            z = z + step * np.log1p(length) / length
            if np.abs(step).max() < 1e-6:
                break
        return z, 1 / np.sqrt(curvature)

    def _gradient(self, free: Numbers, d_upper: Numbers, d_lower: Numbers, u: Numbers) -> Numbers:
        """Nodes are held: what moving them would add is no more than the error of the quadrature."""
        k = len(free)
        d_cuts = (
            np.bincount(self.y, d_upper.sum(1), minlength=k + 1)[:k]
            - np.bincount(self.y, d_lower.sum(1), minlength=k + 1)[1:]
        )
        later = np.cumsum(d_cuts[::-1])[::-1]  # a free step moves its own and all later thresholds
        d_free = np.concatenate([later[:1], later[1:] * np.exp(free[1:])])
        slope = d_lower - d_upper
        d_sd = [float((slope * u).sum())] if self.random else []
        return np.concatenate([d_free, self.x.T @ slope.sum(1), d_sd])


def _chances(upper: Numbers, lower: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Log of the chance F(upper) - F(lower) of an answer, and its slopes by upper and (with the sign turned) by lower.

    Written as F(upper) F(-lower) (1 - exp(lower - upper)), which stays exact far from the thresholds, where the two
    shares are equal in floating point.
    """
    between = np.maximum(-np.expm1(lower - upper), 1e-300)
    log_chance = special.log_expit(upper) + special.log_expit(-lower) + np.log(between)
    d_upper = np.exp(special.log_expit(-upper) - special.log_expit(-lower)) / between
    d_lower = np.exp(special.log_expit(lower) - special.log_expit(upper)) / between
    return log_chance, d_upper, d_lower


def _density(z: Numbers) -> Numbers:
    s = special.expit(z)
    return np.asarray(s * (1 - s))


def _hessian(problem: _Likelihood, at: Numbers, step: float = 1e-4) -> Numbers:
    rows = []
    for i in range(len(at)):
        shift = np.zeros_like(at)
        shift[i] = step
        rows.append((problem(at + shift)[1] - problem(at - shift)[1]) / (2 * step))
    h = np.array(rows)
    return (h + h.T) / 2


def _inverse(h: Numbers) -> Numbers:
    return np.asarray(np.linalg.pinv(h, hermitian=True))
