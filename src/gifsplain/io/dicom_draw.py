"""Pixels for DICOM viewers: 8 bits, a caption below that says synthetic, a map over its image."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

CAPTION_FROM = 96
"""Narrower images get no caption, because it could not be read."""
WARNING = "SYNTHETIC. Research use. Not for diagnosis."


def to_bytes(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """[0, 1] as 0 to 255, to the nearest."""
    return np.asarray(np.rint(np.clip(values, 0, 1) * 255), dtype=np.uint8)


def caption(width: int, lines: tuple[str, ...]) -> UInt8[np.ndarray, "s w"]:
    """A black strip with light text that fits the width; no rows at all for an image that is too narrow."""
    if width < CAPTION_FROM:
        return np.zeros((0, width), dtype=np.uint8)
    size = max(7.0, width / 40)
    margin = max(2, width // 80)
    while size > 5 and max(_length(line, size) for line in lines) > width - 2 * margin:
        size *= 0.93
    step = int(np.ceil(size * 1.4))
    strip = Image.new("L", (width, margin * 2 + step * len(lines)), 0)
    draw = ImageDraw.Draw(strip)
    for index, line in enumerate(lines):
        draw.text((margin, margin + index * step), line, fill=230, font=ImageFont.load_default(size))
    return np.asarray(strip)


def _length(text: str, size: float) -> float:
    return float(ImageFont.load_default(size).getlength(text))


def paint(image: Float[np.ndarray, "h w"], heat: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """The image with the map laid over it: transparent at 0, red over orange to yellow towards the map's maximum."""
    top = float(heat.max())
    share = (heat / top if top > 0 else np.zeros_like(heat))[..., None]
    colour = np.concatenate([np.ones_like(share), share, np.zeros_like(share)], axis=-1)
    opacity = 0.65 * share
    return np.asarray(image[..., None] * (1 - opacity) + colour * opacity)
