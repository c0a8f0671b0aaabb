"""An explanation as DICOM objects that a viewer shows: marked derived, synthetic, not for diagnosis."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from jaxtyping import Float, UInt8
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from gifsplain.errors import InputError
from gifsplain.io import dicom_draw, files
from gifsplain.io.dicom_study import SOFTWARE, Study, base_dataset, new_uid, own_scheme, quietly, software_version
from gifsplain.types import Explanation

_LONG = 64
"""Length of an LO element."""
_MAX_PIXEL_BYTES = 2**32 - 2


@dataclass(frozen=True)
class Derived:
    """What is to be written, as plain arrays of one size: the model's, or the source's own."""

    target: str
    method: str
    image: Float[np.ndarray, "h w"]
    """In [0, 1]; the picture that was explained."""
    frames: Float[np.ndarray, "n h w"]
    """In [0, 1], ordered by strength."""
    scores: Float[np.ndarray, " n"]
    """Score of the target for each frame."""
    map: Float[np.ndarray, "h w"]
    """Non-negative; 0 where nothing changes."""
    meaning: str = "score"
    """What the scores are, in words."""
    overlay: Float[np.ndarray, "h w 3"] | None = None
    """Map over image as drawn elsewhere; painted here where there is none."""
    frames_per_second: float = 10.0
    threshold: float = 0.5
    """The segmentation holds pixels whose map value is at least this share of the map's maximum."""

    def __post_init__(self) -> None:
        shape = self.image.shape
        if self.frames.shape[1:] != shape or self.map.shape != shape or len(self.scores) != len(self.frames):
            raise InputError(
                f"expected image, frames and map of one size and a score for each frame, got {shape}, "
                f"{self.frames.shape}, {self.map.shape} and {len(self.scores)} scores"
            )
        if not 0 < self.threshold <= 1:
            raise InputError(f"expected a threshold above 0 and up to 1, got {self.threshold}")

    @classmethod
    def of(cls, explanation: Explanation) -> Self:
        """The sweep and map of an explanation at the size of its frames; colour is averaged to grey."""
        return cls(
            target=explanation.target,
            method=explanation.method,
            image=explanation.image.detach().cpu().float().mean(dim=0).numpy(),
            frames=explanation.frames.detach().cpu().float().mean(dim=1).numpy(),
            scores=explanation.frame_scores.detach().cpu().float().numpy(),
            map=explanation.map.detach().cpu().float().numpy(),
            meaning=explanation.meaning.value,
        )


@quietly()
def write_dicom(
    derived: Derived,
    folder: str | Path,
    source: Study | Dataset | str | Path | None = None,
    *,
    keep_identity: bool = False,
) -> dict[str, Path]:
    """Write `cine.dcm`, `overlay.dcm`, `image.dcm` and `segmentation.dcm` to `folder`; returns the paths by kind.

    With a DICOM `source` they join its study in new series, and the patient is named only with `keep_identity`;
    otherwise they form a study of their own. Pass one `Study` to several calls to keep several targets together.
    `image` (what the models saw) is left out where the source itself has the arrays' size and is referred to;
    `segmentation` where the map is zero everywhere.
    """
    study = source if isinstance(source, Study) else Study.of(source, keep_identity=keep_identity)
    series = study.next_series()
    folder = Path(folder)
    paths = {"cine": folder / "cine.dcm", "overlay": folder / "overlay.dcm"}
    write_cine(derived, paths["cine"], series)
    write_overlay(derived, paths["overlay"], series)
    shown = study.reference_of_size(derived.image.shape)
    if shown is None:
        paths["image"] = folder / "image.dcm"
        shown = write_image(derived, paths["image"], series)
    if derived.map.max() > 0:
        paths["segmentation"] = folder / "segmentation.dcm"
        write_segmentation(derived, paths["segmentation"], series, shown)
    return paths


def write_cine(derived: Derived, path: str | Path, study: Study) -> Dataset:
    """A multi-frame secondary capture of the frames, played there and back, each with its score in a caption."""
    dataset = base_dataset(study, MultiFrameGrayscaleByteSecondaryCaptureImageStorage, 1)
    _describe(dataset, derived, "animation")
    lines = [
        (
            dicom_draw.WARNING,
            f"{derived.target}: {derived.meaning} {score:.2f}   frame {number} of {len(derived.scores)}",
        )
        for number, score in enumerate(derived.scores, 1)
    ]
    frames = dicom_draw.to_bytes(derived.frames)
    strips = [dicom_draw.caption(frames.shape[2], text) for text in lines]
    rows = max(strip.shape[0] for strip in strips)
    strips = [np.pad(strip, ((0, rows - strip.shape[0]), (0, 0))) for strip in strips]
    _set_pixels(dataset, np.concatenate([frames, np.stack(strips)], axis=1), colour=False)
    dataset.NumberOfFrames = len(frames)
    dataset.FrameIncrementPointer = Tag("FrameTime")
    dataset.FrameTime = f"{1000 / derived.frames_per_second:.4g}"
    dataset.CineRate = dataset.RecommendedDisplayFrameRate = max(1, round(derived.frames_per_second))
    dataset.PreferredPlaybackSequencing = 1  # there and back
    dataset.StartTrim, dataset.StopTrim = 1, len(frames)
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.PresentationLUTShape = "IDENTITY"
    scores = ", ".join(f"{score:.4g}" for score in derived.scores)
    dataset.ImageComments = f"{dicom_draw.WARNING} {derived.meaning} of {derived.target}, frame by frame: {scores}"
    return _save(dataset, path)


def write_overlay(derived: Derived, path: str | Path, study: Study) -> Dataset:
    """A colour secondary capture of the map over the image, with a caption."""
    dataset = base_dataset(study, SecondaryCaptureImageStorage, 2)
    _describe(dataset, derived, "map over image")
    painted = dicom_draw.paint(derived.image, derived.map) if derived.overlay is None else derived.overlay
    strip = dicom_draw.caption(painted.shape[1], (dicom_draw.WARNING, f"{derived.target}: where the image changes"))
    pixels = np.concatenate([dicom_draw.to_bytes(painted), np.repeat(strip[..., None], 3, axis=2)])
    _set_pixels(dataset, pixels, colour=True)
    return _save(dataset, path)


def write_image(derived: Derived, path: str | Path, study: Study) -> Dataset:
    """A secondary capture of the image as it was explained, without a caption: what the segmentation refers to."""
    dataset = base_dataset(study, SecondaryCaptureImageStorage, 3)
    _describe(dataset, derived, "image as explained")
    _set_pixels(dataset, dicom_draw.to_bytes(derived.image), colour=False)
    return _save(dataset, path)


def write_segmentation(derived: Derived, path: str | Path, study: Study, shown: Dataset) -> Dataset:
    """A binary segmentation of the changed region over the image object `shown`, which has the map's size.

    The segment means "region of change, AI explanation": a place where the explanation changed the image, no finding.
    """
    top = float(derived.map.max())
    if not top > 0:
        raise InputError("expected a map with some change, it is zero everywhere; there is nothing to segment")
    mask = derived.map >= derived.threshold * top
    segment = SegmentDescription(
        segment_number=1,
        segment_label="Region of change, AI explanation",
        segmented_property_category=Code("309825002", "SCT", "Spatial and Relational Concept"),
        segmented_property_type=Code("CHANGE", "99GIFSPLAIN", "Region of change, AI explanation"),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=_line(f"{SOFTWARE} {derived.method}"),
            family=codes.cid7162.ArtificialIntelligence,
            version=software_version(),
        ),
    )
    dataset = Segmentation(
        source_images=[shown],
        pixel_array=mask[None].astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=study.segmentation_series,
        series_number=study.series_number + 1,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer=SOFTWARE,
        manufacturer_model_name=SOFTWARE,
        software_versions=software_version(),
        device_serial_number="none",
        content_label="REGION_OF_CHANGE",
        content_description="Region of change, AI explanation",
        series_description=_title(derived),
    )
    study.complete(dataset)
    dataset.PatientOrientation = ""
    dataset.CodingSchemeIdentificationSequence = [*dataset.get("CodingSchemeIdentificationSequence", []), own_scheme()]
    _drop_empty_spacing(dataset)
    dataset.ImageComments = (
        f"{dicom_draw.WARNING} Pixels whose map value is at least {derived.threshold:g} of its maximum {top:.4g}."
    )
    return _save(dataset, path)


def _drop_empty_spacing(dataset: Dataset) -> None:
    """Leave out a pixel spacing of 0, which some sources state and which would make the object invalid."""
    for group in dataset.SharedFunctionalGroupsSequence:
        measures = group.get("PixelMeasuresSequence")
        if measures and not all(float(spacing) > 0 for spacing in measures[0].get("PixelSpacing") or [1]):
            del group.PixelMeasuresSequence


def _title(derived: Derived) -> str:
    return _line(f"Synthetic explanation, not for diagnosis: {derived.target}")


def _line(text: str) -> str:
    """Text that fits an LO element: no backslash or control characters, 64 bytes."""
    plain = "".join(sign if sign.isprintable() and sign != "\\" else " " for sign in text)
    return plain.encode()[:_LONG].decode(errors="ignore").strip()


def _describe(dataset: Dataset, derived: Derived, what: str) -> None:
    dataset.SeriesDescription = _title(derived)
    dataset.DerivationDescription = (
        f"{dicom_draw.WARNING} {what} of an AI explanation made by {SOFTWARE} {software_version()}, "
        f"method {_line(derived.method)}, target {_line(derived.target)}"
    )
    dataset.ImageComments = dicom_draw.WARNING


def _set_pixels(dataset: Dataset, pixels: UInt8[np.ndarray, "..."], colour: bool) -> None:
    """8-bit samples: `h w`, `n h w`, or with colour `h w 3`."""
    rows, columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    content = np.ascontiguousarray(pixels).tobytes()
    if len(content) > _MAX_PIXEL_BYTES:
        raise InputError(f"expected at most {_MAX_PIXEL_BYTES:,} bytes of pixels, got {len(content):,}; fewer frames")
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB"


def _save(dataset: Dataset, path: str | Path) -> Dataset:
    with files.atomic_path(path) as temporary:
        dcmwrite(temporary, dataset, enforce_file_format=True)
    return dataset
