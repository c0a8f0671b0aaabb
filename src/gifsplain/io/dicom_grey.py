"""The grey-scale chain of PS3.3 C.11 as pure functions: stored value, modality, VOI, presentation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int
from pydicom.dataset import Dataset

from gifsplain.errors import DicomError, InputError
from gifsplain.io.dicom_frame import as_stored, is_signed

Values = Float64[np.ndarray, " v"]


@dataclass(frozen=True)
class Window:
    """Centre and width in modality units, and the function between (PS3.3 C.11.2.1.2)."""

    centre: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True)
class Lut:
    """Table whose first entry belongs to `first`; values beyond either end take that end's entry."""

    first: int
    bits: int
    entries: Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Choice:
    """One of the ways in which the file offers to be seen."""

    voi: Window | Lut
    explanation: str


def display_values(
    dataset: Dataset,
    stored: Int[np.ndarray, " v"],
    present: Bool[np.ndarray, " v"],
    window: int | str | None,
    steps: list[str],
    name: str,
) -> Values:
    """Brightness in [0, 1] for each stored value; `present` marks values that occur outside the padding."""
    values = modality(dataset, stored, steps)
    chosen = choose(choices(dataset, steps), window, steps, name)
    if isinstance(chosen, Window):
        shown = apply_window(values, chosen)
    elif isinstance(chosen, Lut):
        shown = apply_lut(values, chosen) / (2**chosen.bits - 1)
    else:
        shown = _whole_range(dataset, values, present, steps)
    return _presentation(dataset, shown, steps)


def modality(dataset: Dataset, stored: Int[np.ndarray, " v"], steps: list[str]) -> Values:
    """Stored values in modality units: by the LUT if there is one, else by rescale slope and intercept."""
    source = _functional(dataset, "PixelValueTransformationSequence")
    if dataset.get("ModalityLUTSequence"):
        lut = _lut(dataset, dataset.ModalityLUTSequence[0], steps)
        steps.append(f"modality LUT of {len(lut.entries)} entries")
        return apply_lut(stored.astype(np.float64), lut)
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    slope = 1.0 if slope in (None, "") else float(slope)
    intercept = 0.0 if intercept in (None, "") else float(intercept)
    if (slope, intercept) != (1.0, 0.0):
        steps.append(f"rescale: slope {slope:g}, intercept {intercept:g}")
    return stored * slope + intercept


def choices(dataset: Dataset, steps: list[str]) -> list[Choice]:
    """VOI LUTs, then windows, in the file's order; a window whose width makes no sense is left out and said so."""
    source = _functional(dataset, "FrameVOILUTSequence")
    found = [
        Choice(_lut(dataset, item, steps), str(item.get("LUTExplanation", "") or "").strip())
        for item in dataset.get("VOILUTSequence") or []
    ]
    function = str(source.get("VOILUTFunction", "") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise DicomError(f"expected VOI LUT function LINEAR, LINEAR_EXACT or SIGMOID, got {function!r}")
    centres, widths = _window_numbers(source, steps)
    texts = [str(text).strip() for text in _several(source.get("WindowCenterWidthExplanation"))]
    texts += [""] * len(centres)
    for centre, width, text in zip(centres, widths, texts, strict=False):
        window = Window(centre, width, function)
        if not _is_usable(window):
            steps.append(
                f"window with centre {window.centre:g} and width {window.width:g} left out: it cannot be applied"
            )
            continue
        found.append(Choice(window, text))
    return found


def _window_numbers(source: Dataset, steps: list[str]) -> tuple[list[float], list[float]]:
    """Centres and widths; none of them where one is no number, as with a decimal comma."""
    try:
        centres, widths = _several(source.get("WindowCenter")), _several(source.get("WindowWidth"))
        return [float(centre) for centre in centres], [float(width) for width in widths]
    except ValueError:
        steps.append("windows left out: centre or width is no number")
        return [], []


def _is_usable(window: Window) -> bool:
    """Whether there is a function with this centre and width (PS3.3 C.11.2.1.2)."""
    least = 1.0 if window.function == "LINEAR" else math.nextafter(0, 1)
    return math.isfinite(window.centre) and math.isfinite(window.width) and window.width >= least


def choose(found: list[Choice], wanted: int | str | None, steps: list[str], name: str) -> Window | Lut | None:
    """The wanted choice by index or explanation, the first by default, None for `"none"` or where there is none."""
    if wanted == "none" or (wanted is None and not found):
        return None
    index = _index(found, wanted, name)
    voi, text = found[index].voi, found[index].explanation
    label = f"choice {index} of {len(found)}" + (f", {text!r}" if text else "")
    if isinstance(voi, Lut):
        steps.append(f"VOI LUT of {len(voi.entries)} entries, {voi.bits} bits ({label})")
    else:
        steps.append(f"window {voi.function}: centre {voi.centre:g}, width {voi.width:g} ({label})")
    return voi


def _index(found: list[Choice], wanted: int | str | None, name: str) -> int:
    if wanted is None:
        return 0
    if isinstance(wanted, str) and wanted.lstrip("-").isdecimal():
        wanted = int(wanted)
    if isinstance(wanted, int) and 0 <= wanted < len(found):
        return wanted
    for index, choice in enumerate(found):
        if isinstance(wanted, str) and choice.explanation.lower() == wanted.strip().lower():
            return index
    offers = ", ".join(f"{i} {choice.explanation}".strip() for i, choice in enumerate(found)) or "no window at all"
    raise InputError(f'{name}: expected a window among: {offers}; got {wanted!r} (or "none" for the whole range)')


def apply_window(values: Values, window: Window) -> Values:
    """Brightness in [0, 1]: PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.2 (LINEAR_EXACT), C.11.2.1.3.1 (SIGMOID)."""
    centre, width = window.centre, window.width
    if window.function == "SIGMOID":
        shown = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    elif window.function == "LINEAR_EXACT":
        shown = (values - centre) / width + 0.5
    elif width == 1:  # a step: the ramp's length is 0
        shown = (values > centre - 0.5).astype(np.float64)
    else:
        shown = (values - (centre - 0.5)) / (width - 1) + 0.5
    return np.asarray(np.clip(shown, 0, 1))


def apply_lut(values: Values, lut: Lut) -> Values:
    """Entries for values that are rounded to whole numbers first."""
    places = np.clip(np.rint(values).astype(np.int64) - lut.first, 0, len(lut.entries) - 1)
    return np.asarray(lut.entries[places], dtype=np.float64)


def _lut(dataset: Dataset, item: Dataset, steps: list[str]) -> Lut:
    """A LUT item; entries are 8 bits packed, or 16 bits."""
    descriptor = [int(value) for value in item.LUTDescriptor]
    count = (descriptor[0] & 0xFFFF) or 0x10000
    first = as_stored(dataset, descriptor[1]) if is_signed(dataset) else descriptor[1]
    entries = lut_entries(dataset, item.LUTData, count)
    bits = descriptor[2]
    if not 8 <= bits <= 16:
        raise DicomError(f"expected a LUT of 8 to 16 bits, got {bits}; choose a window instead")
    needed = max(bits, int(entries.max()).bit_length())
    if needed > bits:
        steps.append(f"LUT declares {bits} bits but needs {needed}")
    return Lut(first, needed, entries)


def lut_entries(dataset: Dataset, data: Any, count: int) -> Int[np.ndarray, " n"]:
    """Entries of a LUT element, which may be 8 bits packed, 16 bits in the file's byte order, or parsed numbers."""
    if isinstance(data, bytes):
        little = dataset.original_encoding[1] is not False
        packed = len(data) in (count, count + count % 2) and count > 1
        kind = np.dtype(np.uint8) if packed else np.dtype("<u2" if little else ">u2")
        entries = np.frombuffer(data, dtype=kind, count=min(count, len(data) // kind.itemsize)).astype(np.int64)
    else:
        entries = np.asarray(_several(data), dtype=np.int64) & 0xFFFF
    if len(entries) < count:
        raise DicomError(f"expected a LUT of {count} entries, got {len(entries)}; the file is damaged")
    return entries[:count]


def _whole_range(dataset: Dataset, values: Values, present: Bool[np.ndarray, " v"], steps: list[str]) -> Values:
    """Without a window: up to 8 bits mean what they say, deeper images are stretched from least to largest value."""
    bits = int(dataset.BitsStored)
    seen = values[present]
    low, high = float(seen.min()), float(seen.max())
    if bits <= 8 and not is_signed(dataset) and low >= 0 and high <= 2**bits - 1:
        steps.append(f"no window: full stored range 0 to {2**bits - 1}")
        return np.asarray(np.clip(values / (2**bits - 1), 0, 1))
    steps.append(f"no window: stretched from the least value {low:g} to the largest {high:g}, padding left out")
    if high == low:
        return np.zeros_like(values)
    return np.asarray(np.clip((values - low) / (high - low), 0, 1))


def _presentation(dataset: Dataset, shown: Values, steps: list[str]) -> Values:
    """Inverted once if the photometric interpretation or the presentation LUT shape says that low values are bright."""
    shape = str(dataset.get("PresentationLUTShape", "") or "").strip().upper()
    reasons = [word for word in (str(dataset.PhotometricInterpretation), shape) if word in ("MONOCHROME1", "INVERSE")]
    if not reasons:
        return shown
    steps.append(f"{' and '.join(reasons)}: inverted")
    return 1 - shown


def _several(value: Any) -> list[Any]:
    """The values of an element that may hold none, one or several."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _functional(dataset: Dataset, keyword: str) -> Dataset:
    """The functional group item of an enhanced object, or the data set itself."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in dataset.get(groups) or []:
            if group.get(keyword):
                item: Dataset = group[keyword].value[0]
                return item
    return dataset
