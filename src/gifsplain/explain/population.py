"""The finder that all population methods share: a few ranked directions, measured on the image at hand, best first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import ModelError
from gifsplain.explain.compose import Composition, compose
from gifsplain.explain.effects import require_numbers
from gifsplain.explain.moves import LinearMove, Move, PathMove, Proposal
from gifsplain.models.protocols import Pair
from gifsplain.types import Images, Latents, Stop

SIGMA = "standard deviations of encoded latents along the direction"
Select = Literal["independent", "subset"]


@dataclass(frozen=True)
class Directions:
    """Ranked directions of one target, best first, each one unit long and signed to raise the score."""

    steps: Float[Tensor, "k ..."]
    labels: tuple[str, ...]
    """What each is called: `eigenvector 3`."""


@dataclass(frozen=True)
class PopulationFinder:
    """Tries each ranked direction both ways on the image and proposes them by what they do there (Lang et al. 2021)."""

    name: str
    directions: Mapping[str, Directions]
    """By the target's name."""
    degree: float = 2.0
    """Strength at which they are tried."""
    limit: float = 8.0
    """Largest strength that a search may use."""
    unit: str = SIGMA
    select: Select = "independent"
    """`subset` adds directions up until the score crosses 0.5 and proposes their sum."""
    fit: Mapping[str, Any] = field(default_factory=dict)
    """What tells the fit that the directions are of from others, for the record."""

    def find(self, pair: Pair, images: Images, latents: Latents, target: int, composition: Composition) -> Proposal:
        """One decode an image, and two for each direction."""
        name = pair.targets[target]
        if name not in self.directions or not len(self.directions[name].steps):
            raise ModelError(f"{self.name} has no direction for {name!r}; it was fitted for {sorted(self.directions)}")
        known = self.directions[name]
        steps = known.steps.to(latents)
        with torch.no_grad():
            decoded = pair.autoencoder.decode(latents)
            stage = _Stage(pair, composition, images, decoded)
            base = stage.logits(decoded, range(len(images)))
            scores = pair.classifier.link(base)
            moves = tuple(
                self._moves(stage, i, latents[i], steps, labels=known.labels, target=target, start=base[i])
                for i in range(len(images))
            )
        return Proposal(moves, decoded, scores, decodes=stage.decodes // max(1, len(images)))

    def _moves(
        self,
        stage: "_Stage",
        i: int,
        latent: Float[Tensor, "..."],
        steps: Float[Tensor, "k ..."],
        *,
        labels: tuple[str, ...],
        target: int,
        start: Float[Tensor, " t"],
    ) -> tuple[Move, ...]:
        """Moves for one image: the directions themselves, or the sum of a subset."""
        both = torch.cat([latent - self.degree * steps, latent + self.degree * steps])
        low, high = stage.moved_logits(both, i, target)[:, target].chunk(2)
        slopes = (high - low) / (2 * self.degree)
        order = slopes.abs().argsort(descending=True)
        signed = steps * slopes.sign().reshape(-1, *[1] * latent.ndim)
        if self.select == "subset":
            named = [labels[j] for j in order]
            step, label, slope = self._sum(stage, i, latent, signed[order], labels=named, target=target, start=start)
            return (self._move(step, label, slope),)
        return tuple(self._move(signed[j], labels[j], float(slopes[j].abs())) for j in order.tolist())

    def _move(self, step: Float[Tensor, "..."], label: str, slope: float) -> Move:
        if slope == 0.0:  # says nothing of other directions, as a zero gradient would
            still, stop = torch.zeros_like(step)[None], Stop.NO_DIRECTION
            return PathMove(still, still, f"{self.name}: none", self.unit, stops=(stop, stop))
        return LinearMove(step, f"{self.name}: {label}", self.unit, slope=slope, strength_limit=self.limit)

    def _sum(
        self,
        stage: "_Stage",
        i: int,
        latent: Float[Tensor, "..."],
        ordered: Float[Tensor, "k ..."],
        *,
        labels: list[str],
        target: int,
        start: Float[Tensor, " t"],
    ) -> tuple[Float[Tensor, "..."], str, float]:
        """Directions added up, those that do not help left out, until the score has crossed 0.5 at `degree`.

        Logits say what helps, on the scale of the network; the score says which side of 0.5 they are on.
        """
        above = stage.above(start, target)
        way = -1.0 if above else 1.0
        total = torch.zeros_like(latent)
        kept: list[str] = []
        before = best = float(start[target])
        for step, label in zip(ordered, labels, strict=True):
            logits = stage.moved_logits((latent + way * self.degree * (total + step))[None], i, target)[0]
            now = float(logits[target])
            if way * (now - best) > 0:
                total, best, kept = total + step, now, [*kept, label]
                if stage.above(logits, target) != above:
                    break
        return total, " + ".join(kept), abs(best - before) / self.degree


@dataclass
class _Stage:
    """Frames of a batch of images, as they would be drawn."""

    pair: Pair
    composition: Composition
    images: Images
    decoded: Images
    decodes: int = 0

    def __post_init__(self) -> None:
        self.decodes = len(self.images)

    def above(self, logits: Float[Tensor, " t"], target: int) -> bool:
        """Whether the target's score lies above 0.5; above 0, its log-odds, where scores are logits."""
        return float(self.pair.classifier.link(logits[None])[0, target]) > self.pair.classifier.card.meaning.middle

    def logits(self, decoded: Images, of: range) -> Float[Tensor, "b t"]:
        """Logits of frames made from `decoded`, one for each image in `of`."""
        index = list(of)
        frames = compose(self.composition, decoded, self.images[index], self.decoded[index])
        return self.pair.classifier.logits(frames.clamp(0, 1))

    def moved_logits(self, latents: Latents, i: int, target: int, chunk: int = 64) -> Float[Tensor, "b t"]:
        """Logits of frames of image `i` at other latents; those of `target` are numbers."""
        self.decodes += len(latents)
        parts = []
        for part in latents.split(chunk):
            drawn = self.pair.autoencoder.decode(part)
            image, decoded = (batch[i].expand_as(drawn) for batch in (self.images, self.decoded))
            frames = compose(self.composition, drawn, image, decoded)
            parts.append(self.pair.classifier.logits(frames.clamp(0, 1)))
        return require_numbers(self.pair.classifier.card, torch.cat(parts), (target,))
