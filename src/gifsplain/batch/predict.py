"""Scores of many files; a file that cannot be read is named and the others go on."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from gifsplain.errors import GifsplainError, InputError, ModelError
from gifsplain.explain.run import target_index
from gifsplain.io.grey import Colour
from gifsplain.io.manifest import Case, load_all
from gifsplain.models.prepare import to_images
from gifsplain.models.protocols import Classifier, ModelCard


@dataclass(frozen=True)
class Row:
    """One case's scores by target, or why there are none."""

    case: str
    scores: dict[str, float]
    error: GifsplainError | None = None


def predict_files(
    classifier: Classifier,
    cases: Sequence[Case],
    targets: Sequence[str] = (),
    *,
    window: int | str | None = None,
    colour: Colour = "refuse",
) -> Iterator[Row]:
    """Scores of every case for `targets`, or for all trained ones when none is named.

    Raises:
        TargetError: When a target is unknown or untrained.
    """
    card = classifier.card
    wanted = list(targets) or [name for name in card.targets if name not in card.untrained]
    indices = {card.targets[target_index(card, name)]: target_index(card, name) for name in wanted}
    for case, picture in load_all(cases, window=window, colour=colour):
        if isinstance(picture, InputError):
            yield Row(case.name, {}, picture)
            continue
        try:
            with torch.no_grad():
                scores = classifier.scores(to_images(picture, card))[0]
            yield _row(case, {name: float(scores[index]) for name, index in indices.items()}, card)
        except InputError as error:
            yield Row(case.name, {}, error)


def _row(case: Case, scores: dict[str, float], card: ModelCard) -> Row:
    """The scores where all are numbers: JSON has no other, and a table of them would be taken for an answer."""
    for name, score in scores.items():
        if not math.isfinite(score):
            error = ModelError(
                f"{case.name}: {card.name} gives {score} for {name}, expected a finite score; check its weights"
            )
            return Row(case.name, {}, error)
    return Row(case.name, scores)
