"""Losses against slow versions and laws; augmentation that never mirrors."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gifsplain.train import losses, optimise
from gifsplain.train.augment import NO_AUGMENTATION, AugmentConfig, augment, blur, draw_affines, warp

seeds = st.integers(0, 10_000)


def images(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@given(seeds)
def test_elastic_is_squared_plus_absolute(seed: int) -> None:
    a, b = images(seed, 2, 1, 3, 4), images(seed + 1, 2, 1, 3, 4)
    slow = sum((x - y) ** 2 + abs(x - y) for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)) / 24
    assert float(losses.elastic(a, b)) == pytest.approx(slow, rel=1e-5)


def test_edges_see_steps_but_no_constant_offset() -> None:
    a = images(0, 1, 1, 8, 8)
    assert float(losses.edges(a + 0.3, a, scales=3)) == pytest.approx(0, abs=1e-6)
    step = torch.zeros(1, 1, 4, 4)
    step[..., 2:] = 1.0  # one jump in each row: 4 of 12 horizontal steps
    assert float(losses.edges(step, torch.zeros_like(step))) == pytest.approx(1 / 3)


def slow_masked_bce(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, smoothing: float) -> float:
    total, known = 0.0, 0
    for i in range(logits.shape[0]):
        for t in range(logits.shape[1]):
            if math.isnan(labels[i, t]):
                continue
            y, p = labels[i, t] * (1 - 2 * smoothing) + smoothing, 1 / (1 + math.exp(-logits[i, t]))
            total -= weights[t] * y * math.log(p) + (1 - y) * math.log(1 - p)
            known += 1
    return total / known if known else 0.0


@given(seeds, st.floats(0, 0.2))
def test_masked_bce_equals_a_loop_over_known_labels(seed: int, smoothing: float) -> None:
    rng = np.random.default_rng(seed)
    logits, weights = rng.normal(size=(5, 3)) * 2, rng.uniform(0.5, 4, 3)
    labels = rng.choice([0.0, 1.0, np.nan], size=(5, 3))
    ours = losses.masked_bce(*map(torch.from_numpy, (logits, labels, weights)), smoothing=smoothing)
    assert float(ours) == pytest.approx(slow_masked_bce(logits, labels, weights, smoothing), rel=1e-9, abs=1e-12)


@given(seeds)
def test_masked_labels_leak_no_gradient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.choice([0.0, 1.0, np.nan], size=(6, 2)))
    logits = torch.from_numpy(rng.normal(size=(6, 2))).requires_grad_(True)
    losses.masked_bce(logits, labels, torch.tensor([2.0, 5.0])).backward()
    assert logits.grad is not None
    assert (logits.grad[labels.isnan()] == 0).all()
    assert (logits.grad[~labels.isnan()] != 0).all()


def test_batch_without_known_labels_costs_nothing() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    loss = losses.masked_bce(logits, torch.full((3, 2), torch.nan))
    loss.backward()
    assert float(loss.detach()) == 0 and logits.grad is not None and not logits.grad.any()


def test_positive_weights_count_known_labels_only() -> None:
    labels = np.asarray([[1, 1, np.nan], [0, 1, np.nan], [0, np.nan, 0], [0, 1, 0], [np.nan, 1, 0]])
    assert losses.positive_weights(labels, 1.0).tolist() == [3.0, 1.0, 1.0]
    assert losses.positive_weights(labels, 0.5)[0] == pytest.approx(math.sqrt(3))
    assert losses.positive_weights(labels, 0.0).tolist() == [1.0, 1.0, 1.0]


def test_inside_boxes_is_least_when_the_map_lies_in_the_box() -> None:
    boxes = torch.zeros(1, 1, 4, 4)
    boxes[0, 0, 1:3, 1:3] = 1
    uniform = losses.inside_boxes(torch.zeros(1, 1, 4, 4), boxes)
    assert float(uniform) == pytest.approx(math.log(16))
    assert float(losses.inside_boxes(20 * boxes, boxes)) == pytest.approx(math.log(4), abs=1e-4)
    assert float(losses.inside_boxes(torch.randn(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))) == 0


def test_perceptual_is_relative_and_zero_for_equal_maps() -> None:
    maps = [images(i, 2, 3, 4, 4) for i in range(2)]
    assert float(losses.perceptual(maps, maps)) == 0
    assert float(losses.perceptual([2 * m for m in maps], maps)) == pytest.approx(1, rel=1e-4)
    assert float(losses.perceptual([200 * m for m in maps], [100 * m for m in maps])) == pytest.approx(1, rel=1e-4)


def test_smoothness_of_a_linear_decoder_is_the_mean_squared_gain() -> None:
    matrix, direction = images(0, 12, 5), torch.nn.functional.normalize(images(1, 5), dim=0)
    for step in (0.1, 2.0):
        near = (matrix @ (step * direction)).reshape(1, 1, 3, 4)
        expected = float((matrix @ direction).square().mean())
        assert float(losses.smoothness(near, torch.zeros_like(near), step)) == pytest.approx(expected, rel=1e-4)


def test_decorrelation_agrees_with_numpy() -> None:
    latents = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    latents[:, 1] += latents[:, 0]
    correlations = np.corrcoef(latents.numpy().T)
    expected = (correlations[~np.eye(4, dtype=bool)] ** 2).mean()
    assert float(losses.decorrelation(latents)) == pytest.approx(expected, rel=1e-2)


@given(seeds)
def test_same_scores_is_zero_only_for_equal_scores(seed: int) -> None:
    ours, theirs = images(seed, 4, 2) * 4 - 2, images(seed + 1, 4, 2) * 4 - 2
    assert float(losses.same_scores(theirs, theirs)) == pytest.approx(0, abs=1e-6)
    assert float(losses.same_scores(ours, theirs)) > 0


@settings(deadline=None)
@given(seeds)
def test_augmentation_never_mirrors(seed: int) -> None:
    torch.manual_seed(seed)
    affines = draw_affines(16, AugmentConfig())
    assert (torch.linalg.det(affines[:, :, :2]) > 0.5).all()
    assert (affines[:, 0, 0] > 0.5).all() and (affines[:, 1, 1] > 0.5).all()


def test_heart_stays_on_its_side() -> None:
    image = torch.zeros(32, 1, 40, 40)
    image[:, :, 22:30, 26:34] = 1.0
    torch.manual_seed(0)
    moved = augment(image, AugmentConfig(gamma=0, contrast=0, brightness=0, noise_chance=0))
    assert (moved[..., 20:].sum((1, 2, 3)) > 3 * moved[..., :20].sum((1, 2, 3))).all()


def test_augmentation_stays_in_range_and_can_be_switched_off() -> None:
    batch = images(0, 4, 1, 16, 16)
    torch.manual_seed(0)
    changed = augment(batch, AugmentConfig(blur_chance=1.0, noise_chance=1.0))
    assert changed.min() >= 0 and changed.max() <= 1 and not torch.equal(changed, batch)
    torch.testing.assert_close(augment(batch, NO_AUGMENTATION), batch, atol=1e-5, rtol=0)


def test_masks_move_with_their_images() -> None:
    torch.manual_seed(1)
    affines = draw_affines(8, AugmentConfig())
    spot = torch.zeros(8, 1, 32, 32)
    spot[:, :, 10:16, 18:24] = 1.0
    torch.testing.assert_close(warp(spot, affines), warp(spot, affines, padding="zeros"))


def test_blur_agrees_with_scipy() -> None:
    from scipy.ndimage import gaussian_filter

    image = images(3, 1, 2, 20, 20)
    expected = np.stack([gaussian_filter(c, 1.4, mode="nearest", truncate=3.0) for c in image[0].numpy()])
    np.testing.assert_allclose(blur(image, 1.4)[0].numpy(), expected, atol=2e-3)


def test_warm_cosine_rises_then_falls_to_zero() -> None:
    factors = [optimise.warm_cosine(step, 100, 10) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == factors[9] and factors[100] == pytest.approx(0)
    assert all(a >= b for a, b in itertools.pairwise(factors[9:]))


def test_average_follows_the_weights() -> None:
    module = nn.Linear(2, 1)
    average = optimise.Average(module, decay=0.5)
    start = average.module.weight.clone()
    with torch.no_grad():
        module.weight += 1
    for decay in (2 / 11, 3 / 12):  # young averages forget faster than 0.5
        start = start * decay + module.weight * (1 - decay)
        average.update(module)
        torch.testing.assert_close(average.module.weight, start)


def test_parameter_groups_hold_every_parameter_once() -> None:
    module = nn.ModuleDict({"body": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), "head": nn.Linear(2, 2)})
    groups = optimise.parameter_groups(module, rate=0.1, head="head", head_factor=3)
    assert sorted(p.numel() for g in groups for p in g["params"]) == sorted(p.numel() for p in module.parameters())
    for group in groups:
        assert group["lr"] == pytest.approx(
            0.3 if any(p is module["head"].weight or p is module["head"].bias for p in group["params"]) else 0.1
        )
        assert ("weight_decay" in group) == all(p.ndim == 1 for p in group["params"])


def test_nt_xent_is_the_mean_over_both_views_of_equation_1() -> None:
    """Chen et al. 2020, algorithm 1: partners are 2k - 1 and 2k there, k and k + N here."""
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 5, 7))
    temperature = 0.3
    z = [row for pair in zip(first, second, strict=True) for row in pair]

    def s(i: int, j: int) -> float:
        return float(z[i] @ z[j]) / (math.sqrt(z[i] @ z[i]) * math.sqrt(z[j] @ z[j]))

    def cost(i: int, j: int) -> float:
        others = sum(math.exp(s(i, k) / temperature) for k in range(len(z)) if k != i)
        return -math.log(math.exp(s(i, j) / temperature) / others)

    expected = sum(cost(2 * k, 2 * k + 1) + cost(2 * k + 1, 2 * k) for k in range(5)) / 10
    codes = torch.from_numpy(np.concatenate([first, second]))
    assert float(losses.nt_xent(codes, temperature)) == pytest.approx(expected)
    nearest = [max((k for k in range(10) if k != i), key=lambda k: s(i, k)) for i in range(10)]
    share = sum(nearest[i] == i + 1 - 2 * (i % 2) for i in range(10)) / 10
    assert float(losses.partners_found(codes)) == pytest.approx(share)


def test_a_film_that_comes_twice_is_not_told_from_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    codes, films = torch.randn(8, 5, generator=generator, dtype=torch.float64), torch.tensor([7, 3, 7, 9])
    unit, costs, found = codes / codes.norm(dim=1, keepdim=True), [], []
    for i in range(8):
        partner = (i + 4) % 8
        others = [k for k in range(8) if k == partner or films[k % 4] != films[i % 4]]
        likeness = {k: math.exp(float(unit[i] @ unit[k]) / 0.3) for k in others}
        costs.append(-math.log(likeness[partner] / sum(likeness.values())))
        found.append(max(likeness, key=likeness.__getitem__) == partner)
    assert float(losses.nt_xent(codes, 0.3, films)) == pytest.approx(sum(costs) / 8)
    assert float(losses.partners_found(codes, films)) == pytest.approx(sum(found) / 8)
    assert float(losses.nt_xent(codes, 0.3, films)) < float(losses.nt_xent(codes, 0.3))


def test_nt_xent_is_least_where_only_partners_are_alike() -> None:
    codes = torch.eye(4).repeat(2, 1)
    assert float(losses.nt_xent(codes, 0.01)) == pytest.approx(0, abs=1e-6)
    assert float(losses.partners_found(codes)) == 1
    assert float(losses.nt_xent(torch.ones(8, 3), 0.5)) == pytest.approx(math.log(7))
