"""Maps of several methods side by side, one row a classifier, experts' marks drawn in (Cohen 2021, figures 4, E.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.evaluate.cases import Box, Case, expert_mask
from gifsplain.evaluate.config import PAPER_METHODS
from gifsplain.evaluate.experiments import png
from gifsplain.evaluate.maps import maps_of
from gifsplain.explain.run import target_index
from gifsplain.explain.settings import Settings
from gifsplain.io.files import write_bytes
from gifsplain.io.images import load_image
from gifsplain.models.load import load_models
from gifsplain.models.prepare import to_images
from gifsplain.types import Images, Map

_YELLOW = "#ffd400"


@dataclass(frozen=True)
class Panel:
    """One image, one target, methods as columns, classifiers as rows."""

    image: Path
    target: str
    classifiers: tuple[str, ...] = ("cxr",)
    autoencoder: str = "cxr"
    methods: tuple[str, ...] = ()
    resize: bool = False
    boxes: tuple[Box, ...] = ()
    mask: Path | None = None


def boxes(texts: Sequence[str]) -> tuple[Box, ...]:
    """Boxes from `x,y,width,height`."""
    found = []
    for text in texts:
        try:
            x, y, w, h = (float(part) for part in text.split(","))
        except ValueError as error:
            raise InputError(f"a box is x,y,width,height in pixels, got {text!r}") from error
        found.append((x, y, w, h))
    return tuple(found)


def write(request: Panel, path: Path) -> None:
    """Draw the panel and write it as a PNG."""
    write_bytes(path, png(draw(request)))


def draw(request: Panel, settings: Settings = Settings()) -> Figure:
    """The image with its mark, then one map a method; a row for each classifier."""
    methods = request.methods or PAPER_METHODS
    rows, columns = len(request.classifiers), len(methods) + 1
    figure = Figure(figsize=(2.3 * columns, 2.6 * rows + 0.4), layout="constrained")
    figure.suptitle(request.target, x=0.01, ha="left", fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False)
    picture = load_image(request.image, colour="grey")
    mask_paths = (request.mask,) if request.mask else ()
    case = Case(request.image.name, request.image, "", frozenset(), False, "", request.boxes, mask_paths)
    for row, name in zip(axes, request.classifiers, strict=True):
        pair = load_models(name, request.autoencoder, resize=request.resize)
        images = to_images(picture, pair.autoencoder.card)
        marked = expert_mask(case, images.shape[-1]).numpy() if request.boxes or request.mask else None
        score = float(pair.classifier.scores(images)[0, target_index(pair.classifier.card, request.target)])
        _show(row[0], images, None, marked)
        row[0].set_title(f"{name}: {score:.2f}", fontsize=9)
        for axis, method in zip(row[1:], methods, strict=True):
            _show(axis, images, maps_of(pair, method, images, request.target, settings)[0], marked)
            axis.set_title(method, fontsize=9)
    return figure


def _show(axis: Axes, images: Images, found: Map | None, marked: Bool[np.ndarray, "h w"] | None) -> None:
    """The image in grey, or a map from black to white up to its 99.5th percentile; no blur, marks outlined."""
    axis.axis("off")
    if found is None:
        axis.imshow(_array(images[0].mean(dim=0)), cmap="gray", vmin=0, vmax=1)
    else:
        values = _array(found)
        axis.imshow(values, cmap="magma", vmin=0, vmax=float(np.quantile(values, 0.995)) or 1.0)
    if marked is not None and marked.any() and not marked.all():
        axis.contour(marked.astype(float), levels=[0.5], colors=_YELLOW, linewidths=1.2)


def _array(values: Tensor) -> np.ndarray:
    found: np.ndarray = values.detach().cpu().numpy()
    return found
