"""The two published strength schedules, by name, exactly as their code behaves (DESIGN 4.3).

Both squash the classifier's output with a sigmoid of their own, also where it is a probability already: their scores
then lie in 0.50 to 0.73 and several stop rules can never fire. They are here to reproduce, not to recommend.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.explain.compose import Composition, compose
from gifsplain.explain.moves import LinearMove, Proposal
from gifsplain.explain.search import Found, Measurement, Search
from gifsplain.models.protocols import Pair
from gifsplain.types import Images, Latents, Stop


@dataclass(frozen=True)
class Policy:
    """One published schedule: how the lower bound is searched, which lambdas are drawn, and the map that goes with it."""

    name: str
    search: Callable[[Measurement], Search]
    """From the measurement at lambda 0; the side of rising scores is not searched."""
    lambdas: Callable[[float, int], Float[Tensor, " n"]]
    """From the lower bound and the number of frames."""
    frames: int
    map: str


def search_2021(base: Measurement) -> Search:
    """Down by 1 to -10, then by 10 to -1000; ends when the score rises again or has dropped by more than 0.15."""
    bound, last, trail = 0, base, [base]
    while True:
        now = base if bound == 0 else (yield [float(bound)])[0]
        if bound:
            trail.append(now)
        if last.score < now.score:
            return Found(now, Stop.TURNED, tuple(trail))
        if base.score - 0.15 > now.score:
            return Found(now, Stop.REACHED, tuple(trail))
        if bound <= -1000:
            return Found(now, Stop.STRENGTH_LIMIT, tuple(trail))
        last = now
        bound -= 1 if abs(bound) < 10 else 10


def search_0_0_6(base: Measurement) -> Search:
    """Steps of 10 that grow by a tenth of the distance; the step that broke a rule is kept as the bound."""
    bound, last, trail = 0.0, base, [base]
    while True:
        now = base if bound == 0 else (yield [bound])[0]
        if bound:
            trail.append(now)
        if last.score < now.score:
            return Found(now, Stop.TURNED, tuple(trail))
        if now.score < 0.05:
            return Found(now, Stop.SCORE_BOUND, tuple(trail))
        if base.score - 0.8 > now.score:
            return Found(now, Stop.REACHED, tuple(trail))
        if bound <= -3000:
            return Found(now, Stop.STRENGTH_LIMIT, tuple(trail))
        if now.relative_change > 0.05:
            return Found(now, Stop.PIXEL_LIMIT, tuple(trail))
        last = now
        bound = bound - 10.0 + bound // 10


def arange_without_zero(bound: float, frames: int) -> Float[Tensor, " n"]:
    """Half-open grid from the bound towards 0; 0 itself is left out, and rounding may add one more."""
    return torch.from_numpy(np.arange(bound, 0, abs(bound) / frames))


def linspace_to_zero(bound: float, frames: int) -> Float[Tensor, " n"]:
    """Closed grid from the bound to 0."""
    return torch.from_numpy(np.linspace(bound, 0, frames))


POLICIES: dict[str, Policy] = {
    "paper-2021": Policy("paper-2021", search_2021, arange_without_zero, 10, "extreme-2021"),
    "latentshift-0.0.6": Policy("latentshift-0.0.6", search_0_0_6, linspace_to_zero, 10, "sliding"),
}


@dataclass(frozen=True)
class PublishedLatentShift:
    """Eq. 1 as published: the raw gradient of `sigmoid(output)`, so that strength is the paper's lambda."""

    name: str = "latentshift"

    def find(self, pair: Pair, images: Images, latents: Latents, target: int, composition: Composition) -> Proposal:
        """One gradient through classifier, decoder and the second sigmoid."""
        z = latents.detach().requires_grad_(True)
        decoded = pair.autoencoder.decode(z)
        scores = pair.classifier.scores(compose(composition, decoded, images, decoded.detach()))
        (gradients,) = torch.autograd.grad(scores[:, target].sigmoid().sum(), z)
        moves = tuple((LinearMove(gradient, self.name, "lambda", raw_unit=1.0),) for gradient in gradients)
        return Proposal(moves, decoded.detach(), scores.detach(), gradients=1)
