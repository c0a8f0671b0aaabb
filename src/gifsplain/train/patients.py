"""Who a row's patient is, and its split: by the column `patient_id`, or each image as a patient of its own."""

import hashlib
import logging
import re
from functools import lru_cache
from pathlib import PurePosixPath

import pandas as pd

from gifsplain.errors import InputError
from gifsplain.io.files import utf8

ID, SPLIT = "patient_id", "split"
FILM = "_film"
"""Private column: what a row's image is called wherever in a manifest it stands, and however the folder was typed."""

logger = logging.getLogger(__name__)


def checked(frame: pd.DataFrame, manifest: str) -> pd.DataFrame:
    """A manifest's text without white space around column names, patients and splits.

    Raises:
        InputError: When two columns then have one name, or one is called nearly `patient_id` or `split`.
    """
    frame = frame.rename(columns=lambda column: str(column).strip())
    twice = sorted(set(frame.columns[frame.columns.duplicated()]))
    if twice:
        raise InputError(f"{manifest}: expected different column names, got {', '.join(twice)} twice; rename one")
    for column in (ID, SPLIT):
        if column in frame:
            frame[column] = frame[column].str.strip()
        elif near := nearly(frame, column):  # left alone, it would put films of one patient on both sides, unsaid
            raise InputError(f"{manifest}: expected a column {column!r}, got {near[0]!r}; rename it to {column}")
    if ID not in frame:
        warn(frame, manifest)
    return frame


def nearly(frame: pd.DataFrame, column: str) -> list[str]:
    """The columns that are called like `column` but for case, spaces, `_` and `-`."""
    return [str(name) for name in frame.columns if _plain(str(name)) == _plain(column) and name != column]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def warn(frame: pd.DataFrame, manifest: str) -> None:
    """Say that patients are unknown: several films of one may then be on both sides of a split."""
    _warn_once(manifest, ", ".join(str(column) for column in frame.columns if not str(column).startswith("_")))


@lru_cache  # a training may read a manifest several times
def _warn_once(manifest: str, columns: str) -> None:
    logger.warning(
        "%s has no column %s, so each image counts as a patient of its own; columns are %s", manifest, ID, columns
    )


def film(path: str) -> str:
    """A film's name by its path in the manifest: `./a.png` is `a.png`; empty where there is none."""
    return PurePosixPath(path.strip()).as_posix() if path.strip() else ""


def of_rows(frame: pd.DataFrame, source: int, fractions: tuple[float, float]) -> tuple[pd.Series, pd.Series]:
    """Each row's patient, or itself where patients are unknown, and its split: declared, or a hash of that name."""
    patients = frame[ID] if ID in frame else _each_its_own(frame, source)
    if SPLIT in frame and (frame[SPLIT] != "").any():
        return patients, frame[SPLIT]
    names = frame[ID] if ID in frame else frame[FILM]  # without the numbers, which other rows and sources decide
    return patients, names.map(lambda name: hashed_split(name, fractions))


def _each_its_own(frame: pd.DataFrame, source: int) -> pd.Series:
    """A patient a row, named by the film: with a number where another row, or maybe another source, has that name."""
    again = frame.groupby(FILM).cumcount()
    names = frame[FILM] + again.map(lambda count: f" #{count + 1}" if count else "")
    return names + (f" (source {source + 1})" if source else "")


def hashed(text: str) -> int:
    """A number below 16^8 that only `text` decides, on every machine."""
    return int(hashlib.md5(utf8(text).encode(), usedforsecurity=False).hexdigest()[:8], 16)


def hashed_split(patient: str, fractions: tuple[float, float]) -> str:
    """`val`, `test` or `train` as a function of the patient's name alone: new patients never move old ones."""
    place = hashed(patient) / 16**8
    val, test = fractions
    return "val" if place < val else "test" if place < val + test else "train"
