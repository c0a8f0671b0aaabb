"""What a shorter number format did to a result: the returned frame and the baseline once more in float32."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from gifsplain.explain.compose import Composition
from gifsplain.explain.jobs import Job, Stage
from gifsplain.explain.strengths import Range
from gifsplain.models.budget import in_chunks
from gifsplain.types import Check, Explanation, Verdict


@dataclass(frozen=True)
class RoundingError:
    """Differences of frames from their float32 forms."""

    score: float
    """Of the target's score; absolute."""
    pixel_mean: float
    """In full scales."""
    pixel_largest: float


def errors(exact: Stage, jobs: Sequence[Job], ranges: Sequence[Range]) -> list[RoundingError]:
    """One for each job: the largest of its counterfactual and baseline frames, by the float32 stage `exact`."""
    asked = [
        [(number, s) for s in {chosen.strengths[chosen.counterfactual], 0.0} if s in jobs[number].frames]
        for number, chosen in enumerate(ranges)
    ]
    again = _fresh(exact, jobs)
    exact.evaluate(again, [place for places in asked for place in places])
    return [_largest([_compare(jobs[number], again[number], s) for number, s in places]) for places in asked]


def _fresh(exact: Stage, jobs: Sequence[Job]) -> list[Job]:
    """The same jobs without frames; with a reconstruction of their own where frames are made from it."""
    if exact.composition is not Composition.RESIDUAL:
        return [replace(job, frames={}) for job in jobs]
    latents = torch.stack([job.latent for job in jobs])
    decoded = in_chunks(exact.pair.autoencoder.decode, latents, exact.pair.budget, exact.batch)
    return [replace(job, frames={}, decoded=own) for job, own in zip(jobs, decoded, strict=True)]


def _compare(job: Job, true: Job, strength: float) -> RoundingError:
    (frame, scores), (true_frame, true_scores) = job.frames[strength], true.frames[strength]
    off = (frame - true_frame).abs()
    return RoundingError(float((scores - true_scores)[job.target].abs()), float(off.mean()), float(off.amax()))


def _largest(found: Sequence[RoundingError]) -> RoundingError:
    return RoundingError(
        max(one.score for one in found), max(one.pixel_mean for one in found), max(one.pixel_largest for one in found)
    )


def state(explanation: Explanation, error: RoundingError) -> Explanation:
    """The explanation with the error in its record and a check: a score that is off by more than the tolerance warns."""
    tolerance = float(explanation.record["settings"]["tolerance"])
    text = (
        f"In float32 the scores of the returned frame and of the baseline differ by up to {error.score:.4f}, and their "
        f"pixels by {error.pixel_mean:.4f} of full scale on average."
    )
    check = Check("rounding", Verdict.PASS if error.score <= tolerance else Verdict.WARN, text, error.score)
    values = {"score": error.score, "pixel_mean": error.pixel_mean, "pixel_largest": error.pixel_largest}
    return replace(
        explanation, checks=(*explanation.checks, check), record={**explanation.record, "rounding_error": values}
    )
