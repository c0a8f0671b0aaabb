"""How `evaluate directions` moves a held-out image: along latent steps, its own gradient, or style coordinates."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.explain import attfind
from gifsplain.models.protocols import Pair
from gifsplain.models.styleex import StyleModel
from gifsplain.types import Images, Latents

Moves = tuple[tuple[int, int], ...]
"""Which candidate, and its sign."""
Codes = Float[Tensor, "l k ..."]
"""What is decoded, for every length and every move."""


_CANCELLED = 1e-6
"""A sum of steps shorter than this share of their lengths together is rounding, not a direction."""


class Mover(Protocol):
    """Candidates of one method on the held-out images."""

    @property
    def lengths(self) -> tuple[float, ...]:
        """Every move is tried at each."""
        ...

    def alone(self, image: int, moves: Moves) -> Codes:
        """Each move by itself."""
        ...

    def together(self, image: int, moves: Moves) -> Codes:
        """The first 1, 2 ... k moves added up."""
        ...

    def draw(self, codes: Float[Tensor, "n ..."]) -> Images:
        """Pictures, not clamped."""
        ...


@dataclass(frozen=True, eq=False)
class StepMover:
    """Steps in the latent space, the same for all images; a sum of steps is made as long as the first of them.

    Steps that cancel are no move.
    """

    pair: Pair
    latents: Latents
    steps: Float[Tensor, "m ..."]
    lengths: tuple[float, ...]

    def alone(self, image: int, moves: Moves) -> Codes:
        """Latents moved along every step at every length."""
        return self._stretched(image, self._signed(moves))

    def together(self, image: int, moves: Moves) -> Codes:
        """Latents moved along running sums of the steps."""
        steps = self._signed(moves)
        total = steps.cumsum(0)
        length, sizes = total.flatten(1).norm(dim=1), steps.flatten(1).norm(dim=1)
        scale = torch.where(length > _CANCELLED * sizes.cumsum(0), sizes[0] / length, 0.0)
        return self._stretched(image, total * scale.reshape(-1, *[1] * (steps.ndim - 1)))

    def draw(self, codes: Latents) -> Images:
        """Decode latents."""
        return self.pair.autoencoder.decode(codes)

    def _signed(self, moves: Moves) -> Float[Tensor, "k ..."]:
        return torch.stack([self.steps[index] * sign for index, sign in moves])

    def _stretched(self, image: int, steps: Float[Tensor, "k ..."]) -> Codes:
        lengths = torch.tensor(self.lengths).to(steps).reshape(-1, *[1] * steps.ndim)
        return self.latents[image] + lengths * steps


@dataclass(frozen=True, eq=False)
class OwnMover:
    """Steps of each image's own: its gradient, or the singular vectors of the Jacobian at its reconstruction."""

    pair: Pair
    latents: Latents
    steps: Float[Tensor, "n m ..."]
    lengths: tuple[float, ...]

    def alone(self, image: int, moves: Moves) -> Codes:
        """The latent moved along each of its own steps at every length."""
        return StepMover(self.pair, self.latents, self.steps[image], self.lengths).alone(image, moves)

    def together(self, image: int, moves: Moves) -> Codes:
        """The latent moved along running sums of its own steps."""
        return StepMover(self.pair, self.latents, self.steps[image], self.lengths).together(image, moves)

    def draw(self, codes: Latents) -> Images:
        """Decode latents."""
        return self.pair.autoencoder.decode(codes)


@dataclass(frozen=True, eq=False)
class CoordinateMover:
    """Style coordinates towards their extremes; lengths are multiples of the way there."""

    model: StyleModel
    styles: Float[Tensor, "n s"]
    extremes: attfind.Extremes
    lengths: tuple[float, ...]

    def alone(self, image: int, moves: Moves) -> Codes:
        """Styles with one coordinate moved."""
        return self._edited(image, [(move,) for move in moves])

    def together(self, image: int, moves: Moves) -> Codes:
        """Styles with the first 1, 2 ... k coordinates moved."""
        return self._edited(image, [moves[: n + 1] for n in range(len(moves))])

    def draw(self, codes: Float[Tensor, "n s"]) -> Images:
        """Decode styles."""
        return self.model.decode_styles(codes)

    def _edited(self, image: int, sets: list[Moves]) -> Codes:
        style = self.styles[image]
        rows = [
            torch.stack([attfind.apply_coordinates(style, self.extremes, moves, shift) for moves in sets])
            for shift in self.lengths
        ]
        return torch.stack(rows)
