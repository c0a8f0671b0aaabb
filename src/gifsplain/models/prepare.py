"""From a picture at its own size to what a model takes: centre crop to a square, then resize, as torchxrayvision does."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.models.protocols import ModelCard
from gifsplain.models.resample import resize
from gifsplain.types import Images, Picture

_XRV_BORDER = 0.5
"""torchxrayvision pads its resize with 0 in [-1024, 1024]: the middle of the range."""


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
        InputError: When the picture has colour and the model is grey, or a pixel is no finite number.
    """
    pixels = picture.pixels
    if not bool(pixels.isfinite().all()):
        count = int((~pixels.isfinite()).sum())
        raise InputError(f"{picture.provenance.name}: {count} pixels are nan or infinite, expected numbers in [0, 1]")
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


def to_images(pictures: Picture | Sequence[Picture], card: ModelCard) -> Images:
    """Pictures as one batch for a model (`to_image` for each)."""
    sequence = [pictures] if isinstance(pictures, Picture) else pictures
    return torch.stack([to_image(picture, card) for picture in sequence])
