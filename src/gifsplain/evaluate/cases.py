"""Which images an experiment uses: rows of a manifest, their labels, and where experts marked a finding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from gifsplain.errors import InputError, NoCasesError
from gifsplain.evaluate.config import Setup
from gifsplain.io.images import load_image
from gifsplain.io.manifest import numbers, read_rows
from gifsplain.models.prepare import centre_crop, to_image
from gifsplain.models.protocols import ModelCard
from gifsplain.models.resample import resize
from gifsplain.types import Images, Picture, Provenance

LABELS_OF: Mapping[str, tuple[str, ...]] = {
    "Lung Opacity": ("Lung Opacity", "Pneumonia", "Infiltration", "Consolidation"),
    "Effusion": ("Effusion", "Pleural Effusion"),
}
"""Manifest labels that count as a target's finding, where that is more than its own name."""
MASK_KINDS: Mapping[str, tuple[str, ...]] = {
    "Lung Opacity": ("ground_glass_opacity", "consolidation"),
    "Effusion": ("effusion",),
    "Pneumothorax": ("pneumothorax",),
}
"""Kinds of segmentation that mark a target; the segmented pictures come from covid-chestxray."""

Box = tuple[float, float, float, float]
_LINE = "(line)"
"""Column of `read_table` with the line that a row ends on."""


@dataclass(frozen=True)
class Case:
    """One row of the manifest."""

    key: str
    """Its path as the manifest gives it."""
    path: Path
    patient: str
    """Its path where the manifest names no patient: pictures of unknown patients are not of one."""
    labels: frozenset[str]
    labelled: bool
    split: str
    boxes: tuple[Box, ...] = ()
    """x, y, width, height of the marked target, in pixels of the stored image."""
    masks: tuple[Path, ...] = ()

    def has(self, target: str) -> bool:
        """Whether the manifest says that the finding is there."""
        return bool(self.labels & set(LABELS_OF.get(target, (target,))))


def load_cases(setup: Setup, *, split: str | None = None) -> list[Case]:
    """The cases of one split and of the wanted sources, in the order of the manifest.

    Raises:
        InputError: When the manifest or a column is missing, or nothing is left.
    """
    table = read_table(setup.manifest, ("path", "labels"))
    wanted = setup.split if split is None else split
    if wanted != "all":
        if "split" not in table and not table.empty:
            raise InputError(
                f"{setup.manifest} has no column split to look for {wanted!r} in; add it, or name 'all' instead of it to take "
                "all rows, also those that a model may have learnt from"
            )
        table = table if table.empty else _only(table, "split", (wanted,), setup.manifest)
    if setup.sources:
        if "source" not in table:
            raise InputError(
                f"{setup.manifest} has no column source to look for {', '.join(setup.sources)} in; leave it out"
            )
        table = _only(table, "source", setup.sources, setup.manifest)
    for condition in setup.where:
        column, equals, value = condition.partition("=")
        if not equals or column not in table:
            raise InputError(f"where takes column=value with a column of {setup.manifest.name}, got {condition!r}")
        table = _only(table, column, (value,), setup.manifest)
    if "view" in table:
        table = table[table["view"] != "L"]
    if table.empty:
        raise InputError(f"{setup.manifest} has no rows for split {wanted!r} but side views")
    return [_case(row, setup.manifest.parent) for row in table.to_dict("records")]


def _only(table: pd.DataFrame, column: str, values: Sequence[str], manifest: Path) -> pd.DataFrame:
    """The rows with one of `values`; where there are none, the error lists what the rows have instead."""
    found = table[table[column].isin(values)]
    if found.empty:
        there = sorted(set(table[column]))
        listed = ", ".join(map(repr, there[:20])) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
        wanted = " or ".join(map(repr, values))
        raise InputError(
            f"{manifest} has no rows for {column} {wanted}; those that are left have {listed or 'nothing'}"
        )
    return found


def _case(row: Mapping[Any, Any], root: Path) -> Case:
    key = row["path"]
    names = frozenset(filter(None, (name.strip() for name in row["labels"].split("|"))))
    return Case(
        key=key,
        path=root / key,
        patient=row.get("patient_id", "") or key,
        labels=names,
        labelled=bool(names),
        split=row.get("split", ""),
    )


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file as text, empty where a cell is; commas, semicolons or tabs, as in every manifest.

    Raises:
        InputError: When the file or one of `columns` is missing, or a row does not fit the header.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected a CSV file, there is none")
    rows = read_rows(path)
    table = pd.DataFrame([{**row, _LINE: line} for line, row in rows])
    lacking = [column for column in columns if column not in table] if rows else []
    if lacking:
        raise InputError(f"{path}: expected the columns {', '.join(columns)}, {', '.join(lacking)} missing")
    return table if rows else pd.DataFrame(columns=[*columns, _LINE])


def _box(row: Mapping[Any, Any], path: Path) -> Box:
    """x, y, width, height of one row of the box file."""
    x, y, width, height = numbers(row, ("x", "y", "w", "h"), f"{path}, row {row[_LINE]}")
    return x, y, width, height


def marked(setup: Setup, cases: Sequence[Case], target: str) -> list[Case]:
    """The cases in which an expert marked the target, each with its boxes or masks."""
    for path in (setup.boxes, setup.masks):
        if path is not None and not path.is_file():
            raise InputError(f"{path}: expected a CSV file with experts' marks, there is none")
    names = LABELS_OF.get(target, (target,))
    boxes: dict[str, list[Box]] = {}
    if setup.box_file.is_file():
        table = read_table(setup.box_file, ("path", "label", "x", "y", "w", "h"))
        for row in table[table["label"].isin(names)].to_dict("records"):
            boxes.setdefault(row["path"], []).append(_box(row, setup.box_file))
    masks: dict[str, list[Path]] = {}
    if setup.mask_file.is_file() and target in MASK_KINDS:
        table = read_table(setup.mask_file, ("path", "mask_path", "kind"))
        for row in table[table["kind"].isin(MASK_KINDS[target])].to_dict("records"):
            masks.setdefault(row["path"], []).append(setup.mask_file.parent / row["mask_path"])
    found = [replace(c, boxes=tuple(boxes.get(c.key, ())), masks=tuple(masks.get(c.key, ()))) for c in cases]
    return [case for case in found if case.boxes or case.masks]


def shown(setup: Setup, cases: Sequence[Case], target: str) -> list[Case]:
    """The cases with the finding: those that an expert marked where there are any, so that experiments share them."""
    return marked(setup, cases, target) or [case for case in cases if case.has(target)]


def refuse_none(setup: Setup, found: Sequence[object], kind: str = "with the finding") -> None:
    """Refuse an experiment without any case.

    Raises:
        NoCasesError: When nothing was found.
    """
    if not found:
        targets = ", ".join(setup.targets) or "any target"
        raise NoCasesError(
            f"{setup.manifest}: expected cases {kind} for {targets}, got none in split {setup.split!r} of "
            f"{', '.join(setup.sources) or 'all sources'}; choose other targets, another split or source"
        )


def draw(cases: Sequence[Case], limit: int, seed: int) -> list[Case]:
    """At most `limit` cases in the order in which they are drawn: a smaller limit takes the first of the same cases."""
    order = np.random.default_rng(seed).permutation(len(cases))
    return [cases[index] for index in order[:limit].tolist()]


def load_pictures(cases: Sequence[Case], card: ModelCard) -> Images:
    """Images of the cases as the model takes them."""
    return torch.stack([to_image(load_image(case.path, colour="grey"), card) for case in cases])


def as_pictures(images: Images, names: Sequence[str]) -> list[Picture]:
    """Images that are at model size already, for functions that take pictures."""
    height, width = images.shape[-2:]
    return [
        Picture(image, Provenance(name=name, sha256="", format="memory", size=(height, width), bits=32))
        for image, name in zip(images, names, strict=True)
    ]


def box_mask(boxes: Sequence[Box], height: int, width: int, size: int) -> Bool[Tensor, "s s"]:
    """Union of the boxes at model size: pixels whose centre lies inside, after the models' own centre crop."""
    crop = centre_crop(height, width)
    scale = crop.side / size
    y = (torch.arange(size) + 0.5) * scale + crop.top
    x = (torch.arange(size) + 0.5) * scale + crop.left
    mask = torch.zeros(size, size, dtype=torch.bool)
    for left, top, w, h in boxes:
        mask |= ((y >= top) & (y < top + h))[:, None] & ((x >= left) & (x < left + w))[None, :]
    return mask


def expert_mask(case: Case, size: int) -> Bool[Tensor, "s s"]:
    """Everything that experts marked for the target, at model size; may be empty where the crop cut it off."""
    picture = load_image(case.path, colour="grey")
    height, width = picture.pixels.shape[-2:]
    mask = box_mask(case.boxes, height, width, size)
    for path in case.masks:
        drawn = load_image(path, colour="grey").pixels
        crop = centre_crop(*drawn.shape[-2:])
        square = (drawn[:, crop.top : crop.top + crop.side, crop.left : crop.left + crop.side] > 0).float()
        mask |= resize(square, (size, size), border=0.0)[0] > 0.5
    return mask
