"""Intervals against SciPy, scikit-learn and loops."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from gifsplain.evaluate import bootstrap
from gifsplain.evaluate.discrimination import auc


def test_one_picture_a_patient_equals_scipy() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.1, 40)
    found = bootstrap.mean_interval(values, [str(n) for n in range(40)], resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.001)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.001)


def test_patients_are_drawn_whole() -> None:
    """Ten copies of each picture must not make the interval narrower."""
    values = np.random.default_rng(0).random(12)
    names = [f"p{n}" for n in range(12)]
    once = bootstrap.mean_interval(values, names)
    many = bootstrap.mean_interval(np.repeat(values, 10), list(np.repeat(names, 10)))
    assert (many.low, many.high) == pytest.approx((once.low, once.high))


def test_statistic_interval_of_a_mean_agrees() -> None:
    generator = np.random.default_rng(0)
    values, names = generator.random(60), [f"p{n % 17}" for n in range(60)]
    mean = bootstrap.mean_interval(values, names, resamples=4000)
    other = bootstrap.statistic_interval(lambda rows: float(values[rows].mean()), names, resamples=4000)
    assert (other.value, other.low, other.high) == pytest.approx((mean.value, mean.low, mean.high), abs=0.01)


def test_undefined_values_are_left_out_and_none_gives_nan() -> None:
    assert bootstrap.mean_interval(np.array([1.0, np.nan, 1.0]), ["a", "b", "c"]).low == 1
    assert np.isnan(bootstrap.mean_interval(np.array([np.nan]), ["a"]).low)


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_sklearn_with_ties(seed: int) -> None:
    generator = np.random.default_rng(seed)
    positive, scores = generator.random(50) < 0.4, generator.integers(0, 6, 50).astype(float)
    assert auc(positive, scores) == pytest.approx(roc_auc_score(positive, scores))
    assert np.isnan(auc(np.ones(3, bool), np.arange(3.0)))
