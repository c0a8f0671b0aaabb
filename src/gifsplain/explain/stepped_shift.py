"""Latent Shift in several gradient steps: the gradient is taken anew where the last step led."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gifsplain.explain.compose import Composition, compose
from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.moves import LinearMove, Move, PathMove, Proposal
from gifsplain.explain.search import higher_goal, lower_goal
from gifsplain.explain.settings import Settings
from gifsplain.models.protocols import Pair
from gifsplain.types import Images, Latents

TRIAL = 1e-3
"""Length of the trial that tells how much a direction draws, in norms of the latent."""
SHORTEST = 1 / 16
"""A side ends where the score turns within this part of a step."""


@dataclass(frozen=True)
class SteppedLatentShift:
    """A path of equally long steps along the gradient of the target's logit, on both sides of the reconstruction.

    The straight line of Cohen et al. 2021 (eq. 1) is the path's first step prolonged; where the score stops answering along
    that line, the path turns to what moves it there. Steps of an image have one length in its latent, the first draws a
    mean change of about `drawn`; a step in which the score turns is taken again half as long. So the score never turns along the
    path. A side ends where its score is reached, at the pixel limit, or after `steps`. Strength counts steps.
    """

    settings: Settings = Settings()
    drawn: float = 0.004
    """Mean absolute change of the image by the first step, to first order, in full scales."""
    steps: int = 32
    """Most gradients of one side."""
    momentum: float = 0.5
    """Part of the last step's direction that is added to the gradient's: a path that zigzags becomes straight."""
    name: str = "latentshift-steps"

    def find(self, pair: Pair, images: Images, latents: Latents, target: int, composition: Composition) -> Proposal:
        """One gradient for each image, then one for each further step of a side."""
        straight = LatentShift().find(pair, images, latents, target, composition)
        lines = [moves[0] for moves in straight.moves]
        walk = _Walk(self, pair, composition, images, straight.reconstructions, target)
        rows = [i for i, line in enumerate(lines) if line.slope]
        sides = torch.tensor([-1.0] * len(rows) + [1.0] * len(rows), device=latents.device)
        paths = walk.follow(latents.detach(), lines, rows * 2, sides)
        moves: list[tuple[Move, ...]] = []
        for i, line in enumerate(lines):
            if i not in rows:
                moves.append((LinearMove(torch.zeros_like(latents[i]), self.name, line.unit, slope=0.0),))
                continue
            lower, higher = paths[rows.index(i)], paths[len(rows) + rows.index(i)]
            size = float(lower[1].double().norm() / latents[i].double().norm()) * latents[i].numel() ** 0.5
            unit = f"gradient steps of {size:.3g} root mean squares of the latent"
            moves.append((PathMove(lower, higher, self.name, unit, slope=(line.slope or 0.0) * size),))
        return Proposal(tuple(moves), straight.reconstructions, straight.scores, 1 + walk.looks, 2 + walk.looks)


@dataclass(eq=False)
class _Walk:
    """Many sides of many images on their way, in one batch."""

    finder: SteppedLatentShift
    pair: Pair
    composition: Composition
    images: Images
    decoded: Images
    target: int
    looks: int = 0
    """Gradients that both sides of the slowest image took."""

    def follow(
        self, latents: Latents, lines: list[Move], rows: list[int], sides: Float[Tensor, " r"]
    ) -> list[Float[Tensor, "m ..."]]:
        """Displacements of each row after 0, 1, 2 ... steps: image number `rows[k]` to the side `sides[k]`."""
        if not rows:
            return []
        owners = torch.tensor(rows, device=latents.device)
        start = latents[owners]
        lengths, units = self._first(start, owners, torch.stack([_direction(lines[i], latents[i]) for i in rows]))
        scores, aims = self._aims(owners, sides)
        shortest, here = SHORTEST * lengths, torch.zeros_like(start)
        paths = [[one] for one in here.clone()]
        active = torch.arange(len(rows), device=latents.device)
        for _ in range(self.finder.steps):
            ahead = here[active] + _along(sides[active] * lengths[active], start) * units[active]
            self.looks += 1
            seen = self._look(start[active] + ahead, owners[active])
            better = sides[active] * (seen.scores - scores[active]) > 0
            taken = active[better | seen.far]
            here[taken], scores[taken] = ahead[better | seen.far], seen.scores[better | seen.far]
            onward = _unit(seen.gradients[better | seen.far]) + self.finder.momentum * units[taken]
            units[taken] = _unit(onward)
            lengths[active[~better]] /= 2  # the score turns within the step
            for row in taken.tolist():
                paths[row].append(here[row].clone())
            ended = (sides * (scores - aims) >= 0)[active] | seen.far | (lengths < shortest)[active] | seen.flat
            active = active[~ended]
            if not len(active):
                break
        return [torch.stack(path if len(path) > 1 else path * 2) for path in paths]

    def _first(
        self, start: Latents, owners: Int[Tensor, " r"], directions: Latents
    ) -> tuple[Float[Tensor, " r"], Latents]:
        """Length of the steps of each row, and the first step's direction, of length 1."""
        units = _unit(directions)
        trial = TRIAL * start.flatten(1).norm(dim=1)
        with torch.no_grad():
            change = self.pair.autoencoder.decode(start + _along(trial, start) * units) - self.decoded[owners]
        drawn = change.abs().mean((1, 2, 3)).clamp_min(1e-12)
        most = 0.5 * start.flatten(1).norm(dim=1)  # where the decoder draws nothing
        return torch.minimum(trial * self.finder.drawn / drawn, most), units

    def _aims(
        self, owners: Int[Tensor, " r"], sides: Float[Tensor, " r"]
    ) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"]]:
        """Each row's score before the first step, and the one that ends its side; with fixed strengths none does."""
        s = self.finder.settings
        with torch.no_grad():
            shown = self._frames(self.decoded, torch.arange(len(self.decoded)))
            scores = self.pair.classifier.scores(shown)[owners, self.target]
        if s.strengths is not None:
            return scores, sides * torch.inf
        aims = []
        for start, side in zip(scores.tolist(), sides.tolist(), strict=True):
            lower = lower_goal(start, s.drop, floor=s.floor, tolerance=s.tolerance)
            higher = higher_goal(start, s.rise, ceiling=s.ceiling, tolerance=s.tolerance)
            aims.append((lower if side < 0 else higher).aim)
        return scores, torch.tensor(aims, device=sides.device)

    def _look(self, latents: Latents, owners: Int[Tensor, " r"]) -> "_Seen":
        """Scores and gradients of the logit where the rows are now."""
        z = latents.requires_grad_(True)
        free = compose(self.composition, self.pair.autoencoder.decode(z), self.images[owners], self.decoded[owners])
        frames = free + (free.clamp(0, 1) - free).detach()  # what is shown, with gradients also at black and white
        logits = self.pair.classifier.logits(frames)
        (gradients,) = torch.autograd.grad(logits[:, self.target].sum(), z)
        with torch.no_grad():
            before = self._frames(self.decoded[owners], owners)
            far = (frames - before).abs().mean((1, 2, 3)) > self.finder.settings.pixel_limit
            norms = gradients.flatten(1).norm(dim=1)
            return _Seen(
                self.pair.classifier.link(logits)[:, self.target], gradients, far, ~norms.isfinite() | (norms == 0)
            )

    def _frames(self, drawn: Images, owners: Int[Tensor, " r"]) -> Images:
        """What is shown."""
        return compose(self.composition, drawn, self.images[owners], self.decoded[owners]).clamp(0, 1)


class _Seen(NamedTuple):
    """What one look at some rows gave."""

    scores: Float[Tensor, " r"]
    gradients: Latents
    far: Bool[Tensor, " r"]
    """The pixel limit is passed."""
    flat: Bool[Tensor, " r"]
    """There is no gradient to follow."""


def _direction(line: Move, latent: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return line.apply(latent, torch.ones(1, dtype=torch.float64))[0] - latent


def _unit(directions: Latents) -> Latents:
    return directions / _along(directions.flatten(1).norm(dim=1).clamp_min(1e-30), directions)


def _along(factors: Float[Tensor, " r"], latents: Latents) -> Tensor:
    return factors.reshape(-1, *[1] * (latents.ndim - 1))
