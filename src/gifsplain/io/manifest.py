"""Which images to work on: files, folders, patterns and CSV manifests become cases with unique, safe names."""

import csv
import glob
import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

from gifsplain.errors import InputError
from gifsplain.io.dicom_magic import is_dicom
from gifsplain.io.files import safe_name, unique_names
from gifsplain.io.grey import Colour
from gifsplain.io.images import SUFFIXES, load_image, picture_name
from gifsplain.types import Picture

MANIFEST_SUFFIXES = frozenset([".csv", ".tsv"])
_KNOWN = frozenset(["path", "case", "patient_id", "labels", "split", "target", "targets"])
_SHOWN_ROWS = 10
"""Bad rows named in one error."""


@dataclass(frozen=True)
class Case:
    """One image to work on; `name` is unique among its siblings and safe as a folder name."""

    name: str
    path: Path
    patient: str = ""
    split: str = ""
    labels: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the manifest, as text."""


def find_cases(inputs: str | Path | Sequence[str | Path]) -> list[Case]:
    """Cases of files, folders (searched through), patterns such as `scans/**/*.dcm`, and CSV manifests, in that order.

    Within a folder or pattern the order is by path. A file that is named twice is one case. Whether a file can be
    read is found out by `load_all`; that nothing was found at all is an `InputError`.
    """
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    found: list[Case] = []
    for item in given:
        found.extend(_expand(item))
    cases = _distinct(found)
    if not cases:
        raise InputError(f"expected images, found none in {', '.join(map(str, given)) or 'an empty list'}")
    return cases


def load_all(
    cases: Iterable[Case], *, window: int | str | None = None, colour: Colour = "refuse"
) -> Iterator[tuple[Case, Picture | InputError]]:
    """Each case with its picture, or the error that says why there is none; one bad file does not stop the others."""
    for case in cases:
        try:
            yield case, load_image(case.path, window=window, colour=colour)
        except InputError as error:
            yield case, error


def read_manifest(path: str | Path) -> list[Case]:
    """Cases of a CSV file: column `path` (relative to the file's folder), optional `case`, `patient_id`, `split`,
    `labels` and `target` (several separated by `|`); every other column is kept in `extra`.

    A row without `case` is named by its file; where other files have that name too, by folders and file.
    Rows that make no sense are all named in one `InputError`; a file that is missing is found out by `load_all`.
    """
    path = Path(path)
    bad: list[str] = []
    seen: dict[str, int] = {}
    cases, given = [], []
    for number, row in _rows(path):
        fault = _fault(row) or _repeated(row, seen)
        if fault:
            bad.append(f"row {number}: {fault}")
            continue
        name = str(row.get("case") or "").strip()
        if name:
            seen[name] = number
        given.append(name)
        cases.append(_case(_text(row), path.parent))
    _refuse(path, bad)
    if not cases:
        raise InputError(f"{path}: expected at least one row below the header, got none")
    return _named(_told_apart(cases, given, path.parent))


def _told_apart(cases: Sequence[Case], given: Sequence[str], folder: Path) -> list[Case]:
    """Cases whose names are only their files', with the folders in front where other files have that name too.

    Which folders depends on the file and the manifest's own place alone, so the order of rows and new rows leave it.
    """
    files: dict[str, set[Path]] = {}
    for case in cases:
        files.setdefault(safe_name(case.name).lower(), set()).add(case.path)
    told = []
    for case, name in zip(cases, given, strict=True):
        shared = len(files[safe_name(case.name).lower()]) > 1
        if shared and not name:
            case = replace(case, name=_name_with_folders(case, folder))
        told.append(case)
    return told


def _name_with_folders(case: Case, folder: Path, limit: int = 80) -> str:
    """Folders that the file does not share with `folder`, and its name; folders that would make it too long are left."""
    here, there = (Path(os.path.normpath(path.absolute())).parts for path in (folder, case.path.parent))
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, there, strict=False)))
    parts = [*there[shared:], case.name]
    while len(parts) > 1 and len("_".join(parts)) > limit:
        del parts[0]
    return "_".join(parts)


def read_rows(path: str | Path) -> list[tuple[int, dict[str, str]]]:
    """Rows of any CSV file with a column `path`, as text, each with the line that it ends on.

    Text stays as it is written: `007` is no number. Rows that make no sense are all named in one `InputError`.
    """
    path = Path(path)
    rows = _rows(path)
    _refuse(path, [f"row {number}: {fault}" for number, row in rows if (fault := _fault(row))])
    return [(number, _text(row)) for number, row in rows]


def numbers(row: Mapping[str, str], columns: Sequence[str], where: str) -> list[float]:
    """Values of `columns` as finite numbers; `where` names the row in the `InputError` for what is none."""
    found = []
    for column in columns:
        try:
            number = float(row[column])
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{where}: expected a number in {column}, got {row[column]!r}")
        found.append(number)
    return found


def _refuse(path: Path, bad: Sequence[str]) -> None:
    if bad:
        more = f"; and {len(bad) - _SHOWN_ROWS} more" if len(bad) > _SHOWN_ROWS else ""
        raise InputError(f"{path}: expected a manifest without bad rows, got {'; '.join(bad[:_SHOWN_ROWS])}{more}")


def _rows(path: Path) -> list[tuple[int, dict[str | None, str | list[str] | None]]]:
    """Rows with the line they end on; the header decides the separator."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: expected a readable manifest, got {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a manifest in UTF-8, got other bytes; save it as CSV UTF-8") from error
    header = text.splitlines()[0] if text.strip() else ""
    separator = max(",;\t", key=header.count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        names = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = names
        _check_header(path, names)
        return [(reader.line_num, dict(row)) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}: expected a CSV manifest, got a damaged one ({error}); save it again") from error


def _check_header(path: Path, names: list[str]) -> None:
    if "path" not in names:
        got = ", ".join(names)[:200] or "an empty file"
        raise InputError(f"{path}: expected a column named path, got {got}; add it to the header")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{path}: expected different column names, got {', '.join(twice)} twice")


def _fault(row: Mapping[str | None, str | list[str] | None]) -> str:
    """What is wrong with a row; empty where nothing is."""
    if None in row:
        return "more fields than the header"
    if any(value is None for value in row.values()):
        return "fewer fields than the header"
    if not str(row["path"]).strip():
        return "no path"
    if "\x00" in str(row["path"]):
        return "a path with a null character"
    return ""


def _repeated(row: Mapping[str | None, str | list[str] | None], seen: Mapping[str, int]) -> str:
    """What is wrong with a row's case name; empty where nothing is."""
    name = str(row.get("case") or "").strip()
    return f"case {name!r} was already used in row {seen[name]}" if name in seen else ""


def _text(row: Mapping[str | None, str | list[str] | None]) -> dict[str, str]:
    return {str(key): str(value).strip() for key, value in row.items()}


def _case(text: Mapping[str, str], folder: Path) -> Case:
    path = Path(text["path"])
    return Case(
        name=text.get("case", "") or picture_name(path),
        path=path if path.is_absolute() else folder / path,
        patient=text.get("patient_id", ""),
        split=text.get("split", ""),
        labels=_parts(text.get("labels", "")),
        targets=_parts(text.get("target", "")) or _parts(text.get("targets", "")),
        extra={key: value for key, value in text.items() if key not in _KNOWN},
    )


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|") if part.strip())


def _expand(item: str | Path) -> list[Case]:
    """Cases of one input."""
    path = Path(item)
    if "\x00" in str(item):
        raise InputError(f"expected a path, got {str(item)!r} with a null character")
    if path.is_dir():
        return _from_paths(_walk(path), path)
    if path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
        return read_manifest(path)
    if not path.exists() and glob.has_magic(str(item)):
        found = sorted(glob.glob(str(item), recursive=True))  # noqa: PTH207 (the pattern may be absolute)
        matches = [Path(match) for match in found if Path(match).is_file()]
        return _from_paths(matches, Path(os.path.commonpath([match.parent for match in matches])) if matches else path)
    return [Case(name=picture_name(path), path=path)]


def _walk(folder: Path) -> list[Path]:
    """Files in a folder and below that look like images, by suffix or, without a known one, by content."""
    paths = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(root, name) for name in sorted(names) if not name.startswith(".")]
    return [path for path in paths if path.suffix.lower() in SUFFIXES or _is_bare_dicom(path)]


def _is_bare_dicom(path: Path) -> bool:
    """Whether a file without an image suffix is DICOM (archives name them by UID or number)."""
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        if not path.is_file():  # which raises too, where a link leads to a folder that may not be entered
            return False
        with path.open("rb") as stream:
            return is_dicom(stream.read(132))
    except OSError:
        return False


def _from_paths(paths: Sequence[Path], folder: Path) -> list[Case]:
    """Cases named by file; where files in different folders share a name, by their place below `folder`."""
    counts = Counter(picture_name(path).lower() for path in paths)
    cases = []
    for path in paths:
        name = picture_name(path)
        if counts[name.lower()] > 1 and path.is_relative_to(folder):
            name = "_".join([*path.relative_to(folder).parent.parts, name])
        cases.append(Case(name=name, path=path))
    return _named(cases)


def _distinct(cases: Sequence[Case]) -> list[Case]:
    """Without repetitions of a path that say nothing new, named anew because several inputs may share names."""
    first: dict[tuple[str, str, tuple[str, ...]], Case] = {}
    for case in cases:
        first.setdefault((str(case.path.absolute()), safe_name(case.name), case.targets), case)
    return _named(list(first.values()))


def _named(cases: Sequence[Case]) -> list[Case]:
    names = unique_names(case.name for case in cases)
    return [
        Case(name, case.path, case.patient, case.split, case.labels, case.targets, case.extra)
        for name, case in zip(names, cases, strict=True)
    ]
