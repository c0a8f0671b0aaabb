"""Figures in the paper's form; every function returns a matplotlib figure, nothing is shown or saved here."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#882255",
    "#44aa99",
    "#332288",
    "#117733",
)
_CONTROL = "#888888"
_CONTROLS = {"random-map": (":", "x"), "centre-prior": ("--", "*"), "box-prior": ("-.", "s")}
_MARKERS = "osD^vPX<>*"


def style(method: str, methods: Sequence[str]) -> dict[str, Any]:
    """Colour, line and marker of a method: controls are grey, the others keep one colour for a list of methods."""
    if method in _CONTROLS:
        line, marker = _CONTROLS[method]
        return {"color": _CONTROL, "linestyle": line, "marker": marker}
    place = [m for m in methods if m not in _CONTROLS].index(method)
    return {"color": _COLOURS[place % len(_COLOURS)], "linestyle": "-", "marker": _MARKERS[place % len(_MARKERS)]}


def _grid(rows: int, columns: int, *, width: float = 4.2, height: float = 3.0) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(figsize=(width * columns, height * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, axes.tolist()


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, min(len(labels), int(figure.get_figwidth() / 2.4))),
        frameon=False,
    )


def literal(figure: Figure) -> Figure:
    """The same figure, with dollar signs in names drawn as they are; only the ticks of logarithmic axes stay formulas."""
    formulas = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        if axis.get_scale() == "log"
        for label in (*axis.get_ticklabels(), *axis.get_ticklabels(minor=True))
    }
    for text in figure.findobj(Text):
        if id(text) not in formulas:
            text.set_parse_math(False)
    return figure


def _order(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def overlap(summary: pd.DataFrame) -> Figure:
    """Mean IoU at the expert's area with its interval over patients; a row for each classifier."""
    classifiers, targets, methods = (_order(summary[key]) for key in ("classifier", "target", "method"))
    figure, axes = _grid(len(classifiers), 1, width=max(7.0, 1.9 * len(targets)), height=3.4)
    for axis, classifier in zip((row[0] for row in axes), classifiers, strict=True):
        table = summary[summary["classifier"] == classifier].set_index(["target", "method"])
        for place, method in enumerate(methods):
            there = [t for t in targets if (t, method) in table.index]
            x = np.array([targets.index(t) for t in there]) + (place - (len(methods) - 1) / 2) * 0.8 / len(methods)
            value, low, high = (
                table.loc[[(t, method) for t in there], c].to_numpy(float) for c in ("iou", "iou_low", "iou_high")
            )
            look = style(method, methods)
            axis.errorbar(x, value, np.clip([value - low, high - value], 0, None), color=look["color"], linestyle="",
                          marker=look["marker"], markersize=7, capsize=2, label=method)  # fmt: skip
        counts = table.groupby("target", sort=False)["n"].max()
        axis.set_xticks(range(len(targets)), [f"{t}\nn = {counts.get(t, 0)}" for t in targets])
        axis.set_ylabel("IoU at the expert's area")
        axis.set_title(classifier, loc="left")
        axis.set_ylim(bottom=0)
    _legend(figure, axes[0][0])
    return figure


def randomisation(summary: pd.DataFrame) -> Figure:
    """Similarity of maps over the share of layers with random weights (figure 5), a panel for each kind of test."""
    kinds, methods = _order(summary["kind"]), _order(summary["method"])
    figure, axes = _grid(1, len(kinds), width=4.4, height=3.6)
    for axis, kind in zip(axes[0], kinds, strict=True):
        part = summary[summary["kind"] == kind]
        table = part.groupby(["method", "randomised"], sort=False)[["mean", "sd"]].mean().reset_index()
        for place, method in enumerate(methods):
            line = table[table["method"] == method]
            look = style(method, methods)
            if kind == "efficient":
                axis.bar(place, line["mean"], yerr=line["sd"], color=look["color"], capsize=3, label=method)
                continue
            axis.plot(line["randomised"], line["mean"], **look, label=method)
            low, high = line["mean"] - line["sd"], line["mean"] + line["sd"]
            axis.fill_between(line["randomised"], low, high, color=look["color"], alpha=0.12, linewidth=0)
        _label_randomisation(axis, kind)
    _legend(figure, axes[0][0])
    return figure


def _label_randomisation(axis: Axes, kind: str) -> None:
    axis.set_title(kind, loc="left")
    axis.axhline(0, color="black", linewidth=0.6)
    if kind == "efficient":
        axis.set_ylabel("relative rise of complexity")
        axis.set_xticks([])
        return
    axis.set_xlabel("depth of the random layer" if kind == "independent" else "share of layers random, output first")
    axis.set_ylabel("Spearman correlation with the map")
    axis.set_ylim(-0.3, 1.05)


def robustness(summary: pd.DataFrame) -> Figure:
    """IoU with the mark and rank correlation with the clean map over noise and blur (figure G.1)."""
    kinds, methods = _order(summary["disturbance"]), _order(summary["method"])
    measures = {"spearman_mean": "Spearman with the clean map", "top_overlap_mean": "top-tenth IoU with the clean map",
                "iou_mean": "IoU with the expert's mark"}  # fmt: skip
    figure, axes = _grid(len(kinds), len(measures))
    for row, kind in zip(axes, kinds, strict=True):
        part = summary[summary["disturbance"] == kind]
        table = part.groupby(["method", "level"], sort=False)[list(measures)].mean().reset_index()
        for axis, (measure, label) in zip(row, measures.items(), strict=True):
            for method in methods:
                line = table[table["method"] == method]
                axis.plot(line["level"], line[measure], **style(method, methods), markersize=4, label=method)
            unit = "standard deviation, grey ranges" if kind == "noise" else "standard deviation, pixels"
            axis.set_xlabel(f"{kind}: {unit}")
            axis.set_ylabel(label)
    _legend(figure, axes[0][0])
    return figure


def reconstruction(summary: pd.DataFrame) -> Figure:
    """From f(x) to f(D(E(x))) for each target, positives and negatives (table K.1 as a picture)."""
    classifiers, targets = _order(summary["classifier"]), sorted(_order(summary["target"]))
    figure, axes = _grid(1, len(classifiers), width=max(5.0, 1.1 * len(targets)), height=3.4)
    for axis, classifier in zip(axes[0], classifiers, strict=True):
        part = summary[summary["classifier"] == classifier]
        for label, colour, shift in (("Positive", _COLOURS[1], -0.12), ("Negative", _COLOURS[0], 0.12)):
            table = part[part["label"] == label]
            x = np.array([targets.index(t) for t in table["target"]]) + shift
            axis.vlines(x, table["reconstruction"], table["score"], color=colour, linewidth=1.5)
            axis.plot(x, table["score"], "o", color=colour, label=f"{label}: image")
            axis.plot(
                x, table["reconstruction"], "o", markerfacecolor="white", color=colour, label=f"{label}: reconstruction"
            )
        axis.set_xticks(range(len(targets)), targets, rotation=20, ha="right")
        axis.set_ylabel("mean score")
        axis.set_ylim(0, 1)
        axis.set_title(classifier, loc="left")
    _legend(figure, axes[0][0])
    return figure


def curves(rows: pd.DataFrame, *, images: int = 3) -> Figure:
    """Score over strength for each classifier on the same images (figure 3); a row for each target."""
    targets, classifiers = _order(rows["target"]), _order(rows["classifier"])
    cases = {target: _order(rows.loc[rows["target"] == target, "case"])[:images] for target in targets}
    figure, axes = _grid(len(targets), max(map(len, cases.values())), width=3.4, height=2.2)
    for row, target in zip(axes, targets, strict=True):
        for column, axis in enumerate(row):
            axis.set_visible(column < len(cases[target]))
        for number, (axis, case) in enumerate(zip(row, cases[target], strict=False), start=1):
            for place, classifier in enumerate(classifiers):
                line = rows[(rows["target"] == target) & (rows["case"] == case) & (rows["classifier"] == classifier)]
                axis.plot(line["strength"], line["score"], color=_COLOURS[place], label=classifier)
            axis.axvline(0, color="black", linewidth=0.6)
            axis.set_ylim(0, 1)
            axis.set_title(f"{target}, image {number}", loc="left", fontsize=9)
            axis.set_xlabel("strength")
            axis.set_ylabel("score")
    _legend(figure, axes[0][0])
    return figure


def alignment(summary: pd.DataFrame) -> Figure:
    """Mean relative change: rows are lowered, columns react; the number of cases stands at the row."""
    table = summary.assign(row=summary["base_classifier"] + ": " + summary["base"],
                           column=summary["classifier"] + ": " + summary["target"])  # fmt: skip
    rows, columns = _order(table["row"]), _order(table["column"])
    values = table.pivot(index="row", columns="column", values="mean").reindex(index=rows, columns=columns)
    errors = table.pivot(index="row", columns="column", values="se").reindex(index=rows, columns=columns)
    counts = table.groupby("row")["n"].max().fillna(0)
    figure = Figure(figsize=(3.2 + 0.95 * len(columns), 2.0 + 0.6 * len(rows)), layout="constrained")
    axis = figure.subplots()
    picture = axis.imshow(values.to_numpy(float), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            value = values.loc[row, column]
            error = errors.loc[row, column]
            text = "–" if pd.isna(value) else f"{value:.2f}" + ("" if pd.isna(error) else f"\n± {error:.2f}")
            axis.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if abs(value) > 0.6 else "black")
    axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize=8)
    axis.set_yticks(range(len(rows)), [f"{row} (n = {counts.get(row, 0):.0f})" for row in rows], fontsize=8)
    axis.set_xlabel("reacts")
    axis.set_ylabel("lowered")
    figure.colorbar(picture, ax=axis, label="relative change")
    return figure


def counterfactual(summary: pd.DataFrame) -> Figure:
    """The main measures of the counterfactual table, a panel each, one bar a method."""
    panels = {"valid": "validity (wanted change reached)", "flipped": "share that flips",
              "l1": "L1 from the unchanged frame",
              "other_targets": "change of other targets", "deletion": "deletion AUC (lower is better)",
              "insertion": "insertion AUC (higher is better)"}  # fmt: skip
    there = {name: text for name, text in panels.items() if name in summary and summary[name].notna().any()}
    figure, axes = _grid(1, len(there), width=2.9, height=3.2)
    methods = _order(summary["method"])
    for axis, (name, text) in zip(axes[0], there.items(), strict=True):
        for place, method in enumerate(methods):
            value = float(summary.loc[summary["method"] == method, name].mean())
            axis.bar(place, value, color=style(method, methods)["color"], label=method)
        axis.set_title(text, loc="left", fontsize=9)
        axis.set_xticks([])
    _legend(figure, axes[0][0])
    return figure


def shortcut(summary: pd.DataFrame) -> Figure:
    """Reliance on the mark, where maps point, and whether counterfactuals remove or draw it, over the agreement."""
    methods = _order(summary["method"])
    panels = {"reliance": "score with mark − without", "iou": "IoU of map and mark",
              "removed": "share of the mark removed",
              "added": "share of a mark drawn"}  # fmt: skip
    there = {name: text for name, text in panels.items() if name in summary and summary[name].notna().any()}
    kinds = _order(summary["mark"])
    figure, axes = _grid(len(kinds), len(there), width=4.0, height=3.2)
    for row, kind in zip(axes, kinds, strict=True):
        part = summary[summary["mark"] == kind].sort_values("agreement")
        for axis, (name, text) in zip(row, there.items(), strict=True):
            for method in methods if name != "reliance" else methods[:1]:
                line = part[part["method"] == method]
                plain = {"color": "black", "marker": "o"}
                axis.plot(
                    line["agreement"],
                    line[name],
                    **(plain if name == "reliance" else {**style(method, methods), "label": method}),
                )
            axis.set_xlabel("agreement of mark and label")
            axis.set_title(f"{kind}: {text}", loc="left", fontsize=9)
            axis.axhline(0, color="black", linewidth=0.6)
    _legend(figure, axes[0][1] if len(there) > 1 else axes[0][0])
    return figure


def areas(found: pd.DataFrame) -> Figure:
    """AUC with interval for each target, on images and on reconstructions."""
    figure, axes = _grid(1, 1, width=7.0, height=3.2)
    axis = axes[0][0]
    table = found[found["group"] == "all"]
    targets = _order(table["target"])
    for number, (of, part) in enumerate(table.groupby("of", sort=False)):
        part = part.set_index("target").loc[targets]
        bars = np.stack([part["auc"] - part["low"], part["high"] - part["auc"]]).clip(min=0)
        places = np.arange(len(targets)) + 0.2 * number
        axis.errorbar(places, part["auc"], bars, fmt=_MARKERS[number], color=_COLOURS[number], capsize=3, label=str(of))
    axis.axhline(0.5, color=_CONTROL, linestyle=":")
    axis.set_xticks(np.arange(len(targets)) + 0.1, targets)
    axis.set_ylabel("AUC")
    _legend(figure, axis)
    return figure
