"""What all pictures share: the grey scale, a palette that holds it together with a few colours, and the writing."""

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import ImageFont
from torch import Tensor

MARK = "synthetic, research use"
"""Stands on every animated frame (DESIGN 4.9)."""
GREYS = 248
"""Greys of the palette; the rest are the accents. No grey is further than one of 256 from the true one."""
ACCENT = ((74, 163, 223), (245, 180, 60))
"""The bar; the operating point."""


def to_bytes(picture: Float[Tensor, "c h w"]) -> UInt8[np.ndarray, "h w *c"]:
    """0 as 0 and 1 as 255 whatever the picture holds, so that greys of different frames can be compared.

    One channel gives `h w`, three give `h w 3`; values outside [0, 1] are clamped.
    """
    levels = (picture.detach().clamp(0, 1) * 255).round().byte().cpu()
    return levels[0].numpy() if levels.shape[0] == 1 else levels.permute(1, 2, 0).numpy()


@cache
def palette() -> UInt8[np.ndarray, "256 3"]:
    """`GREYS` equally spaced greys from black to white, then the accents."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[:GREYS] = np.rint(np.linspace(0, 255, GREYS)).astype(np.uint8)[:, None]
    colours[GREYS : GREYS + len(ACCENT)] = ACCENT
    return colours


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same letters on every machine."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def fit_in_figure(text: str, room: float, *, points: float = 10, dpi: float = 110) -> str:
    """One line of a matplotlib figure, cut with an ellipsis where it is wider than `room` pixels."""
    return fit(" ".join(text.split()), font(round(points * dpi / 72)), room)


def fit(text: str, letters: ImageFont.FreeTypeFont, room: float) -> str:
    """The text, cut with an ellipsis where it is wider than `room` pixels."""
    if letters.getlength(text) <= room:
        return text
    while text and letters.getlength(text + "…") > room:
        text = text[:-1]
    return text.rstrip() + "…"
