"""The pool of cases a study is drawn from: a plain CSV, or batch runs with labels turned into the same form.

Columns: case, target, truth, score; optional split; `image` (the bare picture) and one column `condition.panel` per
panel with paths relative to the CSV; optional `condition.iou`; optional `fact.<name>` shown to readers.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gifsplain.errors import ConfigurationError, InputError
from gifsplain.io import run_folder
from gifsplain.study.config import Config, Source

logger = logging.getLogger(__name__)

IDENTIFYING = re.compile(
    r"(patient|name|birth|dob|mrn|medical_?record|accession|social|ssn|insurance|address|street|phone|telephone|fax|e_?mail|passport|"
    r"licen[cs]e|date|uid|physician|institution|hospital|postcode|zip)"
)
DATE = re.compile(
    r"(19|20)\d{2}[-/.]?(0[1-9]|1[0-2])[-/.]?(0[1-9]|[12]\d|3[01])|(0?[1-9]|[12]\d|3[01])[./-](0?[1-9]|1[0-2])[./-](19|20)?\d{2}"
)
MAX_FACT = 60
NAMED = 10
"""Cases that a message names."""


def read_cases(path: Path, config: Config) -> pd.DataFrame:
    """The checked pool of a cases.csv; relative media paths become absolute. Every problem is named with its row."""
    if not path.is_file():
        raise InputError(f"expected a table of cases, found none at {path}; see docs/study.md for its columns")
    raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    raw.columns = [str(c).strip() for c in raw.columns]
    media = media_columns(config)
    missing = [c for c in ("case", "target", "truth", "score", *media) if c not in raw.columns]
    if missing:
        raise InputError(
            f"expected the columns {', '.join(missing)} too, got {', '.join(raw.columns)}; see docs/study.md"
        )
    return _checked(raw.map(str.strip), config, path.parent)


def media_columns(config: Config) -> list[str]:
    """Names of the columns that hold pictures."""
    return ["image", *(f"{c.key}.{p.key}" for c in config.conditions for p in c.panels)]


def _checked(raw: pd.DataFrame, config: Config, base: Path) -> pd.DataFrame:
    problems = refused_facts(raw)
    for i, row in enumerate(raw.to_dict("records"), start=2):
        if not row["case"] or not row["target"]:
            problems.append(f"row {i}: case or target is empty")
        if row["truth"] not in ("0", "1"):
            problems.append(f"row {i}: truth must be 0 or 1, got {row['truth']!r}")
        for name in ("score", *(f"{c.key}.iou" for c in config.conditions)):
            if name in row and not _share(row[name], empty=name != "score"):
                problems.append(f"row {i}: {name} must be from 0 to 1, got {row[name]!r}")
    problems += [f"row {i + 2}: the same case and target again" for i in raw.index[raw.duplicated(["case", "target"])]]
    if problems:
        listed = "\n".join(f"  {p}" for p in problems[:50])
        raise InputError(f"expected a clean table of cases, got {len(problems)} problems; correct them:\n{listed}")
    pool = raw.copy()
    pool["truth"], pool["score"] = pool["truth"].astype(int), pool["score"].astype(float)
    for column in media_columns(config):
        pool[column] = [str((base / p).resolve()) if p else "" for p in pool[column]]
    return pool


def _share(text: str, *, empty: bool) -> bool:
    try:
        return (empty and text == "") or 0.0 <= float(text) <= 1.0
    except ValueError:
        return False


def refused_facts(raw: pd.DataFrame) -> list[str]:
    """Facts that could identify a patient: columns named like identifiers, dates, long texts, ages above 89."""
    found = []
    for column in [c for c in raw.columns if c.startswith("fact.")]:
        if IDENTIFYING.search(re.sub(r"[^a-z]+", "_", column.removeprefix("fact.").lower())):
            found.append(f"column {column}: may identify a patient; remove it")
            continue
        for i, value in enumerate(raw[column], start=2):
            if DATE.search(value) or len(value) > MAX_FACT or not value.isprintable():
                found.append(
                    f"row {i}: {column} looks like a date or is longer than {MAX_FACT}, got {value!r}; remove it"
                )
            elif "age" in column.lower() and value.isdigit() and int(value) > 89:
                found.append(f"row {i}: {column} above 89 may identify a patient; write 90+")
    return found


Folders = dict[tuple[str, str], Path]
"""The pictures of each case and target."""


def from_batch(runs: Sequence[Path], labels: Path, config: Config) -> pd.DataFrame:
    """The pool of finished batch runs and a table of labels; what is left out is logged by name.

    A run may hold rows of several methods (`--method auto`), and a method may come in several runs of different cases.
    Labels: case with a 0/1 column per target, or case, target, truth in long form; optional split, `fact.*`,
    `condition.iou` and `image` (path relative to the CSV; otherwise `image.png` of a run's pictures). The panels'
    `source` says which method and file they show. The score is the input's.
    """
    pool = _labels(labels, config)
    rows = _shown(_explained(runs), config)
    scores = rows.drop_duplicates(["case", "target"])[["case", "target", "score_input"]]
    both = pool[["case", "target"]].merge(scores, how="outer", on=["case", "target"], indicator=True)
    _log_left_out(both[both["_merge"] == "left_only"], "labels that no run explained")
    _log_left_out(both[both["_merge"] == "right_only"], "explanations without a label of 0 or 1")
    pool = pool.merge(scores.rename(columns={"score_input": "score"}), on=["case", "target"], how="inner")
    if pool.empty:
        raise InputError(
            f"expected cases and targets shared by the runs and {labels}, got none; check the names of both"
        )
    folders = {str(method): _folders(own) for method, own in rows.groupby("method", sort=False)}
    for name, source in _sources(config).items():
        pool[name] = _files(pool, folders[source.method], source.file)
    found = [_files(pool, own, "image.png") for own in folders.values()]
    image = [next(filter(None, paths), "") for paths in zip(*found, strict=True)]
    given = pool["image"] if "image" in pool else pd.Series("", index=pool.index)
    pool["image"] = [str((labels.parent / g).resolve()) if g else f for g, f in zip(given, image, strict=True)]
    return _checked(pool.fillna("").astype(str), config, Path("/"))


def _explained(runs: Sequence[Path]) -> pd.DataFrame:
    """All rows of the runs with the column `run`; refuses a case and target that a method explained twice."""
    frames = []
    for run in runs:
        rows = run_folder.read_run(run)
        if rows.empty or not rows["media"].astype(bool).any():
            raise InputError(
                f"expected explanations with pictures in {run}, got none; run `gifsplain batch` with --media"
            )
        frames.append(rows.assign(run=str(run)))
    rows = pd.concat(frames, ignore_index=True)
    twice = rows[rows.duplicated(["case", "target", "method"])]
    if len(twice):
        raise InputError(
            f"expected each case and target once a method, got {len(twice)} again in {', '.join(twice['run'].unique())}: "
            f"{_named(twice)}; leave one of the runs out"
        )
    return rows


def _shown(rows: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The rows of methods that a panel shows; each panel's method must be there."""
    methods = [str(method) for method in rows["method"].unique()]
    sources = _sources(config)
    for name, source in sources.items():
        if source.method not in methods:
            raise InputError(
                f"expected a run of method {source.method} for {name}, got {', '.join(methods)}; give --batch again"
            )
    wanted = {source.method for source in sources.values()}
    for method in methods:
        if method not in wanted:
            _log_left_out(rows[rows["method"] == method], f"explanations by {method}, which no panel shows")
    return rows[rows["method"].isin(wanted)]


def _sources(config: Config) -> dict[str, Source]:
    """What each column of pictures shows."""
    found = {}
    for condition in config.conditions:
        for panel in condition.panels:
            name = f"{condition.key}.{panel.key}"
            if panel.source is None:
                raise ConfigurationError(
                    f"expected `source` for panel {name}, got none; add method and file to study.yaml"
                )
            found[name] = panel.source
    return found


def _log_left_out(rows: pd.DataFrame, what: str) -> None:
    if len(rows):
        logger.warning("left out: %d %s: %s", len(rows), what, _named(rows))


def _named(rows: pd.DataFrame) -> str:
    names = [f"{row['case']} {row['target']}" for row in rows.head(NAMED).to_dict("records")]
    return ", ".join(names) + (" and others" if len(rows) > NAMED else "")


def _folders(rows: pd.DataFrame) -> Folders:
    return {(r["case"], r["target"]): Path(r["run"]) / r["media"] for r in rows.to_dict("records") if r["media"]}


def _files(pool: pd.DataFrame, folders: Folders, file: str) -> list[str]:
    """Absolute paths, empty where a picture is missing: only cases that are drawn need theirs."""
    paths = [folders.get((r["case"], r["target"])) for r in pool.to_dict("records")]
    return [str((path / file).resolve()) if path and (path / file).is_file() else "" for path in paths]


def _labels(path: Path, config: Config) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"expected a table of labels, found none at {path}; give a CSV with a column per target")
    raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig").map(str.strip)
    if {"case", "target", "truth"} <= set(raw.columns):
        return raw
    targets = [t for t in config.cases.targets if t in raw.columns]
    if "case" not in raw.columns or not targets:
        raise InputError(f"expected a column case and columns of targets, got {', '.join(raw.columns)}; rename them")
    kept = [c for c in raw.columns if c in ("case", "split", "image") or c.startswith("fact.") or c.endswith(".iou")]
    long = raw.melt(id_vars=kept, value_vars=targets, var_name="target", value_name="truth")
    long["truth"] = long["truth"].replace({"1.0": "1", "0.0": "0"})
    return long[long["truth"].isin(["0", "1"])].reset_index(drop=True)  # uncertain or missing labels are no truth
