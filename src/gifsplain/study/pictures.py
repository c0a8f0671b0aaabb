"""Study pictures made safe: decoded within bounds, stripped of all metadata, stored under random names.

An animation becomes one PNG with its frames from top to bottom, which the page plays: readers can pause and step, and
nothing but pixels reaches them.
"""

import hashlib
import io
import os
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
from PIL import Image, ImageSequence, UnidentifiedImageError

from gifsplain.errors import InputError

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 32 * 2**20
MAX_FRAMES = 120
MAX_SIDE = {"image": 1024, "animation": 512}
BLOCK = 16_384
"""Files are padded to whole blocks, so that lengths tell little about what is shown."""
FORMATS = ("PNG", "JPEG", "GIF", "WEBP")


@dataclass(frozen=True)
class Stored:
    """A picture in the media folder; `frames` are stacked from top to bottom, `duration` is one pass in milliseconds."""

    file: str
    sha256: str
    width: int
    height: int
    frames: int
    duration: int


def store(source: Path, folder: Path, kind: Literal["image", "animation"]) -> Stored:
    """Decode `source`, keep its pixels only, and write them to `folder` under a random name."""
    size = source.stat().st_size if source.is_file() else None
    if size is None:
        raise InputError(f"expected a picture, found none at {source}; check the media columns of the cases")
    if size > MAX_BYTES:
        raise InputError(f"expected at most {MAX_BYTES} bytes, got {size} in {source}; shrink the picture")
    frames, duration = _decoded(source, kind)
    width, height = frames[0].size
    sheet = Image.new(frames[0].mode, (width, height * len(frames)))
    for i, frame in enumerate(frames):
        sheet.paste(frame, (0, i * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=False)
    data = buffer.getvalue()
    data += bytes(-len(data) % BLOCK)  # decoders stop at the end mark
    name = secrets.token_hex(16)
    _write(folder / name, data)
    return Stored(name, hashlib.sha256(data).hexdigest(), width, height, len(frames), duration)


def _decoded(source: Path, kind: Literal["image", "animation"]) -> tuple[list[Image.Image], int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if source.suffix.lower() == ".mp4":
                frames, duration = _video(source)
            else:
                frames, duration = _still_or_gif(source, kind)
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        av.error.FFmpegError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"expected a PNG, JPEG, GIF or MP4 picture, got {source}, which cannot be decoded: {error}; make it again"
        ) from error
    if kind == "image":
        return [_shrunk(frames[0], MAX_SIDE[kind])], 0
    return [_shrunk(f, MAX_SIDE[kind]) for f in frames], duration


def _still_or_gif(source: Path, kind: str) -> tuple[list[Image.Image], int]:
    with Image.open(source, formats=FORMATS) as image:
        _bounded(image.width, image.height, source)
        if kind == "image":
            return [_plain(image)], 0
        frames: list[Image.Image] = []
        duration = 0.0
        for frame in ImageSequence.Iterator(image):
            _counted(len(frames), source)
            frames.append(_plain(frame))
            duration += float(frame.info.get("duration", 100))
        return _one_mode(frames), round(duration)


def _video(source: Path) -> tuple[list[Image.Image], int]:
    with av.open(str(source), format="mp4") as container:
        stream = container.streams.video[0]
        _bounded(stream.width, stream.height, source)
        frames: list[Image.Image] = []
        for frame in container.decode(stream):
            _counted(len(frames), source)
            frames.append(_plain(frame.to_image()))
        rate = float(stream.average_rate or 10)
    if not frames:
        raise InputError(f"expected a video with frames, got none in {source}; make it again")
    return _one_mode(frames), round(1000 * len(frames) / rate)


def _bounded(width: int, height: int, source: Path) -> None:
    if width * height > MAX_PIXELS or width < 8 or height < 8:
        raise InputError(f"expected 8 pixels a side to {MAX_PIXELS} pixels in all, got {width} x {height} in {source}")


def _counted(done: int, source: Path) -> None:
    if done >= MAX_FRAMES:
        raise InputError(f"expected at most {MAX_FRAMES} frames, got more in {source}; shorten the animation")


def _plain(image: Image.Image) -> Image.Image:
    """Grey or RGB pixels of 8 bits and nothing else."""
    if image.mode in ("I;16", "I", "F"):
        raise InputError(f"expected 8-bit pictures, got mode {image.mode}; window the radiograph first")
    rgba = image.mode in ("P", "RGBA", "LA", "PA")
    converted = image.convert("RGBA" if rgba else "L" if image.mode in ("L", "1") else "RGB")
    if rgba:
        black = Image.new("RGBA", converted.size, (0, 0, 0, 255))
        converted = Image.alpha_composite(black, converted).convert("RGB")
    copy = Image.new(converted.mode, converted.size)
    copy.paste(converted)
    return copy


def _one_mode(frames: list[Image.Image]) -> list[Image.Image]:
    grey = all(_is_grey(f) for f in frames)
    return [f.convert("L" if grey else "RGB") for f in frames]


def _is_grey(frame: Image.Image) -> bool:
    if frame.mode == "L":
        return True
    red, green, blue = frame.split()
    return red.tobytes() == green.tobytes() == blue.tobytes()


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    if scale >= 1:
        return image
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )


def _write(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False, prefix=".") as file:
        file.write(data)
    Path(file.name).replace(path)
    os.utime(path, (0, 0))  # times would tell in which order cases were made


def files(folder: Path) -> Iterator[Path]:
    """All stored pictures."""
    return (p for p in sorted(folder.iterdir()) if not p.name.startswith("."))
