"""The pool of cases a study is drawn from: a plain CSV, or a batch run with labels turned into the same form.

Columns: case, target, truth, score; optional split; `image` (the bare picture) and one column `condition.panel` per
panel with paths relative to the CSV; optional `condition.iou`; optional `fact.<name>` shown to readers.
"""

import re
from pathlib import Path

import pandas as pd

from gifsplain.errors import ConfigurationError, InputError
from gifsplain.study.config import Config

IDENTIFYING = re.compile(
    r"(patient|name|birth|dob|mrn|medical_?record|accession|social|ssn|insurance|address|street|phone|telephone|fax|e_?mail|passport|"
    r"licen[cs]e|study_?date|acquisition_?date|study_?uid|series_?uid|instance_?uid|physician|institution|hospital|postcode|zip)",
    re.IGNORECASE,
)
DATE = re.compile(r"(19|20)\d{2}[-/.]?(0[1-9]|1[0-2])[-/.]?(0[1-9]|[12]\d|3[01])|(0?[1-9]|[12]\d|3[01])[./-](0?[1-9]|1[0-2])[./-](19|20)?\d{2}")
MAX_FACT = 60


def read_cases(path: Path, config: Config) -> pd.DataFrame:
    """The checked pool of a cases.csv; relative media paths become absolute. Every problem is named with its row."""
    if not path.is_file():
        raise InputError(f"expected a table of cases, found none at {path}; see docs/study.md for its columns")
    raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    raw.columns = [str(c).strip() for c in raw.columns]
    media = media_columns(config)
    missing = [c for c in ("case", "target", "truth", "score", *media) if c not in raw.columns]
    if missing:
        raise InputError(f"expected the columns {', '.join(missing)} too, got {', '.join(raw.columns)}; see docs/study.md")
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
        if IDENTIFYING.search(column.removeprefix("fact.")):
            found.append(f"column {column}: may identify a patient; remove it")
            continue
        for i, value in enumerate(raw[column], start=2):
            if DATE.search(value) or len(value) > MAX_FACT or not value.isprintable():
                found.append(f"row {i}: {column} looks like a date or is longer than {MAX_FACT}, got {value!r}; remove it")
            elif "age" in column.lower() and value.isdigit() and int(value) > 89:
                found.append(f"row {i}: {column} above 89 may identify a patient; write 90+")
    return found


def from_batch(run: Path, labels: Path, config: Config) -> pd.DataFrame:
    """The pool of a batch run and its labels.

    The run holds Parquet rows (case, target, score, perhaps method and iou) and explanation folders
    `media/<case>/<target>` or `media/<case>/<target>/<method>`. Labels: case with a 0/1 column per target, or case,
    target, truth in long form; optional split and `fact.*`. Panels need `source` in the configuration.
    """
    rows = _parquet(run)
    truth = _labels(labels, config)
    scores = rows.drop_duplicates(["case", "target"])[["case", "target", "score"]]
    pool = truth.merge(scores, on=["case", "target"], how="inner")
    if pool.empty:
        raise InputError(f"expected cases and targets shared by {run} and {labels}, got none; check the names of both")
    for condition in config.conditions:
        for panel in condition.panels:
            if panel.source is None:
                raise ConfigurationError(f"expected `source` for panel {condition.key}.{panel.key}, got none; add method and file")
            source = panel.source
            pool[f"{condition.key}.{panel.key}"] = [_media(run, r, source.method, source.file) for r in pool.to_dict("records")]
        if {"method", "iou"} <= set(rows.columns) and condition.panels[0].source:
            of_method = rows[rows["method"] == condition.panels[0].source.method]
            iou = of_method.drop_duplicates(["case", "target"]).set_index(["case", "target"])["iou"]
            pool[f"{condition.key}.iou"] = ["" if pd.isna(v) else str(v) for v in iou.reindex(pool.set_index(["case", "target"]).index)]
    pool["image"] = [_image(run, r, config) for r in pool.to_dict("records")]
    return _checked(pool.fillna("").astype(str), config, Path("/"))


def _parquet(run: Path) -> pd.DataFrame:
    paths = sorted(p for p in run.rglob("*.parquet") if "media" not in p.relative_to(run).parts)
    if not paths:
        raise InputError(f"expected Parquet rows in {run}, found none; give the folder of a finished batch run")
    frames = [pd.read_parquet(p) for p in paths]
    rows = pd.concat([f for f in frames if {"case", "target", "score"} <= set(f.columns)] or frames, ignore_index=True)
    if not {"case", "target", "score"} <= set(rows.columns):
        raise InputError(f"expected the columns case, target and score in {run}, got {', '.join(map(str, rows.columns))}")
    return rows.astype({"case": str, "target": str})


def _labels(path: Path, config: Config) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"expected a table of labels, found none at {path}; give a CSV with a column per target")
    raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    if {"case", "target", "truth"} <= set(raw.columns):
        return raw
    targets = [t for t in config.cases.targets if t in raw.columns]
    if "case" not in raw.columns or not targets:
        raise InputError(f"expected a column case and columns of targets, got {', '.join(raw.columns)}; rename them")
    kept = ["case", *(c for c in raw.columns if c == "split" or c.startswith("fact."))]
    long = raw.melt(id_vars=kept, value_vars=targets, var_name="target", value_name="truth")
    long["truth"] = long["truth"].replace({"1.0": "1", "0.0": "0"})
    return long[long["truth"].isin(["0", "1"])]  # uncertain or missing labels are no truth


def _folders(run: Path, row: dict[str, object], method: str) -> list[Path]:
    base = run / "media" / str(row["case"]) / str(row["target"])
    return [base / method, base]


def _media(run: Path, row: dict[str, object], method: str, file: str) -> str:
    return next((str(f / file) for f in _folders(run, row, method) if (f / file).is_file()), "")


def _image(run: Path, row: dict[str, object], config: Config) -> str:
    for condition in config.conditions:
        for panel in condition.panels:
            if panel.source:
                found = _media(run, row, panel.source.method, "image.png")
                if found:
                    return found
    return ""
