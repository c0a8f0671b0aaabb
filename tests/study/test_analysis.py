"""The analysis as a whole: files, forms of other programs, a planted effect found, silence without one."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gifsplain.cli import app, groups
from gifsplain.errors import InputError
from gifsplain.study import analysis, exports, figures
from gifsplain.study.statistics import ordinal, paired, power, resampling
from gifsplain.study.statistics.table import from_text, read_csv

from .tables import answers, table


def test_results_json_has_the_promised_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = answers(5, cases=48, effect=(0.8, 0.0), extras=True)
    frame.to_csv(tmp_path / "answers.csv", index=False)
    arguments = ["study", "analyse", tmp_path / "answers.csv", "--out", tmp_path / "out", "--draws", "100"]
    assert groups.run(app, [str(a) for a in arguments]) == 0
    assert "report.html" in capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    wanted = {
        "question",
        "truth",
        "target",
        "conditions",
        "n",
        "mean_difference",
        "sd_difference",
        "wilcoxon_statistic",
        "p_value",
    }
    assert all(wanted <= set(c) for c in results["comparisons"]) and len(results["comparisons"]) == 28
    one = next(
        c for c in results["comparisons"] if (c["question"], c["truth"], c["target"]) == ("confidence", 1, "all")
    )
    wide = frame.astype({"confidence": float})[frame.truth == "1"].pivot(
        index=["reader", "case", "target"], columns="condition", values="confidence"
    )
    d = (wide[one["conditions"][1]] - wide[one["conditions"][0]]).to_numpy()
    theirs = stats.wilcoxon(d, zero_method="wilcox", correction=False, method="asymptotic")
    assert (one["n"], one["conditions"]) == (len(d), ["traditional", "latentshift"])
    assert one["mean_difference"] == pytest.approx(d.mean()) and one["sd_difference"] == pytest.approx(d.std(ddof=1))
    assert one["wilcoxon_statistic"] == theirs.statistic and one["p_value"] == pytest.approx(theirs.pvalue)
    assert {p.name for p in (tmp_path / "out" / "figures").glob("*.png")} == {
        "figure-6a-answers-by-target.png", "figure-6b-answers-by-iou.png", "figure-f3-traditional-latentshift.png", "figure-f4-counts.png",
    }  # fmt: skip
    html = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in html and "http" not in html.replace("http-equiv", "") and html.count("data:image/png") == 4
    assert (tmp_path / "out" / "tables" / "comparisons.csv").read_text().count("\n") == 29
    monkeypatch.setattr(figures, "all_figures", lambda data: {})  # seconds, and they have been seen
    assert groups.run(app, [str(a) for a in arguments]) == 0  # again into the same folder
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.txt").touch()
    assert groups.run(app, ["study", "analyse", str(tmp_path / "answers.csv"), "--out", str(tmp_path / "other")]) == 2
    assert "expected an empty folder" in capsys.readouterr().err


def test_bad_tables_end_with_code_two_and_the_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers(5, cases=12).assign(confidence="7").to_csv(tmp_path / "bad.csv", index=False)
    assert groups.run(app, ["study", "analyse", str(tmp_path / "bad.csv"), "--out", str(tmp_path / "out")]) == 2
    assert "row 2: confidence must be" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_edges_do_not_break_it(tmp_path: Path) -> None:
    frame = answers(1, readers=1, cases=12).assign(confidence="3")
    frame.to_csv(tmp_path / "flat.csv", index=False)
    data = read_csv(tmp_path / "flat.csv")
    results = analysis.analyse(data, analysis.Options(draws=100))
    first = results.record["comparisons"][0]
    assert (
        first["mean_difference"] == 0
        and first["p_value"] is None
        and results.record["ordinal_models"][0]["fitted"] is False
    )
    analysis.write(data, results, tmp_path / "out")
    lonely = data.rows[data.rows.condition == "latentshift"]
    one = type(data)(lonely.reset_index(drop=True), data.questions, ("latentshift",), 5)
    assert analysis.analyse(one, analysis.Options(draws=100)).record["comparisons"] == []


def test_separated_terms_are_said_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "all_figures", lambda data: {})
    frame = answers(5, cases=24)
    frame["confidence"] = np.where(frame["condition"] == "latentshift", "5", "2")
    data = from_text(frame)
    analysis.write(data, analysis.analyse(data, analysis.Options(draws=100)), tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    effect = results["ordinal_models"][0]["effects"][0]
    assert effect["separated"] and effect["p_value"] is effect["odds_ratio"] is effect["low"] is None
    assert (
        "<td>latentshift | truth 1</td><td>∞</td><td>separated</td><td>–</td>"
        in (tmp_path / "out" / "report.html").read_text()
    )


def test_forms_of_other_programs(tmp_path: Path) -> None:
    data = table(3, cases=24, extras=True)
    exports.write(data, tmp_path)
    again = read_csv(tmp_path / "answers.csv")
    assert again.rows[["confidence", "feature", "truth"]].equals(data.rows[["confidence", "feature", "truth"]])
    lines = (tmp_path / "confidence.imrmc").read_text().splitlines()
    start = lines.index("BEGIN DATA:")
    assert lines[start - 4 : start] == ["NR: 2", "N0: 12", "N1: 12", "NM: 2"]
    rows = [line.split(",") for line in lines[start + 1 :]]
    truth = {r[1]: r[3] for r in rows if r[0] == "-1"}
    scores = [r for r in rows if r[0] != "-1"]
    assert len(truth) == 24 and all(r[2] == "0" for r in rows if r[0] == "-1")
    assert len(scores) == 96 and all(r[1] in truth and " " not in "".join(r) for r in scores)
    mrmc = pd.read_csv(tmp_path / "feature.mrmcaov.csv")
    assert list(mrmc.columns) == ["reader", "treatment", "case", "truth", "rating"] and len(mrmc) == 96
    assert mrmc["rating"].tolist() == data.rows["feature"].astype(int).tolist()
    assert "empirical_auc" in (tmp_path / "mrmcaov.R").read_text()
    odd = data.rows.assign(reader=data.rows["reader"].map({"R0": "a b", "R1": "a_b"}))
    with pytest.raises(InputError, match="stay distinct in iMRMC"):
        exports.write(type(data)(odd, data.questions, data.conditions, 5), tmp_path / "odd")


def overall_p(seed: int, effect: tuple[float, float], truth: int = 1) -> tuple[float, float]:
    data = table(seed, effect=effect)
    frame = paired.pairs(data, "confidence", ("traditional", "latentshift"), target="all", truth=truth)
    return paired.wilcoxon(frame["difference"].to_numpy(float)).p_value, resampling.sign_flip_p(
        frame, draws=999, seed=seed
    )


@pytest.mark.slow
def test_a_paper_sized_study_finds_what_was_planted() -> None:
    found = [overall_p(seed, (0.35, 0.0))[0] < 0.05 for seed in range(40)]
    data = table(0, effect=(0.35, 0.0))
    frame = paired.pairs(data, "confidence", ("traditional", "latentshift"), target="all", truth=1)
    plan = power.Plan(2, 120, float(frame.difference.mean()), float(frame.difference.std()))
    assert np.mean(found) >= 0.8, (np.mean(found), plan)
    fit = ordinal.fit_table(data, "confidence")
    assert (
        fit.effect("latentshift | truth 1").interval[0] < 0.35 / 0.6 < fit.effect("latentshift | truth 1").interval[1]
    )
    record = analysis.analyse(data).record
    silent = next(
        c for c in record["comparisons"] if c["truth"] == 0 and c["target"] == "all" and c["question"] == "confidence"
    )
    assert silent["ci_cases"][0] < 0 < silent["ci_cases"][1]


@pytest.mark.slow
def test_null_studies_stay_silent_at_the_stated_rate() -> None:
    p = np.array([overall_p(1000 + seed, (0.0, 0.0)) for seed in range(200)])
    rate = (p < 0.05).mean(axis=0)
    # 99.9 % of binomial(200, 0.05) lies at or below 0.105
    assert (rate <= 0.105).all() and stats.kstest(p[:, 0], "uniform").pvalue > 0.001
    sys.stdout.write(f"\nnull rate at 0.05 over 200 studies: Wilcoxon {rate[0]:.3f}, by case {rate[1]:.3f}\n")


def test_power_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert groups.run(app, ["study", "power", "--studies", "100"]) == 0
    out = capsys.readouterr().out
    assert "power by formula: 0.67 (240 independent pairs)" in out and "cases for power 0.80" in out
