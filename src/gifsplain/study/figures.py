"""Figures 6, F.3 and F.4 of the paper for any study: answers by target, IoU lines, answer against answer, counts."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display on a server; nothing is shown

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gifsplain.evaluate.figures import literal
from gifsplain.study.statistics.paired import pairs
from gifsplain.study.statistics.relation import lines
from gifsplain.study.statistics.table import Table

# Okabe & Ito: told apart by readers with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TRUTHS = {1: "true positives", 0: "false positives"}


def all_figures(table: Table) -> dict[str, Figure]:
    """File stem -> figure; those whose data is missing (no IoU) are left out."""
    found = {"figure-6a-answers-by-target": answers_by_target(table), "figure-f4-counts": counts(table)}
    if lines(table):
        found["figure-6b-answers-by-iou"] = answers_by_iou(table)
    for first, second in _neighbours(table):
        found[f"figure-f3-{first}-{second}"] = answer_against_answer(table, (first, second))
    return dict(sorted(found.items()))


def _neighbours(table: Table) -> list[tuple[str, str]]:
    return [(a, b) for i, a in enumerate(table.conditions) for b in table.conditions[i + 1 :]]


def _panels(table: Table, columns: int, *, width: float = 4.2, height: float = 3.2) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(width * columns, height * len(table.questions)), layout="constrained")
    return figure, figure.subplots(len(table.questions), columns, squeeze=False)


def _scale(axes: Axes, table: Table, axis: str = "y") -> None:
    limits, ticks = (0.7, table.points + 0.3), range(1, table.points + 1)
    if axis == "y":
        axes.set_ylim(*limits)
        axes.set_yticks(ticks)
    else:
        axes.set_xlim(*limits)
        axes.set_xticks(ticks)
    axes.spines[["top", "right"]].set_visible(False)


def answers_by_target(table: Table) -> Figure:
    """Figure 6A: mean answer with its 95 % interval per target and condition; rows are questions, columns truths."""
    figure, grid = _panels(table, 2, width=1.8 + 0.55 * (len(table.targets) + 1))
    names = ("all", *table.targets)
    for row, question in zip(grid, table.questions, strict=True):
        for axes, (truth, title) in zip(row, TRUTHS.items(), strict=True):
            for k, condition in enumerate(table.conditions):
                _means(axes, table, (question, truth, condition), names, k)
            axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
            axes.set_ylabel(question)
            axes.set_title(title, fontsize=10)
            _scale(axes, table)
    grid[0, 0].legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def _means(axes: Axes, table: Table, what: tuple[str, int, str], names: tuple[str, ...], k: int) -> None:
    question, truth, condition = what
    step = 0.6 / max(1, len(table.conditions))
    for i, name in enumerate(names):
        rows = table.select(target=name, truth=truth)
        values = rows.loc[rows["condition"] == condition, question].dropna()
        if len(values):
            reach = 1.96 * values.std() / np.sqrt(len(values)) if len(values) > 1 else 0.0
            place = i + (k - (len(table.conditions) - 1) / 2) * step
            label = condition if i == 0 else None
            axes.errorbar(place, values.mean(), reach, fmt="o", ms=4, capsize=2, color=COLOURS[k % 7], label=label)


def answers_by_iou(table: Table) -> Figure:
    """Figure 6B: regression lines of the answer on the IoU of the map, true positives, per condition."""
    figure, grid = _panels(table, 1, width=5.2)
    fitted = {(line.question, line.condition): line for line in lines(table)}
    jitter = np.random.Generator(np.random.PCG64(0))
    for (axes,), question in zip(grid, table.questions, strict=True):
        for k, condition in enumerate(table.conditions):
            line = fitted.get((question, condition))
            rows = table.select(truth=1).dropna(subset=["iou", question])
            rows = rows[rows["condition"] == condition]
            if line:
                y = rows[question] + jitter.uniform(-0.15, 0.15, len(rows))
                axes.plot(rows["iou"], y, ".", ms=3, alpha=0.35, color=COLOURS[k % 7])
                ends = np.array([rows["iou"].min(), rows["iou"].max()])
                label = f"{condition}: slope {line.slope:.2f}, p {line.p_value:.2g}"
                axes.plot(ends, line.intercept + line.slope * ends, color=COLOURS[k % 7], label=label)
        axes.set_xlabel("IoU of the map with the marked finding")
        axes.set_ylabel(question)
        axes.legend(frameon=False, fontsize=8)
        _scale(axes, table)
    return figure


def answer_against_answer(table: Table, conditions: tuple[str, str]) -> Figure:
    """Figure F.3: how often each pair of answers was given under the two conditions; the x marks the mean."""
    figure, grid = _panels(table, 2, width=3.6, height=3.5)
    for row, question in zip(grid, table.questions, strict=True):
        for axes, (truth, title) in zip(row, TRUTHS.items(), strict=True):
            both = pairs(table, question, conditions, target="all", truth=truth)
            sizes = both.groupby(["before", "after"]).size()
            axes.plot([1, table.points], [1, table.points], color="0.8", lw=1, zorder=0)
            if len(sizes):
                x, y = (sizes.index.get_level_values(i).to_numpy(float) for i in (0, 1))
                axes.scatter(x, y, s=420 * sizes.to_numpy() / sizes.max(), color=COLOURS[0], alpha=0.45, lw=0)
                for a, b, n in zip(x, y, sizes, strict=True):
                    axes.text(a, b, str(n), ha="center", va="center", fontsize=7)
                axes.plot(both["before"].mean(), both["after"].mean(), "x", color=COLOURS[1], ms=11, mew=2.5)
            axes.set(xlabel=f"{question}, {conditions[0]}", ylabel=f"{question}, {conditions[1]}")
            axes.set_title(f"{title} (n = {len(both)})", fontsize=10)
            _scale(axes, table)
            _scale(axes, table, "x")
    return figure


def counts(table: Table) -> Figure:
    """Figure F.4: counts of each answer per condition and truth."""
    figure, grid = _panels(table, 2)
    step = 0.8 / max(1, len(table.conditions))
    for row, question in zip(grid, table.questions, strict=True):
        for axes, (truth, title) in zip(row, TRUTHS.items(), strict=True):
            rows = table.select(truth=truth)
            for k, condition in enumerate(table.conditions):
                values = rows.loc[rows["condition"] == condition, question].dropna().to_numpy(int)
                height = np.bincount(values, minlength=table.points + 1)[1:]
                place = np.arange(1, table.points + 1) + (k - (len(table.conditions) - 1) / 2) * step
                axes.bar(place, height, step * 0.92, color=COLOURS[k % 7], label=condition)
            axes.set(xlabel=question, ylabel="answers")
            axes.set_title(title, fontsize=10)
            axes.set_xticks(range(1, table.points + 1))
            axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].legend(frameon=False, fontsize=8)
    return figure


def save(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Write PNG and SVG without dates, so that the same table gives the same files."""
    paths = [folder / f"{stem}.png", folder / f"{stem}.svg"]
    literal(figure)
    with matplotlib.rc_context({"svg.hashsalt": "gifsplain"}):
        figure.savefig(paths[0], dpi=150, metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths
