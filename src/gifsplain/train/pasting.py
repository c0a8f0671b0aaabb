"""Boxed findings of training films pasted into healthy ones, and for comparison health pasted into the same boxes."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.train import boxes
from gifsplain.train.data import Dataset, Rows
from gifsplain.train.edits import matched, soft_border
from gifsplain.train.rows import DataConfig
from gifsplain.types import Images


@dataclass(frozen=True)
class Findings:
    """What may be pasted, and into what; training films only."""

    names: tuple[str, ...]
    """Kinds of findings."""
    rows: Rows
    """The film of each box."""
    kinds: Int[np.ndarray, " n"]
    """Number of its name."""
    edges: Float[np.ndarray, "n 4"]
    """Left, top, right, bottom, as shares of the square that the model sees."""
    healthy: Rows
    weights: Float[np.ndarray, " h"]
    """How often each healthy film is pasted into, relative to the others."""
    parts: NDArray[np.int64]
    """The source of every row of the data, training or not."""


class Recipe(NamedTuple):
    """What pasted films are made of, one a row; films are named by their rows in the data."""

    backgrounds: Rows
    givers: Rows
    places: boxes.Boxes
    """The box of each, in the order of the recipe; as target 0."""
    kinds: Int[Tensor, " b"]
    """Which finding the box is of."""
    labels: Float[Tensor, " b"]
    """1: the giver's own finding fills it; 0: a healthy film does."""


def read_findings(path: Path, dataset: Dataset, config: DataConfig, healthy: str, size: int) -> Findings:
    """The boxes of all targets but `healthy`, and the films that have that one; on `size` pixels a box must be visible.

    Boxes of films from a source without healthy ones are left out: the source would tell what is a finding.

    Raises:
        InputError: When fewer than two training films are healthy, or a target has no box.
    """
    train, parts = dataset.rows("train"), dataset.table.parts
    column = config.targets.index(healthy)
    well = train[(dataset.table.labels[train, column] == 1) & (dataset.table.weights[train] > 0)]
    if len(well) < 2:
        raise InputError(f"pasting needs two training films with {healthy!r} or more, got {len(well)}")
    known, usable = boxes.read_boxes(path, dataset, config), set(parts[well].tolist())
    found = [
        (row, box)
        for row in train.tolist()
        for box in known.get(row, ())
        if box[0] != column and parts[row] in usable and _visible(box, size)
    ]
    targets = [t for t in range(len(config.targets)) if t != column]
    lacking = [config.targets[t] for t in targets if t not in {box[0] for _, box in found}]
    if lacking:
        raise InputError(
            f"{path}: no box of {', '.join(lacking)} in a training film from a source with healthy ones; leave "
            "it out of data.targets"
        )
    return Findings(
        tuple(config.targets[t] for t in targets),
        np.asarray([row for row, _ in found], dtype=np.int64),
        np.asarray([targets.index(box[0]) for _, box in found]),
        np.asarray([box[1:] for _, box in found]),
        well,
        dataset.table.weights[well],
        parts,
    )


def _visible(box: tuple[int, float, float, float, float], size: int) -> bool:
    return bool(boxes.draw({0: [(0, *box[1:])]}, np.zeros(1, dtype=np.int64), 1, size).any())


def draw_recipe(findings: Findings, count: int) -> Recipe:
    """Pairs with one box, its own content in the first and health in the second, drawn from torch's global generator.

    A kind is drawn in proportion to the root of its number of boxes. Health is of the same source as the finding, and
    no film is pasted into itself.
    """
    frequency = torch.from_numpy(np.bincount(findings.kinds)[findings.kinds]).double()
    drawn = torch.multinomial(frequency.rsqrt(), count // 2, replacement=True).repeat_interleave(2).numpy()
    givers = findings.rows[drawn].copy()
    for place in range(1, count, 2):
        like = findings.healthy[findings.parts[findings.healthy] == findings.parts[givers[place]]]
        givers[place] = like[int(torch.randint(len(like), ()))]
    backgrounds = _drawn(findings, count)
    while (own := backgrounds == givers).any():
        backgrounds[own] = _drawn(findings, int(own.sum()))
    places: boxes.Boxes = {i: [(0, *edges)] for i, edges in enumerate(findings.edges[drawn].tolist())}
    labels = (torch.arange(count) % 2 == 0).float()
    return Recipe(backgrounds, givers, places, torch.from_numpy(findings.kinds[drawn]), labels)


def _drawn(findings: Findings, count: int) -> Rows:
    """Healthy films by weight."""
    rows: Rows = findings.healthy[
        torch.multinomial(torch.from_numpy(findings.weights), count, replacement=True).numpy()
    ]
    return rows


def paste(backgrounds: Images, givers: Images, places: Float[Tensor, "b s s"]) -> Images:
    """What lies at each place in its giver goes into its background, fitted along a soft border outside the box."""
    soft = soft_border(places)
    made, _ = matched(givers, backgrounds, soft)
    return (backgrounds + (made - backgrounds) * soft).clamp(0, 1)
