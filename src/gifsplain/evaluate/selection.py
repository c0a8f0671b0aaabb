"""Images of a manifest at a model's size, in chunks: selection sets and examples for directions."""

from pathlib import Path

import torch

from gifsplain.evaluate import cases
from gifsplain.evaluate.config import Setup
from gifsplain.models.protocols import ModelCard
from gifsplain.types import Images


def selection_images(
    manifest: Path, card: ModelCard, *, split: str, sources: tuple[str, ...] = (), limit: int = 200, seed: int = 0
) -> Images:
    """At most `limit` images of one split, drawn by seed."""
    return load_in_chunks(selection_cases(manifest, split=split, sources=sources, limit=limit, seed=seed), card)


def selection_cases(
    manifest: Path, *, split: str, sources: tuple[str, ...] = (), limit: int = 200, seed: int = 0
) -> list[cases.Case]:
    """At most `limit` cases of one split, drawn by seed."""
    setup = Setup(manifest=manifest, out=Path(), split=split, sources=sources, limit=limit, seed=seed)
    return cases.draw(cases.load_cases(setup), limit, seed)


def load_in_chunks(chosen: list[cases.Case], card: ModelCard, size: int = 64) -> Images:
    """Images of the cases as the model takes them."""
    return torch.cat([cases.load_pictures(chosen[i : i + size], card) for i in range(0, len(chosen), size)])
