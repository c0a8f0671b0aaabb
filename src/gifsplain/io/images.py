"""Any image file to a `Picture`: the content decides what it is, one clear error says why it cannot be used."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from gifsplain.errors import InputError
from gifsplain.io import files
from gifsplain.io.dicom_magic import is_dicom
from gifsplain.io.grey import Colour, Stored, finish, to_grey, unit_range
from gifsplain.types import Picture, Provenance

MAX_BYTES = 1 << 30
"""Larger files are refused before they are read."""
MAX_PIXELS = 80_000_000
"""Larger images are refused before they are decoded; the largest digital radiographs have about 30 million pixels."""

SUFFIXES = frozenset(
    [".png", ".jpg", ".jpeg", ".npy", ".dcm", ".dicom", ".dic", ".tif", ".tiff", ".webp", ".bmp", ".gif"]
)
"""Suffixes that name an image file; files without a suffix are looked into as well (DICOM often has none)."""
_PILLOW = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"RIFF", b"BM", b"GIF8")


def load_image(path: str | Path, *, window: int | str | None = None, colour: Colour = "refuse") -> Picture:
    """The picture in a PNG, JPEG, TIFF, WebP, BMP, GIF, NPY or DICOM file, in [0, 1], bone bright.

    `window` chooses among the windows and VOI LUTs of a DICOM file, by index or explanation, or `"none"`
    (docs/dicom.md); other formats have none and say so in the steps. `colour` says what happens to an image whose
    channels differ: refused, made grey by BT.601 luma, or kept as `3 h w`. Ranges by format: docs/images.md.
    Everything that cannot be used is an `InputError` (`DicomError` for DICOM).
    """
    if not isinstance(path, str | Path):
        raise InputError(
            f"expected the path of an image file, got {type(path).__name__}; "
            "make a gifsplain.Picture of pixels that are in memory (docs/own-classifier.md)"
        )
    return load_bytes(_read(Path(path)), picture_name(path), window=window, colour=colour)


def load_bytes(content: bytes, name: str, *, window: int | str | None = None, colour: Colour = "refuse") -> Picture:
    """As `load_image` for a file that is in memory already, such as an upload; `name` is used in errors and records."""
    if not content:
        raise InputError(f"{name}: expected an image, the file is empty")
    if len(content) > MAX_BYTES:
        raise InputError(f"{name}: expected at most {MAX_BYTES:,} bytes, got {len(content):,}; convert it first")
    if is_dicom(content):
        from gifsplain.io import dicom_in  # pydicom takes a second to load

        limits = dicom_in.Request(window=window, colour=colour, max_pixels=MAX_PIXELS)
        return dicom_in.load_dicom(content, name, limits)
    stored = _decode(content, name)
    steps = list(stored.steps)
    pixels = to_grey(stored.pixels, colour, name, steps)
    if window is not None:
        steps.append("no window applied: only DICOM files have windows")
    finish(pixels, name)
    provenance = Provenance(
        name=name,
        sha256=files.sha256_bytes(content),
        format=stored.format,
        size=(int(pixels.shape[1]), int(pixels.shape[2])),
        bits=stored.bits,
        steps=tuple(steps),
    )
    return Picture(pixels=torch.from_numpy(pixels), provenance=provenance)


def picture_name(path: str | Path) -> str:
    """The file's name without its suffix; a DICOM file named by its UID keeps its last number.

    Bytes that are no UTF-8, as in names from old archives, become question marks: records are text.
    """
    path = Path(path)
    return files.utf8(path.stem if path.suffix.lower() in SUFFIXES else path.name)


def _read(path: Path) -> bytes:
    """The file's bytes; folders, pipes and files that are too large are refused before anything is read."""
    try:
        if not path.exists():
            raise InputError(f"{path}: expected an image file, there is no such file")
        if not path.is_file():
            raise InputError(f"{path}: expected an image file, got a folder or device; give a file in it")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: expected at most {MAX_BYTES:,} bytes, got {path.stat().st_size:,}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected a readable file, got {error.strerror or error}") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)!r}: expected a path, got {error}") from error


def _decode(content: bytes, name: str) -> Stored:
    """Pixels in [0, 1] as `h w` or `h w 3`, decoded by what the content says."""
    if content.startswith(b"\x93NUMPY"):
        return _guard(_from_npy, content, name)
    if content.startswith(_MAGIC):
        return _guard(_from_pillow, content, name)
    raise InputError(
        f"{name}: expected PNG, JPEG, TIFF, WebP, BMP, GIF, NPY or DICOM, got {_likeness(content)}; "
        "save it in one of these formats"
    )


def _likeness(content: bytes) -> str:
    """What a file that is no image looks like, for the error."""
    known = {
        b"PK": "a zip archive (or NPZ)",
        b"\x1f\x8b": "a gzip archive",
        b"%PDF": "a PDF",
        b"<": "a text in HTML or XML",
        b"\x00\x00\x00\x0cjP": "a bare JPEG 2000 file",
        b"\x89HDF": "an HDF5 file",
    }
    for magic, likeness in known.items():
        if content.startswith(magic):
            return likeness
    return "none of them (by its first bytes)"


def _guard(decode: Callable[[bytes, str], Stored], content: bytes, name: str) -> Stored:
    """Turn everything that a third-party decoder may raise about a damaged file into one `InputError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the decoders' warnings are about damage that we judge ourselves
            return decode(content, name)
    except InputError:
        raise
    except Exception as error:  # decoders raise anything from OSError to SyntaxError on damaged input
        text = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise InputError(
            f"{name}: expected a whole image, got one that is truncated or damaged ({text}); copy or export it again"
        ) from error


def _check_pixels(height: int, width: int, name: str) -> None:
    if height < 1 or width < 1:
        raise InputError(f"{name}: expected an image, got {height} x {width} pixels")
    if height * width > MAX_PIXELS:
        raise InputError(f"{name}: expected at most {MAX_PIXELS:,} pixels, got {height} x {width}; shrink it first")


def _from_npy(content: bytes, name: str) -> Stored:
    """An array of one image: `h w`, `1 h w`, `h w 1`, `3 h w` or `h w 3`; the header is judged before any data."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise InputError(f"{name}: expected an NPY file of version 1 or 2, got {version}; save it with numpy.save")
    shape, fortran, dtype = readers[version](stream)
    if dtype.hasobject:
        raise InputError(f"{name}: expected numbers, got an array of Python objects; save a plain array")
    height, width, layout = _npy_layout(shape, name)
    _check_pixels(height, width, name)
    count = int(np.prod(shape, dtype=np.int64))
    if len(content) - stream.tell() < count * dtype.itemsize:
        raise InputError(f"{name}: expected {count * dtype.itemsize:,} bytes of data, the file is truncated")
    array = np.frombuffer(content, dtype=dtype, count=count, offset=stream.tell())
    array = array.reshape(shape, order="F" if fortran else "C")
    pixels, bits, step = unit_range(np.transpose(array, layout) if layout else array.reshape(height, width), name)
    return Stored(pixels, "NPY", bits, (step,))


def _npy_layout(shape: tuple[int, ...], name: str) -> tuple[int, int, tuple[int, ...] | None]:
    """Height, width and, for colour, the order of axes that gives `h w 3`."""
    if len(shape) == 2:
        return shape[0], shape[1], None
    if len(shape) == 3 and shape[0] == 1:
        return shape[1], shape[2], None
    if len(shape) == 3 and shape[2] == 1:
        return shape[0], shape[1], None
    if len(shape) == 3 and shape[2] == 3:
        return shape[0], shape[1], (0, 1, 2)
    if len(shape) == 3 and shape[0] == 3:
        return shape[1], shape[2], (1, 2, 0)
    raise InputError(
        f"{name}: expected one image (h w, 1 h w, 3 h w or h w 3), got shape {tuple(shape)}; save one a file"
    )


def _from_pillow(content: bytes, name: str) -> Stored:
    """A raster file through Pillow: one frame, upright, transparency over black, without a colour profile."""
    try:
        image = Image.open(io.BytesIO(content), formats=_PILLOW)
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: expected at most {MAX_PIXELS:,} pixels, got more than twice that") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{name}: expected {', '.join(_PILLOW)} of a usual kind, got a damaged header or a kind that Pillow does not read "
            "(such as TIFF of 64 bits); save it as PNG of 8 or 16 bits"
        ) from error
    with image:
        _check_pixels(image.height, image.width, name)
        frames = getattr(image, "n_frames", 1)
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        if frames > 1 and image.format != "MPO":
            raise InputError(f"{name}: expected one image, got {frames} frames or pages; save the one you mean")
        _check_end(content, kind, name)
        _check_sign(image, name)
        info = _Raster(kind, _significant_bits(content, kind), _white_is_zero(image))
        steps = [] if frames == 1 else [f"first of {frames} pictures"]
        upright = _upright(image, steps)
        return _from_raster(upright, info, name, steps)


class _Raster:
    """What the file says about its samples beyond Pillow's mode."""

    def __init__(self, kind: str, bits: int | None, white_is_zero: bool) -> None:
        self.kind = kind
        self.bits = bits
        self.white_is_zero = white_is_zero


def _check_end(content: bytes, kind: str, name: str) -> None:
    """Pillow is content with a JPEG that lacks its end; a cut file is refused whether or not pixels are missing."""
    if kind == "JPEG" and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
        raise InputError(f"{name}: expected a whole JPEG, the file is truncated; copy or export it again")


def _check_sign(image: Image.Image, name: str) -> None:
    """Pillow reads signed bytes as if they were unsigned: -1 would be white."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is not None and image.mode == "L" and 2 in np.atleast_1d(tags.get(339, 1)):
        raise InputError(
            f"{name}: expected unsigned samples, got signed ones of 8 bits; convert them, their range is unknown"
        )


def _upright(image: Image.Image, steps: list[str]) -> Image.Image:
    """Apply the EXIF orientation, as every viewer does."""
    turn = image.getexif().get(0x0112, 1)
    upright = ImageOps.exif_transpose(image)
    if turn in range(2, 9):
        steps.append(f"EXIF orientation {turn} applied")
    return upright


def _significant_bits(content: bytes, kind: str) -> int | None:
    """Bits a sample that a PNG declares (sBIT, else its bit depth); None for other formats."""
    if kind != "PNG":
        return None
    depth, colour_type = content[24], content[25]
    declared = _png_chunk(content, b"sBIT")
    if declared and depth == 16 and colour_type == 0 and 8 <= declared[0] < 16:
        return declared[0]
    return 8 if colour_type == 3 else depth


def _png_chunk(content: bytes, wanted: bytes) -> bytes:
    """Content of the first chunk of that kind before the pixels; empty where there is none."""
    place = 8
    while place + 8 <= len(content):
        length, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        if kind == wanted:
            return content[place + 8 : place + 8 + length]
        if kind in (b"IDAT", b"IEND"):
            break
        place += length + 12
    return b""


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF of more than 8 bits stores white as 0; Pillow inverts only up to 8 bits."""
    tags: Any = getattr(image, "tag_v2", None)
    return image.mode.startswith(("I", "F")) and tags is not None and tags.get(262) == 0


def _from_raster(image: Image.Image, info: _Raster, name: str, steps: list[str]) -> Stored:
    image.load()
    if image.mode.startswith(("I;16", "I", "F")):
        return _from_deep(image, info, name, steps)
    bits = info.bits or (1 if image.mode == "1" else 8)
    image = _over_black(image, steps)
    if image.mode == "P":
        image = image.convert("RGB")
        steps.append("palette looked up")
    if image.mode not in ("1", "L", "RGB"):
        steps.append(f"{image.mode} converted to RGB")
        image = image.convert("RGB")
    if bits == 16:
        steps.append("16-bit samples read at 8 bits (only plain grey keeps 16)")
    samples = np.asarray(image.convert("L") if image.mode == "1" else image)
    steps.append("divided by 255")
    return Stored(samples.astype(np.float32) / np.float32(255), info.kind, bits, tuple(steps))


def _from_deep(image: Image.Image, info: _Raster, name: str, steps: list[str]) -> Stored:
    """16-bit and floating samples, which Pillow keeps as they are."""
    samples = np.asarray(image)
    if samples.dtype == np.int32 and samples.min() >= 0 and samples.max() <= 0xFFFF:
        samples = samples.astype(np.uint16)
    declared = info.bits if info.bits and info.bits < 16 else None
    pixels, bits, step = unit_range(samples, name, declared)
    steps.append(step)
    if isinstance(clear := image.info.get("transparency"), int):  # of a PNG: the one value that is transparent
        pixels = np.where(samples == clear, np.float32(0), pixels)
        steps.append("transparency laid over black")
    if info.white_is_zero:
        pixels = 1 - pixels
        steps.append("white is zero: inverted")
    return Stored(pixels, info.kind, bits, tuple(steps))


def _over_black(image: Image.Image, steps: list[str]) -> Image.Image:
    """Transparency laid over black, the background of a radiograph; opaque alpha is dropped."""
    if image.mode not in ("LA", "RGBA", "PA", "La", "RGBa") and "transparency" not in image.info:
        return image
    layers = image.convert("RGBA")
    low, _ = layers.getchannel("A").getextrema()
    if low == 255:
        steps.append("opaque alpha dropped")
        return layers.convert("RGB")
    steps.append("transparency laid over black")
    black = Image.new("RGBA", layers.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, layers).convert("RGB")
