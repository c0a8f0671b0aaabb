"""A pair of tiny models that any process can load by name, and images on disk."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gifsplain.models import wrap

SIZE = 16


class Code(nn.Module):
    """Four by four means and back."""

    def encode(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 4)

    def decode(self, z: Tensor) -> Tensor:
        return nn.functional.interpolate(z, scale_factor=4.0, mode="bilinear")


class Brightness(nn.Module):
    """Logits: brightness of the left and of the right half. Ends its process where a file tells it to."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[..., : SIZE // 2].mean((1, 2, 3)), x[..., SIZE // 2 :].mean((1, 2, 3))
        return torch.stack([left, right], 1) * 12 - 6


def classifier() -> wrap.ImageClassifier:
    return wrap.classifier(Brightness(), name="brightness", targets=("left", "right"), size=SIZE)


def autoencoder() -> wrap.ImageAutoencoder:
    return wrap.autoencoder(Code(), name="means", size=SIZE)


class Stumbling(Code):
    """Ends its own process at random places, as a machine that fails would."""

    def decode(self, z: Tensor) -> Tensor:
        mark = os.environ.get("GIFSPLAIN_TEST_KILL")
        if mark and Path(mark).is_file():
            try:
                Path(mark).unlink()  # one process wins
            except FileNotFoundError:
                return super().decode(z)
            os.kill(os.getpid(), 9)
        return super().decode(z)


def stumbling() -> wrap.ImageAutoencoder:
    return wrap.autoencoder(Stumbling(), name="means", size=SIZE)


def unloadable() -> wrap.ImageAutoencoder:
    """Loads in the program's own process but not in one that it starts, as on a GPU that is full."""
    if multiprocessing.parent_process() is not None:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return autoencoder()


SIZES: list[int] = []
"""Sizes of the batches that `hungry` was given."""
FITS = 1


class Hungry(Code):
    """Has memory for one image at once."""

    def decode(self, z: Tensor) -> Tensor:
        SIZES.append(len(z))
        if len(z) > FITS:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().decode(z)


def hungry() -> wrap.ImageAutoencoder:
    return wrap.autoencoder(Hungry(), name="means", size=SIZE)


def write_images(folder: Path, count: int, *, seed: int = 0) -> None:
    """`count` grey pictures of noise, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        pixels = generator.integers(60, 190, (SIZE, SIZE)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"case{number:04d}.png")
