"""Figures of the papers: the score over the strength, and maps of several methods side by side."""

import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.render.frames import score_range
from gifsplain.render.heatmap import YELLOW, Box, Window, draw_overlay, outline
from gifsplain.render.ink import fit_in_figure, to_bytes
from gifsplain.render.svg import wanted
from gifsplain.types import Explanation, Map, ScoreMeaning

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DRAWING = threading.Lock()
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#6b6b6b"
"""Okabe and Ito's colours, which people with any colour vision tell apart."""


def curve_figure(explanation: Explanation) -> "Figure":
    """`curve.png`: score over strength, with input, reconstruction, counterfactual and wanted change marked.

    The wanted change is drawn from the search's starting score (the frame at strength 0) when the record's settings
    hold `drop` and `rise`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    strengths, scores = explanation.strengths.tolist(), explanation.frame_scores.tolist()
    for name, level in wanted(explanation):
        axes.axhline(level, color=ORANGE, linewidth=1, linestyle="--", label=f"wanted {name} to {level:.2f}")
    axes.plot(strengths, scores, color=BLUE, linewidth=2, marker="o", markersize=3.5, zorder=3, label="frames")
    _draw_points(axes, explanation)
    if explanation.meaning is ScoreMeaning.CALIBRATED:
        axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), label="operating point")
    low, high = score_range([*scores, *vars(explanation.scores).values()], explanation.meaning)
    margin = 0.03 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlabel(f"strength ({explanation.strength_unit})")
    name = fit_in_figure(f"score of {explanation.target}", 340)
    axes.set_ylabel(f"{name}\n({explanation.meaning})", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    figure.legend(frameon=False, fontsize=8.5, loc="outside lower center", ncols=4)
    return figure


def _draw_points(axes: "Axes", explanation: Explanation) -> None:
    scores = explanation.scores
    end = float(explanation.strengths[explanation.counterfactual])
    points = (
        ("input", scores.input, 0.0, "s", "#000000"),
        ("reconstruction", scores.reconstruction, 0.0, "D", GREEN),
        ("counterfactual", scores.counterfactual, end, "*", ORANGE),
    )
    for name, score, strength, marker, colour in points:
        if np.isfinite(score):
            size = 190 if marker == "*" else 52
            axes.scatter(
                [strength], [score], s=size, marker=marker, facecolors="none" if marker != "*" else colour,
                edgecolors=colour, linewidths=1.6, zorder=4, label=f"{name} {score:.2f}",
            )  # fmt: skip


@dataclass(frozen=True)
class PanelRow:
    """One row of a panel: an image and its maps, by the name of the method that stands above the column."""

    label: str
    """For instance the classifier and its score; a line break is kept."""
    image: Float[Tensor, "c h w"]
    maps: Mapping[str, Map]
    boxes: Sequence[Box] = ()
    mask: Bool[np.ndarray, "h w"] | None = field(default=None)


def panel_of(rows: Mapping[str, Sequence[Explanation]], *, boxes: Sequence[Box] = ()) -> list[PanelRow]:
    """Rows from explanations: each row's explanations are of one case and target, one a method."""
    return [
        PanelRow(label, given[0].image, {one.method: one.map for one in given}, boxes) for label, given in rows.items()
    ]


def panel_figure(rows: Sequence[PanelRow], *, title: str = "", alone: bool = False) -> "Figure":
    """Image first, then every method's map over it (or `alone`), with expert boxes and outlines: figures 4 and E.1.

    Each map has a window of its own, from 0 to its 99.9th percentile, since the units of the methods differ.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not rows:
        raise InputError("expected at least one row for a panel, got none")
    methods = list(dict.fromkeys(name for row in rows for name in row.maps))
    cell = 1.9  # inches
    shape = (len(rows), len(methods) + 1)
    size = (cell * shape[1] + 0.5, (cell + 0.1) * shape[0] + 0.35 + 0.3 * bool(title))
    layout = ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=size, dpi=130, layout=layout)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    places = figure.subplots(*shape, squeeze=False)
    for row, axes in zip(rows, places, strict=True):
        _draw_row(list(axes), row, methods, alone)
    for axes, name in zip(places[0], ["image", *methods], strict=True):
        axes.set_title(name, fontsize=9, parse_math=False)
    return figure


def _draw_row(axes: "Sequence[Axes]", row: PanelRow, methods: Sequence[str], alone: bool) -> None:
    pictures = [_marked(np.atleast_3d(to_bytes(row.image)), row)]
    for name in methods:
        if (map := row.maps.get(name)) is None:
            pictures.append(np.full((2, 2, 3), 255, np.uint8))
            continue
        window = Window.of(map)
        below = row.image * (0 if alone else 1)
        pictures.append(_marked(draw_overlay(below, map, window, opacity=1 if alone else 0.75), row))
    for place, picture in zip(axes, pictures, strict=True):
        place.imshow(picture, aspect="equal", interpolation="bilinear")
        place.set_xticks([])
        place.set_yticks([])
        for spine in place.spines.values():
            spine.set_visible(False)
    axes[0].set_ylabel(row.label, fontsize=9, parse_math=False)


def _marked(pixels: np.ndarray, row: PanelRow) -> np.ndarray:
    from gifsplain.render.frames import enlarge

    full = enlarge(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
    height, width = row.image.shape[-2:]
    return outline(full, boxes=row.boxes, mask=row.mask, size=(height, width), colour=YELLOW)


def encode_figure(figure: "Figure") -> bytes:
    """The figure as PNG, without a date or a version in it: equal input gives equal bytes."""
    buffer = io.BytesIO()
    with _DRAWING:  # matplotlib's caches of fonts are shared, and batch runs draw in several threads
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
