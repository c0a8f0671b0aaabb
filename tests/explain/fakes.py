"""Tiny models whose behaviour is known, for tests of the explain layer."""

import torch
from torch import Tensor, nn

from gifsplain.models import wrap
from gifsplain.models.protocols import Pair
from gifsplain.types import Picture, Provenance

SIZE = 8


class Linear(nn.Module):
    """A classifier that is linear in the pixels: logits = images . weights + bias."""

    def __init__(self, targets: int = 2, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.Parameter(torch.randn(SIZE * SIZE, targets, generator=generator))
        self.bias = nn.Parameter(torch.zeros(targets))

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ self.weights + self.bias


class Curved(nn.Module):
    """An autoencoder with a short latent and a decoder that is not linear; draws within (0, 1)."""

    def __init__(self, width: int = 12, seed: int = 1, value_range: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__()
        self.low, self.high = value_range
        generator = torch.Generator().manual_seed(seed)
        self.up = nn.Parameter(torch.randn(width, SIZE * SIZE, generator=generator) * 0.5)

    def encode(self, images: Tensor) -> Tensor:
        unit = (images.flatten(1) - self.low) / (self.high - self.low)
        return (unit - 0.5) @ self.up.T

    def decode(self, latents: Tensor) -> Tensor:
        unit = torch.sigmoid(latents @ self.up / 4).reshape(-1, 1, SIZE, SIZE)
        return unit * (self.high - self.low) + self.low


def pair(seed: int = 0, *, value_range: tuple[float, float] = (0.0, 1.0)) -> Pair:
    """A classifier with targets A and B, and an autoencoder."""
    return wrap.pair(
        wrap.classifier(Linear(seed=seed), name="linear", targets=("A", "B"), size=SIZE),
        wrap.autoencoder(Curved(value_range=value_range), name="curved", size=SIZE, value_range=value_range),
    )


def picture(seed: int = 0, height: int = SIZE, width: int = SIZE, name: str = "case") -> Picture:
    """A random picture."""
    generator = torch.Generator().manual_seed(seed)
    return Picture(
        torch.rand(1, height, width, generator=generator), Provenance(name, "0" * 64, "test", (height, width), 8)
    )
