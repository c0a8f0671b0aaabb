"""From stored samples to one grey channel in [0, 1]; the rules that all formats share (docs/images.md)."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from gifsplain.errors import InputError

Colour = Literal["refuse", "grey", "keep"]
"""What happens to an image whose channels differ."""
Plane = Float32[np.ndarray, "h w"] | Float32[np.ndarray, "h w 3"]

ALMOST_GREY = 3 / 255
"""Channels that differ by no more than lossy compression makes them differ count as grey."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Stored:
    """Decoded samples in [0, 1], `h w` or `h w 3`, and what was done to get there."""

    pixels: Plane
    format: str
    bits: int
    steps: tuple[str, ...]


def unit_range(array: NDArray[Any], name: str, declared: int | None = None) -> tuple[Plane, int, str]:
    """Samples in [0, 1], their bits, and the rule as a step.

    Unsigned integers are divided by their type's largest value; 16-bit samples by `2**declared - 1` where the file
    declares its bits, and by 4095 where none exceeds it; floats must lie in [0, 1] already.
    """
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == bool:
        return array.astype(np.float32), 1, "false 0, true 1"
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255), 8, "divided by 255"
    if array.dtype == np.uint16:
        bits = declared or (12 if array.max() < 4096 else 16)
        why = "declared" if declared else "no sample exceeds 12 bits" if bits == 12 else "16 bits"
        top = 2**bits - 1
        scaled = np.minimum(array.astype(np.float32) / np.float32(top), np.float32(1))
        return scaled, bits, f"divided by {top} ({why})"
    if array.dtype.kind == "f":
        return (_floats(array, name), array.dtype.itemsize * 8, "floating samples in [0, 1] taken as they are")
    raise InputError(
        f"{name}: expected samples of type uint8, uint16, bool, or floats in [0, 1], got {array.dtype}; "
        "convert them, because their range cannot be known"
    )


def _floats(array: NDArray[Any], name: str) -> Plane:
    check_finite(array, name)
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise InputError(
            f"{name}: expected floating samples in [0, 1], got [{low:.9g}, {high:.9g}]; scale them by their true range, "
            "or clip what rounding leaves outside"
        )
    return array.astype(np.float32)


def to_grey(pixels: Plane, colour: Colour, name: str, steps: list[str]) -> Float32[np.ndarray, "c h w"]:
    """`1 h w`, or `3 h w` when the colour is kept; what was done is appended to `steps`."""
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels[None])
    spread = float((pixels.max(axis=2) - pixels.min(axis=2)).max())
    if spread <= ALMOST_GREY:
        steps.append("equal channels taken as grey" if spread == 0 else "almost equal channels taken as grey")
        return np.ascontiguousarray(pixels[None, :, :, 1])
    if colour == "keep":
        steps.append("colour kept")
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    if colour == "grey":
        steps.append("colour made grey (BT.601 luma)")
        return np.ascontiguousarray((pixels @ _LUMA)[None])
    raise InputError(
        f"{name}: expected a grey image, got colour (channels differ by up to {spread:.2f}); "
        'if it is meant, ask for grey (--colour grey, in Python colour="grey")'
    )


def check_finite(array: NDArray[Any], name: str) -> None:
    """Refuse NaN and infinity."""
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise InputError(f"{name}: expected finite samples, got {bad:,} that are NaN or infinite; replace them")


def finish(pixels: Float32[np.ndarray, "c h w"], name: str) -> None:
    """Refuse what no model can be asked about: NaN, infinity, and an image of one value."""
    check_finite(pixels, name)
    low, high = float(pixels.min()), float(pixels.max())
    if low == high:
        raise InputError(f"{name}: expected an image, every pixel has the same value {low:.3g}; check the export")
