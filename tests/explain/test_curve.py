"""Interpolation of a score along a move: exact where it must be, silent where it cannot know."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifsplain.explain.curve import Curve
from gifsplain.explain.search import Found, Limits, Measurement, drive, higher_goal, lower_goal, search
from gifsplain.types import Stop


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-max(min(x, 50), -50)))


@given(start=st.floats(-3, 3), slope=st.floats(0.1, 10), wanted=st.floats(0.02, 0.98))
def test_a_logistic_score_is_met_at_once_when_its_slope_is_known(start: float, slope: float, wanted: float) -> None:
    met = Curve(sigmoid(start), slope=slope).meets(wanted)
    assert met is not None
    assert sigmoid(start + slope * met) == pytest.approx(wanted, abs=1e-6)


@given(start=st.floats(-2, 2), gain=st.floats(0.5, 3), wanted=st.floats(0.1, 0.9), bend=st.floats(-0.05, 0.05))
def test_strength_as_a_cubic_of_the_log_odds_is_met_exactly(
    start: float, gain: float, wanted: float, bend: float
) -> None:
    """Oracle: the inverse curve s(y) = y / gain + bend (y / gain)^3 is a cubic with known slope at 0."""

    def strength(y: float) -> float:
        return y / gain + bend * (y / gain) ** 3

    curve = Curve(sigmoid(start), slope=gain)
    for y in (-0.8, 0.9):
        curve.add(strength(y), sigmoid(start + y))
    aim = math.log(wanted / (1 - wanted)) - start
    if abs(aim) < 0.7:  # all three points are the nearest ones anyway; they are all there is
        assert curve.meets(wanted) == pytest.approx(strength(aim), abs=1e-6)


def test_scores_that_are_no_probabilities_are_taken_as_they_are() -> None:
    curve = Curve(0.5, probability=False, slope=2.0)
    assert curve.meets(-3.5) == pytest.approx(-2.0)
    curve.add(1.0, 2.5)
    assert curve.meets(4.5) == pytest.approx(2.0)


@pytest.mark.parametrize("score", [0.0, 1.0, math.nan, 5e-7])
def test_scores_at_the_ends_are_not_used(score: float) -> None:
    curve = Curve(0.5, slope=1.0)
    curve.add(3.0, score)
    assert curve.meets(0.7) == pytest.approx(math.log(0.7 / 0.3))
    assert Curve(score, slope=1.0).meets(0.7) is None
    assert Curve(0.5, slope=1.0).meets(score) is None


def test_a_score_that_turns_is_read_from_the_two_nearest_points_or_not_at_all() -> None:
    curve = Curve(0.5)
    assert curve.meets(0.6) is None
    curve.add(1.0, 0.7)
    curve.add(2.0, 0.4)
    assert 0 < (curve.meets(0.62) or math.nan) < 1  # through 0 and 1
    curve.add(3.0, 0.4)
    assert curve.meets(0.4) is None


def both_sides(score: Callable[[float], float], slope: float | None, shared: bool) -> tuple[list[Found], int]:
    start, asked_for = score(0.0), 0
    curve = Curve(start, slope=slope)
    goals = [
        lower_goal(start, 0.3, floor=0.01, tolerance=0.005),
        higher_goal(start, 0.05, ceiling=0.99, tolerance=0.005),
    ]

    def measure(asked: list[tuple[int, float]]) -> list[Measurement]:
        nonlocal asked_for
        asked_for += len(asked)
        points = [Measurement(s, score(s), 0.0) for _, s in asked]
        for point in points:
            curve.add(point.strength, point.score)
        return points

    searches = []
    for goal in goals:
        first = curve.meets(goal.aim) or 1.0
        searches.append(search(goal, Limits(1e3), first, curve if shared else Curve(start)))
    return drive(searches, measure), asked_for


@given(l0=st.floats(-0.3, 2), slope=st.floats(0.2, 5), bend=st.floats(-0.1, 0.1))
def test_nearly_logistic_scores_take_two_evaluations_a_side(l0: float, slope: float, bend: float) -> None:
    def score(s: float) -> float:
        x = slope * s
        return sigmoid(l0 + x + bend * x * abs(x) / 4)

    found, asked = both_sides(score, slope, shared=True)
    assert all(one.stop is Stop.REACHED for one in found)
    assert 0.3 <= score(0) - found[0].at.score <= 0.305 + 1e-12
    assert 0.05 - 1e-12 <= found[1].at.score - score(0) <= 0.055 + 1e-12
    assert asked <= 6


def test_the_pixel_limit_is_found_in_few_steps() -> None:
    asked_for = 0

    def measure(asked: list[tuple[int, float]]) -> list[Measurement]:
        nonlocal asked_for
        asked_for += len(asked)
        return [Measurement(s, sigmoid(2 + 0.2 * s), abs(s) / 50 * (1 + abs(s) / 100)) for _, s in asked]

    goal = lower_goal(sigmoid(2), 0.3, floor=0.01, tolerance=0.005)
    (found,) = drive([search(goal, Limits(1e3), 8.0)], measure)
    assert found.stop is Stop.PIXEL_LIMIT
    assert 0.099 <= found.at.pixel_change <= 0.1
    assert asked_for <= 5
