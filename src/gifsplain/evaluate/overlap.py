"""Agreement of a map with an expert's mark (Cohen 2021, 3.4); pure functions of arrays.

A map is cut so that it has as many pixels as the mark. Pixels that tie at the cut share the remaining places
equally, so
that a constant map gets exactly what a random one gets on average, whatever the order of its pixels.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

Map = Float[np.ndarray, "h w"]
Mask = Bool[np.ndarray, "h w"]

THRESHOLDS: tuple[float, ...] = tuple(np.round(np.linspace(0.05, 0.95, 19), 2).tolist())
"""Candidates for the one threshold a target, as shares of the map's largest value."""


def membership(scores: Map, count: int) -> Float[np.ndarray, "h w"]:
    """1 for the `count` largest values, a fraction for those that tie at the cut, 0 below; sums to `count`."""
    if count >= scores.size:
        return np.ones(scores.shape)
    if count <= 0:
        return np.zeros(scores.shape)
    cut = np.partition(scores, scores.size - count, axis=None)[scores.size - count]
    above, tied = scores > cut, scores == cut
    share = (count - above.sum()) / tied.sum()
    taken: Float[np.ndarray, "h w"] = above + share * tied
    return taken


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks; nan when both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else float("nan")


def iou_at_area(scores: Map, mask: Mask) -> float:
    """IoU of the mark with the map's largest values, as many as the mark has pixels (Viviano 2020); nan for no mark."""
    count = int(mask.sum())
    if count == 0:
        return float("nan")
    common = float(membership(scores, count)[mask].sum())
    return common / (2 * count - common)


def precision_at_area(scores: Map, mask: Mask) -> float:
    """Share of the map's largest values that lie in the mark; at the mark's area it equals the recall."""
    count = int(mask.sum())
    return float(membership(scores, count)[mask].sum()) / count if count else float("nan")


def recall_at_area(scores: Map, mask: Mask) -> float:
    """Share of the mark that the map's largest values cover; equal to the precision since both areas are the same."""
    return precision_at_area(scores, mask)


def expected_random_iou(mask: Mask) -> float:
    """IoU of a map whose cut is spread evenly: with p the mark's share of the image, p / (2 - p)."""
    share = float(mask.mean())
    return share / (2 - share) if share else float("nan")


def hit(scores: Map, mask: Mask) -> float:
    """Pointing game: 1 when the largest value lies in the mark; a share where several are largest."""
    top = scores == scores.max()
    return float(mask[top].mean()) if mask.any() else float("nan")


def energy_in(scores: Map, mask: Mask) -> float:
    """Share of the map's sum that lies in the mark; nan for a map of zeros."""
    total = float(scores.sum())
    return float(scores[mask].sum()) / total if total > 0 and mask.any() else float("nan")


def iou_at_thresholds(scores: Map, mask: Mask, thresholds: Sequence[float] = THRESHOLDS) -> list[float]:
    """IoU of the mark with `scores >= threshold * largest`, for each threshold; 0 for a map of zeros."""
    largest = float(scores.max())
    if largest <= 0:
        return [0.0] * len(thresholds)
    return [iou(scores >= threshold * largest, mask) for threshold in thresholds]


def measures(scores: Map, mask: Mask) -> dict[str, float]:
    """All of the above for one map and mark, by name."""
    found = {
        "iou": iou_at_area(scores, mask),
        "precision": precision_at_area(scores, mask),
        "recall": recall_at_area(scores, mask),
        "hit": hit(scores, mask),
        "energy": energy_in(scores, mask),
        "random_iou": expected_random_iou(mask),
        "area": float(mask.mean()),
    }
    at = zip(THRESHOLDS, iou_at_thresholds(scores, mask), strict=True)
    return found | {f"iou@{threshold:.2f}": value for threshold, value in at}
