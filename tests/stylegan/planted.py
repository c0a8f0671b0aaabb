"""Models in which the right direction is known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gifsplain.models.protocols import ModelCard, Pair
from gifsplain.models.stylegan import State

SIZE = 4
PIXELS = SIZE * SIZE
LINEAR = ModelCard("linear", "autoencoder", SIZE, sha256="l")
PLANTED = ModelCard("planted", "classifier", SIZE, targets=("wanted", "other"), sha256="p")


@dataclass(frozen=True, eq=False)
class LinearStyles:
    """x = 1/2 + B A w: A is the map to styles, B has orthonormal columns."""

    affine: Tensor
    draw: Tensor
    layers: tuple[int, ...]
    card: ModelCard = LINEAR
    w_dim: int = 6

    @property
    def searched(self) -> tuple[int, ...]:
        return self.layers

    def encode(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ self.draw @ torch.linalg.pinv(self.affine).T

    def styles(self, latents: Tensor) -> Tensor:
        return latents @ self.affine.T

    def decode_styles(self, styles: Tensor, start: int = 0, state: State | None = None) -> Tensor:
        return (styles @ self.draw.T).reshape(-1, 1, SIZE, SIZE) + 0.5

    def states(self, styles: Tensor) -> list[State]:
        blank = torch.zeros(len(styles), 1, 1, 1)
        return [State(blank, None) for _ in self.layers]

    def decode(self, latents: Tensor) -> Tensor:
        return self.decode_styles(self.styles(latents))

    def affine_matrix(self, *, normalize_rows: bool = False) -> Tensor:
        return torch.nn.functional.normalize(self.affine, dim=1) if normalize_rows else self.affine


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """logits = gain * (x - 1/2) . weight + bias."""

    weight: Tensor
    bias: Tensor
    card: ModelCard = PLANTED

    def logits(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ self.weight.T + self.bias

    def link(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)

    def scores(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(images))


def orthonormal(rows: int, columns: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))[0]


def eigen_pair(which: int = 3) -> tuple[Pair, Tensor]:
    """The first target looks along the image of right singular vector `which`; returns that vector too."""
    right = orthonormal(6, 6, 1)
    affine = orthonormal(8, 6, 2) @ torch.diag(torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])) @ right.T
    model = LinearStyles(affine, orthonormal(PIXELS, 8, 3), (3, 5))
    vector = right[:, which]
    seen = model.draw @ affine @ vector
    other = model.draw @ affine @ right[:, 0]
    classifier = LinearClassifier(torch.stack([seen, other]) * 4, torch.zeros(2))
    return Pair(classifier, model), vector


def coordinate_pair(coordinate: int = 5) -> Pair:
    """The first target looks at one style coordinate only."""
    model = LinearStyles(torch.eye(8, 6) + 0.3 * orthonormal(8, 6, 5), orthonormal(PIXELS, 8, 3), (3, 5))
    seen = model.draw[:, coordinate]
    return Pair(LinearClassifier(torch.stack([seen * 20, model.draw[:, 0]]), torch.zeros(2)), model)


def latents(n: int, seed: int = 0, scale: float = 0.02) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)) * scale
