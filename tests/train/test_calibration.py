"""Calibration against exhaustive search and scikit-learn."""

import math

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


def youden(labels: np.ndarray, called: np.ndarray) -> float:
    return float(called[labels == 1].mean() - called[labels == 0].mean())


@given(st.integers(0, 5000), st.booleans())
def test_half_is_the_operating_point(seed: int, ties: bool) -> None:
    """No threshold of the ROC curve does better than a score of 0.5 after calibration."""
    labels, logits = drawn(seed, ties)
    assume(0 < labels.sum() < len(labels))
    offsets, temperatures = calibration.fit(labels[:, None], logits[:, None])
    scores = 1 / (1 + np.exp(-(logits - offsets[0]) / temperatures[0]))
    false, true, _ = roc_curve(labels, logits)
    assert youden(labels, scores >= 0.5) == pytest.approx((true - false).max())
    assert temperatures[0] > 0 and not (scores == 0.5).any()


@given(st.integers(0, 5000), st.booleans())
def test_area_agrees_with_scikit_learn(seed: int, ties: bool) -> None:
    labels, logits = drawn(seed, ties)
    assume(0 < labels.sum() < len(labels))
    assert calibration.area_under_curve(labels, logits) == pytest.approx(roc_auc_score(labels, logits))


def test_temperature_is_the_balanced_logistic_fit_without_intercept() -> None:
    labels, logits = drawn(3)
    offset = calibration.operating_point(labels, logits)
    model = LogisticRegression(C=1e9, fit_intercept=False, class_weight="balanced", tol=1e-10, max_iter=1000)
    slope = model.fit((logits - offset)[:, None], labels).coef_[0, 0]
    assert calibration.temperature(labels, logits, offset) == pytest.approx(1 / slope, rel=1e-3)


def test_unknown_labels_do_not_count() -> None:
    labels, logits = drawn(5)
    more = np.concatenate([labels, [np.nan] * 5]), np.concatenate([logits, [99.0] * 5])
    assert calibration.operating_point(*more) == calibration.operating_point(labels, logits)
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
    offsets, loose = calibration.fit(labels, logits, spread=1e3)
    own = [calibration.temperature(labels[:, t], logits[:, t], offsets[t]) for t in range(2)]
    np.testing.assert_allclose(loose, own, rtol=1e-3)
    _, between = calibration.fit(labels, logits)
    moved = np.abs(np.log(between / loose))
    assert loose[1] < between[1] < between[0] < loose[0] and moved[1] > 2 * moved[0]
    _, tight = calibration.fit(labels, logits, spread=1e-3)
    assert tight[0] == pytest.approx(tight[1], rel=1e-2)


def test_shared_temperatures_are_the_least_of_their_cost() -> None:
    """Against a search over a grid of the cost as it is written in words."""
    labels, logits = several((40, 12), (1.0, 0.3))
    offsets, found = calibration.fit(labels, logits)

    def cost(temperatures: tuple[float, float]) -> float:
        total = sum((math.log(t) - sum(map(math.log, temperatures)) / 2) ** 2 for t in temperatures) / (2 * 0.5**2)
        for t, temperature in enumerate(temperatures):
            scores = 1 / (1 + np.exp(-(logits[:, t] - offsets[t]) / temperature))
            of_positives = -np.log(scores[labels[:, t] == 1])
            total += of_positives.sum() - len(of_positives) * np.log(1 - scores[labels[:, t] == 0]).mean()
        return float(total)

    grid = np.exp(np.linspace(-2.5, 1.5, 161))
    best = min(((cost((a, b)), a, b) for a in grid for b in grid), key=lambda row: row[0])
    np.testing.assert_allclose(found, best[1:], rtol=0.03)
    assert cost(tuple(found)) <= best[0] + 1e-6


def test_far_logits_do_not_overflow() -> None:
    labels, logits = several((30, 30), (400.0, 300.0))
    assert np.isfinite(calibration.fit(labels, logits)).all()
    labels[:, 1] = logits[:, 1] > np.median(logits[:, 1])  # told without an error: as steep as allowed
    assert np.isfinite(calibration.fit(labels, logits)).all()
