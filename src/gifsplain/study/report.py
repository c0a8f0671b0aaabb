"""The analysis as one HTML file that needs nothing else: figures are inside, there is no script."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from gifsplain.study.analysis import Results

CAPTIONS = {
    "figure-6a": "Mean answer per target with its 95 % interval (as figure 6A of the paper).",
    "figure-6b": "Answers of true positives against the IoU of the map, with least-squares lines (figure 6B).",
    "figure-f3": "How often each pair of answers was given under the two conditions; × marks the mean (figure F.3).",
    "figure-f4": "Counts of each answer (figure F.4).",
}
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "agreement_between": (
        "question",
        "condition",
        "readers",
        "n",
        "kappa_quadratic",
        "exact_agreement",
        "ICC(2,1)",
        "ICC(2,1) low",
        "ICC(2,1) high",
    ),
    "agreement_within": ("question", "reader", "n", "kappa_quadratic", "exact_agreement", "ICC(1,1)", "ICC(2,1)"),
    "iou": ("question", "condition", "n", "slope", "slope_low", "slope_high", "p_value", "spearman"),
}


def number(value: Any) -> str:
    """A number as text: counts whole, others with two decimals or, when small, two digits; a dash where undefined."""
    if value is None or isinstance(value, str | bool):
        return "–" if value is None else str(value)
    if isinstance(value, int | np.integer):
        return f"{value}".replace("-", "−")
    if pd.isna(value):
        return "–"
    return (f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.2g}").replace("-", "−")


def p_text(value: float | None) -> str:
    """A p-value as journals print it."""
    if value is None or pd.isna(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def html(results: Results, figures: Path, title: str) -> str:
    """The report; every number in it is also in results.json or the tables."""
    env = Environment(loader=PackageLoader("gifsplain.study", "templates"), autoescape=True, undefined=StrictUndefined)
    env.filters |= {"number": number, "p": p_text}
    record = results.record
    return env.get_template("report.html").render(
        title=title,
        study=record["study"],
        options=record["options"],
        overall=[c for c in record["comparisons"] if c["target"] == "all"],
        by_target=[c for c in record["comparisons"] if c["target"] != "all"],
        models=record["ordinal_models"],
        reliance=[r for r in record["reliance"] if r["target"] == "all" and r["reader"] == "all"],
        changes=record["reliance_changes"],
        tables={
            name: _table(results.tables[name], COLUMNS.get(name))
            for name in ("agreement_between", "agreement_within", "iou", "time", "time_comparisons")
        },
        figures=[(_caption(path.stem), _data(path), _width(path)) for path in sorted(figures.glob("*.png"))],
    )


def _table(frame: pd.DataFrame, columns: Sequence[str] | None) -> dict[str, Any]:
    kept = [c for c in (columns or frame.columns) if c in frame.columns]
    return {"columns": [c.replace("_", " ") for c in kept], "rows": frame[kept].to_numpy(object).tolist()}


def _caption(stem: str) -> str:
    return next(text for start, text in CAPTIONS.items() if stem.startswith(start))


def _width(path: Path) -> int:
    """Width in CSS pixels: figures are saved at 150 dots an inch, a page has 96."""
    return int(int.from_bytes(path.read_bytes()[16:20], "big") * 96 / 150)  # the width in a PNG's header chunk


def _data(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
