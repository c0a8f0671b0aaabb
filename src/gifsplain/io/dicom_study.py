"""The study that derived DICOM objects belong to: the source's own, with its identity only where asked for."""

import itertools
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from gifsplain.errors import DicomError, InputError
from gifsplain.io.dicom_magic import is_dicom

SOFTWARE = "gifsplain"
WRITTEN = ("cine.dcm", "overlay.dcm", "image.dcm", "segmentation.dcm")
"""Names of the objects of an explanation."""
_PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
_STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
_EMPTY = (*_PATIENT[:2], *_PATIENT[3:], *_STUDY[1:6])
"""Elements that an object must hold even if nothing is known (type 2)."""
_POINTER = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelSpacing",
)
_DATE = r"(\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))?"
_NUMBER = r"([+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)?"
_FORMS = {
    "PatientBirthDate": _DATE,
    "StudyDate": _DATE,
    "StudyTime": r"(([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?)?",
    "PatientSex": "[MFO]?",
    "PatientSize": _NUMBER,
    "PatientWeight": _NUMBER,
}
"""Values that the standard knows (PS3.5 6.2), of elements that are parsed when objects are made."""
_NAMED = ("SOPClassUID", "SOPInstanceUID")
"""Without these an object cannot be referred to."""
_FIRST_SERIES = 9001
_QUIET = threading.RLock()
"""Filters of warnings belong to the process: two threads that change them at once would leave them changed."""


@dataclass(frozen=True)
class Study:
    """Identity and references that all objects of one radiograph's explanations share; `of` makes one."""

    header: Dataset
    source: Dataset | None
    """Referred to by the derived objects; None where the radiograph did not come as DICOM."""
    names_patient: bool
    quality: Dataset
    """What derived pixels inherit: burnt-in annotation, lossy compression."""
    capture_series: str
    segmentation_series: str
    series_number: int
    _numbers: Iterator[int] = field(repr=False)

    @classmethod
    def of(cls, source: Dataset | str | Path | None = None, *, keep_identity: bool = False) -> Self:
        """The study of a DICOM file or data set, else a fresh one; the patient is named only with `keep_identity`."""
        dataset = _read(source) if isinstance(source, str | Path) else source
        with quietly():
            return cls._of(dataset, keep_identity)

    @classmethod
    def _of(cls, dataset: Dataset | None, keep_identity: bool) -> Self:
        if keep_identity and dataset is None:
            raise InputError("expected a DICOM source to keep the identity of, got none; leave keep_identity off")
        if keep_identity and dataset is not None:
            if not dataset.get("StudyInstanceUID"):
                raise DicomError("expected a source with a StudyInstanceUID, it has none; leave keep_identity off")
            header = _kept(dataset)
        else:
            header = _nameless(str(dataset.get("StudyInstanceUID", "")) if dataset is not None else "")
        numbers = itertools.count(_FIRST_SERIES, 2)
        quality = _quality(dataset)
        return cls(header, dataset, keep_identity, quality, new_uid(), new_uid(), next(numbers), numbers)

    def next_series(self) -> Self:
        """The same study with series of their own: one for captures, one for the segmentation."""
        return replace(self, capture_series=new_uid(), segmentation_series=new_uid(), series_number=next(self._numbers))

    def reference_of_size(self, shape: tuple[int, ...]) -> Dataset | None:
        """What must be known of the source to refer to it, when it has this height and width; names no more than asked."""
        if self.source is None or (self.source.get("Rows"), self.source.get("Columns")) != tuple(shape):
            return None
        if _lacks(self.source, (*_NAMED, "SeriesInstanceUID")):
            return None
        pointer = Dataset()
        pointer.file_meta = FileMetaDataset()
        pointer.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        pointer.update(self.header)
        for keyword in _POINTER:
            if keyword in self.source:
                pointer[keyword] = self.source[keyword]
        return pointer

    def complete(self, dataset: Dataset) -> None:
        """What every object says: who made it, from what, and whether identity was removed."""
        now = datetime.now(UTC)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.TimezoneOffsetFromUTC = "+0000"
        dataset.InstanceCreationDate = dataset.ContentDate = now.strftime("%Y%m%d")
        dataset.InstanceCreationTime = dataset.ContentTime = now.strftime("%H%M%S")
        dataset.ContributingEquipmentSequence = [_equipment(now)]
        if not self.names_patient:
            removed = self.quality.BurnedInAnnotation == "NO"
            dataset.PatientIdentityRemoved = "YES" if removed else "NO"
            dataset.DeidentificationMethod = "New object; of the source only UIDs were copied"
        if self.source is not None and _lacks(self.source, _NAMED) is None:
            dataset.SourceImageSequence = [reference(self.source)]


@contextmanager
def quietly() -> Iterator[None]:
    """pydicom warns about every value that breaks a rule, quoting it, which may be a patient's name."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def new_uid() -> str:
    """A random unique identifier, below the root for UUIDs."""
    return str(generate_uid(prefix=None))


def software_version() -> str:
    """Version of the installed package."""
    try:
        return version(SOFTWARE)
    except PackageNotFoundError:
        return "not installed"


def base_dataset(study: Study, sop_class: str, number: int) -> Dataset:
    """A secondary capture without pixels yet: patient, study, series, equipment, and what all of them say."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.update(study.header)
    dataset.update(study.quality)
    dataset.SOPClassUID, dataset.SOPInstanceUID = UID(sop_class), UID(new_uid())
    dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality = "OT"
    dataset.SeriesInstanceUID = study.capture_series
    dataset.SeriesNumber, dataset.InstanceNumber = study.series_number, number
    dataset.ConversionType = "WSD"
    dataset.Manufacturer = dataset.ManufacturerModelName = SOFTWARE
    dataset.SoftwareVersions = software_version()
    dataset.SecondaryCaptureDeviceManufacturer = dataset.SecondaryCaptureDeviceManufacturerModelName = SOFTWARE
    dataset.SecondaryCaptureDeviceSoftwareVersions = software_version()
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = ""  # unknown, but asked for
    if "BodyPartExamined" not in dataset:
        dataset.Laterality = ""  # likewise, unless the body part says that there is only one
    study.complete(dataset)
    return dataset


def reference(source: Dataset) -> Dataset:
    """A pointer to the source image, saying what it was used for."""
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [_code(Code("121322", "DCM", "Source image for image processing operation"))]
    return item


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def own_scheme() -> Dataset:
    """Who is behind the code for "region of change", for which no public code exists."""
    item = Dataset()
    item.CodingSchemeDesignator = "99GIFSPLAIN"
    item.CodingSchemeName = "gifsplain private codes"
    item.CodingSchemeResponsibleOrganization = SOFTWARE
    return item


def _equipment(now: datetime) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code(Code("109103", "DCM", "Modifying Equipment"))]
    item.Manufacturer = item.ManufacturerModelName = SOFTWARE
    item.SoftwareVersions = software_version()
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S+0000")
    item.ContributionDescription = "Synthetic images that explain a classifier; research use, not for diagnosis"
    return item


def _lacks(source: Dataset, keywords: tuple[str, ...]) -> str | None:
    """The first of the elements that the source does not have or leaves empty."""
    return next((keyword for keyword in keywords if not source.get(keyword)), None)


def _read(path: str | Path) -> Dataset:
    """The header; a data set without the prefix of a file is one too, where its content says so (old archives)."""
    try:
        with Path(path).open("rb") as stream:
            bare = is_dicom(stream.read(132))
        with quietly():
            return dcmread(path, stop_before_pixels=True, force=bare)
    except Exception as error:  # pydicom raises anything on damaged data
        raise DicomError(f"{path}: expected a DICOM source, it cannot be read ({type(error).__name__})") from error


def _kept(source: Dataset) -> Dataset:
    """Patient and study elements of the source, as text that does not depend on its character set.

    A date, time, sex or number that breaks the standard counts as unknown: a segmentation cannot be made with it.
    """
    header = Dataset()
    for keyword in _EMPTY:
        setattr(header, keyword, "")
    for keyword in (*_PATIENT, *_STUDY):
        if keyword in source and (text := _text(source, keyword)) is not None:
            setattr(header, keyword, text)
    return header


def _text(source: Dataset, keyword: str) -> str | None:
    """The element's text; empty where it breaks the standard, None where there is no value."""
    value, form = source[keyword].value, _FORMS.get(keyword, ".*")
    return None if value is None else str(value) if re.fullmatch(form, str(value), re.DOTALL) else ""


def _nameless(study_uid: str) -> Dataset:
    """The study of that UID with everything else left empty, or a new study of its own; the patient is nobody."""
    header = Dataset()
    for keyword in _EMPTY:
        setattr(header, keyword, "")
    header.PatientName, header.PatientID = "Anonymous^Synthetic", f"SYNTHETIC-{new_uid()[-12:]}"
    if study_uid:
        header.StudyInstanceUID = study_uid
        return header
    header.StudyInstanceUID, header.StudyID = new_uid(), "1"
    header.StudyDescription = "Synthetic explanation, research use, not for diagnosis"
    now = datetime.now(UTC)
    header.StudyDate, header.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    return header


def _quality(source: Dataset | None) -> Dataset:
    """What stays true of derived pixels: burnt-in annotation, lossy compression, body part."""
    quality = Dataset()
    quality.BurnedInAnnotation = "NO"
    quality.LossyImageCompression = "00"
    if source is None:
        return quality
    if source.get("BurnedInAnnotation") == "YES":
        quality.BurnedInAnnotation = "YES"
    for keyword in ("BodyPartExamined", "Laterality"):
        if re.fullmatch(r"[A-Z0-9 _]{1,16}", str(source.get(keyword, ""))):
            setattr(quality, keyword, str(source[keyword].value))
    if source.get("LossyImageCompression") == "01":
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if source.get(keyword):
                quality[keyword] = source[keyword]
    return quality


def remove_written(folder: Path) -> list[Path]:
    """Remove the DICOM objects that an earlier run left in the folder of an explanation; returns what was removed.

    Only files by our names that name this software as their maker: anything else is somebody's own.
    """
    removed = []
    for path in (folder / name for name in WRITTEN):
        if path.is_file() and not path.is_symlink() and _is_ours(path):
            path.unlink()
            removed.append(path)
    return removed


def _is_ours(path: Path) -> bool:
    try:
        return bool(dcmread(path, specific_tags=["Manufacturer"]).get("Manufacturer") == SOFTWARE)
    except (InvalidDicomError, OSError):
        return False
