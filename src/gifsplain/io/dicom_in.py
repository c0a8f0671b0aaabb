"""A DICOM radiograph to a `Picture`, by the standard's order: modality, VOI, presentation (DESIGN 4.7)."""

import io
import re
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from gifsplain.errors import DicomError, InputError
from gifsplain.io import dicom_colour, dicom_frame, dicom_grey, files
from gifsplain.io.grey import Colour, finish, to_grey
from gifsplain.types import Picture, Provenance

MAX_INFLATED = 1 << 30
"""Bytes that a deflated file may grow to."""
_GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class Request:
    """What the caller wants of a DICOM file."""

    window: int | str | None = None
    colour: Colour = "refuse"
    max_pixels: int = 80_000_000


def load_dicom(content: bytes, name: str, request: Request) -> Picture:
    """The single radiograph in a DICOM file, in [0, 1], bone bright, `1 h w`.

    Everything else (multi-frame, colour unless asked for, no pixel data, damage) is a `DicomError` that says why.
    The provenance holds no element that identifies a patient; errors quote none either.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # pydicom warns about every value that breaks a rule; we judge the ones we use
            return _load(content, name, request)
    except InputError as error:
        text = str(error) if str(error).startswith(f"{name}: ") else f"{name}: {error}"
        raise DicomError(text) from error.__cause__
    except MemoryError as error:
        raise DicomError(f"{name}: expected an image that fits into memory; shrink it first") from error
    except (
        Exception
    ) as error:  # a damaged file makes pydicom and the codecs raise anything; its text may quote a patient
        raise DicomError(
            f"{name}: expected a whole DICOM file, got one that is truncated or damaged ({type(error).__name__}); "
            "copy or export it again"
        ) from error


def _load(content: bytes, name: str, request: Request) -> Picture:
    dataset = read_dataset(content, name)
    _check_kind(dataset, name, request.max_pixels)
    steps = _header_steps(dataset)
    if str(dataset.PhotometricInterpretation) in _GREY:
        pixels = _grey(dataset, name, request, steps)
    else:
        pixels = _colour(dataset, name, request, steps)
    finish(pixels, name)
    provenance = Provenance(
        name=name,
        sha256=files.sha256_bytes(content),
        format="DICOM",
        size=(int(pixels.shape[1]), int(pixels.shape[2])),
        bits=int(dataset.BitsStored),
        steps=tuple(steps),
    )
    return Picture(pixels=torch.from_numpy(pixels), provenance=provenance)


def read_dataset(content: bytes, name: str) -> Dataset:
    """The parsed data set; a deflated one is measured before it is inflated."""
    _check_inflation(content, name)
    dataset = dcmread(io.BytesIO(content), force=content[128:132] != b"DICM")
    if len(dataset) == 0:
        raise DicomError(f"{name}: expected a DICOM object, got a file without any element; copy or export it again")
    return dataset


def _check_inflation(content: bytes, name: str) -> None:
    """Refuse a deflated data set that grows beyond `MAX_INFLATED` (a bomb) or ends early."""
    if DeflatedExplicitVRLittleEndian.encode() not in content[:2048]:
        return
    if content[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        raise DicomError(f"{name}: expected a deflated file that states the length of its header; export it again")
    start = 144 + int.from_bytes(content[140:144], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total, data = 0, content[start:]
    while data and not inflater.eof:
        total += len(inflater.decompress(data, 1 << 24))
        data = inflater.unconsumed_tail
        if total > MAX_INFLATED:
            raise DicomError(f"{name}: expected at most {MAX_INFLATED:,} bytes inside the deflated file, got more")
    if not inflater.eof:
        raise DicomError(f"{name}: expected a whole deflated DICOM file, it is truncated; copy or export it again")


def _check_kind(dataset: Dataset, name: str, max_pixels: int) -> None:
    """Refuse whatever is not one image with stored pixels."""
    uid = UID(str(dataset.get("SOPClassUID", "")))
    kind = uid.name if uid and not uid.is_private else "an object of unknown kind"
    if (
        uid == MediaStorageDirectoryStorage
        or dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
    ):
        raise DicomError(f"{name}: expected an image, got a DICOMDIR (a table of contents); give the files it lists")
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise DicomError(f"{name}: expected integer pixels, got floating ones ({kind}); export the radiograph itself")
    if "PixelData" not in dataset:
        if "Rows" in dataset:
            raise DicomError(
                f"{name}: expected an image, its pixel data is missing or cut off ({kind}); export it again"
            )
        raise DicomError(f"{name}: expected an image, got no pixel data ({kind}); give the radiograph, not its report")
    needed = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation")
    lacking = [keyword for keyword in needed if dataset.get(keyword) in (None, "")]
    if lacking:
        raise DicomError(f"{name}: expected an image description, {', '.join(lacking)} missing; export it again")
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames != 1:
        raise DicomError(
            f"{name}: expected one image, got {frames} frames ({kind}): an explanation is about one image; "
            "export the frame you mean as a file of its own"
        )
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if not 0 < rows * columns <= max_pixels:
        raise DicomError(f"{name}: expected 1 to {max_pixels:,} pixels, got {rows} x {columns}; shrink it first")
    if not 2 <= int(dataset.BitsStored) <= 16 or int(dataset.BitsStored) > int(dataset.BitsAllocated):
        raise DicomError(
            f"{name}: expected 2 to 16 bits stored, got {dataset.BitsStored} of {dataset.BitsAllocated} ({kind}); "
            "give the radiograph itself"
        )


def _header_steps(dataset: Dataset) -> list[str]:
    """How it is stored and what it shows, from coded elements only."""
    syntax = dicom_frame.transfer_syntax(dataset)
    steps = [f"transfer syntax {syntax.name}"]
    shows = []
    for label, keyword in (("modality", "Modality"), ("body part", "BodyPartExamined"), ("view", "ViewPosition")):
        value = str(dataset.get(keyword, "") or "").strip()
        if re.fullmatch(r"[A-Z0-9 _]{1,16}", value):  # a coded string; anything else might be free text
            shows.append(f"{label} {value}")
    if shows:
        steps.append("header: " + ", ".join(shows))
    return steps


def _grey(dataset: Dataset, name: str, request: Request, steps: list[str]) -> Any:
    """Stored values through the grey-scale chain; it is computed once for each possible value, then looked up."""
    stored, padding = dicom_frame.stored_values(dataset, name)
    signed = "signed" if dicom_frame.is_signed(dataset) else "unsigned"
    steps.append(f"{dataset.BitsStored} of {dataset.BitsAllocated} bits stored, {signed}")
    low = int(stored.min())
    counts = np.bincount(
        (stored[~padding] if padding is not None else stored).ravel() - low, minlength=int(stored.max()) - low + 1
    )
    if not counts.any():
        raise DicomError(f"{name}: expected an image, every pixel is padding; check the export")
    values = np.arange(low, low + len(counts))
    table = dicom_grey.display_values(dataset, values, counts > 0, request.window, steps, name)
    pixels = table.astype(np.float32)[stored - low]
    if padding is not None and padding.any():
        pixels[padding] = 0
        steps.append(f"pixel padding set to background ({100 * padding.mean():.1f} % of the pixels)")
    ratio = dataset.get("PixelAspectRatio")
    if ratio is not None and len(ratio) == 2 and ratio[0] != ratio[1]:
        steps.append(f"pixels are not square ({ratio[0]}:{ratio[1]}) and kept as stored")
    return np.ascontiguousarray(pixels[None])


def _colour(dataset: Dataset, name: str, request: Request, steps: list[str]) -> Any:
    """A colour screenshot: decoded to RGB, then refused, made grey or kept."""
    photometric = str(dataset.PhotometricInterpretation)
    if request.colour == "refuse":
        raise DicomError(
            f"{name}: expected a grey radiograph (MONOCHROME1 or MONOCHROME2), got {photometric}; "
            'probably a screenshot: give the original, or ask for grey (--colour grey, in Python colour="grey")'
        )
    samples = dicom_frame.decode(dataset, name)
    bits = int(dataset.BitsStored)
    if photometric == "PALETTE COLOR":
        samples, bits = dicom_colour.look_up(dataset, samples)
        steps.append("palette looked up")
    else:
        steps.append(f"{photometric} decoded to RGB")
    if samples.ndim != 3 or samples.shape[2] != 3:
        raise DicomError(f"{name}: expected three channels for {photometric}, got shape {samples.shape}")
    unit = np.clip(samples.astype(np.float32) / np.float32(2**bits - 1), 0, 1)
    return to_grey(unit, request.colour, name, steps)
