"""Calibration: the operating point on validation data becomes a score of 0.5."""

import logging
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, ndtr

from gifsplain.errors import ConfigurationError, ModelError
from gifsplain.evaluate.discrimination import auc
from gifsplain.models import trained

logger = logging.getLogger(__name__)

Values = NDArray[np.float64]
Point = Literal["smoothed", "counted"]
POINTS: dict[Point, str] = {
    "smoothed": "largest sensitivity + specificity on val, of densities smoothed by a kernel",
    "counted": "largest sensitivity + specificity on val",
}
"""How the operating point was found, in a card's words."""
SPREAD = 0.5
"""Standard deviation expected between targets of the logarithm of their temperatures."""
GRID, REPRESENTATIVES = 1001, 2000
"""Thresholds that are tried, and most logits of a kind that a smoothed density is made from: their quantiles beyond that."""


def counted(labels: Values, logits: Values) -> float:
    """Threshold with the largest sensitivity + specificity of these rows, halfway between the two logits that it separates.

    Only known labels (not nan) count; positives and negatives are both needed.
    """
    labels, logits = _known(labels, logits)
    positives = int((labels == 1).sum())
    order = np.argsort(-logits, kind="stable")
    ordered, hits = logits[order], np.cumsum(labels[order])
    ends = np.append(ordered[1:] < ordered[:-1], True)  # a threshold cannot part equal logits
    places = np.flatnonzero(ends)
    gain = hits[places] / positives - (places + 1 - hits[places]) / (len(labels) - positives)
    last = places[int(np.argmax(gain))]
    below = ordered[last + 1] if last + 1 < len(ordered) else ordered[last] - 1.0
    return float((ordered[last] + below) / 2)


def smoothed(labels: Values, logits: Values) -> float:
    """Threshold with the largest sensitivity + specificity when both kinds' densities are smoothed by a Gaussian kernel.

    Of few rows it finds the place that is best for others more surely than `counted`, which hangs on single rows; of many they
    agree (Fluss, Faraggi and Reiser, Estimation of the Youden Index and its associated cutoff point, 2005; bandwidth of each
    kind by Silverman's rule). Only known labels count; positives and negatives are both needed.
    """
    labels, logits = _known(labels, logits)
    kinds = [logits[labels == 1], logits[labels == 0]]
    widths = [_bandwidth(kind) for kind in kinds]
    least = 1e-9 * max(1.0, float(np.abs(logits).max()))
    above, below = (max(width or max(widths), least) for width in widths)  # one row alone has no width of its own
    parts = [_representatives(kind) for kind in kinds]

    def best(cuts: Values) -> tuple[int, int]:
        """First and last cut of where the sum is largest."""
        missed, spared = (
            ndtr((cuts[:, None] - part) / width).mean(1) for part, width in zip(parts, (above, below), strict=True)
        )
        found = np.flatnonzero(spared - missed >= (spared - missed).max() - 1e-12)
        ends = np.flatnonzero(np.diff(found) > 1)
        return int(found[0]), int(found[ends[0]] if len(ends) else found[-1])

    # quantiles as well as even steps: one row far away must not make all others one step
    even, quantiles = np.linspace(logits.min(), logits.max(), GRID), np.quantile(logits, np.linspace(0, 1, GRID))
    cuts = np.unique(np.concatenate([even, quantiles]))
    first, last = best(cuts)
    near = np.linspace(cuts[max(first - 1, 0)], cuts[min(last + 1, len(cuts) - 1)], GRID)
    first, last = best(near)
    return float((near[first] + near[last]) / 2)


def _bandwidth(values: Values) -> float:
    """Silverman's rule; 0 where there is nothing to tell it from."""
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    middle = float(np.subtract(*np.percentile(values, [75, 25]))) / 1.34
    return float(0.9 * (min(spread, middle) if middle else spread) * len(values) ** -0.2)


def _representatives(values: Values) -> Values:
    if len(values) <= REPRESENTATIVES:
        return values
    return np.asarray(np.quantile(values, (np.arange(REPRESENTATIVES) + 0.5) / REPRESENTATIVES))


RULES: dict[Point, Callable[[Values, Values], float]] = {"smoothed": smoothed, "counted": counted}


def fit(
    labels: Float[np.ndarray, "n t"],
    logits: Float[np.ndarray, "n t"],
    spread: float = SPREAD,
    point: Point = "smoothed",
) -> tuple[Values, Values]:
    """Offset and temperature of each target; 0 and 1 for a target without positives or without negatives.

    The offset is the operating point by the rule `point`. Temperatures (0.05 to 20) are drawn towards each other, those of
    targets with few positives most: the sum of the cross-entropies around the offsets (a positive counts 1, the negatives
    together as much as the positives) and of half the squared distances of their logarithms from the mean logarithm, in units
    of `spread`, is least. Unknown labels (nan) do not count, whatever their logits.

    Raises:
        ModelError: When a logit whose label is known is not finite.
    """
    known = ~np.isnan(labels)
    logits = np.where(known, logits, 0.0).astype(np.float64)
    if not np.isfinite(logits).all():
        raise ModelError("the classifier gives logits that are not finite; train again with a lower rate")
    usable = np.flatnonzero((labels == 1).any(0) & (labels == 0).any(0))
    offsets, temperatures = np.zeros(labels.shape[1]), np.ones(labels.shape[1])
    if len(usable):
        offsets[usable] = [RULES[point](labels[:, t], logits[:, t]) for t in usable]
        temperatures[usable] = _shared(labels[:, usable], logits[:, usable], offsets[usable], spread)
    return offsets, temperatures


def _shared(labels: Values, logits: Values, offsets: Values, spread: float) -> Values:
    """Temperatures that `fit` describes."""
    positive = labels == 1
    count = positive.sum(0)
    weights = np.where(positive, 1.0, count / (labels == 0).sum(0)) * ~np.isnan(labels)
    distances = np.where(positive, 1.0, -1.0) * (logits - offsets)

    def cost(log_t: Values) -> tuple[float, Values]:
        scaled = distances / np.exp(log_t)
        apart = log_t - log_t.mean()
        slopes = (weights * scaled * expit(-scaled)).sum(0) + apart / spread**2
        return float((weights * np.logaddexp(0.0, -scaled)).sum() + (apart**2).sum() / (2 * spread**2)), slopes

    start = np.log(np.clip(np.sqrt((weights * distances**2).sum(0) / weights.sum(0)), 0.05, 20.0))
    bounds = [(np.log(0.05), np.log(20.0))] * len(start)
    found = minimize(cost, start, jac=True, bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-7, "maxiter": 1000})
    return np.asarray(np.exp(found.x))


def area_under_curve(labels: Values, scores: Values) -> float:
    """Chance that a positive scores higher than a negative, ties half; nan when one kind is lacking."""
    labels, scores = _known(labels, scores)
    return auc(labels == 1, scores)


def _known(labels: Values, values: Values) -> tuple[Values, Values]:
    known = ~np.isnan(labels)
    return labels[known], values[known].astype(np.float64)


def calibrate(
    model: trained.ClassifierNet,
    labels: Float[np.ndarray, "n t"],
    logits: Float[np.ndarray, "n t"],
    targets: tuple[str, ...],
    spread: float,
    point: Point,
) -> dict[str, Any]:
    """Set the model's calibration in place; returns what the card says about it."""
    offsets, temperatures = fit(labels, logits, spread, point)
    model.calibration_offset.copy_(torch.from_numpy(offsets))
    model.calibration_temperature.copy_(torch.from_numpy(temperatures))
    lacking = one_sided(labels, targets)
    return {
        "calibration": {
            "point": POINTS[point],
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
