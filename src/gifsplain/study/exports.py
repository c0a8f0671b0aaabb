"""The table in the forms of other programs: plain long CSV, iMRMC and the R package MRMCaov."""

import re
import tempfile
from pathlib import Path

import pandas as pd

from gifsplain.errors import InputError
from gifsplain.study.statistics.table import KEYS, Table


def long_form(table: Table) -> pd.DataFrame:
    """The columns that `analyse` reads, answers as whole numbers, empty where unknown."""
    rows = table.rows.copy()
    for question in table.questions:
        rows[question] = rows[question].astype("Int64")
    rows["repeat"] = rows["repeat"].astype(int)
    return rows[[*KEYS, *table.questions, "iou", "seconds", "repeat"]]


def imrmc(table: Table, question: str) -> str:
    """Input of iMRMC (its manual, 4.1.1): four counts, then `reader,case,modality,score`; reader -1 states the truth."""
    rows = table.first.dropna(subset=[question])
    truth = rows.assign(unit=_units(rows)).groupby("unit", sort=True)["truth"].first()
    lines = [
        f"gifsplain reader study, question {_word(question)}",
        f"NR: {rows['reader'].nunique()}",
        f"N0: {int((truth == 0).sum())}",
        f"N1: {int((truth == 1).sum())}",
        f"NM: {rows['condition'].nunique()}",
        "BEGIN DATA:",
        *(f"-1,{unit},0,{value}" for unit, value in truth.items()),
    ]
    answers = zip(rows["reader"], _units(rows), rows["condition"], rows[question].astype(int), strict=True)
    lines += [f"{_word(r)},{u},{_word(c)},{a}" for r, u, c, a in answers]
    return "\n".join(lines) + "\n"


def mrmcaov(table: Table, question: str) -> pd.DataFrame:
    """Columns of MRMCaov's example data: `reader, treatment, case, truth, rating`; a case is an image and target."""
    rows = table.first.dropna(subset=[question])
    columns = {"reader": rows["reader"], "treatment": rows["condition"], "case": _units(rows), "truth": rows["truth"]}
    return pd.DataFrame(columns | {"rating": rows[question].astype(int)}).reset_index(drop=True)


def _units(rows: pd.DataFrame) -> pd.Series:
    return rows["case"].map(_word) + "." + rows["target"].map(_word)


def _word(text: str) -> str:
    """iMRMC separates by commas and knows no quotes; anything else than letters, digits, dot and dash becomes _."""
    return re.sub(r"[^0-9A-Za-z.-]", "_", text)


def write(table: Table, out: Path) -> list[Path]:
    """answers.csv, and per question an .imrmc file and a CSV for MRMCaov with the R lines that read it."""
    clashes = [name for name in ("reader", "case", "target", "condition") if _clash(table.rows[name])]
    if clashes:
        raise InputError(
            f"expected names that stay distinct in iMRMC, got some that differ only in signs: {clashes}; rename them"
        )
    out.mkdir(parents=True, exist_ok=True)
    paths = [_save(out / "answers.csv", long_form(table).to_csv(index=False))]
    for question in table.questions:
        paths.append(_save(out / f"{_word(question)}.imrmc", imrmc(table, question)))
        name = f"{_word(question)}.mrmcaov.csv"
        paths.append(_save(out / name, mrmcaov(table, question).to_csv(index=False)))
    script = "".join(
        f'd <- read.csv("{_word(q)}.mrmcaov.csv")\nprint(summary(MRMCaov::mrmc(MRMCaov::empirical_auc(truth, rating), '
        "treatment, reader, case, data = d)))\n"
        for q in table.questions
    )
    return [*paths, _save(out / "mrmcaov.R", script)]


def _clash(names: pd.Series) -> bool:
    found = {str(n) for n in names}
    return len({_word(n) for n in found}) < len(found)


def _save(path: Path, text: str) -> Path:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8", newline="") as file:
        file.write(text)
    Path(file.name).replace(path)
    return path
