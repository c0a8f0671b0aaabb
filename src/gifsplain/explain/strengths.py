"""Which strengths a sweep gets: searched on both sides, taken from a published policy, or fixed by the user."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.explain.curve import Curve
from gifsplain.explain.jobs import Job, Stage
from gifsplain.explain.moves import PathMove
from gifsplain.explain.policies import POLICIES
from gifsplain.explain.search import Goal, Limits, Measurement, Search, drive, higher_goal, lower_goal, search
from gifsplain.explain.settings import Settings
from gifsplain.types import ScoreMeaning, Stop


@dataclass(frozen=True)
class Range:
    """Strengths of one sweep, lowest first, and why each side ended."""

    strengths: tuple[float, ...]
    lower: Stop
    higher: Stop

    @property
    def counterfactual(self) -> int:
        """Place of the frame that stands for the wanted change: the lowest, or the highest where nothing lies below."""
        return 0 if self.strengths[0] < 0 else len(self.strengths) - 1


def spaced(low: float, high: float, frames: int) -> Float[Tensor, " n"]:
    """`frames` strengths from `low` to `high` with 0 among them, evenly spaced on either side of it."""
    if low == 0 or high == 0:
        return torch.linspace(low, high, frames, dtype=torch.float64)
    below = min(max(round((frames - 1) * -low / (high - low)), 1), frames - 2)
    left = torch.linspace(low, 0, below + 1, dtype=torch.float64)
    return torch.cat([left, torch.linspace(0, high, frames - below, dtype=torch.float64)[1:]])


def choose(stage: Stage, jobs: Sequence[Job], settings: Settings) -> list[Range]:
    """One range for every job, all searches advanced together."""
    if settings.strengths is not None:
        grid = tuple(spaced(*settings.strengths, settings.frame_count).tolist())
        return [Range(grid, Stop.NOT_SEARCHED, Stop.NOT_SEARCHED)] * len(jobs)
    if settings.policy == "exact":
        return _exact(stage, jobs, settings)
    return _published(stage, jobs, settings)


def first_step(curve: Curve, goal: Goal, limits: Limits) -> float:
    """Where the slope says that the wanted score is, within a thousandth and a fifth of the limit."""
    ahead = curve.meets(goal.aim)
    if ahead is None:
        return limits.strength / 50
    return min(max(abs(ahead), limits.strength / 1000), limits.strength / 5)


def curve_of(stage: Stage, job: Job) -> Curve:
    """What is known of a job's score before its search: its start, and its slope where the score is a probability."""
    probability = stage.pair.classifier.card.meaning is not ScoreMeaning.LOGIT
    return Curve(float(job.baseline_scores[job.target]), probability, job.move.slope)


def _exact(stage: Stage, jobs: Sequence[Job], settings: Settings) -> list[Range]:
    searches: list[Search] = []
    owners: list[tuple[int, int]] = []
    stuck: dict[tuple[int, int], Stop] = {}
    curves = [curve_of(stage, job) for job in jobs]
    for number, (job, curve) in enumerate(zip(jobs, curves, strict=True)):
        if job.move.slope == 0.0:
            continue
        for goal in _goals(curve.start, settings, stage.pair.classifier.card.meaning):
            limits = _limits(job, goal.sign, settings)
            if limits.strength == 0:
                stuck[number, goal.sign] = limits.stop_at
                continue
            told = isinstance(job.move, PathMove) and limits.stop_at is not Stop.STRENGTH_LIMIT
            first = limits.strength if told else first_step(curve, goal, limits)  # such a path ends where it matters
            searches.append(search(goal, limits, first, curve))
            owners.append((number, goal.sign))

    def measure(asked: list[tuple[int, float]]) -> list[Measurement]:
        places = [(owners[index][0], strength) for index, strength in asked]
        stage.evaluate(jobs, places)
        points = [stage.measurement(jobs[number], strength) for number, strength in places]
        for (number, _), point in zip(places, points, strict=True):
            curves[number].add(point.strength, point.score)  # both sides learn from it before either goes on
        return points

    found = dict(zip(owners, drive(searches, measure), strict=True))
    ranges = []
    for number, job in enumerate(jobs):
        if job.move.slope == 0.0:
            ranges.append(Range((0.0,), Stop.ZERO_GRADIENT, Stop.ZERO_GRADIENT))
            continue
        low, high = found.get((number, -1)), found.get((number, 1))
        bounds = (low.at.strength if low else 0.0, high.at.strength if high else 0.0)
        grid = tuple(spaced(*bounds, settings.frame_count).tolist()) if bounds != (0.0, 0.0) else (0.0,)
        stops = (
            end.stop if end else stuck.get((number, sign), Stop.NOT_SEARCHED) for end, sign in ((low, -1), (high, 1))
        )
        ranges.append(Range(grid, *stops))
    return ranges


def _goals(start: float, settings: Settings, meaning: ScoreMeaning) -> list[Goal]:
    """The sides that are searched: the fall, then the rise, each where it is wanted."""
    floor, ceiling = settings.room(meaning)
    goals = []
    if settings.drop:
        goals.append(lower_goal(start, settings.drop, floor=floor, tolerance=settings.tolerance))
    if settings.rise:
        goals.append(higher_goal(start, settings.rise, ceiling=ceiling, tolerance=settings.tolerance))
    return goals


def _limits(job: Job, sign: int, settings: Settings) -> Limits:
    """The side's own end, or the latent limit in units of the latent's root mean square."""
    if isinstance(job.move, PathMove):
        length, stop = job.move.end(sign)
        return Limits(length, settings.pixel_limit, settings.evaluations, stop)
    end = job.move.strength_limit
    far = end if end is not None else settings.latent_limit * math.sqrt(job.latent.numel())
    return Limits(far, settings.pixel_limit, settings.evaluations)


def _published(stage: Stage, jobs: Sequence[Job], settings: Settings) -> list[Range]:
    policy = POLICIES[settings.policy]

    def twice(score: float) -> float:
        return float(torch.tensor(score, dtype=torch.float32).sigmoid())  # float32, as published: ties decide the stop

    def measure(asked: list[tuple[int, float]]) -> list[Measurement]:
        stage.evaluate(jobs, asked)
        points = [stage.measurement(jobs[number], strength) for number, strength in asked]
        return [replace(point, score=twice(point.score)) for point in points]

    stage.evaluate(jobs, [(number, 0.0) for number in range(len(jobs))])
    searches = [policy.search(base) for base in measure([(number, 0.0) for number in range(len(jobs))])]
    found = drive(searches, measure)
    return [
        Range(_lambdas(policy.lambdas(end.at.strength, settings.frame_count)), end.stop, Stop.NOT_SEARCHED)
        for end in found
    ]


def _lambdas(grid: Float[Tensor, " n"]) -> tuple[float, ...]:
    return tuple(float(value) + 0.0 for value in grid)
