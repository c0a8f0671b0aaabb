"""One page about a run: the distribution of every number, what stopped the searches, and the worst cases first."""

import math
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from gifsplain.io import run_folder
from gifsplain.io.files import write_text

WORST = 50
"""Cases in the table of worst cases."""

HIDDEN = {"bytes", "modified_ns"}
COUNTED = ("stop_lower", "stop_higher", "method", "meaning", "strength_unit")

STYLE = """
:root { color-scheme: light dark; } .scroll { overflow-x: auto; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } h1 { overflow-wrap: anywhere; } td, th { padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; } figcaption { font-size: .85rem; } svg { width: 100%; height: 5rem; background: #8881; }
rect { fill: #3b6ea5; } .fail { color: #b00020; } .note { color: #666; font-size: .9rem; }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #ddd; } .fail { color: #ff7b88; } .note { color: #aaa; }
}
"""
TABLE = '<div class="scroll" tabindex="0"><table>'
"""Wider than a phone: it scrolls by itself, by keys too."""


def write_summary(folder: Path) -> Path:
    """Write `summary.html` into the run's folder and return its path."""
    path = folder / run_folder.SUMMARY
    rows, errors = run_folder.read_run(folder), run_folder.read_errors(folder)
    write_text(path, summary_html(folder.resolve().name, rows, errors))
    return path


def summary_html(name: str, rows: pd.DataFrame, errors: pd.DataFrame) -> str:
    """The page of a run's rows and errors."""
    title = escape(f"Batch run {name}")
    counts = f"{len(rows)} explanations of {rows['case'].nunique()} cases; {len(errors)} failures."
    parts = [
        f"<h1>{title}</h1><p>{counts} Synthetic pictures, research use, not for diagnosis.</p>",
        _errors(errors),
        "<h2>Worst cases</h2><p class=note>Most failed checks first, then most warnings, then the largest change of "
        "the score by the autoencoder alone.</p>",
        _table(worst(rows)),
        "<h2>Why the searches ended, and how checks went</h2>",
        *(_counts(rows, column) for column in _categories(rows)),
        '<h2>Distributions</h2><div class="grid">',
        *(_histogram(column, rows[column]) for column in _numbers(rows)),
        "</div>",
    ]
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return f"{head}<title>{title}</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"


def worst(rows: pd.DataFrame, count: int = WORST) -> pd.DataFrame:
    """The cases to look at first."""
    if rows.empty:
        return rows
    gap = (rows["score_reconstruction"] - rows["score_input"]).abs()
    order = rows.assign(_gap=gap).sort_values(["checks_failed", "checks_warned", "_gap"], ascending=False)
    return order.head(count).drop(columns="_gap")


def _numbers(rows: pd.DataFrame) -> list[str]:
    return [str(column) for column in rows if is_numeric_dtype(rows[column]) and column not in HIDDEN]


def _categories(rows: pd.DataFrame) -> list[str]:
    return [column for column in (*COUNTED, *_verdicts(rows)) if column in rows]


def _verdicts(rows: pd.DataFrame) -> list[str]:
    names = map(str, rows.columns)
    return [name for name in names if name.startswith("check_") and not name.endswith("_value")]


def _table(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "<p>None.</p>"
    checks = _verdicts(rows)
    lines = [f"{TABLE}<tr><th>case<th>target<th>score<th>reconstruction<th>counterfactual<th>stop<th>not passed</tr>"]
    for row in rows.to_dict("records"):
        media = str(row.get("media") or "")
        case = escape(str(row["case"]))
        link = f'<a href="{escape(media, quote=True)}/">{case}</a>' if media else case
        failed = ", ".join(f"{c.removeprefix('check_')} ({row[c]})" for c in checks if row[c] in ("warn", "fail"))
        numbers = "".join(
            f"<td>{row[key]:.3f}" for key in ("score_input", "score_reconstruction", "score_counterfactual")
        )
        stop = f"{row['stop_lower']} / {row['stop_higher']}"
        lines.append(f"<tr><td>{link}<td>{escape(str(row['target']))}{numbers}<td>{stop}<td>{escape(failed)}</tr>")
    return "".join(lines) + "</table></div>"


def _errors(errors: pd.DataFrame) -> str:
    if errors.empty:
        return ""
    lines = [f"<h2>Failures</h2>{TABLE}<tr><th>case<th>target<th>error<th>reason</tr>"]
    for row in errors.head(200).to_dict("records"):
        cells = "".join(f"<td>{escape(str(row[key]))}" for key in ("case", "target", "error", "reason"))
        lines.append(f'<tr class="fail">{cells}</tr>')
    more = f"<p>and {len(errors) - 200} more in the folder errors.</p>" if len(errors) > 200 else ""
    return "".join(lines) + "</table></div>" + more


def _counts(rows: pd.DataFrame, column: str) -> str:
    found = rows[column].value_counts()
    text = ", ".join(f"{escape(str(value))} {count}" for value, count in found.items())
    return f"<p><b>{escape(column)}</b>: {text}</p>"


def _histogram(name: str, values: pd.Series) -> str:
    """Thirty bars with median and range; nan is counted apart."""
    kept = values.to_numpy(dtype=float)
    kept = kept[np.isfinite(kept)]
    undefined = len(values) - len(kept)
    note = f"; {undefined} undefined" if undefined else ""
    if kept.size == 0:
        return f"<figure><figcaption><b>{escape(name)}</b>: none defined</figcaption></figure>"
    counts, edges = np.histogram(kept, bins=30 if kept.min() < kept.max() else 1)
    width, most = 300 / len(counts), counts.max()
    bars = "".join(_bar(i * width, width, 60 * count / most) for i, count in enumerate(counts) if count)
    low, high, middle = (_short(value) for value in (edges[0], edges[-1], float(np.median(kept))))
    caption = f"<b>{escape(name)}</b>: median {middle}, from {low} to {high}{note}"
    drawing = (
        f'<svg viewBox="0 0 300 60" preserveAspectRatio="none" role="img" aria-label="{escape(name)}">{bars}</svg>'
    )
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def _bar(left: float, width: float, height: float) -> str:
    return f'<rect x="{left:.1f}" y="{60 - height:.1f}" width="{max(width - 0.6, 0.4):.1f}" height="{height:.1f}"/>'


def _short(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "undefined"
