"""The drawn film: loop, bar, grey scale, mark, sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gifsplain.errors import InputError
from gifsplain.render import frames, ink
from gifsplain.types import ScoreMeaning

from . import fakes

BLUE = np.array(ink.ACCENT[0])


def bar_length(colours: np.ndarray) -> int:
    """Pixels of the longest blue row, counted without the drawing code."""
    return int((np.abs(colours.astype(int) - BLUE).sum(-1) == 0).sum(1).max())


@given(st.integers(2, 40), st.data())
def test_loop_visits_each_inner_frame_twice_and_never_jumps(n, data):
    start = data.draw(st.integers(0, n - 1))
    order = frames.there_and_back(n, start)
    assert order[0] == start and len(order) == 2 * n - 2
    assert all(abs(a - b) == 1 for a, b in zip(order, (*order[1:], order[0]), strict=True))
    assert sorted(order) == sorted([*range(n), *range(1, n - 1)])


def test_a_single_frame_does_not_loop():
    assert frames.there_and_back(1) == (0,)


def test_loop_first_walks_towards_lower_scores():
    assert frames.there_and_back(5, 3)[:5] == (3, 2, 1, 0, 1)


def test_bar_length_follows_the_score():
    explanation = fakes.explanation(n=9)
    film = frames.make_film(explanation)
    track = frames.Strip.for_explanation(explanation, film.frames.shape[2]).bar
    whole = track[2] - track[0]
    for index, score in enumerate(explanation.frame_scores.tolist()):
        # The white line of the baseline and the amber one of the operating point may cover a few pixels.
        assert bar_length(film.colours(index)) == pytest.approx(score * whole, abs=6)


def test_the_white_line_is_the_score_at_strength_0():
    explanation = fakes.without_zero()
    strip = frames.Strip.for_explanation(explanation, 448)
    assert strip.baseline == explanation.baseline_score != float(explanation.frame_scores[explanation.baseline])


def test_bar_of_logits_starts_at_the_low_end():
    assert frames.score_range([-3.4, 1.2], ScoreMeaning.LOGIT) == (-4.0, 2.0)
    assert frames.score_range([float("nan")], ScoreMeaning.LOGIT) == (0.0, 1.0)
    assert frames.score_range([0.3], ScoreMeaning.PROBABILITY) == (0.0, 1.0)


def test_score_without_a_number_draws_no_bar():
    explanation = fakes.explanation(n=5)
    strip = frames.Strip.for_explanation(explanation, 448)
    assert not (strip.draw(float("nan"), "0") == ink.GREYS).any()


@given(st.lists(st.floats(-3000, 3000, width=32), min_size=1, max_size=41))
def test_labels_tell_different_strengths_apart_and_zero_from_nearly_zero(strengths):
    labels = frames.strength_labels(strengths)
    named = dict(zip(strengths, labels, strict=True))
    assert len(set(labels)) == len(named)
    assert all((label == "0") == (strength == 0) for strength, label in named.items())
    for strength, label in named.items():
        assert label == "0" or np.sign(float(label.replace("−", "-"))) == np.sign(strength)


def test_labels_have_no_more_digits_than_the_sweep_needs():
    assert frames.strength_labels([-1.0, -0.5, 0.0, 3.25]) == ["−1.00", "−0.50", "0", "+3.25"]
    assert frames.strength_labels([-0.0042, -0.004, -0.0, 0.0]) == ["−0.0042", "−0.0040", "0", "0"]
    assert frames.strength_labels([2e-9, 1e-9]) == ["+2.00e−09", "+1.00e−09"]


def test_small_strengths_are_written_apart_on_the_frames():
    explanation = fakes.explanation(n=5)
    explanation = replace(
        explanation, strengths=explanation.strengths / 1000, frames=explanation.frames[:1].repeat(5, 1, 1, 1)
    )
    level = replace(explanation, frame_scores=torch.full((5,), 0.5))
    film = frames.make_film(level)
    assert len({frame.tobytes() for frame in film.frames}) == 5  # all that differs is the written strength


@given(st.floats(-1, 2, width=32))
@settings(max_examples=50)
def test_a_grey_is_the_same_in_every_frame(value):
    shown = ink.palette()[frames._grey_index()[ink.to_bytes(torch.full((1, 1, 1), value))]]
    assert abs(int(shown[0, 0, 0]) - min(max(value, 0), 1) * 255) <= 1.5  # rounded to a byte, then one grey off
    assert len(set(shown[0, 0].tolist())) == 1


def test_the_palette_is_at_most_one_grey_off():
    shown = ink.palette()[frames._grey_index()].astype(int)
    assert np.abs(shown[:, 0] - np.arange(256)).max() == 1 and shown[0, 0] == 0 and shown[255, 0] == 255


def test_grey_scale_does_not_stretch_with_the_frame():
    explanation = fakes.explanation(torch.full((1, 448, 448), 0.5), n=3)
    film = frames.make_film(explanation, frames=torch.stack([torch.full((1, 448, 448), v) for v in (0.4, 0.5, 0.6)]))
    centre = [int(film.colours(k)[200, 200, 0]) for k in range(3)]
    assert centre == pytest.approx([102, 127.5, 153], abs=1)


def test_every_frame_carries_the_mark():
    strip = frames.Strip.for_explanation(fakes.explanation(), 448)
    one, two = strip.draw(0.2, "−1.00"), strip.draw(0.9, "+1.00")
    foot = slice(round(strip.em * 2.85), None)
    left = slice(0, 200)
    assert (one[foot, left] == two[foot, left]).all() and (one[foot, left] > 150).sum() > 100


@pytest.mark.parametrize(("size", "width"), [(8, 448), (31, 466), (224, 448), (448, 448), (501, 502)])
def test_sizes_are_even_and_wide_enough_to_read(size, width):
    film = frames.make_film(fakes.explanation(fakes.phantom(size), n=3))
    assert film.frames.shape[1] % 2 == 0 and film.frames.shape[2] == width


def test_colour_frames_keep_their_colours():
    image = torch.stack([torch.full((448, 448), v) for v in (0.2, 0.6, 0.8)])
    film = frames.make_film(fakes.explanation(image, n=3), frames=image.repeat(3, 1, 1, 1))
    assert film.palette is None and film.frames[1, 5, 5].tolist() == [51, 153, 204]


def test_long_names_are_cut_not_drawn_over_the_number():
    letters = ink.font(20)
    cut = ink.fit("Enlarged Cardiomediastinum " * 5, letters, 200)
    assert cut.endswith("…") and letters.getlength(cut) <= 200 + letters.getlength("…")


def test_wrong_number_of_frames_is_refused():
    with pytest.raises(InputError, match="expected 5 frames"):
        frames.make_film(fakes.explanation(n=5), frames=torch.zeros(4, 1, 8, 8))
