"""Maps as pictures: alone or over the image, in a stated window, with a colour bar, boxes and outlines."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.render.frames import enlarge
from gifsplain.render.ink import fit, font, to_bytes
from gifsplain.types import Explanation, Map

Colours = UInt8[np.ndarray, "h w 3"]
YELLOW = (255, 214, 10)


class Box(NamedTuple):
    """A rectangle in pixels of the map; right and bottom are outside of it."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Window:
    """Values that the two ends of the colour scale stand for; what lies outside takes the end's colour."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"expected a window whose low end is below its high end, got {self.low} to {self.high}")

    @classmethod
    def of(cls, *maps: Map, share: float = 0.999) -> "Window":
        """From 0 to the value that `share` of all pixels stay below, so that one stray pixel does not dim the rest.

        Maps that are compared share one window. A map of zeros gets 0 to 1.
        """
        values = np.concatenate([one.detach().cpu().numpy().ravel() for one in maps])
        values = values[np.isfinite(values)]
        high = float(np.quantile(values, share)) if len(values) else 0.0
        return cls(0.0, high if high > 0 else float(values.max(initial=0.0)) or 1.0)

    def part(self, values: Map) -> Float[np.ndarray, "h w"]:
        """Place of each value in the window, 0 to 1; nan counts as the low end."""
        numbers = np.nan_to_num(values.detach().cpu().double().numpy(), nan=self.low)
        parts: np.ndarray = np.clip((numbers - self.low) / (self.high - self.low), 0, 1)
        return parts


def plain_picture(explanation: Explanation) -> Image.Image:
    """The picture as the models saw it, with nothing drawn on it; enlarged like the map beside it."""
    return Image.fromarray(enlarge(to_bytes(explanation.image)))


def draw_map(map: Map, window: Window) -> Colours:
    """The map alone, in a colour scale that grows evenly in lightness (inferno): black is the low end."""
    colours: np.ndarray = _scale()[np.rint(window.part(map) * 255).astype(np.uint8)]
    return colours


def draw_overlay(image: Float[Tensor, "c h w"], map: Map, window: Window, *, opacity: float = 0.75) -> Colours:
    """The map over the image: as opaque as its place in the window, so that the image stays untouched where it is 0."""
    if image.shape[-2:] != map.shape:
        raise InputError(f"expected a map of the image's size {tuple(image.shape[-2:])}, got {tuple(map.shape)}")
    below = to_bytes(image)
    if below.ndim == 2:
        below = np.repeat(below[..., None], 3, axis=2)
    share = (window.part(map) * opacity)[..., None]
    return np.rint(below * (1 - share) + draw_map(map, window) * share).astype(np.uint8)


def outline(
    pixels: Colours,
    *,
    boxes: Sequence[Box] = (),
    mask: Bool[np.ndarray, "a b"] | None = None,
    size: tuple[int, int],
    colour: tuple[int, int, int] = YELLOW,
) -> Colours:
    """The picture with boxes and the border of a mask drawn on it; `size` is the height and width they are given in."""
    picture = Image.fromarray(pixels)
    pen, (height, width) = ImageDraw.Draw(picture), size
    across, down = picture.width / width, picture.height / height
    stroke = max(1, round(picture.width / 224))
    for box in boxes:
        corners = (box.left * across, box.top * down, box.right * across - 1, box.bottom * down - 1)
        pen.rectangle(corners, outline=colour, width=stroke)
    drawn = np.array(picture)
    if mask is not None:
        grown = np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST))
        drawn[_border(grown, stroke)] = colour
    return drawn


def with_scale(pixels: Colours, window: Window, caption: str) -> Image.Image:
    """The picture above a colour bar that states the window in numbers; enlarged until the writing can be read."""
    pixels = enlarge(pixels)
    height, width = pixels.shape[:2]
    em = max(12, round(width / 30))
    pad = round(em * 0.7)
    page = Image.new("RGB", (width, height + round(em * 3.4)), (16, 16, 16))
    page.paste(Image.fromarray(pixels), (0, 0))
    pen, letters = ImageDraw.Draw(page), font(round(em * 0.8))
    ramp = np.broadcast_to(_scale()[None], (1, 256, 3)).copy()
    bar = Image.fromarray(ramp).resize((width - 2 * pad, round(em * 0.6)), Image.Resampling.NEAREST)
    page.paste(bar, (pad, height + round(em * 1.75)))
    low, high = f"{window.low:.3g}", f"{window.high:.3g}"
    pen.text((pad, height + round(em * 0.4)), fit(caption, letters, width - 2 * pad), fill=(235,) * 3, font=letters)
    foot = height + round(em * 2.42)
    pen.text((pad, foot), low, fill=(190,) * 3, font=letters)
    pen.text((width - pad, foot), high, fill=(190,) * 3, font=letters, anchor="ra")
    return page


def map_picture(explanation: Explanation, window: Window | None = None) -> Image.Image:
    """`map.png`: the map alone with its scale."""
    window = window or Window.of(explanation.map)
    return with_scale(draw_map(explanation.map, window), window, caption(explanation))


def overlay_picture(
    explanation: Explanation,
    window: Window | None = None,
    *,
    boxes: Sequence[Box] = (),
    mask: Bool[np.ndarray, "h w"] | None = None,
) -> Image.Image:
    """`overlay.png`: the map over the image with its scale, and expert boxes or a mask where they are given."""
    window = window or Window.of(explanation.map)
    drawn = enlarge(draw_overlay(explanation.image, explanation.map, window))
    height, width = explanation.map.shape
    marked = outline(drawn, boxes=boxes, mask=mask, size=(height, width))
    return with_scale(marked, window, caption(explanation))


def caption(explanation: Explanation) -> str:
    """What the map shows, in one line: target, method, how the sweep became a map."""
    kind = f" {explanation.map_name} over the sweep" if explanation.has_sweep else f" {explanation.map_name}"
    words = re.sub(r"\s+", " ", f"{explanation.target} · {explanation.method},{kind}")
    return words if explanation.map_name != explanation.method else f"{explanation.target} · {explanation.method}"


@cache
def _scale() -> UInt8[np.ndarray, "256 3"]:
    from matplotlib import colormaps

    colours: np.ndarray = np.rint(colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(np.uint8)
    return colours


def _border(mask: Bool[np.ndarray, "h w"], stroke: int) -> Bool[np.ndarray, "h w"]:
    from skimage.morphology import disk, erosion

    padded = np.pad(mask, stroke)
    inner = erosion(padded, disk(stroke))
    border: np.ndarray = mask & ~inner[stroke:-stroke, stroke:-stroke]
    return border


def encode_png(picture: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
