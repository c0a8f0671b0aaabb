"""Calibration against exhaustive search and scikit-learn."""

import math
import typing

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve

from gifsplain.train import calibration


def drawn(seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 40).astype(float)
    logits = rng.normal(labels * 1.5 - 2, 1.3)
    return labels, np.round(logits) if ties else logits


def scores(logits: np.ndarray, offsets: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(logits - offsets) / temperatures))


@given(st.integers(0, 5000), st.booleans())
def test_mean_scores_of_both_kinds_sum_to_one(seed: int, ties: bool) -> None:
    """The law of a logistic fit in which both kinds weigh the same, however steep it is."""
    labels, logits = drawn(seed, ties)
    assume(0 < labels.sum() < len(labels))
    found = scores(logits, *calibration.fit(labels[:, None], logits[:, None]))
    assert found[labels == 1].mean() + found[labels == 0].mean() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_fit_is_the_balanced_logistic_regression(seed: int) -> None:
    labels, logits = drawn(seed)
    model = LogisticRegression(C=1e9, class_weight="balanced", tol=1e-10, max_iter=1000).fit(logits[:, None], labels)
    slope, intercept = model.coef_[0, 0], model.intercept_[0]
    offsets, temperatures = calibration.fit(labels[:, None], logits[:, None])
    assert temperatures[0] == pytest.approx(1 / slope, rel=1e-3)
    assert offsets[0] == pytest.approx(-intercept / slope, abs=1e-3)


def test_half_has_the_largest_sensitivity_and_specificity_of_many_films() -> None:
    """Of two normal densities that cross at 1 (their optimum, whatever the share of positives)."""
    rng = np.random.default_rng(0)
    labels = (rng.random(200_000) < 0.1).astype(float)
    logits = rng.normal(2 * labels)
    offsets, _ = calibration.fit(labels[:, None], logits[:, None])
    false, true, cuts = roc_curve(labels, logits)
    assert offsets[0] == pytest.approx(1, abs=0.02)
    assert offsets[0] == pytest.approx(cuts[np.argmax(true - false)], abs=0.1)


def test_of_few_films_half_is_nearer_the_best_place_than_the_best_counted_one() -> None:
    rng = np.random.default_rng(1)
    fitted, counted = [], []
    for _ in range(100):
        labels = np.repeat([1.0, 0.0], [11, 150])
        logits = rng.normal(2 * labels)
        false, true, cuts = roc_curve(labels, logits)
        counted.append(cuts[np.argmax(true - false)])
        fitted.append(calibration.fit(labels[:, None], logits[:, None])[0][0])
    assert np.mean((np.array(fitted) - 1) ** 2) < 0.5 * np.mean((np.array(counted) - 1) ** 2)


@given(st.integers(0, 5000), st.booleans())
def test_counted_half_has_the_largest_sensitivity_and_specificity(seed: int, ties: bool) -> None:
    """No threshold of the ROC curve does better on these rows than a score of 0.5; the temperature is fitted around it."""
    labels, logits = drawn(seed, ties)
    assume(0 < labels.sum() < len(labels))
    offsets, temperatures = calibration.fit(labels[:, None], logits[:, None], point="counted")
    called = scores(logits, offsets[0], temperatures[0])
    false, true, _ = roc_curve(labels, logits)
    assert (called[labels == 1] > 0.5).mean() - (called[labels == 0] > 0.5).mean() == pytest.approx(
        (true - false).max()
    )
    assert not (called == 0.5).any()


def test_counted_temperature_is_the_balanced_logistic_regression_without_intercept() -> None:
    labels, logits = drawn(3)
    offsets, temperatures = calibration.fit(labels[:, None], logits[:, None], point="counted")
    model = LogisticRegression(C=1e9, fit_intercept=False, class_weight="balanced", tol=1e-10, max_iter=1000)
    slope = model.fit((logits - offsets[0])[:, None], labels).coef_[0, 0]
    assert temperatures[0] == pytest.approx(1 / slope, rel=1e-3)


def test_scores_do_not_depend_on_the_scale_of_the_logits() -> None:
    labels, logits = drawn(7)
    before = scores(logits, *calibration.fit(labels[:, None], logits[:, None]))
    after = scores(3 * logits + 50, *calibration.fit(labels[:, None], 3 * logits[:, None] + 50))
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_target_that_is_told_the_wrong_way_round_is_as_flat_as_allowed() -> None:
    labels, logits = drawn(2)
    offsets, temperatures = calibration.fit(labels[:, None], -logits[:, None])
    assert temperatures[0] == pytest.approx(20) and (-logits).min() < offsets[0] < (-logits).max()


@given(st.integers(0, 5000), st.booleans())
def test_area_agrees_with_scikit_learn(seed: int, ties: bool) -> None:
    labels, logits = drawn(seed, ties)
    assume(0 < labels.sum() < len(labels))
    assert calibration.area_under_curve(labels, logits) == pytest.approx(roc_auc_score(labels, logits))


def test_unknown_labels_do_not_count() -> None:
    labels, logits = drawn(5)
    more = np.concatenate([labels, [np.nan] * 5]), np.concatenate([logits, [99.0] * 5])
    for point in typing.get_args(calibration.Point):
        found = [calibration.fit(rows[0][:, None], rows[1][:, None], point=point) for rows in (more, (labels, logits))]
        np.testing.assert_allclose(*found, rtol=1e-9)
    assert calibration.area_under_curve(*more) == calibration.area_under_curve(labels, logits)


def test_target_without_positives_stays_uncalibrated() -> None:
    offsets, temperatures = calibration.fit(np.zeros((5, 1)), np.arange(5.0)[:, None])
    assert (offsets[0], temperatures[0]) == (0, 1)
    assert np.isnan(calibration.area_under_curve(np.zeros(5), np.arange(5.0)))


def several(positives: tuple[int, ...], scales: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits of targets whose logits have different scales; one label of the first is unknown."""
    rng = np.random.default_rng(3)
    labels = np.zeros((150, len(positives)))
    for t, count in enumerate(positives):
        labels[:count, t] = 1
    logits = (labels + rng.normal(size=labels.shape)) * scales
    labels[-1, 0] = np.nan
    return labels, logits


def test_temperatures_are_drawn_together_most_where_positives_are_few() -> None:
    labels, logits = several((60, 8), (1.0, 0.1))
    _, loose = calibration.fit(labels, logits, spread=1e3)
    own = [calibration.fit(labels[:, [t]], logits[:, [t]])[1][0] for t in range(2)]
    np.testing.assert_allclose(loose, own, rtol=1e-3)
    _, between = calibration.fit(labels, logits)
    moved = np.abs(np.log(between / loose))
    assert loose[1] < between[1] < between[0] < loose[0] and moved[1] > 2 * moved[0]
    _, tight = calibration.fit(labels, logits, spread=1e-3)
    assert tight[0] == pytest.approx(tight[1], rel=1e-2)


def test_fit_is_the_least_of_its_cost() -> None:
    """Against steps from it in every direction, and a wide search, of the cost as it is written in words."""
    labels, logits = several((40, 12), (1.0, 0.3))
    offsets, temperatures = calibration.fit(labels, logits)

    def cost(offsets: np.ndarray, temperatures: np.ndarray) -> float:
        logs = [math.log(t) for t in temperatures]
        total = sum((log - sum(logs) / 2) ** 2 for log in logs) / (2 * 0.5**2)
        for t in range(2):
            found = scores(logits[:, t], offsets[t], temperatures[t])
            of_positives = -np.log(found[labels[:, t] == 1])
            total += of_positives.sum() - len(of_positives) * np.log(1 - found[labels[:, t] == 0]).mean()
        return float(total)

    least, rng = cost(offsets, temperatures), np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(100):
            shift, stretch = rng.normal(size=(2, 2)) * size
            assert cost(offsets + shift, temperatures * np.exp(stretch)) >= least - 1e-7


def test_far_logits_do_not_overflow() -> None:
    labels, logits = several((30, 30), (400.0, 300.0))
    assert np.isfinite(calibration.fit(labels, logits)).all()
    labels[:, 1] = logits[:, 1] > np.median(logits[:, 1])  # told without an error: as steep as allowed
    offsets, temperatures = calibration.fit(labels, logits)
    assert np.isfinite(offsets).all() and np.isfinite(temperatures).all()
    found = scores(logits[:, 1], offsets[1], temperatures[1])
    assert found[labels[:, 1] == 1].mean() + found[labels[:, 1] == 0].mean() == pytest.approx(1, abs=1e-3)
    assert found[labels[:, 1] == 1].mean() > 0.95


def test_equal_logits_have_a_score_of_half() -> None:
    labels = np.array([[1.0], [0.0], [0.0]])
    np.testing.assert_allclose(
        scores(np.full((3, 1), 4.0), *calibration.fit(labels, np.full((3, 1), 4.0))), 0.5, atol=1e-6
    )
