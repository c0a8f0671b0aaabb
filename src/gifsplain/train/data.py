"""What a training reads: rows with their decoded images, the order of batches, and who must not be in both splits."""

import csv
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.io import files
from gifsplain.models.protocols import ModelCard
from gifsplain.train import pixels
from gifsplain.train.rows import BadRow, DataConfig, Table, read_rows, refuse
from gifsplain.types import Images

logger = logging.getLogger(__name__)

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Rows and their pixels, in the same order."""

    table: Table
    pixels: pixels.Pixels
    bad: tuple[BadRow, ...] = ()
    """Rows that are not in it because they cannot be used."""

    def rows(self, split: str) -> Rows:
        """Indices of one split in order; a split without rows is refused."""
        found = np.flatnonzero(self.table.splits == split)
        if not len(found):
            raise InputError(f"no row is in split {split!r}; splits are {sorted(set(self.table.splits.tolist()))}")
        return found

    def weights(self, rows: Rows) -> NDArray[np.float64] | None:
        """Weights for `batch_indices`; None when all rows count the same."""
        weights = self.table.weights[rows]
        return None if (weights == weights[0]).all() else weights

    def images(self, rows: Rows, device: torch.device | str = "cpu") -> Images:
        """The images of the given rows, in [0, 1]."""
        return pixels.to_float(self.pixels[rows]).to(device)

    def labels(self, rows: Rows, device: torch.device | str = "cpu") -> Float[Tensor, "b t"]:
        """1 present, 0 absent, nan unknown."""
        return torch.from_numpy(self.table.labels[rows]).float().to(device)


def open_dataset(config: DataConfig, progress: Callable[[int, int], None] | None = None) -> Dataset:
    """The rows of `config` with decoded images; bad rows are refused by name, or kept aside in `bad`."""
    table, bad = read_rows(config)
    if config.bad_rows == "refuse":
        refuse(bad, len(table.names))
    card = ModelCard(name="training", kind="autoencoder", size=config.size, channels=config.channels)
    decoded, problems = pixels.decoded(table.images, card, config.cache, progress)
    broken = [BadRow(table.names[i], why) for i, why in problems.items()]
    if config.bad_rows == "refuse":
        refuse(broken, len(table.names) - len(broken))
    for item in (bad := bad + broken):
        logger.warning("left out: %s: %s", item.row, item.reason)
    if not broken:
        return Dataset(table, decoded, tuple(bad))
    good = np.asarray([i for i in range(len(table.names)) if i not in problems], dtype=np.int64)
    return Dataset(table.keep(good), np.asarray(decoded)[good], tuple(bad))


def write_bad_rows(bad: tuple[BadRow, ...], folder: Path) -> None:
    """Name the rows that were left out in `bad_rows.csv`; no file when there are none."""
    if bad:
        text = io.StringIO()
        csv.writer(text).writerows([("row", "reason"), *((item.row, item.reason) for item in bad)])
        files.write_text(folder / "bad_rows.csv", text.getvalue())


def batch_indices(
    rows: Rows,
    step: int,
    *,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
    weights: NDArray[np.float64] | None = None,
) -> Rows:
    """The rows of batch number `step` for one of `world` processes: a function of the arguments alone.

    Without weights every row comes once an epoch, in a new order each time; the batch that an epoch's end would cut
    is filled from the next epoch. With weights (one a row, not negative) rows are drawn with replacement.
    """
    first = (step * world + rank) * batch_size
    places = np.arange(first, first + batch_size)
    chosen = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(places // len(rows)):
        here = places // len(rows) == epoch
        chosen[here] = _epoch_order(len(rows), int(epoch), seed, weights)[places[here] % len(rows)]
    return rows[chosen]


def rows_of_process(
    rows: Rows, step: int, fabric: Fabric, *, batch_size: int, seed: int, weights: NDArray[np.float64] | None = None
) -> Rows:
    """`batch_indices` of the process that `fabric` is in."""
    rank, world = fabric.global_rank, fabric.world_size
    return batch_indices(rows, step, batch_size=batch_size, seed=seed, rank=rank, world=world, weights=weights)


def _epoch_order(count: int, epoch: int, seed: int, weights: NDArray[np.float64] | None) -> Rows:
    generator = np.random.default_rng([seed, epoch, 7])
    if weights is None:
        return generator.permutation(count)
    return generator.choice(count, count, p=weights / weights.sum())


def steps_per_epoch(rows: Rows, batch_size: int, world: int = 1) -> int:
    """Batches that show every row about once; at least 1."""
    return max(1, round(len(rows) / (batch_size * world)))


def in_batches(rows: Rows, batch_size: int) -> Iterator[Rows]:
    """Consecutive parts of at most `batch_size` rows."""
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]
