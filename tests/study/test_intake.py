"""The pool of cases from a CSV and from batch runs."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from gifsplain.errors import ConfigurationError, InputError
from gifsplain.io import run_folder
from gifsplain.study import config, create, intake, launch
from gifsplain.study.web.serving import Listen

from . import drawn
from .conftest import SMALL


def batch_run(folder: Path, method: str, source: Path, pool: pd.DataFrame) -> Path:
    """A finished batch run of one method, as `gifsplain batch` leaves it."""
    rows = []
    for row in pool.to_dict("records"):
        media = run_folder.media_folder(folder, row["case"], row["target"])
        media.mkdir(parents=True)
        shutil.copy(source / row["traditional.grad"], media / "overlay.png")
        shutil.copy(source / row["latentshift.animation"], media / "animation.gif")
        shutil.copy(source / row["image"], media / "image.png")
        at = str(media.relative_to(folder))
        rows.append(
            {
                "case": row["case"],
                "target": row["target"],
                "method": row.get("method", method),
                "score_input": row["score"],
                "media": at,
            }
        )
    (folder / "results").mkdir()
    (folder / "configuration.json").write_text(json.dumps({"method": method}))
    pd.DataFrame(rows).to_parquet(folder / "results" / "part-00000.parquet")
    return folder


def with_sources() -> str:
    """The small configuration with the method and file of every panel."""
    text = SMALL.read_text()
    for key, method, file in (
        ("grad", "grad", "overlay.png"), ("guided", "grad", "overlay.png"), ("integrated", "grad", "overlay.png"),
        ("map", "latentshift", "overlay.png"), ("animation", "latentshift", "animation.gif"),
    ):  # fmt: skip
        text = text.replace(f"{{key: {key}, ", f"{{key: {key}, source: {{method: {method}, file: {file}}}, ")
    return text


def test_batch_runs_and_labels_make_a_study(tmp_path: Path) -> None:
    setup = config.parse(with_sources())
    source = tmp_path / "source"
    pool = pd.read_csv(drawn.cases_csv(source, setup, per_stratum=3, side=16), keep_default_na=False)
    runs = [batch_run(tmp_path / method, method, source, pool) for method in ("grad", "latentshift")]
    labels = pool.pivot(index="case", columns="target", values="truth").reset_index()
    labels["fact.view"] = "PA"
    labels.to_csv(tmp_path / "labels.csv", index=False)
    plan, found = launch.prepare(create.Plan(tmp_path / "study", with_sources()), None, runs, tmp_path / "labels.csv")
    assert len(found) == len(pool) and set(found["truth"]) == {0, 1} and (found["fact.view"] == "PA").all()
    merged = found.merge(pool, on=["case", "target"], suffixes=("", "_expected"))
    assert (merged["truth"] == merged["truth_expected"]).all() and (
        merged["score"] - merged["score_expected"]
    ).abs().max() < 1e-9
    assert all(Path(p).is_file() for c in intake.media_columns(setup) for p in found[c])
    create.create(plan, found)
    assert len(list((tmp_path / "study" / "media").iterdir())) == 10 * 6
    with pytest.raises(InputError, match="expected a run of method latentshift for latentshift.map, got grad"):
        intake.from_batch(runs[:1], tmp_path / "labels.csv", setup)
    with pytest.raises(ConfigurationError, match="expected `source` for panel traditional.grad"):
        intake.from_batch(runs, tmp_path / "labels.csv", config.load(SMALL))


def pool_and_labels(folder: Path, setup: config.Config) -> pd.DataFrame:
    """The drawn pool, whose labels lie in labels.csv; a case has one target."""
    pool = pd.read_csv(drawn.cases_csv(folder / "source", setup, per_stratum=3, side=16), keep_default_na=False)
    pool.pivot(index="case", columns="target", values="truth").reset_index().to_csv(folder / "labels.csv", index=False)
    return pool


def test_several_runs_of_a_method_are_joined(tmp_path: Path) -> None:
    setup = config.parse(with_sources())
    pool = pool_and_labels(tmp_path, setup)
    half = len(pool) // 2
    runs = [
        batch_run(tmp_path / name, method, tmp_path / "source", part)
        for name, method, part in (
            ("first", "latentshift", pool[:half]), ("grad", "grad", pool), ("second", "latentshift", pool[half:]),
        )
    ]  # fmt: skip
    found = intake.from_batch(runs, tmp_path / "labels.csv", setup)
    assert len(found) == len(pool)
    assert all(Path(p).is_file() for c in intake.media_columns(setup) for p in found[c])
    again = batch_run(tmp_path / "again", "latentshift", tmp_path / "source", pool[half - 1 : half + 1])
    case, target = pool.loc[half - 1, ["case", "target"]]
    with pytest.raises(InputError, match=f"once a method, got 2 again in {again}: {case} {target}, .*; leave one of"):
        intake.from_batch([*runs, again], tmp_path / "labels.csv", setup)


def test_each_row_of_a_run_counts_for_its_own_method(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`batch --method auto` takes the straight line where it works and steps elsewhere."""
    setup = config.parse(with_sources())
    pool = pool_and_labels(tmp_path, setup)
    mixed = pool.assign(method=["latentshift", *["latentshift-steps"] * 2, *["latentshift"] * (len(pool) - 3)])
    runs = [
        batch_run(tmp_path / "auto", "auto", tmp_path / "source", mixed),
        batch_run(tmp_path / "grad", "grad", tmp_path / "source", pool[:-1]),
    ]
    found = intake.from_batch(runs, tmp_path / "labels.csv", setup)
    has = dict(zip(found["case"], found["latentshift.animation"] != "", strict=True))
    assert has == {case: i not in (1, 2) for i, case in enumerate(pool["case"])}
    assert (found["image"] != "").all()
    named = ", ".join(f"{case} {target}" for case, target in pool.loc[1:2, ["case", "target"]].to_numpy())
    assert f"left out: 2 explanations by latentshift-steps, which no panel shows: {named}" in caplog.text
    labels = pd.read_csv(tmp_path / "labels.csv", dtype=str)
    labels[labels["case"] != pool["case"].iloc[0]].to_csv(tmp_path / "fewer.csv", index=False)
    intake.from_batch(runs, tmp_path / "fewer.csv", setup)
    case, target = pool.loc[0, ["case", "target"]]
    assert f"left out: 1 explanations without a label of 0 or 1: {case} {target}" in caplog.text
    intake.from_batch(
        [*runs[:1], batch_run(tmp_path / "g", "grad", tmp_path / "source", pool[:1])], tmp_path / "labels.csv", setup
    )
    named = ", ".join(
        f"{case} {target}" for case, target in sorted(pool.loc[1:2, ["case", "target"]].to_numpy().tolist())
    )
    assert f"left out: 2 labels that no run explained: {named}" in caplog.text


def test_cases_without_an_animation_are_all_named(tmp_path: Path) -> None:
    """A method that finds no change draws none; the study is refused before anything is written."""
    setup = config.load(SMALL)
    pool = intake.read_cases(drawn.cases_csv(tmp_path, setup, per_stratum=3, side=16), setup)
    column = next(c for c in intake.media_columns(setup) if c.endswith("animation"))
    pool.loc[pool.index[:12], column] = ""
    with pytest.raises(
        InputError, match=rf"got none in {column}; 12 of {len(pool)} cases lack one: .* and others"
    ) as raised:
        create.create(create.Plan(tmp_path / "study", SMALL.read_text()), pool)
    assert all(str(case) in str(raised.value) for case in pool["case"][:10]) and not (tmp_path / "study").exists()


def test_serving_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a study folder, got"):
        launch.serve(tmp_path / "none", Listen(), 0)
    assert not (tmp_path / "none").exists()


def test_sources_exclude_each_other(tmp_path: Path) -> None:
    plan = create.Plan(tmp_path / "study", SMALL.read_text())
    for cases, batch, labels in ((None, [], None), (tmp_path, [tmp_path], None), (None, [tmp_path], None)):
        with pytest.raises(ConfigurationError, match="either --cases, or --batch with --labels"):
            launch.prepare(plan, cases, batch, labels)


def test_bad_cases_are_named_with_their_row(tmp_path: Path) -> None:
    setup = config.load(SMALL)
    path = drawn.cases_csv(tmp_path, setup, per_stratum=1, side=16)
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[0, "truth"], frame.loc[1, "score"], frame.loc[2, "case"] = "yes", "1.4", frame.loc[3, "case"]
    frame.to_csv(path, index=False)
    with pytest.raises(InputError, match="row 2: truth must be 0 or 1, got 'yes'") as caught:
        intake.read_cases(path, setup)
    assert "row 3: score must be from 0 to 1" in str(caught.value) and "row 5: the same case and target again" in str(
        caught.value
    )
    frame.drop(columns="image").to_csv(path, index=False)
    with pytest.raises(InputError, match="expected the columns image too"):
        intake.read_cases(path, setup)
