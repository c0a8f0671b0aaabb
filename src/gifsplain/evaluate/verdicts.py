"""Sentences that say what a table means, made only from its numbers."""

import html
import io
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from gifsplain.evaluate.figures import literal

CONTROL_NAMES = {
    "random-map": "a random map",
    "centre-prior": "the centre prior",
    "box-prior": "the mean training mark",
}

FEWEST = 10
"""With fewer patients a bootstrap interval says little, so no verdict is given."""


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def overlap(summary: pd.DataFrame, controls: Sequence[str], split: str, threshold_split: str) -> tuple[str, ...]:
    """For each control: which methods beat it, and on which targets."""
    methods = [m for m in dict.fromkeys(summary["method"]) if m not in CONTROL_NAMES]
    few = summary["patients"] < FEWEST
    unsaid = list(dict.fromkeys(summary.loc[few, "target"].astype(str)))
    summary = summary[~few]
    same = "the same" if split == threshold_split else "some of the same" if "all" in (split, threshold_split) else ""
    words = [
        f"Split {split}; thresholds chosen on {threshold_split}" + (f", {same} cases: optimistic." if same else ".")
    ]
    if unsaid:
        words.append(f"Fewer than {FEWEST} patients, so nothing is said about: {_list(unsaid)}.")
    for control in controls if len(summary) else ():
        won, lost = [], []
        for method in methods:
            table = summary[summary["method"] == method]
            up = [str(t) for t in table.loc[table[f"over_{control}_low"] > 0, "target"]]
            down = [str(t) for t in table.loc[table[f"over_{control}_high"] < 0, "target"]]
            won += [f"{method} ({_list(up)})"] if up else []
            lost += [f"{method} ({_list(down)})"] if down else []
        words.append(
            f"IoU above {CONTROL_NAMES[control]}, whole 95 % interval: {_list(won)}. "
            f"Below it, whole interval: {_list(lost)}."
        )
    return tuple(words)


def randomisation_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Similarity (or rise) with all layers random, and the mean over all depths, for each method and kind."""
    rows = []
    for (method, kind), table in summary.groupby(["method", "kind"], sort=False):
        last = table[table["randomised"] == table["randomised"].max()]
        inner = table[table["randomised"] > 0]
        rows.append({"method": method, "kind": kind, "mean over depths": inner["mean"].mean(),
                     "deepest": last["mean"].mean(), "sd over images": last["sd"].mean(),
                     "n": int(table["n"].max())})  # fmt: skip
    return pd.DataFrame(rows)


def randomisation(summary: pd.DataFrame) -> tuple[str, ...]:
    """Methods in order of how much of their map survives the cascade, and which the efficient test passes."""
    table = randomisation_table(summary)
    words = []
    cascade = table[(table["kind"] == "cascading") & ~table["method"].isin(list(CONTROL_NAMES))].sort_values(
        "mean over depths"
    )
    if len(cascade):
        order = ", ".join(f"{m} {v:.2f}" for m, v in zip(cascade["method"], cascade["mean over depths"], strict=True))
        words.append(f"Cascading, mean Spearman over all depths, from most to least dependent on the weights: {order}.")
    efficient = table[(table["kind"] == "efficient") & ~table["method"].isin(list(CONTROL_NAMES))]
    if len(efficient):
        pairs = zip(efficient["method"], efficient["deepest"], strict=True)
        rises = ", ".join(f"{m} " + ("draws no map" if pd.isna(v) else f"{v:+.2f}") for m, v in pairs)
        words.append(f"Efficient test, relative rise of complexity with random weights (above 0 is wanted): {rises}.")
    return tuple(words)


def robustness(summary: pd.DataFrame) -> tuple[str, ...]:
    """Rank correlation with the clean map at the strongest step of each disturbance."""
    words = []
    for kind, table in summary[~summary["method"].isin(list(CONTROL_NAMES))].groupby("disturbance", sort=False):
        worst = table[table["level"] == table["level"].max()].groupby("method", sort=False)["spearman_mean"].mean()
        shown = ", ".join(f"{m} {v:.2f}" for m, v in worst.sort_values(ascending=False).items())
        words.append(f"At {kind} {table['level'].max():g}, Spearman with the clean map: {shown}.")
    return tuple(words)


def reconstruction(summary: pd.DataFrame) -> tuple[str, ...]:
    """Average loss of score for positives and negatives, beside the published ones."""
    means = summary.groupby("label")["difference"].mean()
    published = {"Positive": 0.12, "Negative": 0.04}
    return tuple(
        f"{label}s {'lose' if means[label] >= 0 else 'gain'} {abs(means[label]):.3f} of their score on average by reconstruction alone "
        f"(published: a loss of {value:.2f})."
        for label, value in published.items()
        if label in means
    )


def alignment(summary: pd.DataFrame) -> tuple[str, ...]:
    """The strongest side effects inside one classifier."""
    same = summary[(summary["base_classifier"] == summary["classifier"]) & (summary["base"] != summary["target"])]
    top = same.dropna(subset=["mean"]).sort_values("mean", key=abs, ascending=False).head(5)
    shown = "; ".join(f"lowering {r.base} moves {r.target} by {r.mean:+.2f} (n = {r.n:.0f})" for r in top.itertuples())
    each = summary.groupby(["base_classifier", "base"])[["n", "cases"]].max().sum()
    counted = f"{each['n']:.0f} of {each['cases']:.0f} cases moved far enough to count."
    return (counted, f"Strongest side effects as a share of the base's own change: {shown}.") if shown else (counted,)


def alignment_pages(rows: pd.DataFrame, minimum: float) -> str:
    """One small plot an image and base: every target's score over the base's own score; no radiographs."""
    parts = []
    for (classifier, base, case), table in rows.groupby(["base_classifier", "base", "case"], sort=False):
        figure = Figure(figsize=(4.2, 3.0), layout="constrained")
        axis = figure.subplots()
        for row in table[table["classifier"] == classifier].to_dict("records"):
            axis.plot(row["base_path"], row["path"], linewidth=2 if row["target"] == base else 1, label=row["target"])
        axis.set_xlabel(f"score of {base}")
        axis.set_ylabel("score")
        axis.set_ylim(0, 1)
        axis.legend(fontsize=6, frameon=False)
        buffer = io.StringIO()
        literal(figure).savefig(buffer, format="svg")
        moved = abs(table["base_before"].iloc[0] - table["base_after"].iloc[0])
        note = "counted" if moved > minimum else f"not counted: moved by {moved:.2f}"
        caption = html.escape(f"{classifier}: {base}, {case} ({note})")
        parts.append(
            f"<figure>{buffer.getvalue()[buffer.getvalue().index('<svg') :]}<figcaption>{caption}</figcaption></figure>"
        )
    style = "body{font:14px sans-serif}figure{display:inline-block;margin:8px}figure svg{max-width:100%;height:auto}"
    style += "figcaption{max-width:300px;overflow-wrap:anywhere}"
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f"<title>Alignment, image by image</title><style>{style}</style>"
    head += "<h1>Alignment, image by image</h1><p>Scores of synthetic images; research use, not for diagnosis.</p>"
    return head + "".join(parts) + "</html>"


def shortcut(summary: pd.DataFrame) -> tuple[str, ...]:
    """For each mark at the highest agreement: reliance, which methods find it, which autoencoders could draw it."""
    return tuple(word for _, table in summary.groupby("mark", sort=False) for word in _one_mark(table))


def _one_mark(summary: pd.DataFrame) -> list[str]:
    top = summary[summary["agreement"] == summary["agreement"].max()]
    found = top[~top["method"].isin(list(CONTROL_NAMES))].sort_values("iou", ascending=False)
    mark = str(top["mark"].iloc[0])
    words = [
        f"{mark.capitalize()}, agreement {summary['agreement'].max():g}: it moves the score by "
        f"{top['reliance'].iloc[0]:+.2f}; IoU of map and mark (chance {top['random_iou'].iloc[0]:.3f}): "
        + ", ".join(f"{m} {v:.2f}" for m, v in zip(found["method"], found["iou"], strict=True)) + "."
    ]  # fmt: skip
    for row in top.dropna(subset=["drawable"]).to_dict("records") if "drawable" in top else ():
        gone = "an undefined share" if pd.isna(row["removed"]) else f"{row['removed']:.0%}"
        words.append(
            f"{mark.capitalize()}, {row['method']}: the autoencoder draws {row['drawable']:.0%} of the mark's "
            f"contrast; the counterfactual removes {gone} of what the unchanged frame shows and draws "
            f"{row['added']:.0%} of a mark where there was none."
        )
    return words


def models(areas: pd.DataFrame, points: pd.DataFrame) -> tuple[str, ...]:
    """Where the classifier is no better than chance, and what the autoencoder costs."""
    table = areas[(areas["group"] == "all") & (areas["of"] == "image")]
    weak = ", ".join(str(name) for name in table[~(table["low"] > 0.5)]["target"])
    lost = float(points["drop"].mean())
    return (
        f"Not told from chance (the interval reaches 0.5): {weak or 'none'}.",
        f"The autoencoder lowers the score of positives by {lost:.3f} in mean over targets (published: 0.12).",
    )
