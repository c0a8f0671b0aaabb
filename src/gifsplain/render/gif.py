"""GIF with only what changed: Pillow compresses each frame, the container and the differences are made here.

Pillow's own writer merges equal neighbours, so that the number of frames would depend on the picture, and stores
whole frames of a radiograph, which makes files several times as large.
"""

import struct
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Indices = UInt8[np.ndarray, "h w"]

TRANSPARENT = 255
"""Index that no frame may use: what was there stays."""
_BITS = 8
"""Of a palette index."""


def encode(
    frames: Sequence[Indices],
    order: Sequence[int],
    palette: UInt8[np.ndarray, "256 3"],
    *,
    milliseconds: int,
    ramp: int = 0,
) -> bytes:
    """The frames as an endless GIF with `len(order)` pictures.

    The first `ramp` colours of the palette are neighbouring greys: a pixel that moves by a single one of them keeps
    its old grey, so that what is seen is never more than one grey off and does not drift.
    """
    height, width = frames[0].shape
    head = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0xF7, 0, 0) + palette.astype(np.uint8).tobytes()
    loop = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
    control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 0b101, _hundredths(milliseconds), TRANSPARENT, 0)
    body = [control + _image(left, top, part) for left, top, part in _changes(frames, order, ramp)]
    return b"".join([head, loop, *body, b"\x3b"])


def _changes(frames: Sequence[Indices], order: Sequence[int], ramp: int) -> Iterator[tuple[int, int, Indices]]:
    """Left, top and pixels of the smallest rectangle that holds every change; the first picture is whole."""
    shown = frames[order[0]].copy()
    yield 0, 0, shown.copy()
    for index in order[1:]:
        wanted = frames[index]
        changed = _differs(shown, wanted, ramp)
        np.copyto(shown, wanted, where=changed)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        if not len(rows):
            yield 0, 0, np.full((1, 1), TRANSPARENT, np.uint8)
            continue
        area = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        yield int(columns[0]), int(rows[0]), np.where(changed[area], wanted[area], np.uint8(TRANSPARENT))


def _differs(shown: Indices, wanted: Indices, ramp: int) -> np.ndarray:
    larger, smaller = np.maximum(shown, wanted), np.minimum(shown, wanted)
    changed: np.ndarray = (larger - smaller > 1) | ((larger != smaller) & (larger >= ramp))
    return changed


def _image(left: int, top: int, pixels: Indices) -> bytes:
    """Image block of one frame: descriptor and compressed pixels, without a palette of its own."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    height, width = pixels.shape
    descriptor = struct.pack("<BHHHHB", 0x2C, left, top, width, height, 0)
    return descriptor + bytes([_BITS]) + picture.tobytes("gif", picture.mode, _BITS, 0) + b"\0"  # not interlaced


def _hundredths(milliseconds: int) -> int:
    """GIF counts hundredths of a second; browsers slow anything under two of them down to ten."""
    return max(2, round(milliseconds / 10))
