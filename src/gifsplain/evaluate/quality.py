"""How good a counterfactual is: pure functions of frames, scores and features."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Image = Float[Tensor, "c h w"]
Features = Float[np.ndarray, "n d"]
CHANGED = 0.05
"""A pixel counts as changed when it moves by more than this share of the grey range."""


def distance(a: Image, b: Image) -> float:
    """Mean absolute difference (L1), in grey ranges."""
    return float((a - b).abs().mean())


def similarity(a: Image, b: Image) -> float:
    """Structural similarity (Wang 2004) with the 7-pixel window, averaged over channels; 1 for equal images."""
    from skimage.metrics import structural_similarity  # takes a second to load

    return float(structural_similarity(a.numpy(), b.numpy(), data_range=1.0, channel_axis=0))


def changed_share(a: Image, b: Image, threshold: float = CHANGED) -> float:
    """Share of pixels that differ by more than `threshold` in any channel."""
    return float(((a - b).abs().amax(dim=0) > threshold).float().mean())


def monotonicity(scores: Float[np.ndarray, " n"]) -> float:
    """Rank correlation of score and position along the path: 1 when the score rises all the way; nan if constant."""
    from scipy.stats import spearmanr  # takes a second to load

    if len(scores) < 2 or np.ptp(scores) == 0:
        return float("nan")
    return float(spearmanr(np.arange(len(scores)), scores).statistic)


def detour(scores: Float[np.ndarray, " n"]) -> float:
    """Way of the score along the path over its net change: 1 when it never turns; nan where it ends as it began."""
    net = abs(float(scores[-1] - scores[0]))
    return float(np.abs(np.diff(scores)).sum()) / net if net > 0 else float("nan")


def roughness(frames: Float[Tensor, "n c h w"]) -> float:
    """Mean absolute second difference of neighbouring frames over the mean first difference: 0 for a uniform fade."""
    first = frames.diff(dim=0)
    size = float(first.abs().mean()) if frames.shape[0] > 1 else 0.0
    return float(first.diff(dim=0).abs().mean()) / size if size > 0 and frames.shape[0] > 2 else float("nan")


def order_of(scores: Float[Tensor, "h w"]) -> Float[Tensor, " p"]:
    """Pixels by falling value, ties in reading order."""
    return torch.argsort(scores.flatten(), descending=True, stable=True)


def path_scores(
    start: Image, end: Image, order: Float[Tensor, " p"], score: Callable[[Tensor], Tensor], *, steps: int = 20
) -> Float[Tensor, "s"]:
    """Scores while pixels of `start` become those of `end` in equal portions of `order`; `steps + 1` numbers."""
    flat_start, flat_end = start.flatten(1), end.flatten(1)
    images = []
    for step in range(steps + 1):
        count = round(step * order.numel() / steps)
        mixed = flat_start.clone()
        mixed[:, order[:count]] = flat_end[:, order[:count]]
        images.append(mixed.view_as(start))
    return score(torch.stack(images))


def area(curve: Float[Tensor, "s"]) -> float:
    """Area under a curve over equally spaced steps of total length 1 (trapezoids)."""
    return float(torch.trapezoid(curve.double(), dx=1 / (curve.numel() - 1)))


def cout(
    image: Image, counterfactual: Image, score: Callable[[Tensor], Tensor], *, lowered: bool, steps: int = 20
) -> float:
    """Counterfactual transition score in [-1, 1] (Khorram 2022): how early the wanted outcome wins.

    Pixels become those of the counterfactual, the most changed first; the area under the probability of the wanted
    outcome minus that of the original outcome. For one finding these are p and 1 - p.
    """
    order = order_of((counterfactual - image).abs().mean(dim=0))
    risen = area(path_scores(image, counterfactual, order, score, steps=steps))
    return (1 - 2 * risen) if lowered else (2 * risen - 1)


def kernel_distance(a: Features, b: Features) -> float:
    """Kernel inception distance of two sets of features: unbiased squared MMD with (x.y / d + 1)^3; lower is closer.

    Unlike a Frechet distance it is unbiased for few images; it may be slightly negative. nan below two.
    """
    n, m, d = len(a), len(b), a.shape[1]
    if n < 2 or m < 2:
        return float("nan")
    aa, bb, ab = ((x @ y.T / d + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    within = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within - 2 * ab.mean())


def frechet_distance(a: Features, b: Features) -> float:
    """Frechet distance of two sets of features (Heusel 2017); biased upward for few images; nan for fewer than two.

    The trace of the root of the covariances' product is the sum of the singular values of the scaled cross product of
    the centred features: exact also where there are fewer images than features and the covariances are singular.
    """
    if len(a) < 2 or len(b) < 2:
        return float("nan")
    first, second = ((x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (a, b))
    shift = a.mean(axis=0) - b.mean(axis=0)
    root = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return float(shift @ shift + (first**2).sum() + (second**2).sum() - 2 * root)
