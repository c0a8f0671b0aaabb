"""Palettes of colour screenshots in DICOM."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from gifsplain.io.dicom_grey import Lut, apply_lut, lut_entries


def look_up(dataset: Dataset, indices: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Colours `h w 3` of a palette image, and the bits that they use (PS3.3 C.7.9).

    pydicom reads big-endian palettes in the wrong byte order, so only segmented ones go through it.
    """
    if "SegmentedRedPaletteColorLookupTableData" in dataset:
        colours = np.asarray(apply_color_lut(indices, dataset))
        return colours, 8 * colours.dtype.itemsize
    luts = [_channel(dataset, colour) for colour in ("Red", "Green", "Blue")]
    planes = [apply_lut(indices.astype(np.float64), lut) for lut in luts]
    return np.stack(planes, axis=-1), luts[0].bits


def _channel(dataset: Dataset, colour: str) -> Lut:
    descriptor = [int(value) for value in dataset[f"{colour}PaletteColorLookupTableDescriptor"].value]
    count = (descriptor[0] & 0xFFFF) or 0x10000
    entries = lut_entries(dataset, dataset[f"{colour}PaletteColorLookupTableData"].value, count)
    return Lut(descriptor[1], descriptor[2], entries)
