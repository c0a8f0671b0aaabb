"""One explanation as one row of numbers; one failure as one row of the error table."""

import json
import math
from dataclasses import dataclass, fields

from gifsplain.batch.plan import Item, identity, path_hash
from gifsplain.io.files import utf8
from gifsplain.types import Explanation, Verdict


@dataclass(frozen=True)
class Row:
    """One case and target. Scores and their changes are in the unit of `meaning`, pixel changes in full scales.

    nan where a method has no sweep; strengths are in `strength_unit`, times `lambda_per_strength` in the
    paper's lambda.
    """

    id: str
    """Hash of content, target and configuration: equal files give equal results."""
    case: str
    path_hash: str
    sha256: str
    bytes: int
    modified_ns: int
    patient: str
    split: str
    labels: str
    target: str
    method: str
    meaning: str
    score_input: float
    score_reconstruction: float
    score_counterfactual: float
    strength_lower: float
    strength_higher: float
    strength_unit: str
    lambda_per_strength: float
    frames: int
    stop_lower: str
    stop_higher: str
    checks: str
    """JSON: name to verdict and value."""
    checks_failed: int
    checks_warned: int
    pixel_change: float
    """Mean absolute change of the counterfactual against the baseline frame."""
    largest_change: float
    """Largest absolute change of a pixel of the counterfactual."""
    reconstruction_error: float
    """Mean absolute difference of image and reconstruction."""
    side_effect: float
    """Largest absolute change of another target's score between baseline and counterfactual."""
    decodes: int
    predictions: int
    gradients: int
    seconds: float
    media: str
    configuration: str


@dataclass(frozen=True)
class Failure:
    """A case and target without a result, and why."""

    case: str
    path_hash: str
    target: str
    error: str
    reason: str
    configuration: str


FLOATS = tuple(field.name for field in fields(Row) if field.type is float)
"""Columns whose distribution the summary shows."""


def make_row(explanation: Explanation, item: Item, stat: tuple[int, int], configuration: str, media: str) -> Row:
    """The row of an explanation; `stat` is the file's size and time of change."""
    scores, strengths, cost = explanation.scores, explanation.strengths, explanation.cost
    content = explanation.picture.provenance.sha256
    failed = [check.verdict for check in explanation.checks]
    return Row(
        id=identity(content, explanation.target, configuration),
        case=explanation.case,
        path_hash=path_hash(item.case),
        sha256=content,
        bytes=stat[0],
        modified_ns=stat[1],
        patient=item.case.patient,
        split=item.case.split,
        labels="|".join(item.case.labels),
        target=explanation.target,
        method=explanation.method,
        meaning=explanation.meaning.value,
        score_input=scores.input,
        score_reconstruction=scores.reconstruction,
        score_counterfactual=scores.counterfactual,
        strength_lower=float(strengths.min()),
        strength_higher=float(strengths.max()),
        strength_unit=explanation.strength_unit,
        lambda_per_strength=_number(explanation.record.get("move", {}).get("lambda_per_strength")),
        frames=explanation.frames.shape[0],
        stop_lower=explanation.stop_lower.value,
        stop_higher=explanation.stop_higher.value,
        checks=_checks(explanation),
        checks_failed=failed.count(Verdict.FAIL),
        checks_warned=failed.count(Verdict.WARN),
        **_changes(explanation),
        decodes=cost.decodes,
        predictions=cost.predictions,
        gradients=cost.gradients,
        seconds=cost.seconds,
        media=media,
        configuration=configuration,
    )


def _changes(explanation: Explanation) -> dict[str, float]:
    """How far the counterfactual is from the baseline, in pixels and in the other targets."""
    error = float((explanation.image - explanation.reconstruction).abs().mean())
    if not explanation.has_sweep:
        nothing = math.nan
        return {
            "pixel_change": nothing,
            "largest_change": nothing,
            "reconstruction_error": error,
            "side_effect": nothing,
        }
    last = explanation.counterfactual
    change = (explanation.frames[last] - explanation.baseline_frame).abs()
    others = (explanation.target_scores[last] - explanation.baseline_scores).abs()
    kept = [float(value) for name, value in zip(explanation.targets, others, strict=True) if name != explanation.target]
    return {
        "pixel_change": float(change.mean()),
        "largest_change": float(change.max()),
        "reconstruction_error": error,
        "side_effect": max(kept, default=math.nan),
    }


def _checks(explanation: Explanation) -> str:
    return json.dumps(
        {check.name: {"verdict": check.verdict.value, "value": check.value} for check in explanation.checks}
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def make_failure(item: Item, target: str, error: BaseException, configuration: str) -> Failure:
    """The row of a failure; the reason is the error's text."""
    reason = utf8(str(error) or type(error).__name__)
    return Failure(item.case.name, path_hash(item.case), target, type(error).__name__, reason, configuration)
