"""Stored values of a single-frame DICOM image: bits, signs, padding, and codestreams that lie about their size."""

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from gifsplain.errors import DicomError

Values = Int[np.ndarray, "h w"]
_DECODERS = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    RLELossless: "pydicom",
}
"""pydicom's plugin for each transfer syntax: no second try by another decoder, whose answer might differ."""
_TIMEOUT_S = 120
_SIZED_FRAMES = frozenset([*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7])
"""JPEG and JPEG-LS markers that start a frame and give its size."""


def transfer_syntax(dataset: Dataset) -> UID:
    """The declared transfer syntax, or what a data set without a header must be.

    Raises:
        DicomError: When the declared one is none of the standard, so that nothing is known about the pixels.
    """
    declared = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if declared:
        if UID(declared).is_private or not UID(declared).is_transfer_syntax:
            raise DicomError(f"expected a transfer syntax of the standard, got {declared}; convert or export it again")
        return UID(declared)
    implicit, little = dataset.original_encoding
    if little is False:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def is_signed(dataset: Dataset) -> bool:
    """Whether stored values are two's complement."""
    return int(dataset.get("PixelRepresentation", 0) or 0) == 1


def decode(dataset: Dataset, name: str) -> NDArray[Any]:
    """Samples as the codec gives them, colour as RGB; the compressed frame's own size is checked first."""
    syntax = transfer_syntax(dataset)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax.is_encapsulated and syntax not in _DECODERS:
        raise DicomError(f"{name}: expected a still-image transfer syntax, got {syntax.name}; convert it first")
    if syntax == JPEGExtended12Bit and int(dataset.BitsStored) > 8:
        raise DicomError(
            f"{name}: expected JPEG Extended of 8 bits, got {dataset.BitsStored}, which no free decoder reads; "
            "convert it, for example with dcmdjpeg of DCMTK"
        )
    if syntax.is_encapsulated and syntax != RLELossless:
        _check_codestream(dataset, syntax, name)
    try:
        if syntax in (JPEGLossless, JPEGLosslessSV1):
            return _decode_apart(dataset)
        return np.asarray(pixel_array(dataset, decoding_plugin=_DECODERS.get(syntax, "")))
    except Exception as error:  # codecs raise anything on damaged data
        text = " ".join(str(error).split())[:200]
        raise DicomError(
            f"{name}: expected whole pixel data ({syntax.name}), it could not be decoded ({text}); export it again"
        ) from error


def _decode_apart(dataset: Dataset) -> NDArray[Any]:
    """Decode lossless JPEG in a process of its own, because the codec may abort; only the frame is handed over."""
    samples, allocated = int(dataset.get("SamplesPerPixel", 1)), int(dataset.BitsAllocated)
    shape = (int(dataset.Rows), int(dataset.Columns)) + ((3,) if samples == 3 else ())
    if samples not in (1, 3) or allocated not in (8, 16):
        raise ValueError(f"{samples} samples a pixel of {allocated} bits")
    words = [dataset.Rows, dataset.Columns, samples, allocated, dataset.BitsStored, int(is_signed(dataset))]
    program = str(Path(__file__).with_name("apart.py"))
    command = [sys.executable, "-I", program, *map(str, words), str(dataset.file_meta.TransferSyntaxUID)]
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    result = subprocess.run(command, input=frame, capture_output=True, timeout=_TIMEOUT_S, check=False)
    if result.returncode != 0:
        raise ValueError(f"the decoder stopped with code {result.returncode}")
    kind = np.dtype(f"{'i' if is_signed(dataset) else 'u'}{allocated // 8}")
    pixels = np.frombuffer(result.stdout, dtype=kind).reshape(shape)
    if str(dataset.PhotometricInterpretation).startswith("YBR_FULL"):
        return np.asarray(convert_color_space(pixels, "YBR_FULL", "RGB"))
    return pixels


def stored_values(dataset: Dataset, name: str) -> tuple[Values, Bool[np.ndarray, "h w"] | None]:
    """Stored values as int32, and which of them are padding (None where no padding is declared)."""
    syntax = transfer_syntax(dataset)
    words = not syntax.is_encapsulated or syntax == RLELossless
    samples = _decode_words(dataset, name) if words else decode(dataset, name)
    if samples.ndim != 2:
        raise DicomError(f"{name}: expected one grey plane, got shape {samples.shape}; export it again")
    raw = samples.astype(np.int32)
    values = _used_bits(dataset, raw) if words else raw
    return values, _padding(dataset, raw, values)


def _decode_words(dataset: Dataset, name: str) -> NDArray[Any]:
    """Whole words with all allocated bits; pydicom would drop bits above the stored ones, wherever the high bit is."""
    bits = dataset.BitsStored
    try:
        dataset.BitsStored = dataset.BitsAllocated
        return decode(dataset, name)
    finally:
        dataset.BitsStored = bits


def _used_bits(dataset: Dataset, raw: Values) -> Values:
    """Only the bits from high bit down; the others may hold overlays or rubbish (PS3.5 8.1.1)."""
    bits = int(dataset.BitsStored)
    given = dataset.get("HighBit")
    high = bits - 1 if given is None else int(given)
    values = (raw >> max(0, high + 1 - bits)) & ((1 << bits) - 1)
    if is_signed(dataset):
        values = values - ((values >> (bits - 1)) << bits)
    return values


def _padding(dataset: Dataset, raw: Values, values: Values) -> Bool[np.ndarray, "h w"] | None:
    """Pixels whose stored value is the padding value or in the padding range (PS3.3 C.7.5.1.1.2)."""
    first = dataset.get("PixelPaddingValue")
    if first is None or first == "":
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    limit = first if limit is None or limit == "" else limit
    low, high = sorted(as_stored(dataset, int(value)) for value in (first, limit))
    padding = (values >= low) & (values <= high)
    if raw is not values:  # some files state the padding as the whole word
        padding |= (raw >= low) & (raw <= high)
    return np.asarray(padding)


def as_stored(dataset: Dataset, value: int) -> int:
    """A 16-bit element that may have been written with the wrong sign, in the sign of the pixels."""
    if is_signed(dataset):
        return value - 0x10000 if value > 0x7FFF else value
    return value + 0x10000 if value < 0 else value


def _check_codestream(dataset: Dataset, syntax: UID, name: str) -> None:
    """Refuse a compressed frame whose own header disagrees with Rows and Columns: it would decide the memory used."""
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    size = codestream_size(frame)
    expected = (int(dataset.Rows), int(dataset.Columns))
    if size is None:
        raise DicomError(f"{name}: expected a compressed image ({syntax.name}), its header is missing; export it again")
    if size != expected:
        raise DicomError(
            f"{name}: expected {expected[0]} x {expected[1]} pixels, the compressed image has {size[0]} x {size[1]}; "
            "export it again"
        )


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Height and width in a JPEG, JPEG-LS or JPEG 2000 codestream; None where there is no header."""
    if frame[:2] == b"\xff\xd8":
        return _jpeg_size(frame)
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)  # with or without the boxes of a JP2 file
    if start < 0 or len(frame) < start + 24:
        return None
    width, height, left, top = struct.unpack_from(">4I", frame, start + 8)
    return height - top, width - left


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker in _SIZED_FRAMES:
            height, width = struct.unpack_from(">2H", frame, place + 5)
            return height, width
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    return None
