"""Models against statsmodels and numerical integration."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats
from statsmodels.miscmodels.ordinal_model import OrderedModel
from statsmodels.regression.linear_model import OLS

from gifsplain.errors import InputError
from gifsplain.study.statistics import ordinal, relation
from gifsplain.study.statistics.table import from_text

from .tables import answers, table


def test_without_cases_it_is_statsmodels_ordered_model() -> None:
    data = table(7, cases=60, effect=(0.5, 0.0))
    rows = data.first
    x, names = ordinal.design(rows, data.conditions)
    ours = ordinal.fit(rows["confidence"].to_numpy(int), x, np.zeros(len(rows), int), names, cases="none")
    theirs = OrderedModel(rows["confidence"].to_numpy(int), x, distr="logit").fit(
        method="bfgs", disp=False, maxiter=500
    )
    assert ours.log_likelihood == pytest.approx(theirs.llf, abs=1e-4)
    np.testing.assert_allclose([e.value for e in ours.effects], theirs.params[: len(names)], atol=2e-3)
    np.testing.assert_allclose([e.standard_error for e in ours.effects], theirs.bse[: len(names)], rtol=1e-2)


def test_likelihood_is_the_integral_and_gradient_its_slope() -> None:
    generator = np.random.default_rng(0)
    y, x, groups = generator.integers(0, 4, 30), generator.normal(size=(30, 2)), np.repeat(np.arange(10), 3)
    problem = ordinal._Likelihood(y, x, groups, random=True)
    at = np.array([-1.0, 0.1, -0.2, 0.4, -0.3, np.log(0.8)])
    cuts = np.concatenate([[-np.inf], ordinal._thresholds(at[:3]), [np.inf]])

    def likelihood(u: float, rows: np.ndarray) -> float:
        eta = x[rows] @ at[3:5] + u
        parts = special.expit(cuts[y[rows] + 1] - eta) - special.expit(cuts[y[rows]] - eta)
        return float(np.prod(parts) * stats.norm.pdf(u, scale=0.8))

    slow = sum(np.log(integrate.quad(likelihood, -8, 8, args=(np.flatnonzero(groups == g),))[0]) for g in range(10))
    value, gradient = problem(at)
    assert -value == pytest.approx(slow, abs=1e-6)
    for i in range(len(at)):
        step = np.eye(len(at))[i] * 1e-5
        assert gradient[i] == pytest.approx((problem(at + step)[0] - problem(at - step)[0]) / 2e-5, rel=1e-4, abs=1e-5)


def test_recovers_planted_effect_and_case_spread() -> None:
    data = table(11, cases=400, readers=3, effect=(0.9, 0.0), case_sd=0.9)
    fit = ordinal.fit_table(data, "confidence")
    # the simulation's noise is logistic with scale 0.6, so latent units are divided by 0.6
    planted = fit.effect("latentshift | truth 1")
    assert fit.converged and planted.interval[0] < 0.9 / 0.6 < planted.interval[1]
    null = fit.effect("latentshift | truth 0")
    assert null.interval[0] < 0 < null.interval[1] and null.p_value > 0.01
    assert fit.case_sd == pytest.approx(0.9 / 0.6, rel=0.15)
    assert planted.odds_ratio == pytest.approx(np.exp(planted.value))


def many_readers(seed: int, readers: int, *, cases: int, truth: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers 0 to 2, columns (truth of the case, condition) and cases: what `readers` say with a case sd of 2."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(cases), readers)
    x = np.column_stack([groups % 2, np.arange(len(groups)) % 2]).astype(float)
    latent = x @ [truth, 0.5] + generator.normal(0, 2, cases)[groups] + generator.logistic(size=len(groups))
    return np.searchsorted([-0.7, 0.7], latent), x, groups


@pytest.mark.parametrize("readers", [10, 20])
def test_many_readers_of_a_case_are_a_dense_integral(readers: int) -> None:
    y, x, groups = many_readers(3, readers, cases=40, truth=0.8)
    grid = np.linspace(-6, 6, 241)
    weights = stats.norm.pdf(grid) / stats.norm.pdf(grid).sum()

    def cost(at: np.ndarray) -> float:
        """Thresholds at[0] and at[0] + exp(at[1]), effects at[2:4], sd exp(at[4])."""
        eta = (x @ at[2:4])[:, None] + np.exp(at[4]) * grid
        low, high = special.expit(at[0] - eta), special.expit(at[0] + np.exp(at[1]) - eta)
        chance = np.where(y[:, None] == 0, low, np.where(y[:, None] == 1, high - low, 1 - high))
        logs = np.log(chance).reshape(-1, readers, len(grid)).sum(axis=1)
        return -float(special.logsumexp(logs, b=weights, axis=1).sum())

    def bend(i: int, j: int) -> float:
        one, two = np.eye(5)[i] * 1e-3, np.eye(5)[j] * 1e-3
        corners = cost(at + one + two) - cost(at + one - two) - cost(at - one + two) + cost(at - one - two)
        return corners / 4e-6

    at = optimize.minimize(cost, [-0.7, 0.3, 0.0, 0.0, 0.0], method="BFGS", options={"gtol": 1e-3}).x
    errors = np.sqrt(np.diag(np.linalg.inv([[bend(i, j) for j in range(5)] for i in range(5)])))
    fit = ordinal.fit(y, x, groups, ["truth", "condition"])
    assert fit.converged and fit.log_likelihood == pytest.approx(-cost(at), abs=1e-4)
    assert [e.value for e in fit.effects] == pytest.approx(at[2:4].tolist(), abs=5e-3)
    assert [e.standard_error for e in fit.effects] == pytest.approx(errors[2:4].tolist(), rel=5e-3)
    assert fit.case_sd == pytest.approx(np.exp(at[4]), rel=5e-3)


def test_chances_far_from_the_thresholds() -> None:
    """Both shares round to 1 there; the chance is exp(-38) - exp(-40)."""
    for upper, lower in ((40.0, 38.0), (-38.0, -40.0)):
        chance, _, _ = ordinal._chances(np.array([upper]), np.array([lower]))
        assert chance[0] == pytest.approx(-38 + np.log1p(-np.exp(-2)), rel=1e-12)


@pytest.mark.slow
def test_twenty_readers_find_no_truth_where_there_is_none() -> None:
    rejected = 0
    for seed in range(200):
        fit = ordinal.fit(*many_readers(seed, 20, cases=60, truth=0.0), ["truth", "condition"])
        rejected += fit.effect("truth").p_value < 0.05
    # 99.9 % of binomial(200, 0.05) lies at or below 0.105
    assert rejected / 200 <= 0.105, rejected


def test_separated_answers_have_no_wald_test() -> None:
    """Under the second condition everyone says 5 of true positives: its odds ratio has no finite estimate, others do."""
    frame = answers(7, cases=48)
    always = (frame["condition"] == "latentshift") & (frame["truth"] == "1")
    fit = ordinal.fit_table(from_text(frame.assign(confidence=frame["confidence"].where(~always, "5"))), "confidence")
    effect = fit.effect("latentshift | truth 1")
    assert effect.separated and effect.odds_ratio == np.inf and not fit.converged
    assert np.isnan([effect.p_value, effect.standard_error, *effect.interval]).all()
    assert not any(e.separated or np.isnan(e.p_value) for e in fit.effects if e is not effect)
    lower = frame.assign(confidence=np.where(frame["condition"] == "latentshift", "2", "5"))
    fit = ordinal.fit_table(from_text(lower), "confidence")
    assert [fit.effect(f"latentshift | truth {t}").odds_ratio for t in (0, 1)] == [0, 0] and not fit.converged


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_column_is_separated_when_each_answer_lies_on_its_side(seed: int) -> None:
    generator = np.random.default_rng(seed)
    y = np.concatenate([[0, 1, 2], generator.integers(0, 3, 9)])
    x = generator.normal(size=(len(y), 1))
    groups = [x[y == level, 0] for level in range(3)]
    up = all(a.max() <= b.min() for a, b in pairwise(groups))
    down = all(a.min() >= b.max() for a, b in pairwise(groups))
    assert ordinal.separation(y, x).tolist() == [int(up) - int(down)]
    assert ordinal.separation(y, np.sort(x, axis=0)[np.argsort(np.argsort(y))]).tolist() == [1]


def test_refuses_constant_answers() -> None:
    with pytest.raises(InputError, match="two different answers"):
        ordinal.fit(np.ones(4, int), np.ones((4, 1)), np.arange(4), ["a"])


def test_iou_lines_are_statsmodels_clustered_ols() -> None:
    data = table(3, cases=80, extras=True)
    found = relation.lines(data)
    assert [(line.question, line.condition) for line in found] == [
        (q, c) for q in ("confidence", "feature") for c in ("traditional", "latentshift")
    ]
    rows = data.select(truth=1)
    rows = rows[rows["condition"] == "latentshift"]
    codes = rows["case"].astype("category").cat.codes
    design = np.column_stack([np.ones(len(rows)), rows["iou"]])
    theirs = OLS(rows["feature"], design).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    line = found[-1]
    assert (line.intercept, line.slope) == pytest.approx(tuple(theirs.params))
    assert line.slope_error == pytest.approx(theirs.bse.iloc[1])
    assert line.p_value == pytest.approx(theirs.pvalues.iloc[1])
    assert [line.slope_low, line.slope_high] == pytest.approx(theirs.conf_int().iloc[1].tolist())
    assert line.pearson == pytest.approx(np.corrcoef(rows["iou"], rows["feature"])[0, 1])


def test_times() -> None:
    data = table(3, cases=40, extras=True)
    frame = relation.time_per_case(data)
    here = data.rows[data.rows.condition == "latentshift"]["seconds"]
    row = frame[(frame.reader == "all") & (frame.condition == "latentshift")].iloc[0]
    assert (row["n"], row["median"], row["mean"]) == (
        len(here),
        pytest.approx(here.median()),
        pytest.approx(here.mean()),
    )
    change = relation.time_comparisons(data).iloc[0]
    wide = data.rows.pivot(index=["reader", "case"], columns="condition", values="seconds")
    assert change["ratio"] == pytest.approx(stats.gmean(wide["latentshift"] / wide["traditional"]))
    assert relation.time_comparisons(table(3, cases=12)).empty and relation.time_per_case(table(3, cases=12)).empty
