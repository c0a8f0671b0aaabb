"""Formulas of the experiments against SciPy, loops, laws and published averages."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import linalg, stats
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.evaluate import alignment, cases, correlation, marks, published, quality, robustness
from gifsplain.evaluate.config import Setup

SMALL = arrays(np.int64, (5, 6), elements=st.integers(-4, 4)).map(lambda a: a.astype(float))


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL)
def test_spearman_equals_scipy_with_ties(a: np.ndarray, b: np.ndarray) -> None:
    found = correlation.spearman(a, b)
    if np.ptp(np.abs(a)) == 0 or np.ptp(np.abs(b)) == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(np.abs(a).ravel(), np.abs(b).ravel()).statistic)
        assert correlation.spearman(a, a) == pytest.approx(1)


def test_complexity_is_the_entropy_of_the_histogram() -> None:
    values = np.random.default_rng(0).random((30, 30))
    counts = [0] * 100
    for value in values.ravel():
        counts[min(int(value / values.max() * 100), 99)] += 1
    assert correlation.complexity(values) == pytest.approx(stats.entropy(counts))
    assert correlation.complexity(np.ones((4, 4))) == 0 == correlation.complexity(np.zeros((4, 4)))
    assert np.isnan(correlation.complexity_rise(values, np.zeros((4, 4))))
    sparse = np.zeros((30, 30))
    sparse[3, :5] = 1
    assert correlation.complexity_rise(sparse, values) > 1


def test_top_overlap_of_disjoint_and_equal_maps() -> None:
    a = np.arange(100.0).reshape(10, 10)
    assert correlation.top_overlap(a, a) == 1 and correlation.top_overlap(a, -a) == 0
    assert correlation.top_overlap(a, a[::-1, ::-1]) == 0


@settings(max_examples=40, deadline=None)
@given(arrays(float, 9, elements=st.floats(-1, 1)))
def test_path_measures(scores: np.ndarray) -> None:
    rising = np.sort(scores)
    if np.ptp(scores) > 1e-6 and len(set(scores)) == 9:
        assert quality.monotonicity(rising) == pytest.approx(1) == -quality.monotonicity(rising[::-1])
    if abs(scores[-1] - scores[0]) > 1e-6:
        slow = sum(abs(scores[i + 1] - scores[i]) for i in range(8)) / abs(scores[-1] - scores[0])
        assert quality.detour(scores) == pytest.approx(slow) and slow >= 1 - 1e-12


def test_roughness_is_zero_for_a_uniform_fade() -> None:
    fade = torch.linspace(0, 1, 6).view(6, 1, 1, 1) * torch.rand(1, 1, 4, 4)
    assert quality.roughness(fade) == pytest.approx(0, abs=1e-6)
    assert quality.roughness(fade[[0, 3, 1, 4, 2, 5]]) > 1
    assert np.isnan(quality.roughness(fade[:1]))


def linear(weights: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda images: (images * weights).sum(dim=(1, 2, 3))


def test_deletion_of_a_linear_score_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    image, weights = torch.rand(1, 4, 5, generator=generator), torch.rand(1, 4, 5, generator=generator)
    order = quality.order_of((image * weights)[0])
    curve = quality.path_scores(image, torch.zeros_like(image), order, linear(weights), steps=20)
    parts = sorted((image * weights).flatten().tolist(), reverse=True)
    slow = [sum(parts[k:]) for k in range(21)]
    assert torch.allclose(curve, torch.tensor(slow), atol=1e-5)
    assert quality.area(curve) == pytest.approx(np.trapezoid(slow, dx=1 / 20), abs=1e-5)
    worst = quality.path_scores(image, torch.zeros_like(image), order.flip(0), linear(weights), steps=20)
    assert quality.area(worst) > quality.area(curve)


def test_cout_rewards_a_sparse_change() -> None:
    """Two counterfactuals end at the same score; the one that does it with few pixels gets there earlier."""
    image = torch.ones(1, 8, 8)

    def score(images: Tensor) -> Tensor:
        return images[:, 0, 0, :4].mean(dim=1)

    sparse, broad = image.clone(), torch.zeros_like(image)
    sparse[0, 0, :4] = 0
    early, late = (quality.cout(image, cf, score, lowered=True, steps=16) for cf in (sparse, broad))
    assert early == pytest.approx(1 - 2 * (0.5 / 16)) and early >= late
    assert quality.cout(image, image, score, lowered=True) == -1
    assert quality.cout(image, image, score, lowered=False) == 1


def test_kernel_distance_against_a_loop_and_zero_in_expectation() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(6, 3)), generator.normal(1, 1, size=(5, 3))

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / 3 + 1) ** 3

    aa = np.mean([k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    bb = np.mean([k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    ab = np.mean([k(x, y) for x in a for y in b])
    assert quality.kernel_distance(a, b) == pytest.approx(aa + bb - 2 * ab)
    same = [quality.kernel_distance(*generator.normal(size=(2, 12, 3))) for _ in range(400)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 20
    assert np.isnan(quality.kernel_distance(a[:1], b))


def test_frechet_distance_of_gaussians() -> None:
    """Equal sets: 0. A shifted set: the squared shift. In one dimension: (m1 - m2)^2 + (s1 - s2)^2."""
    a = np.random.default_rng(0).normal(size=(40, 3))
    assert quality.frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    assert quality.frechet_distance(a, a + np.array([1.0, 0, 2])) == pytest.approx(5, abs=1e-6)
    b = np.random.default_rng(1).normal(size=(30, 3)) @ np.diag([1, 2, 3.0])
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    slow = np.trace(first + second - 2 * np.real(linalg.sqrtm(first @ second)))
    assert quality.frechet_distance(a - a.mean(0), b - b.mean(0)) == pytest.approx(slow)
    x, y = a[:, :1], 3 * a[:, 1:2] + 1
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert quality.frechet_distance(x, y) == pytest.approx(expected)


def test_similarity_and_sparsity_of_equal_images() -> None:
    image = torch.rand(1, 16, 16)
    assert quality.similarity(image, image) == pytest.approx(1) and quality.distance(image, image) == 0
    changed = image.clone()
    changed[0, 0, :4] += 0.2
    assert quality.changed_share(image, changed) == pytest.approx(4 / 256)
    assert quality.distance(image, changed) == pytest.approx(0.8 / 256, rel=1e-4)


def test_relative_change() -> None:
    assert alignment.relative_change(0.9, 0.5, 0.8, 0.4) == pytest.approx(1)
    assert alignment.relative_change(0.5, 0.7, 0.8, 0.4) == pytest.approx(-0.5)
    assert np.isnan(alignment.relative_change(0.5, 0.7, 0.8, 0.8))


@pytest.mark.parametrize("kind", ["square", "disc", "band", "text"])
@pytest.mark.parametrize("corner", ["top-left", "bottom-right"])
def test_a_planted_mark_changes_its_mask_only(kind: marks.MarkKind, corner: marks.Corner) -> None:
    mark = marks.Mark(kind, 0.15, corner)
    images = torch.full((2, 1, 64, 64), 0.3)
    planted, mask = marks.plant(images, mark), marks.mark_mask(mark, 64)
    assert mask.any() and mask.float().mean() < 0.2
    assert float((planted - images).abs()[..., ~mask].max()) < 0.6  # soft edges of letters only
    assert float((planted - images).abs()[..., ~mask].mean()) < 0.002
    assert (marks.presence(planted, mark) > 0.2).all() and (marks.presence(images, mark).abs() < 1e-5).all()
    rows = mask.any(dim=1).nonzero()
    assert bool(rows.max() < 32) == corner.startswith("top")
    assert torch.equal(images, torch.full((2, 1, 64, 64), 0.3)) and float(planted.max()) <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_marks_agree_with_labels_at_the_rate(positives: int, negatives: int, rate: float) -> None:
    labels = np.array([True] * positives + [False] * negatives)
    marked = marks.assign(labels, rate, 0)
    for value, count in ((True, positives), (False, negatives)):
        agrees = (marked == labels)[labels == value].sum()
        assert agrees == count - round((1 - rate) * count)


def test_wrong_marks_are_refused() -> None:
    with pytest.raises(InputError, match="size must lie"):
        marks.Mark(size=0.9)
    with pytest.raises(InputError, match="agreement must lie"):
        marks.assign(np.array([True]), 1.5, 0)


def test_boxes_follow_the_crop_and_the_scale() -> None:
    """A loop over the original's pixels: a box of 4 x 6 in a 40 x 20 picture, of which rows 10 to 30 are seen."""
    mask = cases.box_mask([(2.0, 12.0, 4.0, 6.0)], 40, 20, 20)
    slow = np.zeros((20, 20), bool)
    for y in range(10, 30):
        for x in range(20):
            slow[y - 10, x] = 2 <= x + 0.5 < 6 and 12 <= y + 0.5 < 18
    assert np.array_equal(mask.numpy(), slow)
    half = cases.box_mask([(2.0, 12.0, 4.0, 6.0)], 40, 20, 10)
    assert int(half.sum()) == 6
    assert not cases.box_mask([(0.0, 0.0, 5.0, 5.0)], 40, 20, 20).any()


def test_cases_know_their_marks(world: Callable[..., Setup]) -> None:
    setup = world()
    pool = cases.load_cases(setup)
    marked = cases.marked(setup, pool, "Effusion")
    assert {c.key for c in marked} == {c.key for c in pool if c.has("Effusion")} | {"val-1.png"}
    mask = cases.expert_mask(next(c for c in marked if c.key == "val-1.png"), 20)
    assert mask[2:7, 3:9].all() and int(mask.sum()) >= 30
    assert cases.draw(pool, 5, 0) == cases.draw(pool, 5, 0) and len(cases.draw(pool, 5, 0)) == 5


def test_disturbances() -> None:
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(robustness.with_blur(images, 0.0), images)
    assert torch.equal(robustness.with_noise(images, 0.0, 0), images)
    assert float(robustness.with_blur(images, 4.0).std()) < 0.3 * float(images.std())
    grey = torch.full((1, 1, 64, 64), 0.5)
    assert float((robustness.with_noise(grey, 0.1, 0) - grey).std()) == pytest.approx(0.1, rel=0.05)
    assert torch.allclose(robustness.with_blur(grey, 8.0), grey, atol=1e-5)


def test_published_rows_give_the_averages_that_the_paper_prints() -> None:
    """Appendix K: 0.12 lower for positives, 0.04 for negatives; and each difference is that of its own two means."""
    for label, average in (("Positive", 0.12), ("Negative", 0.04)):
        rows = [row for key, row in published.RECONSTRUCTION.items() if key[0] == label]
        assert len(rows) == 14
        assert round(float(np.mean([row.difference for row in rows])), 2) == average
        assert all(abs(row.score - row.reconstruction - row.difference) < 0.0151 for row in rows)
    assert set(published.IOU) == set(published.AUC)
    assert all(set(row) == set(published.METHODS) for row in published.IOU.values())
