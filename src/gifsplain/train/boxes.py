"""Expert boxes as masks at the model's size, for a classifier that is told where to look."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.io.manifest import numbers, read_rows
from gifsplain.models.prepare import centre_crop
from gifsplain.train.data import Dataset, Rows
from gifsplain.train.rows import DataConfig

Boxes = dict[int, list[tuple[int, float, float, float, float]]]
"""For a row: target, left, top, right, bottom, as shares of the square that the model sees."""


def read_boxes(path: Path, dataset: Dataset, config: DataConfig) -> Boxes:
    """Boxes (columns path, label, x, y, w, h in pixels) of the dataset's rows, which need width and height.

    Raises:
        InputError: When a column is missing, a box, width or height is no number, a box's path is that of several rows,
            or no box belongs to a row and a target.
    """
    needed = {"path", "width", "height"}
    if not needed <= set(dataset.table.facts.columns):
        raise InputError(
            f"boxes need the manifest columns {sorted(needed)}; it has {list(dataset.table.facts.columns)}"
        )
    lines = read_rows(path)
    lacking = {"path", "label", "x", "y", "w", "h"} - set(lines[0][1] if lines else ())
    if lacking:
        raise InputError(f"{path} lacks the columns {sorted(lacking)}, or has no rows")
    facts = dataset.table.facts
    places: dict[str, list[int]] = {}
    for i, name in enumerate(facts["path"]):
        places.setdefault(name, []).append(i)
    owner = {label: t for t, target in enumerate(config.targets) for label in config.unions.get(target, (target,))}
    boxes: Boxes = {}
    for number, line in lines:
        found, target = places.get(line["path"], ()), owner.get(line["label"])
        if found and target is not None:
            row = _only(found, line["path"], dataset)
            x, y, w, h = numbers(line, ("x", "y", "w", "h"), f"{path}, row {number}")
            crop = centre_crop(*_size(dataset, row))
            left, top = (x - crop.left) / crop.side, (y - crop.top) / crop.side
            boxes.setdefault(row, []).append((target, left, top, left + w / crop.side, top + h / crop.side))
    if not boxes:
        raise InputError(
            f"{path}: none of {len(lines)} boxes is of a row's path and a target, such as {facts['path'].iloc[0]!r} and "
            f"{config.targets[0]!r}"
        )
    return boxes


def _only(rows: Sequence[int], path: str, dataset: Dataset) -> int:
    """The one row of a box's path."""
    if len(rows) > 1:  # the box is of one of the films, and would teach a wrong place in the others
        named = " and ".join(dataset.table.names[row] for row in rows[:2])
        raise InputError(
            f"boxes: expected paths of one row each, got {path!r} of {len(rows)} rows, such as {named}; make the paths of "
            "the sources different, in the manifests and in the boxes (set images of a source to a folder above)"
        )
    return rows[0]


def _size(dataset: Dataset, row: int) -> tuple[int, int]:
    """Height and width of the row's image in pixels; `32.0`, as tables write it, is 32."""
    facts, sides = dataset.table.facts, ("height", "width")
    text = {side: str(facts[side][row]) for side in sides}
    height, width = numbers(text, sides, dataset.table.names[row])
    if not (height > 0 and width > 0 and height.is_integer() and width.is_integer()):
        raise InputError(
            f"{dataset.table.names[row]}: expected height and width in whole pixels, got {text['height']!r} and "
            f"{text['width']!r}; correct them in the manifest"
        )
    return int(height), int(width)


def draw(boxes: Boxes, rows: Rows, targets: int, size: int) -> Float[Tensor, "b t s s"]:
    """1 inside a box, 0 outside, rounded to whole pixels."""
    masks = np.zeros((len(rows), targets, size, size), dtype=np.float32)
    for i, row in enumerate(rows):
        for target, *edges in boxes.get(int(row), ()):
            left, top, right, bottom = (min(size, max(0, round(edge * size))) for edge in edges)
            masks[i, target, top:bottom, left:right] = 1
    return torch.from_numpy(masks)


def usual(boxes: Boxes, target: int, rows: Rows) -> tuple[int, float, float, float, float]:
    """The mean box of a target over those of `rows` that have one.

    Raises:
        InputError: When none has.
    """
    found = [box for row in rows for box in boxes.get(int(row), ()) if box[0] == target]
    if not found:
        raise InputError(f"no training image has a box of target {target}; edits of its width need some")
    left, top, right, bottom = (float(np.mean([box[side] for box in found])) for side in range(1, 5))
    return target, left, top, right, bottom
