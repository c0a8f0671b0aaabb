"""Calibration against exhaustive search and scikit-learn."""

import math
import typing

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve

from gifsplain.errors import ModelError
from gifsplain.train import calibration


def drawn(seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 40).astype(float)
    logits = rng.normal(labels * 1.5 - 2, 1.3)
    return labels, np.round(logits) if ties else logits


def scores(logits: np.ndarray, offsets: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(logits - offsets) / temperatures))


def kinds(case: str, positives: int, negatives: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits: normal densities that are equal, of unequal width, or positives of which half look like negatives."""
    high = {
        "equal": rng.normal(2, 1, positives),
        "unequal": rng.normal(3, 3, positives),
        "mixture": np.where(rng.random(positives) < 0.5, rng.normal(0, 1, positives), rng.normal(6, 1, positives)),
    }[case]
    return np.repeat([1.0, 0.0], [positives, negatives]), np.concatenate([high, rng.normal(size=negatives)])


def gain(case: str, cut: float) -> float:
    """Sensitivity + specificity - 1 of a threshold, of the densities themselves."""
    above = {
        "equal": stats.norm.sf(cut, 2, 1),
        "unequal": stats.norm.sf(cut, 3, 3),
        "mixture": (stats.norm.sf(cut) + stats.norm.sf(cut, 6, 1)) / 2,
    }[case]
    return float(above + stats.norm.cdf(cut) - 1)


CASES = ("equal", "unequal", "mixture")


@pytest.mark.parametrize("case", CASES)
def test_of_few_films_the_smoothed_point_is_better_for_others_than_the_counted_one(case: str) -> None:
    rng = np.random.default_rng(1)
    drawn = [kinds(case, 12, 150, rng) for _ in range(60)]
    smoothed, counted = (
        np.mean([gain(case, rule(*rows)) for rows in drawn]) for rule in (calibration.smoothed, calibration.counted)
    )
    assert smoothed > counted + 0.005


@pytest.mark.parametrize("case", CASES)
def test_of_many_films_the_smoothed_point_is_nearly_the_best_there_is(case: str) -> None:
    found = calibration.smoothed(*kinds(case, 5_000, 20_000, np.random.default_rng(0)))
    best = max(gain(case, cut) for cut in np.linspace(-2, 8, 1001))
    assert gain(case, found) > best - 0.01


@pytest.mark.parametrize("far", [-1e3, -3e4, -1e7])
def test_one_row_far_away_does_not_move_the_smoothed_point(far: float) -> None:
    labels, logits = kinds("equal", 50, 500, np.random.default_rng(0))
    before = calibration.smoothed(labels, logits)
    logits[-1] = far
    assert calibration.smoothed(labels, logits) == pytest.approx(before, abs=0.1)


def test_smoothed_gain_is_that_of_kernel_densities() -> None:
    """Against scipy's densities with the same widths, integrated."""
    labels, logits = drawn(4)
    densities = []
    for kind in (logits[labels == 1], logits[labels == 0]):
        width = 0.9 * min(kind.std(ddof=1), stats.iqr(kind) / 1.34) * len(kind) ** -0.2
        densities.append(stats.gaussian_kde(kind, bw_method=width / kind.std(ddof=1)))
    cuts = np.linspace(logits.min(), logits.max(), 1001)
    gains = [densities[1].integrate_box_1d(-np.inf, cut) - densities[0].integrate_box_1d(-np.inf, cut) for cut in cuts]
    assert calibration.smoothed(labels, logits) == pytest.approx(cuts[int(np.argmax(gains))], abs=0.01)


@pytest.mark.parametrize(
    ("labels", "logits", "least", "most"),
    [
        ([1, 0], [3.0, 1.0], 1.0, 3.0),
        ([1, 0, 0, 0], [5.0, 1.0, 1.2, 0.8], 1.2, 5.0),
        ([1, 1, 0, 0], [8.0, 9.0, 1.0, 2.0], 2.0, 8.0),
        ([1, 0, 0], [4.0, 4.0, 4.0], 4.0, 4.0),
        ([1, 1, 1, 0], [5.0, 5.0, 5.0, 5.0], 5.0, 5.0),
    ],
)
def test_smoothed_point_of_hardly_any_films(labels: list[int], logits: list[float], least: float, most: float) -> None:
    found = calibration.smoothed(np.array(labels, float), np.array(logits))
    assert least <= found <= most and (least == most or least < found < most)


def test_logits_that_are_not_finite_are_refused_where_they_count() -> None:
    labels = np.array([[1.0], [0.0], [1.0], [0.0], [np.nan]])
    logits = np.array([[2.0], [1.0], [3.0], [0.0], [np.inf]])
    assert np.isfinite(calibration.fit(labels, logits)).all()  # of an unknown label
    logits[0] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        calibration.fit(labels, logits)


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


def test_temperature_is_the_balanced_logistic_regression_without_intercept() -> None:
    labels, logits = drawn(3)
    offsets, temperatures = calibration.fit(labels[:, None], logits[:, None], point="counted")
    model = LogisticRegression(C=1e9, fit_intercept=False, class_weight="balanced", tol=1e-10, max_iter=1000)
    slope = model.fit((logits - offsets[0])[:, None], labels).coef_[0, 0]
    assert temperatures[0] == pytest.approx(1 / slope, rel=1e-3)


@pytest.mark.parametrize("point", typing.get_args(calibration.Point))
def test_scores_do_not_depend_on_the_scale_of_the_logits(point: calibration.Point) -> None:
    labels, logits = drawn(7)
    before = scores(logits, *calibration.fit(labels[:, None], logits[:, None], point=point))
    after = scores(3 * logits + 50, *calibration.fit(labels[:, None], 3 * logits[:, None] + 50, point=point))
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_target_that_is_told_the_wrong_way_round_is_as_flat_as_allowed() -> None:
    labels, logits = drawn(2)
    _, temperatures = calibration.fit(labels[:, None], -logits[:, None])
    assert temperatures[0] == pytest.approx(20)


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

    def cost(temperatures: np.ndarray) -> float:
        logs = [math.log(t) for t in temperatures]
        total = sum((log - sum(logs) / 2) ** 2 for log in logs) / (2 * 0.5**2)
        for t in range(2):
            found = scores(logits[:, t], offsets[t], temperatures[t])
            of_positives = -np.log(found[labels[:, t] == 1])
            total += of_positives.sum() - len(of_positives) * np.log(1 - found[labels[:, t] == 0]).mean()
        return float(total)

    least, rng = cost(temperatures), np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(100):
            assert cost(temperatures * np.exp(rng.normal(size=2) * size)) >= least - 1e-7


def test_far_logits_do_not_overflow() -> None:
    labels, logits = several((30, 30), (400.0, 300.0))
    assert np.isfinite(calibration.fit(labels, logits)).all()
    labels[:, 1] = logits[:, 1] > np.median(logits[:, 1])  # told without an error: as steep as allowed
    assert np.isfinite(calibration.fit(labels, logits)).all()


def test_equal_logits_have_a_score_of_half() -> None:
    labels = np.array([[1.0], [0.0], [0.0]])
    np.testing.assert_allclose(
        scores(np.full((3, 1), 4.0), *calibration.fit(labels, np.full((3, 1), 4.0))), 0.5, atol=1e-6
    )
