"""What the size of an autoencoder's bottleneck does: points, table and figure (Cohen et al. 2021, figure D.2)."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from gifsplain.errors import InputError
from gifsplain.io import files

MARKERS = "osD^v*"


@dataclass(frozen=True)
class Point:
    """One look at one autoencoder during its training."""

    depth: int
    bottleneck: str
    """Channels x height x width."""
    numbers: int
    """How many numbers the latent has."""
    epoch: float
    mae: float
    """Mean absolute error on val, of full scale."""
    iou: float
    """Mean overlap of latentshift-max with the experts' boxes, at the boxes' area."""
    reached: float
    """Share of those images whose score fell by the wanted drop."""
    scored: float
    """Mean score of the reconstructions."""


def write_points(points: Sequence[Point], path: Path) -> None:
    """A CSV with one line a point."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Point)])
    writer.writeheader()
    writer.writerows(asdict(point) for point in points)
    files.write_text(path, text.getvalue())


def read_points(path: Path) -> list[Point]:
    """The points of `write_points`."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {field.name: field.type for field in fields(Point)}
    if rows and set(rows[0]) != set(kinds):
        raise InputError(f"{path} must have the columns {sorted(kinds)}, got {sorted(rows[0])}")
    return [Point(**{key: kinds[key](value) for key, value in row.items()}) for row in rows]  # type: ignore[operator]


def last_points(points: Sequence[Point]) -> list[Point]:
    """The latest point of each autoencoder, by depth, then size."""
    last: dict[tuple[int, int, str], Point] = {}
    for point in points:
        key = (point.depth, point.numbers, point.bottleneck)
        if key not in last or point.epoch >= last[key].epoch:
            last[key] = point
    return [last[key] for key in sorted(last)]


def table(points: Sequence[Point]) -> str:
    """Markdown: one line for each autoencoder at the end of its training."""
    lines = [
        "| depth | bottleneck | numbers | epochs | MAE | IoU | drop reached | score of D(E(x)) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for p in last_points(points):
        cells = (p.depth, p.bottleneck, p.numbers, f"{p.epoch:g}", f"{p.mae:.4f}", f"{p.iou:.3f}")
        lines.append("| " + " | ".join(map(str, (*cells, f"{p.reached:.0%}", f"{p.scored:.2f}"))) + " |")
    return "\n".join(lines) + "\n"


def draw(points: Sequence[Point], path: Path, *, random_iou: float) -> None:
    """Three panels: error by size, overlap by size, overlap by error; marker is the depth, colour the epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    depths = sorted({point.depth for point in points})
    shades = (min(p.epoch for p in points), max(p.epoch for p in points))
    names = {"numbers": "numbers in the bottleneck", "mae": "validation MAE", "iou": "IoU with boxes"}
    panels = (("numbers", "mae"), ("numbers", "iou"), ("mae", "iou"))
    for axis, (across, up) in zip(axes, panels, strict=True):
        for depth, marker in zip(depths, MARKERS, strict=False):
            mine = [point for point in points if point.depth == depth]
            x, y = ([getattr(point, name) for point in mine] for name in (across, up))
            epochs = [point.epoch for point in mine]
            drawn = axis.scatter(
                x,
                y,
                c=epochs,
                marker=marker,
                cmap="viridis",
                vmin=shades[0],
                vmax=shades[1],
                s=28,
                label=f"ResNet-{depth}",
            )
        axis.set(xlabel=names[across], ylabel=names[up])
        if across == "numbers":
            axis.set_xscale("log", base=2)
        if up == "iou":
            axis.axhline(random_iou, color="0.6", linestyle=":", label="random map")
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].legend(frameon=False, fontsize=8)
    figure.colorbar(drawn, ax=axes[2], label="epoch")
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
