"""`evaluate sheets`: contact sheets on which a person looks at many explanations of one target at once."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.evaluate import cases
from gifsplain.evaluate.config import Setup
from gifsplain.explain.methods import METHODS, SweepMethod, explain_with
from gifsplain.io.files import safe_name, write_bytes
from gifsplain.models.protocols import Pair
from gifsplain.types import Explanation

T = TypeVar("T")
Row = UInt8[np.ndarray, "h w 3"]
TITLE = 14
"""Pixels above each picture for its words."""
GAIN = 3.0
"""Differences are shown times this, around middle grey."""


@dataclass(frozen=True)
class SheetsConfig:
    """`images` cases a target, the ones with an expert's mark first, then other positives that score above 0.5.

    Explained by the first of the setup's methods that draws a sweep.
    """

    setup: Setup
    images: int = 40
    rows: int = 10
    """Explanations on one sheet."""


def run(config: SheetsConfig) -> list[Path]:
    """Write OUT/sheets/TARGET-N.png: image with marks, reconstruction, counterfactual, and what changed.

    The sheets show images of the data set: never publish them unless its terms allow it.

    Raises:
        InputError: When no case of the split has any of the targets, or no method draws a sweep.
    """
    setup, written = config.setup, []
    method = next((name for name in setup.methods if isinstance(METHODS.get(name), SweepMethod)), None)
    if method is None:
        raise InputError(
            f"sheets need a method that draws a sweep, such as latentshift; got {', '.join(setup.methods)}"
        )
    setup, pairs = config.setup.opened()
    config = replace(config, setup=setup)
    for classifier, pair in pairs.items():
        for target in [name for name in setup.targets or pair.targets if name in pair.targets]:
            drawn = list(islice(_rows(config, pair, method, target), config.images))
            for number, sheet in enumerate(_portions(drawn, config.rows), start=1):
                path = setup.out / "sheets" / f"{safe_name(classifier)}-{safe_name(target)}-{number}.png"
                write_bytes(path, _png(np.concatenate(sheet)))
                written.append(path)
    if not written:
        raise InputError(f"{setup.manifest} has no case of the targets in split {setup.split!r}")
    return written


def _rows(config: SheetsConfig, pair: Pair, method: str, target: str) -> Iterator[Row]:
    """Explanations, marked cases first, as they are needed."""
    setup, index, middle = config.setup, pair.targets.index(target), pair.classifier.card.meaning.middle
    pool = cases.load_cases(setup)
    marked = cases.draw(cases.marked(setup, pool, target), config.images, setup.seed)
    known = {case.key for case in marked}
    others = [case for case in pool if case.has(target) and case.key not in known]
    for part in _portions([*marked, *cases.draw(others, len(others), setup.seed)], setup.batch):
        images = cases.load_pictures(part, pair.classifier.card)
        with torch.no_grad():
            scores = pair.classifier.scores(images.to(pair.device))[:, index].tolist()
        kept = [n for n, case in enumerate(part) if case.key in known or scores[n] > middle]
        names = [part[n].key for n in kept]
        pictures = cases.as_pictures(images[kept], names)
        made = explain_with(method, pair, pictures, [target], setup.settings, cases=names) if kept else []
        yield from (row(one, part[n]) for one, n in zip(made, kept, strict=True))


def row(explanation: Explanation, case: cases.Case) -> Row:
    """One explanation: image (marks in yellow), reconstruction, counterfactual, signed change, map."""
    scores = explanation.scores
    counterfactual = explanation.frames[explanation.counterfactual]
    change = 0.5 + GAIN * (counterfactual - explanation.reconstruction)
    highest = float(explanation.map.max()) or 1.0
    peak = float((counterfactual - explanation.reconstruction).abs().mean(0).max())
    pictures = [
        (explanation.image, f"{explanation.target} {scores.input:.2f}"),
        (explanation.reconstruction, f"drawn {scores.reconstruction:.2f}"),
        (counterfactual, f"{scores.counterfactual:.2f} {explanation.stop.value}"),
        (change, f"change x {GAIN:g}, most {peak:.2f}"),
        (explanation.map[None] / highest, "map"),
    ]
    size = explanation.image.shape[-1]
    mark = cases.expert_mask(case, size).numpy() if case.boxes or case.masks else np.zeros((size, size), dtype=bool)
    return np.concatenate([_panel(image, text, mark) for image, text in pictures], axis=1)


def _panel(image: Float[Tensor, "c h w"], text: str, mark: Bool[np.ndarray, "h w"]) -> Row:
    grey = (image.clamp(0, 1).mean(0).numpy() * 255).round().astype(np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=2)
    inside = np.pad(mark, 1)
    inside = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    colour[mark & ~inside] = (255, 220, 0)
    canvas = Image.new("RGB", (grey.shape[1], grey.shape[0] + TITLE))
    canvas.paste(Image.fromarray(colour), (0, TITLE))
    ImageDraw.Draw(canvas).text((2, 1), text, fill=(255, 255, 255), font=ImageFont.load_default(11))
    return np.asarray(canvas)


def _portions(items: Sequence[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _png(pixels: Row) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()
