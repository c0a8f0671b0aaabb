"""A model card as JSON values and as text for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gifsplain.models.protocols import ModelCard


def as_dict(card: ModelCard) -> dict[str, Any]:
    """Plain JSON values: the declaration first, then everything that the card file holds."""
    values = asdict(card)
    details = values.pop("details")
    return {**values, "meaning": card.meaning.value, **{k: v for k, v in details.items() if k not in values}}


def as_text(card: ModelCard) -> str:
    """Indented text; lists of plain values on one line."""
    return "\n".join(_lines(as_dict(card), 0))


def _lines(values: Mapping[str, Any], depth: int) -> Iterator[str]:
    margin = "  " * depth
    for key, value in values.items():
        label = f"{margin}{str(key).replace('_', ' ')}:"
        if isinstance(value, Mapping):
            yield label
            yield from _lines(value, depth + 1)
        elif _is_table(value):
            yield label
            for row in value:
                yield f"{margin}  - " + ", ".join(f"{k}: {_plain(v)}" for k, v in row.items())
        else:
            yield f"{label} {_plain(value)}"


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return ", ".join(_plain(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
