"""Calibration: the operating point on validation data becomes a score of 0.5."""

import logging
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from gifsplain.errors import ConfigurationError
from gifsplain.models import trained

logger = logging.getLogger(__name__)

Values = NDArray[np.float64]
Point = Literal["fitted", "counted"]
POINTS: dict[Point, str] = {
    "fitted": "balanced logistic regression on val",
    "counted": "largest sensitivity + specificity on val",
}
"""How the operating point was found, in a card's words."""
SPREAD = 0.5
"""Standard deviation expected between targets of the logarithm of their temperatures."""


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


def fit(
    labels: Float[np.ndarray, "n t"], logits: Float[np.ndarray, "n t"], spread: float = SPREAD, point: Point = "fitted"
) -> tuple[Values, Values]:
    """Offset and temperature of each target; 0 and 1 for a target without positives or without negatives.

    A logistic regression in which positives and negatives weigh the same: sigmoid((logit - offset) / temperature) is the chance
    of a positive if half of all were. Where that is 0.5, both kinds are equally dense, so sensitivity plus specificity is largest; of
    few films this tells the place better than the largest sum that was counted (docs/training.md). With `point` "counted" the
    offset is that place all the same, and only the temperature is fitted. Unknown labels (nan) do not count.

    Temperatures (0.05 to 20) are drawn towards each other, those of targets with few positives most: the sum of the cross-entropies
    (a positive counts 1, the negatives together as much as the positives) and of half the squared distances of their logarithms
    from the mean logarithm, in units of `spread`, is least.
    """
    offsets, temperatures = np.zeros(labels.shape[1]), np.ones(labels.shape[1])
    usable = np.flatnonzero((labels == 1).any(0) & (labels == 0).any(0))
    if len(usable):
        labels, logits = labels[:, usable], logits[:, usable].astype(np.float64)
        columns = zip(labels.T, logits.T, strict=True)
        fixed = np.asarray([counted(*column) for column in columns]) if point == "counted" else None
        offsets[usable], temperatures[usable] = _balanced(labels, logits, spread, fixed)
    return offsets, temperatures


def _balanced(labels: Values, logits: Values, spread: float, fixed: Values | None) -> tuple[Values, Values]:
    """What `fit` describes, of targets with both kinds; `fixed` offsets stay."""
    positive, targets = labels == 1, labels.shape[1]
    count = positive.sum(0)
    weights = np.where(positive, 1.0, count / (labels == 0).sum(0)) * ~np.isnan(labels)
    signs = np.where(positive, 1.0, -1.0)
    # in units of each target's own logits, so that the search is as well conditioned for 400 as for 0.4
    centres = (weights * logits).sum(0) / weights.sum(0)
    units = np.maximum(np.sqrt((weights * (logits - centres) ** 2).sum(0) / weights.sum(0)), 1e-9)
    shifts = np.zeros(targets) if fixed is None else (fixed - centres) / units

    def cost(point: Values) -> tuple[float, Values]:
        shifts, log_t = point[:targets], point[targets:]
        scaled = signs * (logits - centres - units * shifts) / np.exp(log_t)
        slopes, apart = weights * expit(-scaled), log_t - log_t.mean()
        of_shifts = (slopes * signs).sum(0) * units / np.exp(log_t)
        of_log_t = (slopes * scaled).sum(0) + apart / spread**2
        total = (weights * np.logaddexp(0.0, -scaled)).sum() + (apart**2).sum() / (2 * spread**2)
        return float(total), np.concatenate([of_shifts, of_log_t])

    start = np.concatenate([shifts, np.log(np.clip(units, 0.05, 20.0))])
    free = [(None, None)] * targets if fixed is None else [(shift, shift) for shift in shifts]
    bounds = [*free, *[(np.log(0.05), np.log(20.0))] * targets]
    found = minimize(cost, start, jac=True, bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-7, "maxiter": 1000}).x
    return (centres + units * found[:targets] if fixed is None else fixed), np.exp(found[targets:])


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
