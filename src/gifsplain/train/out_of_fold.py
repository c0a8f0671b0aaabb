"""The file of out-of-fold logits that `crossfit` writes, and which of a training's films each of them is of."""

import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from gifsplain.errors import InputError
from gifsplain.train.data import Dataset
from gifsplain.train.identity import films, places

FILE = "crossfit.npz"
"""In the output folder: `films` (as `identity.films` calls them), `targets`, and `logits` (films x targets; nan: not known),
calibrated on the training labels."""
FEWEST = 0.5
"""Least share of the films that must be found again, of those of the file or of the training, whichever are fewer."""

logger = logging.getLogger(__name__)


def read(paths: Sequence[Path], dataset: Dataset, targets: Sequence[str]) -> Float[np.ndarray, "n t"]:
    """Mean out-of-fold logits of each row, from folders or files of `cross_fit`; nan where one of them knows none.

    Raises:
        InputError: When a file is none of `cross_fit`'s, lacks a target, knows few of the training films, or comes of
            classifiers that were trained on films of val or test.
    """
    ours = places(films(dataset))
    found = [_extended(path / FILE if path.is_dir() else path, ours, dataset, targets) for path in paths]
    mean: Float[np.ndarray, "n t"] = np.mean(found, axis=0)
    return mean


def _extended(file: Path, ours: dict[str, int], dataset: Dataset, targets: Sequence[str]) -> Float[np.ndarray, "n t"]:
    """The file's logits for the dataset's rows."""
    names, known, logits = _content(file)
    absent = [target for target in targets if target not in known]
    if absent:
        raise InputError(f"{file} knows {known}, expected {absent} as well")
    shared = [(ours[name], place) for name, place in places(names).items() if name in ours]
    extended = np.full((len(dataset.table.names), len(targets)), np.nan)
    for row, place in shared:
        extended[row] = logits[place, [known.index(target) for target in targets]]
    _check(file, dataset, {row for row, _ in shared}, len(names))
    return extended


def _content(file: Path) -> tuple[list[str], list[str], Float[np.ndarray, "n t"]]:
    try:
        with np.load(file) as content:
            names, targets, logits = (content[key] for key in ("films", "targets", "logits"))
    except (OSError, KeyError, TypeError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {file}: {error}; make it with gifsplain train cross-fit") from error
    if logits.shape != (len(names), len(targets)):
        raise InputError(f"{file} has {logits.shape} logits for {len(names)} films and {len(targets)} targets")
    return names.tolist(), targets.tolist(), logits


def _check(file: Path, dataset: Dataset, known: set[int], count: int) -> None:
    """Say how many of the training rows are `known`, and refuse few of them, or others."""
    train = dataset.rows("train")
    told = [row for row in train.tolist() if row in known]
    logger.info("%s knows %d of %d training films", file, len(told), len(train))
    held = [row for row in sorted(known) if dataset.table.splits[row] in ("val", "test")]
    if held:
        raise InputError(
            f"{file} comes of classifiers that were trained on {len(held)} films of val or test, such as "
            f"{dataset.table.names[held[0]]}; cross-fit with the same split"
        )
    if len(told) < FEWEST * min(len(train), count):
        lost = next(row for row in train.tolist() if row not in known)
        raise InputError(
            f"{file} knows {len(told)} of {len(train)} training films and has {count}; it does not know "
            f"{dataset.table.names[lost]}; films are found by patient_id and path, those without a path by their pixels "
            "at data.size: was it made of this data?"
        )
