"""Expert boxes as masks at the model's size, for a classifier that is told where to look."""

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
        InputError: When a column is missing, a box is no number, or none belongs to a row and a target.
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
    place = {name: i for i, name in enumerate(facts["path"]) if name}
    owner = {label: t for t, target in enumerate(config.targets) for label in config.unions.get(target, (target,))}
    boxes: Boxes = {}
    for number, line in lines:
        row, target = place.get(line["path"]), owner.get(line["label"])
        if row is not None and target is not None:
            x, y, w, h = numbers(line, ("x", "y", "w", "h"), f"{path}, row {number}")
            crop = centre_crop(int(facts["height"][row]), int(facts["width"][row]))
            left, top = (x - crop.left) / crop.side, (y - crop.top) / crop.side
            boxes.setdefault(row, []).append((target, left, top, left + w / crop.side, top + h / crop.side))
    if not boxes:
        raise InputError(
            f"{path}: none of {len(lines)} boxes is of a row's path and a target, such as {facts['path'].iloc[0]!r} and "
            f"{config.targets[0]!r}"
        )
    return boxes


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
