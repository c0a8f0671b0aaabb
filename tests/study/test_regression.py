"""Models against statsmodels and numerical integration."""

import numpy as np
import pytest
from scipy import integrate, special, stats
from statsmodels.miscmodels.ordinal_model import OrderedModel
from statsmodels.regression.linear_model import OLS

from gifsplain.errors import InputError
from gifsplain.study.statistics import ordinal, relation

from .tables import table


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
