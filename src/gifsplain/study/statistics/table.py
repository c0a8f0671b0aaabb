"""The long table of answers: one row a reading, checked before anything is computed from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gifsplain.errors import InputError

KEYS = ("reader", "read", "case", "target", "truth", "condition")
QUESTIONS = ("confidence", "feature")
USUAL_CONDITIONS = ("traditional", "latentshift")
MAX_LISTED = 50


@dataclass(frozen=True)
class Table:
    """Checked answers.

    `rows` has the columns of `KEYS`, one float column per question (nan where a partial record has no answer), `iou`
    and `seconds` (nan where unknown) and `repeat` (True for the later readings of a case by the same reader under the
    same condition). `conditions` gives the order: differences are later minus earlier.
    """

    rows: pd.DataFrame
    questions: tuple[str, ...]
    conditions: tuple[str, ...]
    points: int

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets, sorted."""
        return tuple(sorted(self.rows["target"].unique()))

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of the readers, sorted."""
        return tuple(sorted(self.rows["reader"].unique()))

    @property
    def first(self) -> pd.DataFrame:
        """The rows without repeats: what every comparison between conditions uses."""
        return self.rows[~self.rows["repeat"]]

    def select(self, *, target: str = "all", truth: int | None = None) -> pd.DataFrame:
        """First readings of one target ("all" for every one) and one truth."""
        rows = self.first
        if target != "all":
            rows = rows[rows["target"] == target]
        return rows if truth is None else rows[rows["truth"] == truth]


def read_csv(
    path: Path,
    *,
    questions: Sequence[str] = QUESTIONS,
    conditions: Sequence[str] = (),
    points: int = 5,
    partial: bool = False,
) -> Table:
    """The checked table of a CSV in long form; columns that nobody asked for are ignored.

    With `conditions`, rows of other conditions are checked too, then left out. `partial` allows empty answers. Raises
    `InputError` that names every problem with its row, counted as a spreadsheet does (the header is row 1).
    """
    if not path.is_file():
        raise InputError(f"expected a CSV file, found none at {path}; give the answers in long form")
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"expected a UTF-8 CSV with a header, got {path}: {error}; save it as CSV again") from error
    raw.columns = [str(name).strip() for name in raw.columns]
    return from_text(raw, questions=questions, conditions=conditions, points=points, partial=partial)


def from_text(
    raw: pd.DataFrame,
    *,
    questions: Sequence[str] = QUESTIONS,
    conditions: Sequence[str] = (),
    points: int = 5,
    partial: bool = False,
) -> Table:
    """The checked table of a frame of strings (see `read_csv`), or an `InputError` that lists its problems."""
    missing = [name for name in (*KEYS, *questions) if name not in raw.columns]
    if missing:
        raise InputError(
            f"expected the columns {', '.join((*KEYS, *questions))}, got {', '.join(raw.columns) or 'none'}; "
            f"add {', '.join(missing)}"
        )
    if raw.empty:
        raise InputError("expected at least one row of answers, got none; wait until readers have answered")
    raw = raw.map(lambda value: str(value).strip()).reset_index(drop=True)
    problems = sorted(set(_problems(raw, questions, points, partial)))
    if problems:
        listed = "\n".join(f"  row {row}: {text}" for row, text in problems[:MAX_LISTED])
        more = f"\n  and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
        raise InputError(f"expected a clean table, got {len(problems)} problems; correct these rows:\n{listed}{more}")
    order = condition_order(raw["condition"].unique(), conditions)
    rows = _typed(raw[raw["condition"].isin(order)].reset_index(drop=True), questions)
    return Table(rows, tuple(questions), order, points)


def condition_order(found: Iterable[str], wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The wanted order; otherwise the names of the paper's design first, in its order, then alphabetical.

    >>> condition_order(["latentshift", "other", "traditional"])
    ('traditional', 'latentshift', 'other')
    """
    names = set(found)
    if wanted:
        if len(set(wanted)) != len(wanted) or not names.issuperset(wanted):
            raise InputError(f"expected conditions among {', '.join(sorted(names))}, got {', '.join(wanted)}")
        return tuple(wanted)
    known = [name for name in USUAL_CONDITIONS if name in names]
    return (*known, *sorted(names.difference(known)))


def _problems(raw: pd.DataFrame, questions: Sequence[str], points: int, partial: bool) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for name in ("reader", "case", "target", "condition"):
        found += [(_row(i), f"{name} is empty") for i in raw.index[raw[name] == ""]]
    found += _not_in(raw, "truth", {"0", "1"}, "0 (false positive) or 1 (the finding is there)")
    answers = {str(value) for value in range(1, points + 1)} | ({""} if partial else set())
    for question in questions:
        found += _not_in(raw, question, answers, f"a whole number from 1 to {points}")
    found += _not_number(raw, "read", low=0.0, high=np.inf, whole=True, empty=False)
    if "iou" in raw:
        found += _not_number(raw, "iou", low=0.0, high=1.0)
    if "seconds" in raw:
        found += _not_number(raw, "seconds", low=0.0, high=np.inf)
    if "repeat" in raw:
        found += _not_in(raw, "repeat", {"0", "1", ""}, "0 or 1")
    return found + _duplicates(raw) + _changing_truth(raw)


def _row(index: int) -> int:
    return index + 2


def _not_in(raw: pd.DataFrame, name: str, allowed: set[str], expected: str) -> list[tuple[int, str]]:
    wrong = raw.index[~raw[name].isin(allowed)]
    return [(_row(i), f"{name} must be {expected}, got {raw.at[i, name]!r}") for i in wrong]


def _not_number(
    raw: pd.DataFrame, name: str, *, low: float, high: float, whole: bool = False, empty: bool = True
) -> list[tuple[int, str]]:
    found = []
    for i, text in raw[name].items():
        if text == "" and empty:
            continue
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not (low <= value <= high) or np.isinf(value) or (whole and value != int(value)):
            kind = "a whole number" if whole else "a number"
            bound = f"from {low:g} to {high:g}" if np.isfinite(high) else f"not below {low:g}"
            found.append((_row(int(str(i))), f"{name} must be {kind} {bound}, got {text!r}"))
    return found


def _duplicates(raw: pd.DataFrame) -> list[tuple[int, str]]:
    names = ["reader", "read", "case", "target", "condition", *(["repeat"] if "repeat" in raw else [])]
    first = raw.groupby(names, sort=False)["truth"].transform(lambda group: group.index[0])
    return [
        (_row(i), f"the same {', '.join(names)} as in row {_row(int(first[i]))}")
        for i in raw.index[raw.duplicated(names, keep="first")]
    ]


def _changing_truth(raw: pd.DataFrame) -> list[tuple[int, str]]:
    first = raw.groupby(["case", "target"], sort=False)["truth"].transform("first")
    return [
        (_row(i), f"truth of case {raw.at[i, 'case']!r}, target {raw.at[i, 'target']!r} differs from an earlier row")
        for i in raw.index[(raw["truth"] != first) & raw["truth"].isin({"0", "1"})]
    ]


def _typed(raw: pd.DataFrame, questions: Sequence[str]) -> pd.DataFrame:
    rows = raw[["reader", "case", "target", "condition"]].copy()
    rows["read"] = raw["read"].astype(float).astype(int)
    rows["truth"] = raw["truth"].astype(int)
    for name in (*questions, "iou", "seconds"):
        rows[name] = pd.to_numeric(raw[name]).astype(float) if name in raw else np.nan
    marked = (raw["repeat"] == "1") if "repeat" in raw else pd.Series(False, index=raw.index)
    order = rows.assign(marked=marked).sort_values(["marked", "read"], kind="stable")
    later = order.duplicated(["reader", "case", "target", "condition"], keep="first").reindex(rows.index)
    rows["repeat"] = (later | marked).astype(bool)
    return rows
