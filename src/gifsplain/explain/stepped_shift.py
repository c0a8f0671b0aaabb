"""Latent Shift in several gradient steps: the gradient is taken anew where the last step led."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gifsplain.explain.compose import Composition, compose
from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.moves import LinearMove, Move, PathMove, Proposal
from gifsplain.explain.search import higher_goal, lower_goal
from gifsplain.explain.settings import Settings
from gifsplain.models.protocols import Pair
from gifsplain.models.styleex import in_w
from gifsplain.types import Images, Latents, Stop

TRIAL = 1e-3
"""Length of the trial that tells how much a direction draws, in norms of the latent."""
SHORTEST = 1 / 16
"""A side ends where the score turns within this part of a step."""


@dataclass(frozen=True)
class SteppedLatentShift:
    """A path of steps along the gradient of the target's logit, on both sides of the reconstruction.

    The straight line of Cohen et al. 2021 (eq. 1) is the path's first step prolonged; where the logit stops answering along
    that line, the path turns to what moves it there. The first step draws a mean change of about `drawn`; further ones are as long
    in the latent, and half as long from where the logit would turn within one. So the logit never turns along the path. A side
    ends where its score is reached, at the pixel or the latent limit, where the logit turns within a sixteenth of a step,
    where there is no gradient, or after `steps` gradients. Strength counts steps.
    """

    settings: Settings
    """Wanted change and limits; the same that the search will have."""
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
        spent = []
        for i, line in enumerate(lines):
            if i not in rows:
                moves.append((LinearMove(torch.zeros_like(latents[i]), self.name, line.unit, slope=0.0),))
                spent.append((1, 1))
                continue
            lower, higher = paths[rows.index(i)], paths[len(rows) + rows.index(i)]
            size = lower.length / float(latents[i].double().square().mean().sqrt())
            unit = f"gradient steps, the first of {size:.3g} root mean squares of the latent"
            slope, stops = (line.slope or 0.0) * size, (lower.stop, higher.stop)
            moves.append((PathMove(lower.points, higher.points, self.name, unit, slope, stops=stops),))
            spent.append((1 + lower.looks + higher.looks, 3 + lower.looks + higher.looks))  # two trial pictures
        return Proposal(tuple(moves), straight.reconstructions, straight.scores, spent=tuple(spent))


class _Path(NamedTuple):
    """One side of one image."""

    points: Float[Tensor, "m ..."]
    """Displacements after 0, 1, 2 ... steps."""
    stop: Stop
    looks: int
    """Gradients taken."""
    length: float
    """Of the first step in the latent."""


@dataclass(frozen=True, eq=False)
class _Walk:
    """Many sides of many images on their way, in one batch."""

    finder: SteppedLatentShift
    pair: Pair
    composition: Composition
    images: Images
    decoded: Images
    target: int

    def follow(self, latents: Latents, lines: list[Move], rows: list[int], sides: Float[Tensor, " r"]) -> list[_Path]:
        """The path of each row: image number `rows[k]` to the side `sides[k]`."""
        if not rows:
            return []
        settings, owners = self.finder.settings, torch.tensor(rows, device=latents.device)
        start = latents[owners]
        first, units = self._first(start, owners, torch.stack([_direction(lines[i], latents[i]) for i in rows]))
        logits, aims = self._aims(owners, sides)
        lengths, here = first.clone(), torch.zeros_like(start)
        reach = settings.latent_limit * start.flatten(1).norm(dim=1)
        points = [[one] for one in here.clone()]
        stops, looks = [Stop.STRENGTH_LIMIT] * len(rows), [0] * len(rows)
        most = [self._most(side) for side in sides.tolist()]
        active = [row for row in range(len(rows)) if most[row]]
        while active:
            now = torch.tensor(active, device=latents.device)
            ahead = here[now] + _along(sides[now] * lengths[now], start) * units[now]
            seen = self._look(start[now] + ahead, owners[now])
            better = (sides[now] * (seen.logits - logits[now]) > 0).tolist()
            still = []
            for place, row in enumerate(active):
                looks[row] += 1
                if better[place]:
                    here[row], logits[row] = ahead[place], seen.logits[place]
                    units[row] = _unit(_unit(seen.gradients[place : place + 1]) + self.finder.momentum * units[row])[0]
                    points[row].append(ahead[place].clone())
                else:
                    lengths[row] /= 2
                ended = None
                if better[place] and sides[row] * (seen.scores[place] - aims[row]) >= 0:
                    ended = Stop.REACHED
                elif better[place] and seen.changes[place] > settings.pixel_limit:
                    ended = Stop.PIXEL_LIMIT
                elif here[row].norm() > reach[row]:
                    ended = Stop.LATENT_LIMIT
                elif lengths[row] < SHORTEST * first[row] or (better[place] and not _moves(seen.gradients[place])):
                    ended = Stop.TURNED
                elif looks[row] == self.finder.steps or len(points[row]) > most[row]:
                    ended = Stop.STRENGTH_LIMIT
                if ended is None:
                    still.append(row)
                else:
                    stops[row] = ended
            active = still
        sizes = first.tolist()
        return [_Path(torch.stack(points[row]), stops[row], looks[row], sizes[row]) for row in range(len(rows))]

    def _most(self, side: float) -> int:
        """Steps that a side may need: none where nothing is wanted of it."""
        settings = self.finder.settings
        if settings.strengths is not None:
            return math.ceil(max(0.0, side * settings.strengths[0 if side < 0 else 1]))
        return self.finder.steps if (settings.drop if side < 0 else settings.rise) else 0

    def _first(
        self, start: Latents, owners: Int[Tensor, " r"], directions: Latents
    ) -> tuple[Float[Tensor, " r"], Latents]:
        """Length of the first step of each row, and its direction, of length 1."""
        units = _unit(directions)
        trial = TRIAL * start.flatten(1).norm(dim=1)
        for _ in range(2):  # the second time from about the length itself
            with torch.no_grad():
                change = self.pair.autoencoder.decode(start + _along(trial, start) * units) - self.decoded[owners]
            drawn = change.abs().mean((1, 2, 3)).clamp_min(1e-12)
            trial = torch.minimum(trial * self.finder.drawn / drawn, 0.5 * start.flatten(1).norm(dim=1))
        return trial, units

    def _aims(
        self, owners: Int[Tensor, " r"], sides: Float[Tensor, " r"]
    ) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"]]:
        """Each row's logit before the first step, and the score that ends its side; with fixed strengths none does."""
        s = self.finder.settings
        with torch.no_grad():
            shown = self._frames(self.decoded, torch.arange(len(self.decoded), device=owners.device))
            logits = self.pair.classifier.logits(shown)
            scores = self.pair.classifier.link(logits)[owners, self.target]
        before = logits[owners, self.target].clone()
        if s.strengths is not None:
            return before, sides * torch.inf
        floor, ceiling = s.room(self.pair.classifier.card.meaning)
        aims = []
        for start, side in zip(scores.tolist(), sides.tolist(), strict=True):
            lower = lower_goal(start, s.drop, floor=floor, tolerance=s.tolerance)
            higher = higher_goal(start, s.rise, ceiling=ceiling, tolerance=s.tolerance)
            aims.append((lower if side < 0 else higher).aim)
        return before, torch.tensor(aims, device=sides.device)

    def _look(self, latents: Latents, owners: Int[Tensor, " r"]) -> "_Seen":
        """Logits, scores and gradients where the rows are now, at most `Settings.batch` at once."""
        size = self.finder.settings.batch
        parts = [self._look_at(*pair) for pair in zip(latents.split(size), owners.split(size), strict=True)]
        return _Seen(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _look_at(self, latents: Latents, owners: Int[Tensor, " r"]) -> "_Seen":
        z = latents.detach().requires_grad_(True)
        free = compose(self.composition, self.pair.autoencoder.decode(z), self.images[owners], self.decoded[owners])
        frames = free + (free.clamp(0, 1) - free).detach()  # what is shown, with gradients also at black and white
        logits = self.pair.classifier.logits(frames)
        (gradients,) = torch.autograd.grad(logits[:, self.target].sum(), z)
        with torch.no_grad():
            changes = (frames - self._frames(self.decoded[owners], owners)).abs().mean((1, 2, 3))
            scores = self.pair.classifier.link(logits)[:, self.target]
            gradients = in_w(self.pair.autoencoder, gradients)
            return _Seen(logits[:, self.target].detach(), scores, gradients, changes)

    def _frames(self, drawn: Images, owners: Int[Tensor, " r"]) -> Images:
        """What is shown."""
        return compose(self.composition, drawn, self.images[owners], self.decoded[owners]).clamp(0, 1)


class _Seen(NamedTuple):
    """What one look at some rows gave."""

    logits: Float[Tensor, " r"]
    scores: Float[Tensor, " r"]
    gradients: Latents
    changes: Float[Tensor, " r"]
    """Mean absolute change against the baseline."""


def _moves(gradient: Float[Tensor, "..."]) -> bool:
    """Whether there is a gradient to follow."""
    norm = float(gradient.norm())
    return 0 < norm < math.inf


def _direction(line: Move, latent: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return line.apply(latent, torch.ones(1, dtype=torch.float64))[0] - latent


def _unit(directions: Latents) -> Latents:
    return directions / _along(directions.flatten(1).norm(dim=1).clamp_min(1e-30), directions)


def _along(factors: Float[Tensor, " r"], latents: Latents) -> Tensor:
    return factors.reshape(-1, *[1] * (latents.ndim - 1))
