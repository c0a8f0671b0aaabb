"""Bootstrap, sign flips, reliance and planning against slow versions and known rates."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from gifsplain.errors import InputError
from gifsplain.study.statistics import paired, power, reliance, resampling

from .tables import table


def frame(seed: int, readers: int = 3, cases: int = 30) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    grid = [(f"r{r}", f"c{c}", d) for r in range(readers) for c, d in enumerate(generator.normal(0.3, 1, cases))]
    return pd.DataFrame(grid, columns=["reader", "case", "difference"])


def test_case_bootstrap_is_the_slow_one() -> None:
    data = frame(0)
    ours = resampling.bootstrap(data, draws=4000, seed=1).cases
    generator = np.random.default_rng(5)
    by_case = data.groupby("case")["difference"].mean().to_numpy()
    slow = [by_case[generator.integers(0, 30, 30)].mean() for _ in range(4000)]
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.04)


def test_readers_widen_the_interval_and_seed_repeats_it() -> None:
    data = frame(0, readers=4)
    data["difference"] += data["reader"].map({"r0": -1.0, "r1": 1.0, "r2": 0.5, "r3": -0.5})
    both = resampling.bootstrap(data, seed=3)
    assert both == resampling.bootstrap(data.sample(frac=1, random_state=0), seed=3)
    assert both.cases_and_readers.high - both.cases_and_readers.low > 1.5 * (both.cases.high - both.cases.low)
    assert np.isnan(resampling.bootstrap(frame(0, readers=1)).cases_and_readers.low)
    with pytest.raises(InputError, match="at least 100 bootstrap draws, got 5"):
        resampling.bootstrap(data, draws=5)


def test_sign_flips_enumerate_and_approximate() -> None:
    data = frame(2, readers=1, cases=12)
    d = data["difference"].to_numpy()
    slow = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert resampling.sign_flip_p(data) == pytest.approx(slow)
    large = frame(2, readers=1, cases=60)
    normal = 2 * stats.norm.sf(abs(large.difference.sum()) / np.sqrt((large.difference**2).sum()))
    assert resampling.sign_flip_p(large) == pytest.approx(normal, abs=0.02)
    assert np.isnan(resampling.sign_flip_p(data.assign(difference=0.0)))


def test_area_is_sklearns() -> None:
    generator = np.random.default_rng(0)
    right, wrong = generator.integers(1, 6, 40).astype(float), generator.integers(1, 5, 30).astype(float)
    assert reliance.area(right, wrong) == pytest.approx(
        roc_auc_score([1] * 40 + [0] * 30, np.concatenate([right, wrong]))
    )
    assert np.isnan(reliance.area(right, np.empty(0)))


def test_reliance_counts() -> None:
    data = table(6, cases=60, effect=(0.8, -0.8))
    rates = reliance.rates(data)
    row = rates[(rates.condition == "latentshift") & (rates.target == "all") & (rates.reader == "all")].iloc[0]
    here = data.rows[data.rows.condition == "latentshift"]
    assert row["right_believed"] == pytest.approx((here[here.truth == 1].confidence >= 4).mean())
    assert row["wrong_doubted"] == pytest.approx((here[here.truth == 0].confidence <= 2).mean())
    change = {c.measure: c for c in reliance.changes(data, draws=200)}
    both = rates[(rates.target == "all") & (rates.reader == "all")].set_index("condition")
    assert change["appropriate"].difference == pytest.approx(
        both.appropriate["latentshift"] - both.appropriate["traditional"]
    )
    assert change["appropriate"].cases.low > 0
    per_reader = rates[(rates.target == "all") & (rates.reader != "all")].groupby("condition")["roc_area"].mean()
    assert change["roc_area"].difference == pytest.approx(per_reader["latentshift"] - per_reader["traditional"])


def test_power_formula_and_simulation_agree() -> None:
    plan = power.Plan(2, 120, effect=0.2, sd=0.95)
    simulated = power.simulate(plan, studies=300, seed=2)
    assert simulated.power == pytest.approx(power.power_by_formula(plan), abs=4 * simulated.standard_error)
    null = power.simulate(power.Plan(2, 60, effect=0.0, sd=0.95), studies=400, seed=3)
    assert null.power == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 400))


def test_correlated_readers_need_the_case_test() -> None:
    plan = power.Plan(4, 60, effect=0.0, sd=1.0, correlation=0.4)
    assert power.simulate(plan, studies=300, seed=4).power > 0.1
    assert power.simulate(plan, studies=300, seed=4, test="by_case").power < 0.1


def test_cases_for_reaches_the_power_and_no_less_does() -> None:
    plan = power.Plan(2, 2, effect=0.15, sd=0.95, correlation=0.1)
    n = power.cases_for(plan)
    reach = [power.power_by_formula(power.Plan(2, c, 0.15, 0.95, 0.1)) for c in (n - 1, n)]
    assert reach[0] < 0.8 <= reach[1] + 1e-3
    with pytest.raises(InputError, match="an effect that is not 0"):
        power.cases_for(power.Plan(2, 2, 0.0, 1.0))
    with pytest.raises(InputError, match="correlation in"):
        power.Plan(0, 2, 0.1, 1.0)


def test_simulated_spread_is_the_planned_one() -> None:
    d = power.draw_differences(power.Plan(50, 2000, 0.15, 0.95, 0.3), np.random.default_rng(0))
    assert d.std() == pytest.approx(0.95, rel=0.02) and d.mean() == pytest.approx(0.15, abs=0.03)
    assert np.corrcoef(d[:2])[0, 1] == pytest.approx(0.3 * (0.95**2 - 1 / 12) / 0.95**2, abs=0.08)
    assert paired.wilcoxon(d[0]).n > 0


@pytest.mark.parametrize(("effect", "sd"), [(0.15, 0.36), (0.15, 0.4), (-0.5, 0.55), (0.0, 0.1), (1.2, 1.5)])
def test_simulated_answers_have_the_planned_mean_and_sd(effect: float, sd: float) -> None:
    d = power.draw_differences(power.Plan(50, 4000, effect, sd), np.random.default_rng(0))
    assert np.isin(d, range(-4, 5)).all()
    assert d.mean() == pytest.approx(effect, abs=5 * sd / np.sqrt(d.size)) and d.std() == pytest.approx(sd, rel=0.02)


def test_an_sd_that_whole_points_cannot_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected sd >= 0.357, .* with mean 0.15 cannot vary less, got 0.2; give"):
        power.Plan(1, 120, effect=0.15, sd=0.2)
    with pytest.raises(InputError, match="on a five-point scale can have, got 0.15 and 6"):
        power.simulate(power.Plan(1, 120, effect=0.15, sd=6.0), studies=1)
