"""Strength search: laws on known score functions."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, lists

from gifsplain.explain.search import Found, Limits, Measurement, drive, higher_goal, lower_goal, search
from gifsplain.types import Stop

TOLERANCE = 0.005


def run(score: Callable[[float], float], *, drop: float = 0.3, sign: int = -1, first: float = 1.0, strength: float = 1e3,
        pixels: Callable[[float], float] = lambda s: 0.0, evaluations: int = 60) -> tuple[Found, int]:  # fmt: skip
    """Search one side of `score`; also how many strengths were measured."""
    asked_for = 0

    def measure(asked: list[tuple[int, float]]) -> list[Measurement]:
        nonlocal asked_for
        asked_for += len(asked)
        return [Measurement(s, score(s), pixels(s)) for _, s in asked]

    make = lower_goal if sign < 0 else higher_goal
    bound = {"floor": 0.01} if sign < 0 else {"ceiling": 0.99}
    goal = make(score(0.0), drop, tolerance=TOLERANCE, **bound)
    (found,) = drive([search(goal, Limits(strength, 0.1, evaluations), first)], measure)
    return found, asked_for


def logistic(slope: float, place: float) -> Callable[[float], float]:
    return lambda s: 1 / (1 + math.exp(-max(min(slope * s + place, 50), -50)))


@given(slope=floats(0.05, 20), place=floats(-0.5, 4), drop=floats(0.05, 0.3), guess=floats(0.2, 5))
def test_a_falling_score_is_met_by_just_enough(slope: float, place: float, drop: float, guess: float) -> None:
    score = logistic(slope, place)
    found, asked = run(score, drop=drop, first=guess / slope)
    assert found.stop is Stop.REACHED
    assert drop <= score(0) - score(found.at.strength) <= drop + TOLERANCE + 1e-12
    assert found.at.strength < 0
    assert asked <= 12


@given(slope=floats(0.05, 20), place=floats(-4, 2))
def test_a_rising_score_is_met_on_the_other_side(slope: float, place: float) -> None:
    score = logistic(slope, place)
    found, _ = run(score, drop=0.05, sign=1, first=1 / slope)
    assert found.stop is Stop.REACHED
    assert 0.05 <= score(found.at.strength) - score(0) <= 0.05 + TOLERANCE + 1e-12
    assert found.at.strength > 0


def test_a_score_with_less_room_goes_to_the_bound_and_says_so() -> None:
    found, _ = run(logistic(1.0, -2.0), drop=0.3)
    assert found.stop is Stop.SCORE_BOUND
    assert 0.005 <= found.at.score <= 0.01


def test_nothing_is_asked_when_the_bound_is_met_already() -> None:
    found, asked = run(lambda s: 0.005)
    assert (found.stop, found.at.strength, asked) == (Stop.SCORE_BOUND, 0.0, 0)


@given(values=lists(floats(0, 1), min_size=8, max_size=40), width=floats(0.1, 3))
@settings(max_examples=200)
def test_on_any_continuous_score_the_answer_is_honest(values: list[float], width: float) -> None:
    def score(s: float) -> float:
        place = min(abs(s) / width, len(values) - 1.001)
        low = int(place)
        return values[low] + (place - low) * (values[low + 1] - values[low])

    found, asked = run(score, drop=0.3, first=width, strength=width * len(values), evaluations=40)
    assert asked <= 41
    assert found.at.score == score(found.at.strength)
    if found.stop is Stop.REACHED:
        assert score(0) - found.at.score >= 0.3 - 1e-12
    elif found.stop is not Stop.SCORE_BOUND:
        assert all(m.score >= found.at.score - 1e-12 for m in found.measured)


def test_a_jump_over_the_wanted_score_is_reached_on_the_far_side() -> None:
    found, _ = run(lambda s: 0.9 if s > -2 else 0.1)
    assert found.stop is Stop.REACHED
    assert found.at.score == 0.1
    assert -2.01 < found.at.strength <= -2


def test_a_score_that_turns_back_keeps_its_best() -> None:
    found, _ = run(lambda s: 0.8 - 0.1 * math.exp(-((s + 3) ** 2)), first=1.0)
    assert found.stop is Stop.TURNED
    assert found.at.score == min(m.score for m in found.measured)


@given(place=floats(17, 60))
def test_a_score_that_is_one_in_single_precision_is_searched_until_it_falls(place: float) -> None:
    def score(strength: float) -> float:
        return float(torch.tensor(strength + place, dtype=torch.float32).sigmoid())

    found, asked = run(score, first=2.0, strength=100.0)  # the slope says nothing: a fiftieth of the limit
    assert found.stop is Stop.REACHED
    assert score(0) - found.at.score == pytest.approx(0.3025, abs=0.0026)
    assert asked <= 20


def test_the_pixel_limit_holds_the_search_back() -> None:
    found, _ = run(logistic(0.2, 2), pixels=lambda s: abs(s) / 50)
    assert found.stop is Stop.PIXEL_LIMIT
    assert 0.09 < found.at.pixel_change <= 0.1


def test_the_strength_limit_ends_a_flat_descent() -> None:
    found, _ = run(lambda s: 0.9 + s * 1e-5, strength=50)
    assert found.stop is Stop.LATENT_LIMIT
    assert found.at.strength == -50


def test_the_budget_is_kept() -> None:
    found, asked = run(lambda s: 0.9 + s * 1e-7, strength=1e9, evaluations=5)
    assert found.stop is Stop.BUDGET
    assert asked <= 6


@given(count=integers(1, 6))
def test_searches_driven_together_find_what_they_find_alone(count: int) -> None:
    scores = [logistic(0.3 * (i + 1), i / 2) for i in range(count)]

    def measure(asked: list[tuple[int, float]]) -> list[Measurement]:
        return [Measurement(s, scores[i](s), 0.0) for i, s in asked]

    goals = [lower_goal(score(0.0), 0.3, floor=0.01, tolerance=TOLERANCE) for score in scores]
    together = drive([search(goal, Limits(1e3), 1.0) for goal in goals], measure)
    assert [f.at.strength for f in together] == [run(score)[0].at.strength for score in scores]
