"""One score along one move: what was measured on both sides of 0, and where it should meet a wanted value."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

_EDGE = 1e-6
"""Probabilities nearer to 0 or 1 than this say too little about the slope to be used."""
_NODES = 3


@dataclass
class Curve:
    """Measurements of one score by signed strength, shared by the searches for its fall and for its rise.

    Probabilities are interpolated as log-odds, in which a sigmoid along a straight move is nearly a straight line; other
    scores as they are.
    """

    start: float
    """Score at strength 0."""
    probability: bool = True
    slope: float | None = None
    """Derivative of the log-odds (of the score, where it is no probability) at 0, where known."""
    points: dict[float, float] = field(default_factory=dict)

    def add(self, strength: float, score: float) -> None:
        """Remember a measurement; the same one twice counts once."""
        self.points[strength] = score

    def meets(self, wanted: float) -> float | None:
        """Strength at which the score should be `wanted`; None where the points nearest to it do not say.

        Inverse interpolation through the three nearest scores, with the slope where 0 is one of them, as long as the
        scores rise or fall with the strength all the way; else through the nearest two.
        """
        aim = self._scale(wanted)
        if aim is None:
            return None
        known = [(self._scale(score), strength) for strength, score in {0.0: self.start, **self.points}.items()]
        usable = sorted(((y, s) for y, s in known if y is not None), key=lambda node: abs(node[0] - aim))
        for count in range(min(_NODES, len(usable)), 0, -1):
            nodes = self._with_slope(usable[:count])
            if len(nodes) > 1 and _monotone(usable[:count]):
                return _interpolate(nodes, aim, 1 / self.slope if self.slope else 0.0)
        return None

    def _with_slope(self, nodes: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """The nodes by score; the one at strength 0 twice where the slope is known there and agrees with the others."""
        ordered = sorted(nodes)
        if not self.slope:
            return ordered
        rising = ordered[-1][1] >= ordered[0][1]
        if rising != (self.slope > 0) and len(ordered) > 1:
            return ordered
        return [copy for node in ordered for copy in ((node, node) if node[1] == 0.0 else (node,))]

    def _scale(self, score: float) -> float | None:
        if not self.probability:
            return score if math.isfinite(score) else None
        return math.log(score / (1 - score)) if _EDGE < score < 1 - _EDGE else None


def _monotone(nodes: Sequence[tuple[float, float]]) -> bool:
    """Whether the strengths rise or fall strictly with the scores, and no score comes twice."""
    ordered = sorted(nodes)
    pairs = list(itertools.pairwise(ordered))
    if any(first[0] == second[0] for first, second in pairs):
        return False
    ways = {second[1] > first[1] for first, second in pairs}
    return len(ways) < 2


def _interpolate(nodes: Sequence[tuple[float, float]], place: float, slope: float) -> float | None:
    """Newton's polynomial of strength by score at `place`; a node that comes twice has the derivative `slope`."""
    scores = [score for score, _ in nodes]
    column = [strength for _, strength in nodes]
    value, product = column[0], 1.0
    for order in range(1, len(nodes)):
        column = [
            slope if scores[i + order] == scores[i] else (column[i + 1] - column[i]) / (scores[i + order] - scores[i])
            for i in range(len(column) - 1)
        ]
        product *= place - scores[order - 1]
        value += product * column[0]
    return value if math.isfinite(value) else None
