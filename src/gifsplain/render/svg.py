"""The score curve as SVG for pages: takes the page's colours and lets a frame be chosen by a click."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

from gifsplain.render.frames import score_range
from gifsplain.types import Explanation, ScoreMeaning

_WIDTH, _HEIGHT = 520, 270
_LEFT, _TOP, _RIGHT, _BOTTOM = 40, 10, 510, 238


@dataclass(frozen=True)
class Axes:
    """Where strengths and scores lie on the drawing."""

    first: float
    last: float
    low: float
    high: float

    @classmethod
    def of(cls, explanation: Explanation) -> "Axes":
        """Axes that hold all frames and the three scores."""
        strengths = [*explanation.strengths.tolist(), 0.0]
        scores = [*explanation.frame_scores.tolist(), *vars(explanation.scores).values()]
        low, high = score_range(scores, explanation.meaning)
        span = (max(strengths) - min(strengths)) or 1.0
        return cls(min(strengths) - 0.02 * span, max(strengths) + 0.02 * span, low, high)

    def x(self, strength: float) -> float:
        return round(_LEFT + (strength - self.first) / (self.last - self.first) * (_RIGHT - _LEFT), 1)

    def y(self, score: float) -> float:
        return round(_BOTTOM - (score - self.low) / (self.high - self.low) * (_BOTTOM - _TOP), 1)


def points(explanation: Explanation) -> list[tuple[float, float] | None]:
    """Place of every frame on the drawing; None where it has no score."""
    axes = Axes.of(explanation)
    pairs = zip(explanation.strengths.tolist(), explanation.frame_scores.tolist(), strict=True)
    return [(axes.x(strength), axes.y(score)) if math.isfinite(score) else None for strength, score in pairs]


def curve(explanation: Explanation) -> Markup:
    """The curve with its legend."""
    axes = Axes.of(explanation)
    places = points(explanation)
    line = " ".join(f"{place[0]},{place[1]}" for place in places if place)
    parts = [*_grid(axes), *_levels(explanation, axes), f'<polyline class="line" points="{line}"/>']
    parts += [f'<circle class="dot" cx="{p[0]}" cy="{p[1]}" r="2.6"/>' for p in places if p]
    parts += _marks(explanation, axes)
    parts += [
        f'<circle class="hit" data-index="{k}" cx="{p[0]}" cy="{p[1]}" r="9"/>' for k, p in enumerate(places) if p
    ]
    title = escape(f"Score of {explanation.target} over strength")
    drawing = "".join(parts)
    return Markup(  # every piece of text in it is escaped or a number
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{drawing}'
        f'<circle id="now" class="gone" r="6"/></svg>{_legend(explanation)}'
    )


def _grid(axes: Axes) -> list[str]:
    parts = []
    for k in range(5):
        score = axes.low + (axes.high - axes.low) * k / 4
        y = axes.y(score)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{_tick(score)}</text>')
    for strength in _ticks(axes.first, axes.last):
        parts.append(f'<text x="{axes.x(strength)}" y="{_BOTTOM + 19}" text-anchor="middle">{_tick(strength)}</text>')
    return parts


def _tick(value: float) -> str:
    """A round number without its rounding error; powers of ten only where zeros would be counted."""
    return f"{value:.7g}".replace("-", "−")


def _ticks(first: float, last: float) -> list[float]:
    """Round strengths, about six of them, 0 among them when it is inside."""
    raw = (last - first) / 5
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    return [k * step for k in range(math.ceil(first / step), math.floor(last / step) + 1)]


def _levels(explanation: Explanation, axes: Axes) -> list[str]:
    levels = [("wanted", level) for _, level in wanted(explanation)]
    if explanation.meaning is ScoreMeaning.CALIBRATED:
        levels.append(("operating", 0.5))
    return [
        f'<line class="{kind}" x1="{_LEFT}" x2="{_RIGHT}" y1="{axes.y(level)}" y2="{axes.y(level)}"/>'
        for kind, level in levels
        if axes.low <= level <= axes.high
    ]


def wanted(explanation: Explanation) -> list[tuple[str, float]]:
    """Scores that the search aimed at, by the settings in the record: `("drop", score)` and `("rise", score)`."""
    settings = explanation.record.get("settings", {})
    start = explanation.baseline_score
    if not explanation.has_sweep or not isinstance(settings, Mapping) or not math.isfinite(start):
        return []
    if settings.get("policy", "exact") != "exact" or settings.get("strengths") is not None:
        return []  # the published policies and fixed strengths aim at something else
    drop, rise = (_positive(settings.get(name)) for name in ("drop", "rise"))
    levels = []
    if drop is not None:
        levels.append(("drop", _bounded(explanation, start - drop)))
    if rise is not None:
        levels.append(("rise", _bounded(explanation, start + rise)))
    return levels


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, float | int) and value > 0 else None


def _bounded(explanation: Explanation, score: float) -> float:
    """The score within the search's floor and ceiling, which hold for probabilities."""
    settings = explanation.record["settings"]
    low, high = _positive(settings.get("floor")), _positive(settings.get("ceiling"))
    if explanation.meaning is ScoreMeaning.LOGIT or low is None or high is None:
        return score
    return min(max(score, low), high)


def _marks(explanation: Explanation, axes: Axes) -> list[str]:
    zero = axes.x(0.0)
    end = axes.x(float(explanation.strengths[explanation.counterfactual]))
    places = {"input": zero, "reconstruction": zero, "counterfactual": end}
    scores = vars(explanation.scores)
    return [_mark(kind, x, axes.y(scores[kind])) for kind, x in places.items() if math.isfinite(scores[kind])]


def _mark(kind: str, x: float, y: float) -> str:
    if kind == "input":
        return f'<rect class="input" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
    if kind == "reconstruction":
        corners = f"{x},{y - 6:.1f} {x + 6:.1f},{y} {x},{y + 6:.1f} {x - 6:.1f},{y}"
        return f'<polygon class="reconstruction" points="{corners}"/>'
    return f'<circle class="counterfactual" cx="{x}" cy="{y}" r="6"/>'


def _legend(explanation: Explanation) -> str:
    items = [(kind, _mark(kind, 8, 8)) for kind, score in vars(explanation.scores).items() if math.isfinite(score)]
    if levels := wanted(explanation):
        text = "wanted " + " and ".join(name for name, _ in levels)
        items.append((text, '<line class="wanted" x1="0" x2="16" y1="8" y2="8"/>'))
    if explanation.meaning is ScoreMeaning.CALIBRATED:
        items.append(("operating point", '<line class="operating" x1="1" x2="15" y1="8" y2="8"/>'))
    drawn = "".join(
        f'<li><svg class="curve" viewBox="0 0 16 16" aria-hidden="true">{mark}</svg>{name}</li>' for name, mark in items
    )
    return f'<ul class="legend">{drawn}</ul>'
