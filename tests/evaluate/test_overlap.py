"""Overlap measures against loops over pixels, scikit-learn, and laws."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import jaccard_score, precision_score, recall_score

from gifsplain.evaluate import overlap, verdicts

MASKS = arrays(bool, (6, 7))
TIED = arrays(np.int64, (6, 7), elements=st.integers(0, 4)).map(lambda a: a.astype(float))


def slow_iou_at_area(scores: np.ndarray, mask: np.ndarray, draws: int = 4000) -> float:
    """Rank all pixels with ties in random order, count the common ones; averaged over orders."""
    generator, count, common = np.random.default_rng(0), int(mask.sum()), []
    for _ in range(draws):
        order = sorted(range(scores.size), key=lambda p: (-scores.flat[p], generator.random()))
        common.append(sum(bool(mask.flat[p]) for p in order[:count]))
    mean = float(np.mean(common))
    return mean / (2 * count - mean)


@settings(max_examples=60, deadline=None)
@given(MASKS, MASKS)
def test_iou_equals_sklearn(a: np.ndarray, b: np.ndarray) -> None:
    if (a | b).any():
        assert overlap.iou(a, b) == pytest.approx(jaccard_score(b.ravel(), a.ravel(), zero_division=0))
        assert overlap.iou(a, b) == overlap.iou(b, a)
    if a.any():
        assert overlap.iou(a, a) == 1


def test_cut_without_ties_equals_sklearn() -> None:
    generator = np.random.default_rng(1)
    scores, mask = generator.random((20, 20)), generator.random((20, 20)) < 0.2
    top = np.zeros(400, bool)
    top[np.argsort(-scores, axis=None)[: mask.sum()]] = True
    assert overlap.iou_at_area(scores, mask) == pytest.approx(jaccard_score(mask.ravel(), top))
    assert overlap.precision_at_area(scores, mask) == pytest.approx(precision_score(mask.ravel(), top))
    assert overlap.recall_at_area(scores, mask) == pytest.approx(recall_score(mask.ravel(), top))


def test_ties_share_the_last_places() -> None:
    generator = np.random.default_rng(2)
    scores = generator.integers(0, 3, (5, 5)).astype(float)
    mask = generator.random((5, 5)) < 0.4
    assert overlap.iou_at_area(scores, mask) == pytest.approx(slow_iou_at_area(scores, mask), abs=0.01)


@settings(max_examples=60, deadline=None)
@given(TIED, st.integers(0, 42))
def test_membership_sums_to_the_count_and_follows_the_order(scores: np.ndarray, count: int) -> None:
    taken = overlap.membership(scores, count)
    assert taken.sum() == pytest.approx(count)
    order = np.argsort(scores, axis=None)
    assert (np.diff(taken.ravel()[order]) >= -1e-12).all()


@settings(max_examples=30, deadline=None)
@given(MASKS.filter(lambda m: bool(m.any())))
def test_the_mark_itself_scores_one_and_a_constant_map_the_expected(mask: np.ndarray) -> None:
    assert overlap.iou_at_area(mask.astype(float), mask) == 1
    assert overlap.hit(mask.astype(float), mask) == 1
    assert overlap.energy_in(mask.astype(float), mask) == 1
    constant = np.full(mask.shape, 0.3)
    assert overlap.iou_at_area(constant, mask) == pytest.approx(overlap.expected_random_iou(mask))
    assert overlap.hit(constant, mask) == pytest.approx(mask.mean())
    assert overlap.energy_in(constant, mask) == pytest.approx(mask.mean())


def test_random_maps_have_the_expected_precision() -> None:
    generator = np.random.default_rng(3)
    mask = np.zeros((40, 40), bool)
    mask[5:20, 10:30] = True
    found = [overlap.precision_at_area(generator.random((40, 40)), mask) for _ in range(300)]
    assert np.mean(found) == pytest.approx(mask.mean(), abs=4 * np.std(found) / np.sqrt(300))
    found = [overlap.iou_at_area(generator.random((40, 40)), mask) for _ in range(300)]
    assert np.mean(found) == pytest.approx(overlap.expected_random_iou(mask), abs=0.005)


@settings(max_examples=30, deadline=None)
@given(TIED, MASKS)
def test_measures_do_not_depend_on_scale_and_flip(scores: np.ndarray, mask: np.ndarray) -> None:
    first = overlap.measures(scores, mask)
    for other in (overlap.measures(scores * 8, mask), overlap.measures(scores[:, ::-1], mask[:, ::-1])):
        assert first == pytest.approx(other, nan_ok=True)


def test_nothing_marked_is_undefined() -> None:
    found = overlap.measures(np.ones((3, 3)), np.zeros((3, 3), bool))
    assert all(np.isnan(found[name]) for name in ("iou", "precision", "recall", "hit", "energy", "random_iou"))
    assert np.isnan(overlap.energy_in(np.zeros((3, 3)), np.ones((3, 3), bool)))


def test_thresholds_are_shares_of_the_largest_value() -> None:
    scores = np.array([[0.0, 1.0], [2.0, 4.0]])
    mask = np.array([[False, False], [True, True]])
    assert overlap.iou_at_thresholds(scores, mask, (0.2, 0.5, 0.9)) == pytest.approx([2 / 3, 1.0, 0.5])
    assert overlap.iou_at_thresholds(np.zeros((2, 2)), mask, (0.5,)) == [0.0]


@pytest.mark.parametrize(
    ("split", "chosen_on", "said"),
    [("test", "val", "."), ("val", "val", ", the same cases: optimistic."), ("all", "val", ", some of the same cases: optimistic."),
     ("test", "all", ", some of the same cases: optimistic.")],
)  # fmt: skip
def test_cases_that_choose_their_own_threshold_are_named(split: str, chosen_on: str, said: str) -> None:
    summary = pd.DataFrame({"method": ["grad"], "target": ["Mass"], "patients": [1]})
    words = verdicts.overlap(summary, (), split, chosen_on)
    assert words[0] == f"Split {split}; thresholds chosen on {chosen_on}{said}"
