"""Find the smallest strength that gives the wanted score. Knows no network: it asks for strengths and is told scores.

A search is a generator that yields the strengths it wants measured and is sent the measurements, so that a driver can
advance many searches at once and evaluate all their strengths in one batch.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from gifsplain.explain.curve import Curve
from gifsplain.types import Stop


@dataclass(frozen=True)
class Goal:
    """The score to reach from the baseline score, and which way that is."""

    start: float
    wanted: float
    sign: int
    """+1 when the score shall rise, -1 when it shall fall."""
    reached: Stop = Stop.REACHED
    """What to call success: `SCORE_BOUND` when the score had less room than the wanted change."""
    tolerance: float = 0.005

    def lack(self, score: float) -> float:
        """How much is missing; 0 or less once the wanted score is met."""
        return self.sign * (self.wanted - score)

    @property
    def aim(self) -> float:
        """The middle of the scores that are accepted."""
        return self.wanted + self.sign * self.tolerance / 2

    def met(self, score: float) -> bool:
        """Met, and by no more than the tolerance."""
        return -self.tolerance <= self.lack(score) <= 0


@dataclass(frozen=True)
class Limits:
    """Where a search gives up; strengths are in the move's unit."""

    strength: float
    pixel: float = 0.1
    """Largest mean absolute change of a frame against the baseline, in full scales."""
    evaluations: int = 24
    stop_at: Stop = Stop.LATENT_LIMIT
    """What reaching `strength` means."""


@dataclass(frozen=True)
class Measurement:
    """What a frame at some strength gave."""

    strength: float
    score: float
    pixel_change: float
    """Mean absolute change against the baseline in full scales."""
    relative_change: float = 0.0
    """Sum of absolute changes by the sum of absolute values of the baseline, in the autoencoder's native range."""


@dataclass(frozen=True)
class Found:
    """The chosen strength (signed), its measurement, and why the search ended there."""

    at: Measurement
    stop: Stop
    measured: tuple[Measurement, ...]


Search = Generator[list[float], list[Measurement], Found]


def lower_goal(start: float, drop: float, *, floor: float, tolerance: float) -> Goal:
    """A fall by `drop` in absolute score, or to `floor` where there is less room (paper section 4.2: 0.30)."""
    wanted = start - drop
    if wanted >= floor:
        return Goal(start, wanted, -1, Stop.REACHED, tolerance)
    return Goal(start, min(start, floor), -1, Stop.SCORE_BOUND, tolerance)


def higher_goal(start: float, rise: float, *, ceiling: float, tolerance: float) -> Goal:
    """A rise by `rise` in absolute score, or to `ceiling` where there is less room (paper section 4.2: 0.05)."""
    wanted = start + rise
    if wanted <= ceiling:
        return Goal(start, wanted, 1, Stop.REACHED, tolerance)
    return Goal(start, max(start, ceiling), 1, Stop.SCORE_BOUND, tolerance)


def search(goal: Goal, limits: Limits, first: float, curve: Curve | None = None) -> Search:
    """Bracket the wanted score by growing steps, then close in on it within the tolerance.

    Each step goes where the points measured so far say that the score is met (`Curve.meets`); where they say nothing, or
    the bracket does not shrink, by a secant or a step of Chandrupatla (1997).

    Args:
        goal: What to reach.
        limits: Where to give up.
        first: First strength to try (its sign is ignored); a good guess saves evaluations.
        curve: What is known of the score already; the searches of both sides may share one.

    Returns:
        As the generator's value: `REACHED` (or the goal's own word) when the score meets the wanted one by no more than
        the tolerance, or lies beyond it where the score jumps across it; otherwise the best allowed strength measured.
    """
    base = Measurement(0.0, goal.start, 0.0)
    if goal.lack(goal.start) <= 0:
        return Found(base, goal.reached, (base,))
    trail = [base]
    known = curve if curve is not None else Curve(goal.start, probability=False)
    bracket, stop = yield from _expand(goal, limits, first, trail, known)
    if bracket is None:
        return Found(_best(goal, limits, trail), stop, tuple(trail))
    met = yield from _close_in(goal, limits, bracket, trail, known)
    if met is not None:
        return Found(met, goal.reached, tuple(trail))
    if len(trail) > limits.evaluations:
        return Found(_best(goal, limits, trail), Stop.BUDGET, tuple(trail))
    return Found(
        _best(goal, limits, trail), goal.reached if _any_met(goal, limits, trail) else Stop.PIXEL_LIMIT, tuple(trail)
    )


def _allowed(limits: Limits, point: Measurement) -> bool:
    return point.pixel_change <= limits.pixel and math.isfinite(point.score)


def _any_met(goal: Goal, limits: Limits, trail: Sequence[Measurement]) -> bool:
    return any(_allowed(limits, p) and goal.lack(p.score) <= 0 for p in trail)


def _best(goal: Goal, limits: Limits, trail: Sequence[Measurement]) -> Measurement:
    """The weakest allowed strength that meets the goal, else the allowed one that came nearest."""
    allowed = [p for p in trail if _allowed(limits, p)]
    met = [p for p in allowed if goal.lack(p.score) <= 0]
    if met:
        return min(met, key=lambda p: abs(p.strength))
    return min(allowed, key=lambda p: (goal.lack(p.score), abs(p.strength)))


def _ask(
    strength: float, goal: Goal, trail: list[Measurement], curve: Curve
) -> Generator[list[float], list[Measurement], Measurement]:
    (point,) = yield [goal.sign * strength]
    trail.append(point)
    curve.add(point.strength, point.score)
    return point


def _expand(
    goal: Goal, limits: Limits, first: float, trail: list[Measurement], curve: Curve
) -> Generator[list[float], list[Measurement], tuple[tuple[Measurement, Measurement] | None, Stop]]:
    """Grow the strength until the goal lies between two measurements or a limit ends it."""
    previous, worse, strength = trail[0], 0, min(abs(first), limits.strength)
    while len(trail) <= limits.evaluations:
        point = yield from _ask(strength, goal, trail, curve)
        if not _allowed(limits, point):
            return (previous, point), Stop.PIXEL_LIMIT
        if goal.lack(point.score) <= 0:
            return (previous, point), goal.reached
        # a score that has not moved by one bit from its start is flat, as one that is 1 in single precision: go on
        flat = all(seen.score == goal.start for seen in trail)
        worse = worse + 1 if goal.lack(point.score) >= goal.lack(previous.score) and not flat else 0
        if worse >= 2:
            return None, Stop.TURNED
        if strength >= limits.strength:
            return None, limits.stop_at
        ahead = curve.meets(goal.aim)
        ahead = ahead * goal.sign / strength if ahead is not None else 0.0
        growth = ahead if not worse and 1.02 <= ahead <= 4.0 else _growth(goal, previous, point)
        strength = min(strength * growth, limits.strength)
        previous = point
    return None, Stop.BUDGET


def _growth(goal: Goal, before: Measurement, now: Measurement) -> float:
    """Next step's factor: a little beyond where the line through the last two points meets the goal, within 1.3 to 4."""
    gained = goal.lack(before.score) - goal.lack(now.score)
    if gained <= 0:
        return 2.0
    ahead = goal.lack(now.score) / gained * abs(now.strength - before.strength)
    return min(max(1.15 * (abs(now.strength) + ahead) / abs(now.strength), 1.3), 4.0)


def _close_in(
    goal: Goal, limits: Limits, bracket: tuple[Measurement, Measurement], trail: list[Measurement], curve: Curve
) -> Generator[list[float], list[Measurement], Measurement | None]:
    """Root finding on the bracket; a frame beyond the pixel limit counts as beyond the goal.

    Aims at half the tolerance beyond the wanted score, so that an accepted score has always met it. Ends without one
    where a frame uses up the pixel limit to within a hundredth.
    """

    def error(point: Measurement) -> float:
        if not _allowed(limits, point):
            return -max(abs(goal.lack(goal.start)), goal.tolerance)
        return goal.lack(point.score) + goal.tolerance / 2

    near, far = bracket
    if goal.met(far.score) and _allowed(limits, far):
        return far
    a, b, c = far, near, far
    part, widths = _secant(error(b), error(a)), [math.inf, math.inf]
    while len(trail) <= limits.evaluations:
        strength = abs(a.strength) + part * (abs(b.strength) - abs(a.strength))
        if abs(b.strength - a.strength) < 0.5 * widths[-2]:  # two steps have halved the bracket: interpolation works
            strength = _informed(goal, limits, sorted((a, b), key=lambda point: abs(point.strength)), curve, strength)
        widths.append(abs(b.strength - a.strength))
        point = yield from _ask(strength, goal, trail, curve)
        if _allowed(limits, point) and goal.met(point.score):
            return point
        if (error(point) > 0) == (error(a) > 0):
            c = a
        else:
            c, b = b, a
        a = point
        width = abs(b.strength - a.strength)
        if width <= 1e-4 * max(abs(a.strength), abs(b.strength)) or _used_up(limits, a, b):
            return None
        part = _chandrupatla(error(a), error(b), error(c), a.strength, b.strength, c.strength)
    return None


def _informed(goal: Goal, limits: Limits, bracket: Sequence[Measurement], curve: Curve, otherwise: float) -> float:
    """Where the curve meets the goal, or the pixel limit is reached if that comes first; only inside the bracket."""
    near, far = bracket
    low, high = abs(near.strength), abs(far.strength)
    guesses = [] if (met := curve.meets(goal.aim)) is None else [met * goal.sign]
    if far.pixel_change > limits.pixel > near.pixel_change and math.isfinite(far.pixel_change):
        share = (0.995 * limits.pixel - near.pixel_change) / (far.pixel_change - near.pixel_change)
        guesses.append(low + share * (high - low))
    inside = [guess for guess in guesses if low < guess < high]
    margin = 1e-3 * (high - low)
    return min(max(min(inside), low + margin), high - margin) if inside else otherwise


def _used_up(limits: Limits, a: Measurement, b: Measurement) -> bool:
    """Whether one end of the bracket is beyond the pixel limit and the other just below it."""
    less, more = sorted((a.pixel_change, b.pixel_change))
    return 0.99 * limits.pixel <= less <= limits.pixel < more


def _secant(near: float, far: float) -> float:
    """Where the straight line crosses zero, as a part of the way from `far` back to `near`, kept off the ends."""
    return min(max(far / (far - near), 0.05), 0.95) if far != near else 0.5


def _chandrupatla(fa: float, fb: float, fc: float, a: float, b: float, c: float) -> float:
    """Inverse quadratic step where it is safe, bisection elsewhere; a part of the way from a to b."""
    if c == b or fb == fa or fc in (fa, fb):
        return 0.5
    xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
    if not (phi**2 < xi and (1 - phi) ** 2 < 1 - xi):
        return 0.5
    part = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
    return min(max(part, 1e-3), 1 - 1e-3)


def drive(searches: Sequence[Search], measure: Callable[[list[tuple[int, float]]], list[Measurement]]) -> list[Found]:
    """Advance all searches together: each round measures everything that they ask for in one call.

    Args:
        searches: Fresh generators of `search`.
        measure: Takes (search index, strength) pairs, returns their measurements in the same order.
    """
    found: dict[int, Found] = {}
    wishes: dict[int, list[float]] = {}

    def advance(index: int, answer: list[Measurement] | None) -> None:
        try:
            wishes[index] = next(searches[index]) if answer is None else searches[index].send(answer)
        except StopIteration as end:
            wishes.pop(index, None)
            found[index] = end.value

    for index in range(len(searches)):
        advance(index, None)
    while wishes:
        asked = [(index, strength) for index, strengths in wishes.items() for strength in strengths]
        answers = measure(asked)
        by_search: dict[int, list[Measurement]] = {}
        for (index, _), answer in zip(asked, answers, strict=True):
            by_search.setdefault(index, []).append(answer)
        for index, own in by_search.items():
            advance(index, own)
    return [found[index] for index in range(len(searches))]
