"""From a checked table to a folder: tables, figures, report.html and results.json."""

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from gifsplain.errors import InputError
from gifsplain.io.plain import plain
from gifsplain.study.statistics import agreement, ordinal, paired, relation, reliance, resampling
from gifsplain.study.statistics.table import Table


@dataclass(frozen=True)
class Options:
    """How the analysis is done; recorded in results.json."""

    wilcoxon: Literal["normal", "exact"] = "normal"
    draws: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Results:
    """Everything that was computed: `record` is results.json, `tables` the CSV files by name."""

    record: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]


def analyse(table: Table, options: Options | None = None) -> Results:
    """All statistics of a table; the same table, options and version give the same numbers."""
    options = options or Options()
    compared = _comparisons(table, options)
    models = _models(table)
    found = {
        "summary": paired.summaries(table),
        "comparisons": pd.DataFrame([_flat(c) for c in compared]),
        "ordinal": pd.DataFrame([e for m in models for e in m["effects"]]),
        "reliance": reliance.rates(table, table.questions[0]),
        "reliance_changes": pd.DataFrame([_flat(asdict(c)) for c in _changes(table, options)]),
        "agreement_between": agreement.between_readers(table),
        "agreement_within": agreement.within_readers(table),
        "iou": pd.DataFrame([asdict(line) for line in relation.lines(table)]),
        "time": relation.time_per_case(table),
        "time_comparisons": relation.time_comparisons(table),
    }
    record = {
        "study": _facts(table),
        "options": asdict(options),
        "comparisons": compared,
        "ordinal_models": models,
        **{name: frame.to_dict("records") for name, frame in found.items() if name not in ("comparisons", "ordinal")},
    }
    return Results(plain(record), found)


def _changes(table: Table, options: Options) -> list[reliance.Change]:
    return reliance.changes(table, table.questions[0], draws=max(100, options.draws // 2), seed=options.seed)


def _facts(table: Table) -> dict[str, Any]:
    rows = table.rows
    return {
        "questions": table.questions,
        "conditions": table.conditions,
        "difference": "second condition minus first",
        "points": table.points,
        "readers": len(table.readers),
        "cases": int(rows["case"].nunique()),
        "targets": table.targets,
        "answers": len(rows),
        "repeats": int(rows["repeat"].sum()),
        "true_positives": int(rows[rows["truth"] == 1].groupby(["case", "target"]).ngroups),
        "false_positives": int(rows[rows["truth"] == 0].groupby(["case", "target"]).ngroups),
        "unanswered": {q: int(rows[q].isna().sum()) for q in table.questions},
    }


def _comparisons(table: Table, options: Options) -> list[dict[str, Any]]:
    found = paired.comparisons(table, options.wilcoxon)
    records = []
    for c in found:
        frame = paired.pairs(table, c.question, c.conditions, target=c.target, truth=c.truth)
        intervals = resampling.bootstrap(frame, draws=options.draws, seed=options.seed)
        record = {name: value for name, value in asdict(c).items() if name != "wilcoxon"}
        record |= {
            "wilcoxon_statistic": c.wilcoxon.statistic,
            "p_value": c.wilcoxon.p_value,
            "wilcoxon_method": c.wilcoxon.method,
            "n_nonzero": c.wilcoxon.n,
            "w_plus": c.wilcoxon.w_plus,
            "w_minus": c.wilcoxon.w_minus,
            "rank_biserial": c.wilcoxon.rank_biserial,
            "ci_cases": [intervals.cases.low, intervals.cases.high],
            "ci_cases_and_readers": [intervals.cases_and_readers.low, intervals.cases_and_readers.high],
            "p_value_by_case": resampling.sign_flip_p(frame, seed=options.seed),
        }
        records.append(record)
    return _with_holm(records)


def _with_holm(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adjusts the targets of one question, truth and pair of conditions for each other; "all" stands alone."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["question"], r["truth"], r["conditions"], r["target"] == "all"), []).append(r)
    for group in groups.values():
        for r, p in zip(group, paired.holm(np.array([r["p_value"] for r in group])), strict=True):
            r["p_value_holm"] = float(p)
    return records


def _models(table: Table) -> list[dict[str, Any]]:
    models = []
    for question in table.questions:
        try:
            fit = ordinal.fit_table(table, question)
        except InputError as error:
            models.append({"question": question, "fitted": False, "why": str(error), "effects": []})
            continue
        effects = [
            {"question": question, "term": e.name, "log_odds": e.value, "standard_error": e.standard_error,
             "odds_ratio": e.odds_ratio, "low": math.exp(e.interval[0]), "high": math.exp(min(e.interval[1], 700.0)),
             "p_value": e.p_value, "separated": e.separated}
            for e in fit.effects
        ]  # fmt: skip
        models.append({
            "question": question, "fitted": True, "converged": fit.converged, "effects": effects,
            "thresholds": fit.thresholds, "case_sd": fit.case_sd, "log_likelihood": fit.log_likelihood, "n": fit.n,
            "model": "cumulative logit; readers and targets fixed, cases random intercepts (adaptive Gauss-Hermite, maximum likelihood)",
        })  # fmt: skip
    return models


def _flat(record: Mapping[str, Any] | paired.Comparison) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in dict(record).items():  # type: ignore[arg-type]
        if isinstance(value, Mapping):
            flat |= {f"{name}_{k}": v for k, v in value.items() if k != "level"}
        elif name.startswith("ci_"):
            flat |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        elif name == "conditions":
            flat |= {"first": value[0], "second": value[1]}
        else:
            flat[name] = value
    return flat


def write(table: Table, results: Results, out: Path, *, title: str = "Reader study") -> Path:
    """Write the folder as a whole: it appears complete or not at all. Refuses a folder that has other content."""
    from gifsplain.study import figures, report  # matplotlib is slow to import

    if out.exists() and any(out.iterdir()) and not (out / "results.json").is_file():
        raise InputError(f"expected an empty folder or an earlier analysis, got {out}; choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".analysis-") as temporary:
        new = Path(temporary) / "new"
        for folder in ("tables", "figures"):
            (new / folder).mkdir(parents=True)
        for name, frame in results.tables.items():
            frame.to_csv(new / "tables" / f"{name}.csv", index=False)
        for stem, figure in figures.all_figures(table).items():
            figures.save(figure, new / "figures", stem)
        text = json.dumps(results.record, indent=2, ensure_ascii=False, allow_nan=False)
        (new / "results.json").write_text(text + "\n", encoding="utf-8")
        (new / "report.html").write_text(report.html(results, new / "figures", title), encoding="utf-8")
        _replace(new, out, Path(temporary) / "old")
    return out


def _replace(new: Path, out: Path, old: Path) -> None:
    if out.exists():
        out.rename(old)
    new.replace(out)
    shutil.rmtree(old, ignore_errors=True)  # inside our own temporary folder
