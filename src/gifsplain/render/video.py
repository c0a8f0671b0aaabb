"""A film as a file: GIF, animated WebP, animated PNG (Pillow) and MP4 (PyAV); endless where the format can say so."""

import io
import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gifsplain.errors import InputError
from gifsplain.render import gif, ink
from gifsplain.render.frames import Film


def encode_gif(film: Film) -> bytes:
    """The film as a GIF; grey films keep their palette, colours share one that is made for the whole film.

    Greys are right to within one of the palette's 248; every other format here keeps them as drawn (WebP and MP4
    with their usual loss).
    """
    if film.palette is not None:
        return gif.encode(list(film.frames), film.order, film.palette, milliseconds=film.milliseconds, ramp=ink.GREYS)
    frames, palette = _shared_palette(film)
    return gif.encode(frames, film.order, palette, milliseconds=film.milliseconds)


def encode_apng(film: Film) -> bytes:
    """The film as an animated PNG, without loss."""
    if film.palette is None:
        pictures = _coloured(film)
    else:
        pictures = [_with_palette(frame, film.palette) for frame in film.frames]
    first, *rest = _in_order(film, pictures)
    return _saved(first, "PNG", append_images=rest, duration=film.milliseconds, compress_level=4)


def encode_webp(film: Film, quality: int = 85) -> bytes:
    """The film as an animated WebP."""
    first, *rest = _in_order(film, _coloured(film))
    return _saved(first, "WEBP", append_images=rest, duration=film.milliseconds, quality=quality, method=2)


def encode_mp4(film: Film, crf: int = 18) -> bytes:
    """The film as an MP4: H.264 where PyAV carries an encoder, else MPEG-4 part 2; yuv420p, one round of the loop.

    `crf` is x264's quality (lower is better); the other encoders take a bit rate that looks alike.
    """
    with tempfile.TemporaryDirectory(prefix="gifsplain-") as folder:
        path = Path(folder) / "film.mp4"  # a file, because the index goes to its front after the last frame
        _write_mp4(film, path, crf)
        return path.read_bytes()


def _write_mp4(film: Film, path: Path, crf: int) -> None:
    name = mp4_encoder()
    height, width = film.frames.shape[1:3]
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(name, rate=Fraction(1000, film.milliseconds))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if name.startswith("libx264"):
            stream.options = {"crf": str(crf), "preset": "veryfast", "tune": "animation"}
        else:
            stream.bit_rate = max(400_000, 4 * width * height)
        planes = [yuv_planes(film, index) for index in range(len(film.frames))]
        for index in film.order:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes[index], format="yuv420p")))
        container.mux(stream.encode(None))


ENCODERS = {".gif": encode_gif, ".png": encode_apng, ".webp": encode_webp, ".mp4": encode_mp4}
"""What a file name's ending asks for."""


def encode(film: Film, path: Path) -> bytes:
    """The film in the format that the path's ending names; writes nothing."""
    try:
        encoder = ENCODERS[path.suffix.lower()]
    except KeyError:
        raise InputError(f"expected a name ending in {', '.join(ENCODERS)}, got {path.name}; rename it") from None
    return encoder(film)


@cache
def mp4_encoder() -> str:
    """The best encoder for MP4 that this build of PyAV carries."""
    for name in ("libx264", "libopenh264", "mpeg4"):
        try:
            av.Codec(name, "w")
        except ValueError:  # av's UnknownCodecError
            continue
        return name
    raise InputError("expected PyAV with an MP4 encoder (libx264, libopenh264 or mpeg4), got none; reinstall `av`")


_LUMA, _BLUE, _RED = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
"""ITU-R BT.601, limited range: what players assume of pictures of this size."""


def yuv_planes(film: Film, index: int) -> UInt8[np.ndarray, "r w"]:
    """One frame as yuv420p, the three planes below each other as PyAV takes them; once a frame, not once a showing."""
    if film.palette is None:
        frame = av.VideoFrame.from_ndarray(film.frames[index], format="rgb24")
        return frame.to_ndarray(format="yuv420p")  # type: ignore[no-any-return]
    luma, blue, red = _yuv_palette(film.palette.tobytes())
    indices = film.frames[index]
    corners = indices[::2, ::2], indices[::2, 1::2], indices[1::2, ::2], indices[1::2, 1::2]
    chroma = [((sum(table[corner] for corner in corners) + 2) >> 2).astype(np.uint8) for table in (blue, red)]
    return np.concatenate([plane.ravel() for plane in (luma[indices], *chroma)]).reshape(-1, indices.shape[1])


@cache
def _yuv_palette(colours: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Luma and both chromas of each palette entry; chromas wide enough to be summed."""
    unit = np.frombuffer(colours, np.uint8).reshape(-1, 3) / 255
    luma = np.rint(16 + unit @ _LUMA).astype(np.uint8)
    blue, red = (np.rint(128 + unit @ row).astype(np.uint16) for row in (_BLUE, _RED))
    return luma, blue, red


def _in_order(film: Film, pictures: list[Image.Image]) -> list[Image.Image]:
    return [pictures[index] for index in film.order]


def _coloured(film: Film) -> list[Image.Image]:
    return [Image.fromarray(film.colours(index)) for index in range(len(film.frames))]


def _shared_palette(film: Film) -> tuple[list[np.ndarray], UInt8[np.ndarray, "256 3"]]:
    """Indices of each frame and one palette for all of them: one a frame would make flat areas flicker."""
    chosen = film.frames[:: max(1, len(film.frames) // 5)]
    step = max(1, film.frames.shape[1] // 256)
    sample = Image.fromarray(np.concatenate(list(chosen[:, ::step, ::step])))
    shared = sample.quantize(gif.TRANSPARENT, method=Image.Quantize.MEDIANCUT)
    colours = np.zeros(768, np.uint8)
    used = shared.getpalette() or []
    colours[: len(used)] = used
    pictures = [Image.fromarray(frame).quantize(palette=shared, dither=Image.Dither.NONE) for frame in film.frames]
    return [np.asarray(picture) for picture in pictures], colours.reshape(256, 3)


def _with_palette(indices: UInt8[np.ndarray, "h w"], colours: UInt8[np.ndarray, "256 3"]) -> Image.Image:
    picture = Image.fromarray(indices).convert("L")
    picture.putpalette(colours.tobytes())
    return picture


def _saved(first: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    first.save(buffer, form, save_all=True, loop=0, **options)
    return buffer.getvalue()
