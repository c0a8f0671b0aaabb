"""From a manifest, a folder or a torchxrayvision dataset to rows: image, patient, split, labels; bad rows are named."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from gifsplain.errors import InputError
from gifsplain.io.images import SUFFIXES
from gifsplain.train import patients as people
from gifsplain.train.pixels import ArrayImage, DatasetImage, FileImage, RowImage

SPLITS = ("train", "val", "test")
SHOWN = 40
"""Names that an error lists."""
SHOWN_BAD = 1000
"""Bad rows that an error lists: all that somebody can correct by hand; with a wrong folder every row of 100,000 is bad."""
_MISSING = ("", "nan", "na", "none", "unknown", "-1", "-1.0")


@dataclass(frozen=True)
class SourceConfig:
    """One set of images.

    `manifest`: a CSV with the columns path (not needed when `images` is an .npz file, whose images
    are in the order of the rows), patient_id, split and either
    `labels` (names separated by |; empty means unknown) or one 0/1 column per target (empty or -1 means unknown); or a
    folder of images, with or without train/val/test folders and a folder per label; or `xrv:CLASS` for a
    torchxrayvision dataset, whose image folder is `images` and whose other arguments are `options`.
    """

    manifest: str
    images: Path | None = None
    """What `path` is relative to; by default the manifest's folder."""
    where: tuple[str, ...] = ()
    """Rows to keep: `source=nih|kermany`, `view!=L`; all must hold."""
    knows: tuple[str, ...] | None = None
    """Targets that these labels speak about; the others are unknown. None: all."""
    weight: float = 1.0
    """How often its rows are drawn, relative to rows of other sources."""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataConfig:
    """Which rows train, which validate, and what their labels mean."""

    sources: tuple[SourceConfig, ...]
    targets: tuple[str, ...] = ()
    unions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Targets that hold when any of several labels holds: `Lung Opacity: [Pneumonia, Infiltration]`."""
    size: int = 224
    channels: int = 1
    fractions: tuple[float, float] = (0.1, 0.2)
    """Shares of patients for val and test where a source declares no split; by a hash of the patient's name, or of the
    film's where patients are unknown."""
    bad_rows: Literal["refuse", "report"] = "refuse"
    """`report` trains without them and names them in `bad_rows.csv`."""
    cache: Path | None = None
    """Where decoded images are kept; by default `~/.cache/gifsplain/images`."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    row: str
    reason: str


@dataclass(frozen=True)
class Table:
    """Rows in a fixed order; all fields have the same length."""

    names: tuple[str, ...]
    """Where a row comes from, for messages: `manifest.csv line 7 (a.png)`."""
    images: tuple[RowImage, ...]
    patients: NDArray[np.str_]
    splits: NDArray[np.str_]
    labels: Float[np.ndarray, "n t"]
    """1 present, 0 absent, nan unknown."""
    weights: NDArray[np.float64]
    """How often a row is drawn, relative to others."""
    facts: pd.DataFrame
    """The manifest's columns, as text."""
    parts: NDArray[np.int64]
    """Which of the sources a row is of, counted from 0."""

    def keep(self, rows: NDArray[np.int64]) -> "Table":
        """The given rows in the given order."""
        return Table(
            tuple(self.names[i] for i in rows),
            tuple(self.images[i] for i in rows),
            self.patients[rows],
            self.splits[rows],
            self.labels[rows],
            self.weights[rows],
            self.facts.iloc[rows].reset_index(drop=True),
            self.parts[rows],
        )


def read_rows(config: DataConfig) -> tuple[Table, list[BadRow]]:
    """All usable rows of all sources in order, and those that are not; patients that straddle splits are refused."""
    if not config.sources:
        raise InputError("data.sources is empty; name a manifest (CSV), a folder or xrv:CLASS")
    parts, bad, found = [], [], []
    for number, source in enumerate(config.sources):
        frame, images = _read_source(source)
        found.append(_label_names(frame))
        kept = _filter(frame, source)
        frame = frame.loc[kept].reset_index(drop=True)
        frame["_patient"], frame["_split"] = people.of_rows(frame, number, config.fractions)
        part, unusable = _to_table(frame, [images[i] for i in kept], source, config)
        part.parts[:] = number
        parts.append(part)
        bad += unusable
    _refuse_unknown_names(found, config)
    table = _concatenate(parts)
    unique, duplicates = _first_of_each(table)
    table = table.keep(unique)
    check_split_by_patient(table)
    return table, bad + duplicates


def check_split_by_patient(table: Table) -> None:
    """Raise an error that names patients who are in more than one split."""
    groups = pd.DataFrame({"patient": table.patients, "split": table.splits}).groupby("patient")["split"]
    several = groups.nunique()
    straddling = sorted(several[several > 1].index)
    if straddling:
        shown = ", ".join(straddling[:10]) + (" ..." if len(straddling) > 10 else "")
        raise InputError(
            f"{len(straddling)} patients are in more than one split: {shown}; give each patient one split, "
            "or drop the split column to split by patient automatically"
        )


def refuse(bad: Sequence[BadRow], rows: int) -> None:
    """Raise an error that names the bad rows, if there are any."""
    if bad:
        shown = "".join(f"\n  {item.row}: {item.reason}" for item in bad[:SHOWN_BAD])
        more = f"\n  and {len(bad) - SHOWN_BAD} more" if len(bad) > SHOWN_BAD else ""
        raise InputError(
            f"{len(bad)} of {rows + len(bad)} rows cannot be used:{shown}{more}\n"
            "correct them, or set data.bad_rows=report to train without them (bad_rows.csv then names all)"
        )


Images = list[RowImage | None]


def _read_source(source: SourceConfig) -> tuple[pd.DataFrame, Images]:
    """One line a row, all values text, with the private columns `_row` and `people.FILM`; and the image of each line."""
    if source.manifest.startswith("xrv:"):
        frame, images = _read_xrv(source)
    else:
        path = Path(source.manifest)
        if not path.exists():
            raise InputError(f"{path} does not exist; expected a CSV manifest, a folder of images or xrv:CLASS")
        frame, images = _read_folder(path) if path.is_dir() else _read_manifest(path, source)
    return frame, images


def _read_manifest(path: Path, source: SourceConfig) -> tuple[pd.DataFrame, Images]:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the manifest {path}: {error}") from error
    frame = people.checked(frame.fillna(""), str(path))  # a line that is too short
    root = source.images or path.parent
    if root.suffix == ".npz":
        frame["_row"] = [f"{path.name} line {i + 2}" for i in range(len(frame))]
        images = ArrayImage.all_of(root, len(frame))
        named = [people.film(text) for text in frame["path"]] if "path" in frame else [""] * len(frame)
        frame[people.FILM] = [name or image.checksum() for name, image in zip(named, images, strict=True)]
        return frame, list(images)
    if "path" not in frame:
        raise InputError(f"{path} needs a column 'path'; it has {list(frame.columns)}")
    frame["_row"] = [f"{path.name} line {i + 2} ({value})" for i, value in enumerate(frame["path"])]
    frame[people.FILM] = [people.film(text) or row for text, row in zip(frame["path"], frame["_row"], strict=True)]
    return frame, [FileImage(root / value) if value.strip() else None for value in frame["path"]]


def _read_folder(folder: Path) -> tuple[pd.DataFrame, Images]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    rows = []
    for file in files:
        *parents, _ = (inside := file.relative_to(folder)).parts
        row = {"path": str(inside), "_row": f"{file}", people.FILM: inside.as_posix()}
        if parents and parents[0] in SPLITS:
            row["split"] = parents.pop(0)
        rows.append(row | ({"labels": parents[0]} if parents else {}))
    return pd.DataFrame(rows).fillna(""), [FileImage(file) for file in files]


def _read_xrv(source: SourceConfig) -> tuple[pd.DataFrame, Images]:
    import torchxrayvision as xrv

    name = source.manifest.removeprefix("xrv:")
    kind = getattr(xrv.datasets, name, None)
    if not isinstance(kind, type) or not issubclass(kind, xrv.datasets.Dataset):
        known = [n for n in dir(xrv.datasets) if n.endswith("_Dataset")]
        raise InputError(f"torchxrayvision has no dataset {name!r}; it has {known}")
    arguments: Mapping[str, Any] = {**({"imgpath": str(source.images)} if source.images else {}), **source.options}
    try:
        dataset: Any = kind(**arguments)
    except Exception as error:  # whatever that dataset raises when its files are missing
        raise InputError(f"torchxrayvision cannot open {name} with {dict(arguments)}: {error}") from error
    images = DatasetImage.all_of(dataset)
    frame: pd.DataFrame = dataset.csv.reset_index(drop=True).astype(str).rename(columns={"patientid": people.ID})
    if people.ID not in frame:
        near = people.nearly(frame, people.ID)  # as in NIH_Google_Dataset, whose columns nobody can rename
        if near:
            frame[people.ID] = frame[near[0]]
        else:
            people.warn(frame, source.manifest)
    labels = pd.DataFrame(np.asarray(dataset.labels, dtype=float), columns=list(dataset.pathologies)).astype(str)
    frame = pd.concat([frame.drop(columns=[c for c in labels if c in frame]), labels], axis=1)
    frame["_row"] = [f"{name} row {i}" for i in range(len(frame))]
    frame[people.FILM] = [image.name for image in images]
    return frame, list(images)


def _filter(frame: pd.DataFrame, source: SourceConfig) -> list[int]:
    """Lines for which all rules hold."""
    for rule in source.where:
        found = re.fullmatch(r"\s*([^=!]+?)\s*(!?=)(.*)", rule)
        if not found:
            raise InputError(f"expected a rule such as source=nih|kermany or view!=L, got {rule!r}")
        column, sign, values = found[1], found[2], [value.strip() for value in found[3].split("|")]
        if column not in frame:
            raise InputError(f"rule {rule!r}: {source.manifest} has no column {column!r}, it has {_public(frame)}")
        inside = frame[column].isin(values)
        frame = frame[inside if sign == "=" else ~inside]
    if frame.empty:
        raise InputError(f"no row of {source.manifest} is left after the rules {list(source.where)}")
    return [int(i) for i in frame.index]


def _public(frame: pd.DataFrame) -> list[str]:
    return [str(column) for column in frame.columns if not str(column).startswith("_")]


def _to_table(
    frame: pd.DataFrame, images: Images, source: SourceConfig, config: DataConfig
) -> tuple[Table, list[BadRow]]:
    labels, reasons = _labels(frame, config)
    if source.knows is not None:
        unknown = [t for t in source.knows if t not in config.targets]
        if unknown:
            raise InputError(f"{source.manifest}: knows {unknown} are no targets; targets are {list(config.targets)}")
        labels[:, [t not in source.knows for t in config.targets]] = np.nan
    patients, splits = frame["_patient"], frame["_split"]
    for i, (image, patient, split) in enumerate(zip(images, patients, splits, strict=True)):
        if image is None:
            reasons[i].append("it names no image")
        elif isinstance(image, FileImage) and not image.path.is_file():
            reasons[i].append(f"{image.path} does not exist")
        if not patient.strip():
            reasons[i].append("it has no patient_id")
        if split not in SPLITS:
            reasons[i].append(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    bad = [BadRow(row, "; ".join(why)) for row, why in zip(frame["_row"], reasons, strict=True) if why]
    good = [i for i, why in enumerate(reasons) if not why]
    usable = frame.loc[good].reset_index(drop=True)
    table = Table(
        tuple(usable["_row"]),
        tuple(image for i in good if (image := images[i]) is not None),
        patients.to_numpy(dtype=np.str_)[good],
        splits.to_numpy(dtype=np.str_)[good],
        labels[good],
        np.full(len(good), source.weight),
        usable[_public(usable)],
        np.zeros(len(good), dtype=np.int64),
    )
    return table, bad


def _labels(frame: pd.DataFrame, config: DataConfig) -> tuple[Float[np.ndarray, "n t"], list[list[str]]]:
    labels = np.full((len(frame), len(config.targets)), np.nan)
    reasons: list[list[str]] = [[] for _ in range(len(frame))]
    listed = [_names(text) for text in frame["labels"]] if "labels" in frame else None
    for t, target in enumerate(config.targets):
        parts = config.unions.get(target, (target,))
        labels[:, t] = _union(np.stack([_part(frame, listed, part, reasons) for part in parts]))
    _refuse_absent_targets(frame, config)
    return labels, reasons


def _part(
    frame: pd.DataFrame, listed: list[set[str]] | None, part: str, reasons: list[list[str]]
) -> NDArray[np.float64]:
    """From its own column, else from the names in `labels`, else unknown."""
    if part in frame:
        return _column(frame, part, reasons)
    if listed is None:
        return np.full(len(frame), np.nan)
    return np.asarray([float(part in names) if names else np.nan for names in listed])


def _refuse_absent_targets(frame: pd.DataFrame, config: DataConfig) -> None:
    columns = set(frame.columns)
    absent = [t for t in config.targets if not columns & {"labels", *config.unions.get(t, (t,))}]
    if absent and len(absent) < len(config.targets):
        raise InputError(f"no column for targets {absent}; columns are {_public(frame)}")


def _label_names(frame: pd.DataFrame) -> tuple[set[str], set[str]]:
    """The columns, and the names in `labels`, of all rows: a rule may leave out every film that has a finding."""
    listed = frame["labels"].unique() if "labels" in frame else ()
    return set(_public(frame)), {name for text in listed for name in _names(text)}


def _refuse_unknown_names(found: Sequence[tuple[set[str], set[str]]], config: DataConfig) -> None:
    """A misspelt name would be absent from every film, so nothing would be learnt or a union would lack a part.

    A target that no source `knows` was declared so, and is left to the card's `untrained`.
    """
    unknown: list[str] = []
    for target in config.targets:
        asked = [f for s, f in zip(config.sources, found, strict=True) if s.knows is None or target in s.knows]
        for part in config.unions.get(target, (target,)):
            if asked and not any(part in columns | listed for columns, listed in asked):
                unknown.append(part if part == target else f"{part} (of {target})")
    if unknown:
        listed = sorted(set().union(*(names for _, names in found)))
        columns = sorted(set().union(*(names for names, _ in found)))
        raise InputError(
            f"no row knows {', '.join(unknown)}; names in labels are {', '.join(listed[:SHOWN]) or 'none'}"
            f"{' and others' if len(listed) > SHOWN else ''}, columns are {', '.join(columns[:SHOWN])}"
            f"{' and others' if len(columns) > SHOWN else ''}; correct the name in data.targets or data.unions, "
            "or leave it out"
        )


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split("|") if name.strip()}


def _column(frame: pd.DataFrame, column: str, reasons: list[list[str]]) -> NDArray[np.float64]:
    values = np.full(len(frame), np.nan)
    for i, text in enumerate(frame[column].str.strip().str.lower()):
        if text in ("0", "0.0", "false"):
            values[i] = 0
        elif text in ("1", "1.0", "true"):
            values[i] = 1
        elif text not in _MISSING:
            reasons[i].append(f"{column} must be 0, 1 or empty, got {text!r}")
    return values


def _union(parts: Float[np.ndarray, "p n"]) -> NDArray[np.float64]:
    """1 where any part is present, 0 where all are known absent, else unknown."""
    any_present = (parts == 1).any(axis=0)
    return np.where(any_present, 1.0, np.where(np.isnan(parts).any(axis=0), np.nan, 0.0))


def _concatenate(parts: Sequence[Table]) -> Table:
    return Table(
        tuple(name for part in parts for name in part.names),
        tuple(image for part in parts for image in part.images),
        np.concatenate([part.patients for part in parts]),
        np.concatenate([part.splits for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.weights for part in parts]),
        pd.concat([part.facts for part in parts], ignore_index=True).fillna(""),
        np.concatenate([part.parts for part in parts]),
    )


def _first_of_each(table: Table) -> tuple[NDArray[np.int64], list[BadRow]]:
    seen: dict[str, str] = {}
    rows, bad = [], []
    for i, (image, name) in enumerate(zip(table.images, table.names, strict=True)):
        key = image.key
        if key and key in seen:
            bad.append(BadRow(name, f"the same image as {seen[key]}"))
        else:
            seen[key] = name
            rows.append(i)
    return np.asarray(rows, dtype=np.int64), bad


def without_labels(config: DataConfig) -> DataConfig:
    """The same rows for a training that needs no labels."""
    return replace(config, targets=(), unions={}, sources=tuple(replace(one, knows=None) for one in config.sources))
