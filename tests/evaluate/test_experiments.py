"""Every experiment from manifest to table, figure and report; resuming; refusing to mix configurations."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gifsplain.errors import ConfigurationError, InputError, NoCasesError
from gifsplain.evaluate import bootstrap, experiments, paper, parts, tables, verdicts
from gifsplain.evaluate.alignment import AlignmentConfig
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.counterfactual import CounterfactualConfig
from gifsplain.evaluate.curves import CurvesConfig
from gifsplain.evaluate.experiments import EXPERIMENTS, perform
from gifsplain.evaluate.localisation import OverlapConfig
from gifsplain.evaluate.model_figures import ModelFiguresConfig
from gifsplain.evaluate.randomisation import RandomisationConfig
from gifsplain.evaluate.reconstruction import ReconstructionConfig
from gifsplain.evaluate.robustness import RobustnessConfig
from gifsplain.evaluate.shortcut import ShortcutConfig

from .tiny import TARGETS

World = Callable[..., Setup]

CONFIGS = {
    "overlap": lambda setup: OverlapConfig(setup),
    "randomisation": lambda setup: RandomisationConfig(setup, steps=2, samples=2, frames=3),
    "robustness": lambda setup: RobustnessConfig(setup, (0.0, 0.2), (0.0, 2.0)),
    "reconstruction": lambda setup: ReconstructionConfig(setup),
    "models": lambda setup: ModelFiguresConfig(setup, 2, ()),
    "curves": lambda setup: CurvesConfig(setup, points=5),
    "counterfactual": lambda setup: CounterfactualConfig(setup, "two", "two", steps=4),
    "alignment": lambda setup: AlignmentConfig(setup, minimum=0.01, drop=0.1),
    "shortcut": lambda setup: ShortcutConfig(
        setup, "Mass", kinds=("square", "band"), size=12, agreements=(0.5, 1.0), train_images=8, epochs=2, components=6
    ),
}


def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures have been seen elsewhere, and take a third of a second each."""
    monkeypatch.setattr(experiments, "png", lambda figure: b"")


def test_every_experiment_is_tested() -> None:
    assert set(CONFIGS) == set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_runs_writes_and_resumes(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = world(split="test", targets=("Mass",), limit=2, methods=("grad", "latentshift"))
    first = perform(name, CONFIGS[name](setup))
    folder = setup.out / name
    assert len(first.rows) > 0 and len(first.summary) > 0 and first.tables and first.figures
    for file in ("rows.csv", "summary.csv", "tables.md", "words.txt", f"{name}.png", "config.json"):
        assert (folder / file).stat().st_size >= 0
    assert not (folder / "failed.csv").exists()

    def never(*_: object) -> list[parts.Failure]:
        raise AssertionError("computed again")

    monkeypatch.setattr(parts, "_commit", never)
    undrawn(monkeypatch)
    again = perform(name, CONFIGS[name](setup))
    pd.testing.assert_frame_equal(again.rows, first.rows)
    with pytest.raises(ConfigurationError, match=r"setup\.seed differ"):
        perform(
            name,
            CONFIGS[name](world(split="test", targets=("Mass",), limit=2, methods=("grad", "latentshift"), seed=7)),
        )


def test_a_stopped_run_continues_where_it_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    undrawn(monkeypatch)
    setup = world(limit=8, batch=1, targets=("Mass", "Effusion"))
    whole = perform("curves", CONFIGS["curves"](setup))
    (setup.out / "curves").rename(setup.out / "kept")
    genuine, calls = parts._commit, []

    def stops(folder: Path, group: list[parts.Unit], compute: object) -> list[parts.Failure]:
        calls.append(group)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return genuine(folder, group, compute)  # type: ignore[arg-type]

    monkeypatch.setattr(parts, "_commit", stops)
    with pytest.raises(KeyboardInterrupt):
        perform("curves", CONFIGS["curves"](setup))
    rest = perform("curves", CONFIGS["curves"](setup))
    pd.testing.assert_frame_equal(rest.rows, whole.rows)
    units = len(whole.rows[["target", "case"]].drop_duplicates())
    assert len(calls) == 4 + units - 3


def test_a_bad_image_costs_one_row_and_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    undrawn(monkeypatch)
    setup = world(targets=("Mass",), limit=9)
    (setup.manifest.parent / "val-3.png").write_bytes(b"no image")
    result = perform("curves", CONFIGS["curves"](setup))
    failed = pd.read_csv(setup.out / "curves" / "failed.csv")
    assert list(failed["case"]) == ["val-3.png"] and "val-3" in failed["error"][0]
    assert set(result.rows["case"]) == {"val-0.png", "val-6.png", "val-9.png"}


def test_overlap_counts_intervals_and_controls(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    undrawn(monkeypatch)
    result = perform("overlap", OverlapConfig(world(split="test", limit=80, classifiers=("one", "two"))))
    summary = result.summary
    assert set(summary["classifier"]) == {"one", "two"} and set(summary["target"]) == set(TARGETS)
    assert set(summary["method"]) == {"grad", "latentshift", "random-map", "box-prior"}
    assert (summary["n"] == 4).all() and summary["auc"].between(0, 1).all() and (summary["positives"] == 4).all()
    assert ((summary["iou_low"] <= summary["iou"]) & (summary["iou"] <= summary["iou_high"])).all()
    grad = summary[(summary["method"] == "grad") & (summary["classifier"] == "one")]
    rows = result.rows[(result.rows["split"] == "test") & (result.rows["classifier"] == "one")]
    means = rows.groupby(["target", "method"])["iou"].mean()
    for found in grad.itertuples():
        expected = means[found.target, "grad"] - means[found.target, "random-map"]
        gain = summary.loc[found.Index, "over_random-map"]
        assert gain == pytest.approx(expected)
        assert np.isnan(summary.loc[found.Index, "over_grad"])  # not over itself
    table = result.tables["Gain in IoU over the controls and over the plain gradient"]
    shown = table[(table["classifier"] == "one") & (table["method"] == "latentshift")].set_index("target")
    both = rows.pivot(index=["target", "case", "patient"], columns="method", values="iou").reset_index()
    both["gain"] = both["latentshift"] - both["grad"]
    for target, part in [*both.groupby("target"), ("all", both)]:
        mean = bootstrap.mean_interval(part["gain"].to_numpy(), list(part["patient"]))
        assert shown.loc[target, "IoU over grad"].startswith(tables.with_interval(mean.value, mean.low, mean.high))
        assert shown.loc[target, "n"] == str(len(part))


def test_the_paper_report_holds_every_section(world: World, tmp_path: Path) -> None:
    setup = world()
    file = tmp_path / "paper.yaml"
    file.write_text(
        """
setup: {manifest: data/metadata.csv, out: out, classifiers: [one], limit: 2, batch: 4, targets: [Mass],
  methods: [grad, random-map], settings: {frames: 3, drop: 0.1}, split: test}
experiments:
  overlap: {}
  reconstruction: {images: 3}
  alignment: {drop: 0.1, minimum: 0.0, setup: {limit: 1}}
  overlap/masks: {setup: {targets: [Effusion], split: all}}
"""
    )
    configs = paper.read(file)
    assert configs["alignment"].setup.limit == 1 and configs["overlap"].setup.limit == 2
    assert configs["overlap"].setup.manifest == setup.manifest
    paper.run(configs, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert (setup.out / "masks" / "overlap" / "summary.csv").is_file()
    for text in (
        'id="overlap"',
        'id="overlap-masks"',
        'id="reconstruction"',
        'id="alignment"',
        "data:image/png",
        "not for diagnosis",
    ):
        assert text in page
    assert str(tmp_path) not in page


def test_an_experiment_without_cases_is_a_sentence_in_the_paper_report(world: World, tmp_path: Path) -> None:
    setup = world()
    setup.box_file.unlink()
    file = tmp_path / "paper.yaml"
    file.write_text(
        """
setup: {manifest: data/metadata.csv, out: out, classifiers: [one], limit: 2, targets: [Mass], methods: [grad], split: test}
experiments: {overlap: {}, reconstruction: {images: 3}}
"""
    )
    paper.run(paper.read(file), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "expected cases with an expert&#39;s mark for Mass, got none in split" in page
    assert (setup.out / "reconstruction" / "summary.csv").is_file()
    only = {name: config for name, config in paper.read(file).items() if name == "overlap"}
    with pytest.raises(NoCasesError, match="got none in split"):
        paper.run(only, tmp_path / "empty.html")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[]", "expected the keys setup and experiments"),
        ("{setup: {manifest: a, out: b}, experiments: {magic: {}}}", "no experiment is called magic"),
        ("{setup: {manifest: a, out: b, lmit: 3}}", "setup has no lmit"),
        ("{setup: {manifest: a, out: b}, experiments: {overlap: {x: 1}}}", "overlap has no x"),
        ("{setup: {manifest: a, out: b, targets: Mass}}", "targets must be a list"),
        ("{setup: {out: b}}", "setup: .*manifest"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "paper.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=match):
        paper.read(file)


def test_a_missing_manifest_column_and_split_are_refused(world: World) -> None:
    setup = world(split="nowhere")
    with pytest.raises(InputError, match="no rows for split 'nowhere'"):
        perform("reconstruction", ReconstructionConfig(setup))
    setup.manifest.write_text("path,split\na.png,val\n")
    with pytest.raises(InputError, match="labels missing"):
        perform("curves", CurvesConfig(world()))


def test_pages_of_alignment_say_that_they_are_for_research():
    row = {
        "base_classifier": "c",
        "base": "Mass",
        "case": "<b>",
        "classifier": "c",
        "target": "Mass",
        "base_before": 0.9,
    }
    row |= {"base_after": 0.5, "base_path": [0.5, 0.9], "path": [0.5, 0.9]}
    page = verdicts.alignment_pages(pd.DataFrame([row]), 0.1)
    assert "research use, not for diagnosis" in page and 'name="viewport"' in page and "<b>" not in page
