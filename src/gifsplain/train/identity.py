"""What tells a film from others wherever it stands, and a table from a changed one."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gifsplain.io import files
from gifsplain.train import checkpoints
from gifsplain.train.data import Dataset
from gifsplain.train.patients import film


def films(dataset: Dataset) -> list[str]:
    """What each row's film is called wherever in a manifest it stands: by its patient and its path there.

    A film without a path (in an .npz file, of torchxrayvision) is called by a checksum of its pixels, so it is another one
    at another size of the data. A name that two rows share tells neither from the other.
    """
    facts, count = dataset.table.facts, len(dataset.table.names)
    patients, paths = (facts[name].tolist() if name in facts else [""] * count for name in ("patient_id", "path"))
    called = (film(path) or files.sha256_bytes(dataset.pixels[row].tobytes()) for row, path in enumerate(paths))
    return [f"{patient}: {name}" for patient, name in zip(patients, called, strict=True)]


def places(names: Sequence[str]) -> dict[str, int]:
    """Where each name stands, of those that stand there once."""
    counts = Counter(names)
    return {name: place for place, name in enumerate(names) if counts[name] == 1}


def checksum(dataset: Dataset, *, ordered: bool = True) -> str:
    """Of the films, patients, splits and labels that a training uses; `ordered`: and of their order."""
    table, used = dataset.table, np.isin(dataset.table.splits, ("train", "val"))
    rows = zip(films(dataset), table.patients, table.splits, table.labels.tolist(), used, strict=True)
    lines = [f"{film} {patient} {split} {labels}" for film, patient, split, labels, use in rows if use]
    return files.sha256_bytes(files.utf8("\n".join(lines if ordered else sorted(lines))).encode())


_NAMES = ("init", "autoencoder", "teachers", "crossfit", "boxes", "classifier")
"""Settings that name a file, or the folder of a trained model."""


def origin(config: Any, dataset: Dataset) -> dict[str, str]:
    """Checksums of what a training learns from: its data, and what `named` finds."""
    return {checkpoints.DATA: checksum(dataset)} | named(config)


def named(config: Any) -> dict[str, str]:
    """Checksums of the files, and of the folders of trained models, that a configuration names. Names of built-in models are none."""
    return {f"{name}={place}": found for name, place in _places(config) if (found := _content(Path(place)))}


def _places(config: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _places(value, f"{name}.")
        elif field.name in _NAMES:
            yield from ((name, str(one)) for one in (value if isinstance(value, tuple) else (value,)) if one)


def _content(place: Path) -> str:
    """Checksum of a file, or of a folder's weights and out-of-fold logits; empty where there is neither."""
    if place.is_dir():
        held = sorted(file for kind in ("*.safetensors", "*.npz") for file in place.glob(kind) if file.is_file())
    else:
        held = [place] if place.is_file() else []
    return files.sha256_bytes("".join(map(files.sha256_file, held)).encode()) if held else ""
