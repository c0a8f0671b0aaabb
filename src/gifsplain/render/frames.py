"""Frames as they are shown: the picture, its score as a bar with a number, and the mark that it is synthetic."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.render.ink import ACCENT, GREYS, MARK, fit, font, palette, to_bytes
from gifsplain.types import Explanation, ScoreMeaning

Pixels = UInt8[np.ndarray, "h w *c"]

SMALLEST = 448
"""Pictures narrower than this are enlarged by a whole factor, so that the writing can be read."""
_ACCENT, _TICK = 1, 2


@dataclass(frozen=True)
class Film:
    """Drawn frames and the order in which they are shown."""

    frames: UInt8[np.ndarray, "n h w *c"]
    """Palette indices (`n h w`) or colours (`n h w 3`); height and width are even."""
    palette: UInt8[np.ndarray, "256 3"] | None
    """Colours of the indices; None where the frames hold colours themselves."""
    order: tuple[int, ...]
    """One round of the loop: each entry is an index into `frames`."""
    milliseconds: int
    """How long each entry of `order` is shown."""

    def colours(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """One frame as red, green, blue."""
        colours: np.ndarray = self.frames[index] if self.palette is None else self.palette[self.frames[index]]
        return colours


def there_and_back(n: int, start: int = 0) -> tuple[int, ...]:
    """Order that walks from `start` down to the first frame, up to the last and back, without a repeat at the turns.

    `2 n - 2` entries, so that a player which starts over runs on smoothly; `(0,)` for a single frame.
    """
    if n == 1:
        return (0,)
    circle = (*range(n), *range(n - 2, 0, -1))
    place = (2 * n - 2 - start) % (2 * n - 2)
    return circle[place:] + circle[:place]


def score_range(scores: Sequence[float], meaning: ScoreMeaning) -> tuple[float, float]:
    """Ends of the score axis: 0 and 1 for probabilities, else whole numbers around the scores and 0."""
    if meaning is not ScoreMeaning.LOGIT:
        return 0.0, 1.0
    known = [value for value in scores if np.isfinite(value)] or [0.0]
    return float(np.floor(min(*known, 0.0))), float(np.ceil(max(*known, 1.0)))


def strength_labels(strengths: Sequence[float]) -> list[str]:
    """What to call each frame: its signed strength with as many digits as tell the frames of one sweep apart.

    Two decimals at least, the same number for all; below a ten-millionth powers of ten. Only an exact 0 reads "0".

    >>> strength_labels([-0.004, -0.002, 0.0, 0.01])
    ['−0.004', '−0.002', '0', '+0.010']
    """
    different = {float(strength) for strength in strengths if strength}
    forms = [f"+.{digits}{kind}" for kind, most in (("f", 7), ("e", 17)) for digits in range(2, most + 1)]
    fitting = (form for form in forms if _tells_apart(different, form))
    form = next(fitting, forms[-1])
    return [f"{strength:{form}}".replace("-", "−") if strength else "0" for strength in strengths]


def _tells_apart(strengths: set[float], form: str) -> bool:
    texts = {f"{strength:{form}}" for strength in strengths}
    return len(texts) == len(strengths) and all(float(text) for text in texts)


def make_film(
    explanation: Explanation,
    *,
    frames: Float[Tensor, "n c h w"] | None = None,
    milliseconds: int = 60,
) -> Film:
    """The sweep drawn for people: looped there and back from the baseline, every frame on the same grey scale.

    `frames` replaces the explanation's own, for instance with those at the original's size.
    """
    shown = explanation.frames if frames is None else frames
    if len(shown) != len(explanation.strengths):
        raise InputError(f"expected {len(explanation.strengths)} frames, one a strength, got {len(shown)}")
    strip = Strip.for_explanation(explanation, width=_drawn_width(shown.shape[-1]))
    scores, labels = explanation.frame_scores.tolist(), strength_labels(explanation.strengths.tolist())
    drawn = []
    for picture, score, label in zip(shown, scores, labels, strict=True):
        pixels = enlarge(to_bytes(picture))
        drawn.append(_join(pixels, strip.draw(score, label)))
    colours = drawn[0].ndim == 3
    order = there_and_back(len(drawn), explanation.baseline)
    return Film(np.stack(drawn), None if colours else palette(), order, milliseconds)


def enlarge(pixels: Pixels, smallest: int = SMALLEST) -> Pixels:
    """The picture at the smallest whole multiple of its size that is at least `smallest` wide."""
    height, width = pixels.shape[:2]
    factor = -(-smallest // width)
    if factor <= 1:
        return pixels
    # Below 64 pixels the squares themselves are what there is to see; smoothing would invent shapes.
    way = Image.Resampling.BICUBIC if width >= 64 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize((width * factor, height * factor), way))


def _drawn_width(width: int) -> int:
    return width * max(1, -(-SMALLEST // width))


def _join(picture: Pixels, strip: UInt8[np.ndarray, "s w"]) -> Pixels:
    """Picture above strip, as indices for grey and as colours otherwise, padded with black to even sizes."""
    joined: np.ndarray
    if picture.ndim == 2:
        joined = np.concatenate([_grey_index()[picture], strip])
    else:
        joined = np.concatenate([picture, palette()[strip]])
    height, width = joined.shape[:2]
    margins = [(0, height % 2), (0, width % 2), (0, 0)][: joined.ndim]
    return np.pad(joined, margins)


def _grey_index() -> UInt8[np.ndarray, " 256"]:
    """Index of the palette's grey that is nearest to each of the 256 greys."""
    indices: np.ndarray = np.rint(np.arange(256) * ((GREYS - 1) / 255)).astype(np.uint8)
    return indices


@dataclass(frozen=True)
class Strip:
    """The strip under a frame: target, score as number and bar, strength, mark. Drawn in palette indices."""

    width: int
    target: str
    caption: str
    unit: str
    low: float
    high: float
    baseline: float
    operating_point: float | None

    @classmethod
    def for_explanation(cls, explanation: Explanation, width: int) -> "Strip":
        """The strip whose axis fits all frames of the explanation."""
        scores = explanation.frame_scores.tolist()
        low, high = score_range(scores, explanation.meaning)
        calibrated = explanation.meaning is ScoreMeaning.CALIBRATED
        return cls(
            width=width,
            target=" ".join(explanation.target.split()),  # one line, whatever it is called
            caption=str(explanation.meaning),
            unit=explanation.strength_unit,
            low=low,
            high=high,
            baseline=explanation.baseline_score,
            operating_point=0.5 if calibrated else None,
        )

    @property
    def em(self) -> int:
        """Size of the writing in pixels; all other lengths follow from it."""
        return max(12, round(self.width / 26))

    @property
    def height(self) -> int:
        return round(self.em * 4.1)

    @property
    def bar(self) -> tuple[int, int, int, int]:
        """Left, top, right (exclusive) and bottom (exclusive) of the bar's track."""
        pad = round(self.em * 0.7)
        return pad, round(self.em * 1.75), self.width - pad, round(self.em * 2.35)

    def place(self, score: float) -> int:
        """Column where a score ends on the track."""
        left, _, right, _ = self.bar
        part = min(max((score - self.low) / (self.high - self.low), 0.0), 1.0)
        return left + round(part * (right - left))

    def draw(self, score: float, strength: str) -> UInt8[np.ndarray, "s w"]:
        """The strip for one frame; `strength` is its label."""
        grey = Image.new("L", (self.width, self.height), 16)
        colour = Image.new("L", grey.size, 0)
        self._write(ImageDraw.Draw(grey), score, strength)
        self._draw_bar(ImageDraw.Draw(grey), ImageDraw.Draw(colour), score)
        accents = np.asarray(colour)
        indices = _grey_index()[np.asarray(grey)]
        return np.where(accents > 0, accents + np.uint8(GREYS - 1), indices).astype(np.uint8)

    def _write(self, pen: ImageDraw.ImageDraw, score: float, strength: str) -> None:
        em, (left, _, right, _) = self.em, self.bar
        large, small = font(em), font(round(em * 0.72))
        number = f"{score:.2f}" if np.isfinite(score) else "no score"
        pen.text((right, round(em * 0.3)), number, fill=250, font=font(em, bold=True), anchor="ra")
        room = right - left - pen.textlength(number, font=font(em, bold=True)) - em
        name = fit(self.target, large, room)
        pen.text((left, round(em * 0.3)), name, fill=240, font=large, anchor="la")
        used = pen.textlength(name, font=large) + em * 0.6
        if used + pen.textlength(self.caption, font=small) <= room:
            pen.text((left + used, round(em * 0.52)), self.caption, fill=150, font=small, anchor="la")
        foot = round(em * 2.85)
        pen.text((left, foot), MARK, fill=190, font=small, anchor="la")
        pen.text((right, foot), f"strength {strength}", fill=190, font=small, anchor="ra")

    def _draw_bar(self, grey: ImageDraw.ImageDraw, colour: ImageDraw.ImageDraw, score: float) -> None:
        left, top, right, bottom = self.bar
        overhang, stroke = max(2, self.em // 6), max(1, self.em // 10)
        grey.rectangle((left, top, right - 1, bottom - 1), fill=62)
        if np.isfinite(score) and (end := self.place(score)) > left:
            colour.rectangle((left, top, end - 1, bottom - 1), fill=_ACCENT)
        if self.operating_point is not None:
            x = self.place(self.operating_point)
            colour.rectangle((x, top - overhang, x + stroke - 1, bottom + overhang - 1), fill=_TICK)
        if np.isfinite(self.baseline):
            x = min(self.place(self.baseline), right - stroke)
            box = (x, top - overhang, x + stroke - 1, bottom + overhang - 1)
            colour.rectangle(box, fill=0)
            grey.rectangle(box, fill=255)


assert len(ACCENT) >= _TICK
