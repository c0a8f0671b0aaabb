"""From a picture at its own size to what a model takes: centre crop to a square, then resize, as torchxrayvision does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.models.protocols import ModelCard
from gifsplain.models.resample import resize
from gifsplain.types import Images, Picture

_XRV_BORDER = 0.5
"""torchxrayvision pads its resize with 0 in [-1024, 1024]: the middle of the range."""
_ROUNDING = 1e-3
"""Pixels may lie outside of [0, 1] by so much, as resizing leaves them; they are clamped."""


@dataclass(frozen=True)
class Crop:
    """The square of the original that the models see, in original pixels."""

    top: int
    left: int
    side: int


def centre_crop(height: int, width: int) -> Crop:
    """Largest centred square; odd differences round as `torchxrayvision.datasets.XRayCenterCrop` does."""
    side = min(height, width)
    return Crop(top=height // 2 - side // 2, left=width // 2 - side // 2, side=side)


def to_image(picture: Picture, card: ModelCard) -> Float[Tensor, "c s s"]:
    """One picture at the size and channels of `card`, in [0, 1].

    Raises:
        InputError: When the pixels are not what `Picture` says they are, or have colour and the model is grey.
    """
    pixels = _checked(picture.pixels, picture.provenance.name)
    channels, height, width = pixels.shape
    if channels != card.channels:
        if channels != 1:
            raise InputError(
                f"{picture.provenance.name}: {card.name} takes {card.channels} channel(s), the picture has {channels}; "
                "load it with colour='grey'"
            )
        pixels = pixels.expand(card.channels, height, width)
    crop = centre_crop(height, width)
    square = pixels[:, crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    return resize(square, (card.size, card.size), border=_XRV_BORDER).clamp(0, 1)


def _checked(pixels: Any, name: str) -> Float[Tensor, "c h w"]:
    """The pixels of a `Picture`, which anybody may build; without their graph.

    A network would take other axes, types and ranges as they come and answer with scores that mean nothing.
    """
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.float32 or pixels.layout != torch.strided:
        got = pixels.dtype if isinstance(pixels, Tensor) and pixels.layout == torch.strided else type(pixels).__name__
        raise InputError(
            f"{name}: expected pixels as a float32 tensor in [0, 1], got {got}; "
            "convert them with torch.as_tensor(...).float() and divide by the value of white"
        )
    if pixels.is_meta or pixels.ndim != 3 or 0 in pixels.shape:
        raise InputError(
            f"{name}: expected pixels with values and axes c h w, got {tuple(pixels.shape)}; one picture each"
        )
    if not bool(pixels.isfinite().all()):
        count = int((~pixels.isfinite()).sum())
        raise InputError(f"{name}: {count} pixels are nan or infinite, expected numbers in [0, 1]")
    low, high = (float(value) for value in pixels.detach().aminmax())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise InputError(
            f"{name}: expected pixels in [0, 1], got [{low:.4g}, {high:.4g}]; scale them by their true range"
        )
    return pixels.detach()


def to_images(pictures: Picture | Sequence[Picture], card: ModelCard) -> Images:
    """Pictures as one batch for a model (`to_image` for each)."""
    sequence = [pictures] if isinstance(pictures, Picture) else pictures
    return torch.stack([to_image(picture, card) for picture in sequence])
