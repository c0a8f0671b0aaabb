"""Calibration: the operating point on validation data becomes a score of 0.5."""

import logging
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit

from gifsplain.errors import ConfigurationError
from gifsplain.models import trained

logger = logging.getLogger(__name__)

Values = NDArray[np.float64]
SPREAD = 0.5
"""Standard deviation expected between targets of the logarithm of their temperatures."""


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


def fit(
    labels: Float[np.ndarray, "n t"], logits: Float[np.ndarray, "n t"], spread: float = SPREAD
) -> tuple[Values, Values]:
    """Offset and temperature of each target; 0 and 1 for a target without positives or without negatives.

    Temperatures are drawn towards each other, those of targets with few positives most: the sum of the cross-entropies (a
    positive counts 1, the negatives together as much as the positives) and of half the squared distances of their logarithms from
    the mean logarithm, in units of `spread`, is least. A target alone has its own `temperature`.
    """
    points = np.asarray([operating_point(labels[:, t], logits[:, t]) for t in range(labels.shape[1])])
    usable = ~np.isnan(points)
    offsets, temperatures = np.where(usable, points, 0.0), np.ones(len(points))
    if usable.any():
        own = [temperature(labels[:, t], logits[:, t], points[t]) for t in np.flatnonzero(usable)]
        temperatures[usable] = _shared(labels[:, usable], logits[:, usable], points[usable], np.asarray(own), spread)
    return offsets, temperatures


def _shared(labels: Values, logits: Values, offsets: Values, own: Values, spread: float) -> Values:
    """Temperatures that `fit` describes, from each target's own."""
    positive = labels == 1
    count = positive.sum(0)
    weights = np.where(positive, 1.0, count / (labels == 0).sum(0)) * ~np.isnan(labels)
    distances = np.nan_to_num(np.where(positive, 1.0, -1.0) * (logits - offsets))

    def cost(log_t: Values) -> tuple[float, Values]:
        scaled = distances / np.exp(log_t)
        apart = log_t - log_t.mean()
        slopes = (weights * scaled * expit(-scaled)).sum(0) + apart / spread**2
        return float((weights * np.logaddexp(0.0, -scaled)).sum() + (apart**2).sum() / (2 * spread**2)), slopes

    bounds = [(np.log(0.05), np.log(20.0))] * len(own)
    return np.asarray(np.exp(minimize(cost, np.log(own), jac=True, bounds=bounds).x))


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


def calibrate(
    model: trained.ClassifierNet,
    labels: Float[np.ndarray, "n t"],
    logits: Float[np.ndarray, "n t"],
    targets: tuple[str, ...],
    spread: float,
) -> dict[str, Any]:
    """Set the model's calibration in place; returns what the card says about it."""
    offsets, temperatures = fit(labels, logits, spread)
    model.calibration_offset.copy_(torch.from_numpy(offsets))
    model.calibration_temperature.copy_(torch.from_numpy(temperatures))
    lacking = one_sided(labels, targets)
    return {
        "calibration": {
            "point": "largest sensitivity + specificity on val",
            "offset": offsets.tolist(),
            "temperature": temperatures.tolist(),
            **({"none": lacking} if lacking else {}),
        },
    }


def one_sided(labels: Float[np.ndarray, "n t"], targets: tuple[str, ...]) -> list[str]:
    """Targets of which no positive is known, or no negative."""
    both = (labels == 1).any(0) & (labels == 0).any(0)
    return [name for name, usable in zip(targets, both, strict=True) if not usable]


def check_labels(
    train: Float[np.ndarray, "n t"], val: Float[np.ndarray, "m t"], targets: tuple[str, ...], monitor: str
) -> None:
    """Warn of targets that cannot be learnt, or not be calibrated.

    Raises:
        ConfigurationError: When the monitored area under the curve will never be known.
    """
    untrained, uncalibrated = one_sided(train, targets), one_sided(val, targets)
    if untrained:
        logger.warning("train knows no positive or no negative of %s: not learnt", ", ".join(untrained))
    if uncalibrated:
        logger.warning("val knows no positive or no negative of %s: 0.5 means nothing there", ", ".join(uncalibrated))
    never = [f"val/auc/{name}" for name in uncalibrated] + ["val/auc"] * (len(uncalibrated) == len(targets))
    if monitor in never:
        raise ConfigurationError(
            f"loop.monitor {monitor} can never be known: val has no positive or no negative of "
            f"{', '.join(uncalibrated)}; give val both, or set loop.monitor to '' or val/loss"
        )
