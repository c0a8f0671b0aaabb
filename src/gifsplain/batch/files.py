"""Explain a handful of files into folders; one bad file does not stop the others. For data sets see `batch`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gifsplain.errors import GifsplainError, InputError
from gifsplain.explain.methods import explain_with, refuse_unusable
from gifsplain.explain.settings import Settings
from gifsplain.io.files import require_writable
from gifsplain.io.grey import Colour
from gifsplain.io.manifest import Case, load_all
from gifsplain.models.protocols import Pair
from gifsplain.render.directory import STANDARD, refuse_unknown, write_explanation
from gifsplain.types import Explanation, Picture

if TYPE_CHECKING:
    from gifsplain.io.dicom_study import Study


@dataclass(frozen=True)
class Output:
    """Where results go and in which forms."""

    folder: Path
    formats: tuple[str, ...] = tuple(STANDARD)
    arrays: bool = False
    native: bool = False
    dicom: bool = False
    keep_identity: bool = False


@dataclass(frozen=True)
class Reading:
    """How files are read (see `io.images.load_image`)."""

    window: int | str | None = None
    colour: Colour = "refuse"


@dataclass(frozen=True)
class Done:
    """One case: its explanations with their folders, or the error that stopped it."""

    case: Case
    results: tuple[tuple[Explanation, Path], ...] = ()
    error: GifsplainError | None = None


def explain_files(
    pair: Pair,
    cases: Sequence[Case],
    targets: Sequence[str],
    settings: Settings,
    output: Output,
    *,
    method: str = "latentshift",
    reading: Reading = Reading(),
    started: Callable[[Case], None] = lambda case: None,
) -> Iterator[Done]:
    """Explain case by case and write each result before the next begins.

    A case's own targets, from its manifest row, take the place of `targets`. Errors of one case are in its `Done`.

    Raises:
        InputError: When a case has no target, a method, a format or a setting cannot be had, or nothing can be written to
            the output folder.
        TargetError: When one of `targets` is unknown or untrained.
        WeightsError: When the method needs a fit and there is none.
    """
    refuse_unknown(output.formats)
    refuse_unusable(method, pair, targets, settings)
    without = [case.name for case in cases if not (case.targets or targets)]
    if without:
        raise InputError(f"expected a target for every case, none for {', '.join(without[:5])}; name one with --target")
    require_writable(output.folder)
    for case, picture in load_all(cases, window=reading.window, colour=reading.colour):
        started(case)
        if isinstance(picture, InputError):
            yield Done(case, error=picture)
            continue
        try:
            wanted = case.targets or tuple(targets)
            made = explain_with(method, pair, [picture], wanted, settings, cases=[case.name])
            study = _study(case, picture, output) if output.dicom else None
            yield Done(case, tuple((one, write(one, output, study)) for one in made))
        except GifsplainError as error:
            yield Done(case, error=error)
        except OSError as error:
            yield Done(case, error=InputError(f"expected a place that can be written and has room, got {error}"))


def _study(case: Case, picture: Picture, output: Output) -> "Study":
    """One study for all targets of a case: the source's own where it is DICOM."""
    from gifsplain.io.dicom_study import Study  # pydicom takes a second to load

    is_dicom = picture.provenance.format.startswith("DICOM")
    return Study.of(case.path if is_dicom else None, keep_identity=output.keep_identity)


def write(explanation: Explanation, output: Output, study: "Study | None" = None) -> Path:
    """Write one explanation in all wanted forms and return its folder; DICOM too when a study is given.

    DICOM objects of an earlier run do not stay beside an explanation that they do not belong to.
    """
    folder = write_explanation(
        explanation, output.folder, formats=output.formats, arrays=output.arrays, native=output.native
    )
    if any(folder.glob("*.dcm")):
        _remove_dicom(folder)
    if study is not None:
        from gifsplain.io import dicom_out  # highdicom takes a second to load

        try:
            dicom_out.write_dicom(dicom_out.Derived.of(explanation), folder, study)
        except BaseException:
            _remove_dicom(folder)  # some of the objects are no study
            raise
    return folder


def _remove_dicom(folder: Path) -> None:
    from gifsplain.io.dicom_study import remove_written

    remove_written(folder)
