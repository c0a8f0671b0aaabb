"""Moves: where a latent goes when a strength is given; and what a direction finder must offer."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.explain.compose import Composition
from gifsplain.models.protocols import Pair
from gifsplain.types import Images, Latents, Stop

Strengths = Float[Tensor, " k"]


@runtime_checkable
class Move(Protocol):
    """A path through the latent space of one image; strength 0 leaves the latent as it is, positive raises the score."""

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str:
        """What strength 1 means, in words for the record."""
        ...

    @property
    def slope(self) -> float | None:
        """Derivative of the target's logit by the strength at 0, where known: a first guess for the search."""
        ...

    @property
    def raw_unit(self) -> float | None:
        """Strength 1 expressed in the method's published unit (for Latent Shift the paper's lambda), where it has one."""
        ...

    @property
    def strength_limit(self) -> float | None:
        """Where the path ends; None for one that the latent limit bounds."""
        ...

    def apply(self, latent: Float[Tensor, "..."], strengths: Strengths) -> Latents:
        """One unbatched latent at `k` strengths: `k ...`."""
        ...


@dataclass(frozen=True)
class LinearMove:
    """`z + strength * direction`."""

    direction: Float[Tensor, "..."]
    name: str
    unit: str
    slope: float | None = None
    raw_unit: float | None = None
    strength_limit: float | None = None

    def apply(self, latent: Float[Tensor, "..."], strengths: Strengths) -> Latents:
        """Straight line through `latent`; `k ...`."""
        steps = strengths.reshape(-1, *[1] * latent.ndim).to(latent)
        return latent.unsqueeze(0) + steps * self.direction.unsqueeze(0)


@dataclass(frozen=True)
class PathMove:
    """Two stored paths of displacements from the latent, one a side; linear between points, held at the ends."""

    lower: Float[Tensor, "m ..."]
    """Displacements after 0, 1, 2 ... steps of lowering the score."""
    higher: Float[Tensor, "n ..."]
    name: str
    unit: str
    slope: float | None = None
    raw_unit: float | None = None
    stops: tuple[Stop, Stop] = (Stop.STRENGTH_LIMIT, Stop.STRENGTH_LIMIT)
    """Why each path ends where it does, the lower one first."""

    @property
    def strength_limit(self) -> float:
        """Steps of the longer side."""
        return float(max(len(self.lower), len(self.higher)) - 1)

    def end(self, sign: int) -> tuple[float, Stop]:
        """Steps of one side, and why it has no more."""
        path, stop = (self.lower, self.stops[0]) if sign < 0 else (self.higher, self.stops[1])
        return float(len(path) - 1), stop

    def apply(self, latent: Float[Tensor, "..."], strengths: Strengths) -> Latents:
        """The latent moved along the path of each strength's sign; `k ...`."""
        lower, higher = _along_path(self.lower, -strengths), _along_path(self.higher, strengths)
        side = (strengths < 0).reshape(-1, *[1] * latent.ndim).to(latent.device)
        return latent.unsqueeze(0) + torch.where(side, lower, higher)


def _along_path(points: Float[Tensor, "m ..."], places: Strengths) -> Float[Tensor, "k ..."]:
    """Where a path is after so many steps; before its start and beyond its end it stays there."""
    last = points.shape[0] - 1
    place = places.to(points).clamp(0, last)
    low = place.floor().clamp(max=max(last - 1, 0)).long()
    return torch.lerp(
        points[low], points[(low + 1).clamp(max=last)], (place - low).reshape(-1, *[1] * (points.ndim - 1))
    )


@dataclass(frozen=True)
class Proposal:
    """What a finder returns for a batch: ranked moves for each image (best first) and the baseline that it computed."""

    moves: tuple[tuple[Move, ...], ...]
    reconstructions: Images
    """D(z), not clamped."""
    scores: Float[Tensor, "b t"]
    """Scores of all targets on the composed baseline."""
    gradients: int = 0
    """Gradient evaluations spent for each image."""
    decodes: int = 1
    """Pictures drawn for each image, its reconstruction included."""
    spent: tuple[tuple[int, int], ...] = ()
    """Gradients and decodes of each image, where images differ."""

    def costs(self, image: int) -> tuple[int, int]:
        """Gradients and decodes of one image."""
        return self.spent[image] if self.spent else (self.gradients, self.decodes)


@runtime_checkable
class DirectionFinder(Protocol):
    """One method: the only part in which the published methods differ (DESIGN 2).

    A finder that learns from a population is a frozen value made by its own `fit_...` function.
    """

    @property
    def name(self) -> str: ...

    def find(self, pair: Pair, images: Images, latents: Latents, target: int, composition: Composition) -> Proposal:
        """Moves for each image, raising `target` (an index); never changes the models or the inputs."""
        ...
