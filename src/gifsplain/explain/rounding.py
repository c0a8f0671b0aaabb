"""What a shorter number format did to a result: the returned frame once more in float32, compared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gifsplain.explain.jobs import Job, Stage
from gifsplain.explain.strengths import Range
from gifsplain.types import Check, Explanation, Verdict


@dataclass(frozen=True)
class RoundingError:
    """Differences of one frame from its float32 form."""

    score: float
    """Of the target's score; absolute."""
    pixel_mean: float
    """In full scales."""
    pixel_largest: float


def errors(exact: Stage, jobs: Sequence[Job], ranges: Sequence[Range]) -> list[RoundingError]:
    """One for each job: its counterfactual frame from the same latent and strength, by the float32 stage `exact`."""
    asked = [(number, chosen.strengths[chosen.counterfactual]) for number, chosen in enumerate(ranges)]
    again = [replace(job, frames={}) for job in jobs]
    exact.evaluate(again, asked)
    found = []
    for number, strength in asked:
        target = jobs[number].target
        (frame, scores), (true_frame, true_scores) = jobs[number].frames[strength], again[number].frames[strength]
        off = (frame - true_frame).abs()
        found.append(RoundingError(float((scores - true_scores)[target].abs()), float(off.mean()), float(off.amax())))
    return found


def state(explanation: Explanation, error: RoundingError) -> Explanation:
    """The explanation with the error in its record and a check: a score that is off by more than the tolerance warns."""
    tolerance = float(explanation.record["settings"]["tolerance"])
    text = (
        f"In float32 the returned frame has a score that differs by {error.score:.4f}, and pixels that differ by "
        f"{error.pixel_mean:.4f} of full scale on average."
    )
    check = Check("rounding", Verdict.PASS if error.score <= tolerance else Verdict.WARN, text, error.score)
    values = {"score": error.score, "pixel_mean": error.pixel_mean, "pixel_largest": error.pixel_largest}
    return replace(
        explanation, checks=(*explanation.checks, check), record={**explanation.record, "rounding_error": values}
    )
