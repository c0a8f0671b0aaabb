"""DICOM radiographs made for tests, and PS3.3 C.11 written down a second time, slowly, one value at a time."""

import io
import math

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

SECRET = "Doe^Jane^SecretName"


def radiograph(stored, *, bits=12, allocated=16, signed=False, photometric="MONOCHROME2", **elements):
    """A CR object that holds `stored` as they are; further elements by keyword, None leaves one out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = SECRET, "SECRET-ID-77", "SECRET-ACC"
    dataset.PatientBirthDate, dataset.StudyDate = "19010203", "20200102"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "PA"
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel = 1 if stored.ndim == 2 else 3
    if stored.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    kind = f"<{'i' if signed else 'u'}{allocated // 8}"
    content = stored.astype(kind).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW" if allocated > 8 else "OB"
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def file_bytes(dataset, **options):
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True, **options)
    return stream.getvalue()


def lut(first, bits, entries, explanation=""):
    """An item of a LUT sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, dtype="<u2").tobytes())
    item.LUTExplanation = explanation
    return item


def slow_window(x, centre, width, function):
    """PS3.3 C.11.2.1.2 and C.11.2.1.3 for one value, output range 0 to 1."""
    if function == "LINEAR":
        if x <= centre - 0.5 - (width - 1) / 2:
            return 0.0
        if x > centre - 0.5 + (width - 1) / 2:
            return 1.0
        return (x - (centre - 0.5)) / (width - 1) + 0.5
    if function == "LINEAR_EXACT":
        if x <= centre - width / 2:
            return 0.0
        if x > centre + width / 2:
            return 1.0
        return (x - centre) / width + 0.5
    exponent = -4 * (x - centre) / width
    return 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))


def slow_lut(x, first, entries):
    """The entry for one value; beyond the ends the end's entry."""
    place = round(x) - first
    if place < 0:
        return entries[0]
    return entries[-1] if place >= len(entries) else entries[place]
