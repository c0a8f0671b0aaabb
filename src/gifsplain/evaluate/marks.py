"""Marks that are planted in radiographs so that the true reason of a decision is known."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.types import Images

MarkKind = Literal["square", "disc", "band", "text"]
Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
_GAP = 0.04
"""Distance of a mark from the border, as a share of the side."""


@dataclass(frozen=True)
class Mark:
    """What is planted; sizes are shares of the image side."""

    kind: MarkKind = "square"
    size: float = 0.1
    """Side of the square, diameter of the disc, height of the band or of the text."""
    corner: Corner = "top-left"
    """A band lies along the top or the bottom, over the whole width."""
    brightness: float = 0.9
    """Grey value of square, disc and text; a band adds `brightness - 0.5` to what is there."""
    text: str = "L"

    def __post_init__(self) -> None:
        if not 0 < self.size <= 0.5:
            raise InputError(f"a mark's size must lie in (0, 0.5], got {self.size}")
        if not 0 <= self.brightness <= 1:
            raise InputError(f"a mark's brightness must lie in [0, 1], got {self.brightness}")


def _corner(mark: Mark, size: int, width: int, height: int) -> tuple[int, int]:
    gap = round(_GAP * size)
    top = gap if mark.corner.startswith("top") else size - gap - height
    left = gap if mark.corner.endswith("left") else size - gap - width
    return max(top, 0), max(left, 0)


def _ink(mark: Mark, size: int) -> Float[np.ndarray, "s s"]:
    """How far each pixel is covered by the mark, 0 to 1."""
    side = max(2, round(mark.size * size))
    ink = np.zeros((size, size), dtype=np.float32)
    if mark.kind == "band":
        start = 0 if mark.corner.startswith("top") else size - side
        ink[start : start + side] = 1
        return ink
    if mark.kind == "text":
        return _text_ink(mark, size, side)
    top, left = _corner(mark, size, side, side)
    if mark.kind == "square":
        ink[top : top + side, left : left + side] = 1
        return ink
    y, x = np.mgrid[:size, :size] + 0.5
    inside = (y - top - side / 2) ** 2 + (x - left - side / 2) ** 2 <= (side / 2) ** 2
    disc: Float[np.ndarray, "s s"] = inside.astype(np.float32)
    return disc


def _text_ink(mark: Mark, size: int, side: int) -> Float[np.ndarray, "s s"]:
    font = ImageFont.load_default(size=side)
    left, top, right, bottom = (round(v) for v in font.getbbox(mark.text))
    page = Image.new("L", (size, size))
    y, x = _corner(mark, size, right - left, bottom - top)
    ImageDraw.Draw(page).text((x - left, y - top), mark.text, fill=255, font=font)
    return np.asarray(page, dtype=np.float32) / 255


def plant(images: Images, mark: Mark) -> Images:
    """Copies of the images with the mark drawn in; still in [0, 1]."""
    ink = torch.from_numpy(_ink(mark, images.shape[-1])).to(images)
    if mark.kind == "band":
        return (images + ink * (mark.brightness - 0.5)).clamp(0, 1)
    return images * (1 - ink) + mark.brightness * ink


def mark_mask(mark: Mark, size: int) -> Bool[Tensor, "s s"]:
    """Where the mark is; for text the rectangle around the letters."""
    inked = _ink(mark, size) > 0.5
    if mark.kind == "text":
        rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
        inked[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return torch.from_numpy(inked)


def presence(images: Images, mark: Mark) -> Float[Tensor, " b"]:
    """How bright the inked pixels are against the ring around them, in grey ranges: about 0 without the mark."""
    size = images.shape[-1]
    ink = torch.from_numpy(_ink(mark, size) > 0.5)
    reach = max(1, round(mark.size * size / 2))
    grown = torch.nn.functional.max_pool2d(mark_mask(mark, size)[None, None].float(), 2 * reach + 1, 1, reach)[0, 0] > 0
    ring = grown & ~mark_mask(mark, size)
    grey = images.mean(dim=1)
    return grey[:, ink].mean(dim=1) - grey[:, ring].mean(dim=1)


def assign(labels: Bool[np.ndarray, " n"], agreement: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Which images get the mark: it equals the label in exactly the share `agreement` of each class (to rounding).

    0.5 carries no information; 1.0 marks all positives and no negative.
    """
    if not 0 <= agreement <= 1:
        raise InputError(f"agreement must lie in [0, 1], got {agreement}")
    generator = np.random.default_rng(seed)
    marked = labels.copy()
    for value in (True, False):
        members = np.flatnonzero(labels == value)
        against = generator.permutation(members)[: round((1 - agreement) * len(members))]
        marked[against] = not value
    return marked
