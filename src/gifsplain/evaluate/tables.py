"""Result tables in the paper's form, as frames of text that CSV, Markdown and HTML are made of."""

from collections.abc import Callable, Sequence
from math import isnan

import pandas as pd

from gifsplain.evaluate import published

Frame = pd.DataFrame


def mean_sd(mean: float, sd: float) -> str:
    """`0.35 ± 0.05` as the paper prints it; a dash where undefined."""
    return "–" if isnan(mean) else f"{mean:.2f} ± {sd:.2f}"


def with_interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """`0.35 [0.30, 0.41]`; a dash where undefined."""
    if isnan(value):
        return "–"
    return f"{value:.{digits}f}" if isnan(low) else f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def number(value: float, digits: int = 3) -> str:
    """A plain number; a dash where undefined."""
    return "–" if isnan(value) else f"{value:.{digits}f}"


def overlap(summary: Frame) -> Frame:
    """Table 1: target and method by classifier; AUC, IoU as mean ± sd, number of cases, and the published NIH value."""
    rows = []
    for (target, method), table in summary.groupby(["target", "method"], sort=False):
        row: dict[str, str] = {"target": str(target), "method": str(method)}
        for found in table.to_dict("records"):
            name = str(found["classifier"])
            row[f"{name} AUC"] = number(found.get("auc", float("nan")), 2)
            row[f"{name} IoU"] = mean_sd(found["iou"], found["iou_sd"])
            row[f"{name} n"] = str(found["n"])
        row["published XRV-all (n 80)"] = published_iou(str(target), str(method))
        rows.append(row)
    return Frame(rows)


def published_iou(target: str, method: str) -> str:
    """The published IoU of XRV-all where target and data set agree with ours, else a dash."""
    if published.DATA_SET.get(target) != "NIH":
        return "–"
    cell = published.IOU.get((target, published.XRV_ALL), {}).get(method)
    return mean_sd(*cell) if cell else "–"


def localisation(summary: Frame) -> Frame:
    """Every localisation measure with its interval over patients."""
    rows = []
    for found in summary.to_dict("records"):
        row = {key: str(found[key]) for key in ("classifier", "target", "method", "n")}
        for measure in ("iou", "precision", "hit", "energy"):
            row[measure] = with_interval(found[measure], found[f"{measure}_low"], found[f"{measure}_high"])
        row["IoU at one threshold"] = f"{number(found['iou_at_threshold'], 2)} ({number(found['threshold'], 2)})"
        rows.append(row)
    return Frame(rows)


def against_controls(summary: Frame, controls: Sequence[str], *others: str) -> Frame:
    """Gain in IoU over each control, and over other methods, with its interval; + where the whole of it is above 0, - where below."""
    rows = []
    for found in summary[~summary["method"].isin(controls)].to_dict("records"):
        row = {key: str(found[key]) for key in ("classifier", "target", "method", "n")}
        for control in (*controls, *others):
            value, low, high = (found.get(f"over_{control}{end}", float("nan")) for end in ("", "_low", "_high"))
            sign = " +" if low > 0 else " −" if high < 0 else ""
            row[f"IoU over {control}"] = with_interval(value, low, high) + sign
        rows.append(row)
    return Frame(rows)


def reconstruction(summary: Frame) -> Frame:
    """Table K.1 with the published row of XRV-all beside ours."""
    rows = []
    for found in summary.to_dict("records"):
        name = published.SAME_MODEL.get(found["classifier"], published.XRV_ALL)
        theirs = published.RECONSTRUCTION.get((found["label"], name, found["target"]))
        same_data = published.DATA_SET.get(found["target"]) == "NIH"
        shown = f"{theirs.score:.2f} → {theirs.reconstruction:.2f} ({theirs.difference:+.2f})" if theirs else "–"
        rows.append(
            {"label": found["label"], "classifier": found["classifier"], "target": found["target"],
             "n": str(found["n"]), "f(x)": number(found["score"], 2), "f(D(E(x)))": number(found["reconstruction"], 2),
             "difference": with_interval(found["difference"], found["difference_low"], found["difference_high"]),
             f"published {published.XRV_ALL}": shown if same_data else "–"}
        )  # fmt: skip
    return Frame(rows)


def rounded(frame: Frame, digits: int = 3) -> Frame:
    """Any summary with its numbers rounded, for reading."""
    shown = frame.copy()
    for column in shown.select_dtypes("float"):
        shown[column] = [number(value, digits) for value in shown[column]]
    return shown.astype(str)


def counterfactual(summary: Frame) -> Frame:
    """Measures down, methods across; how many results a mean was taken over stands behind it where that is not all."""
    names = [str(column) for column in summary]
    shown = rounded(summary.drop(columns=[name for name in names if name.endswith(("_low", "_high", "_n"))]))
    for measure in [name.removesuffix("_n") for name in names if name.endswith("_n")]:
        counts = zip(shown[measure], summary[f"{measure}_n"], summary["n"], strict=True)
        shown[measure] = [f"{text} ({count})" if 0 < count < n else text for text, count, n in counts]
    turned = shown.set_index(["classifier", "method"]).T.reset_index(names="measure")
    turned.columns = pd.Index([c if isinstance(c, str) else " / ".join(filter(None, c)) for c in turned.columns])
    return turned


def alignment(summary: Frame) -> Frame:
    """Relative change as mean ± standard error over the cases that moved, base by reacting target."""
    return _pivot(
        summary, lambda r: "–" if pd.isna(r["mean"]) else f"{r['mean']:.2f} ± {number(r['se'], 2)} ({r['n']:.0f})"
    )


def _pivot(summary: Frame, text: Callable[[pd.Series], str]) -> Frame:
    shown = summary.assign(
        shown=[text(row) for _, row in summary.iterrows()],
        lowered=summary["base_classifier"] + ": " + summary["base"],
        reacts=summary["classifier"] + ": " + summary["target"],
    )
    return shown.pivot(index="lowered", columns="reacts", values="shown").reset_index()


def markdown(frame: Frame) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + "---|" * len(frame.columns)]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def areas(found: Frame) -> Frame:
    """AUC with interval and positives: groups as rows, targets as columns."""
    rows = []
    for (group, of), table in found.groupby(["group", "of"], sort=False):
        name = str(group) if of == "image" else "all, reconstructed"
        cells = {
            str(r["target"]): f"{with_interval(r['auc'], r['low'], r['high'])} ({r['positives']})"
            for r in table.to_dict("records")
        }
        rows.append({"group": name, "images": str(table["n"].iloc[0]), **cells})
    return Frame(rows)
