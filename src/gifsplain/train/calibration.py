"""Calibration: the operating point on validation data becomes a score of 0.5."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Values = NDArray[np.float64]


def operating_point(labels: Values, logits: Values) -> float:
    """Threshold that maximises sensitivity + specificity, halfway between the two logits that it separates.

    Only known labels (not nan) count; nan when positives or negatives are lacking.
    """
    labels, logits = _known(labels, logits)
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    order = np.argsort(-logits, kind="stable")
    ordered, hits = logits[order], np.cumsum(labels[order])
    ends = np.append(ordered[1:] < ordered[:-1], True)  # a threshold cannot part equal logits
    places = np.flatnonzero(ends)
    gain = hits[places] / positives - (places + 1 - hits[places]) / negatives
    last = places[int(np.argmax(gain))]
    below = ordered[last + 1] if last + 1 < len(ordered) else ordered[last] - 1.0
    return float((ordered[last] + below) / 2)


def temperature(labels: Values, logits: Values, offset: float) -> float:
    """Divisor T for which sigmoid((logit - offset) / T) has the least cross-entropy, both classes weighing the same.

    Between 0.05 and 20; 1 when positives or negatives are lacking.
    """
    labels, logits = _known(labels, logits)
    signs = np.where(labels == 1, -1.0, 1.0) * (logits - offset)
    if (labels == 1).all() or (labels == 0).all() or not len(labels):
        return 1.0

    def cost(log_t: float) -> float:
        costs = np.logaddexp(0.0, signs / np.exp(log_t))
        return float(costs[labels == 1].mean() + costs[labels == 0].mean())

    found = minimize_scalar(cost, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def fit(labels: Float[np.ndarray, "n t"], logits: Float[np.ndarray, "n t"]) -> tuple[Values, Values]:
    """Offset and temperature of each target; 0 and 1 for a target without positives or without negatives."""
    offsets, temperatures = [], []
    for t in range(labels.shape[1]):
        point = operating_point(labels[:, t], logits[:, t])
        offset = 0.0 if np.isnan(point) else point
        offsets.append(offset)
        temperatures.append(1.0 if np.isnan(point) else temperature(labels[:, t], logits[:, t], offset))
    return np.asarray(offsets), np.asarray(temperatures)


def area_under_curve(labels: Values, scores: Values) -> float:
    """Chance that a positive scores higher than a negative, ties half; nan when one kind is lacking."""
    from scipy.stats import rankdata

    labels, scores = _known(labels, scores)
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)[labels == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def _known(labels: Values, values: Values) -> tuple[Values, Values]:
    known = ~np.isnan(labels)
    return labels[known], values[known].astype(np.float64)
