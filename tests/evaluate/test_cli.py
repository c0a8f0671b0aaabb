"""The commands: exit codes, what they print and write."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from gifsplain.cli import app, groups
from gifsplain.errors import ConfigurationError, InputError
from gifsplain.evaluate import config, curves, panel, paper, parts, robustness, store
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.experiments import EXPERIMENTS
from gifsplain.explain.settings import Settings

from .tiny import tiny_pair

World = Callable[..., Setup]


def test_every_experiment_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert groups.run(app, ["evaluate", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*EXPERIMENTS, "paper", "panel", "bottleneck"))


def test_a_command_prints_its_table_and_continues(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    setup = world()
    arguments = ["evaluate", "reconstruction", str(setup.manifest), "-o", str(setup.out), "--classifier", "one"]
    arguments += ["--target", "Mass", "--images", "3", "--split", "test"]
    assert groups.run(app, arguments) == 0
    first = capsys.readouterr().out
    assert "table K.1" in first and "Positive" in first and "Mass" in first
    assert groups.run(app, arguments) == 0 and capsys.readouterr().out == first
    assert groups.run(app, [*arguments, "--seed", "3"]) == 2
    assert "setup.seed differ" in capsys.readouterr().err


def test_other_weights_of_the_same_name_do_not_continue_old_results(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup = world()
    arguments = ["evaluate", "curves", str(setup.manifest), "-o", str(setup.out), "--classifier", "one"]
    arguments += ["-t", "Mass", "--points", "3"]
    assert groups.run(app, arguments) == 0
    assert groups.run(app, arguments) == 0
    monkeypatch.setattr(config, "load_models", lambda *_, **__: tiny_pair(7))
    assert groups.run(app, arguments) == 2
    assert "the models' weights differ" in capsys.readouterr().err


def test_a_model_that_cannot_be_told_from_another_continues_nothing(tmp_path: Path) -> None:
    parts.claim(tmp_path, Settings(), ["known", ""])
    with pytest.raises(ConfigurationError, match="a model without checksum and network cannot be told"):
        parts.claim(tmp_path, Settings(), ["known", ""])
    with pytest.raises(ConfigurationError, match="seed differ"):
        parts.claim(tmp_path, Settings(seed=1), ["known", ""])


def test_a_failed_case_gives_exit_code_1_and_is_named(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    setup = world()
    (setup.manifest.parent / "val-3.png").write_bytes(b"no image")
    arguments = ["evaluate", "curves", str(setup.manifest), "-o", str(setup.out), "--classifier", "one"]
    assert groups.run(app, [*arguments, "-t", "Mass", "--points", "3"]) == 1
    assert "1 cases failed" in capsys.readouterr().err
    assert "val-3.png" in (setup.out / "curves" / "failed.csv").read_text()


def test_the_panel_has_a_row_a_classifier(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        panel, "load_models", lambda name, autoencoder, *, resize: tiny_pair({"one": 0, "two": 5}[name])
    )
    image = world().manifest.parent / "val-0.png"
    arguments = ["evaluate", "panel", str(image), "-t", "Mass", "-o", str(tmp_path / "panel.png"), "--box", "3,5,8,6"]
    assert groups.run(app, [*arguments, "--classifier", "one", "--classifier", "two", "--method", "grad"]) == 0
    with Image.open(tmp_path / "panel.png") as drawn:
        assert drawn.height > drawn.width  # two rows, two columns, titles above each
    assert groups.run(app, [*arguments, "--classifier", "one", "--box", "3,5,8"]) == 2
    with pytest.raises(InputError, match="x,y,width,height"):
        panel.boxes(["a,b,c,d"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["randomisation", "--kind", "cascade"],
            "kinds must be among cascading, independent, smooth, efficient, got cascade",
        ),
        (["randomisation", "--kind", "smooth", "--kind", "smooth"], "kinds must differ, got smooth twice"),
        (["randomisation", "--steps", "0"], "greater than or equal to 1"),
        (["overlap", "--method", "nose"], "no method is called 'nose'; there are auto, latentshift"),
        (["overlap", "--method", "grad", "--method", "grad"], "methods must differ, got grad twice"),
        (["overlap", "--boxes", "nowhere.csv"], "nowhere.csv: expected a CSV file with experts' marks, there is none"),
        (["overlap", "--masks", "nowhere.csv"], "nowhere.csv: expected a CSV file with experts' marks, there is none"),
        (
            ["overlap", "--split", "vall"],
            "has no rows for split 'vall'; those that are left have 'test', 'train', 'val'",
        ),
        (["overlap", "--source", "nih"], "has no rows for source 'nih'; those that are left have 'tiny'"),
        (["models", "--everywhere", "source"], "where takes column=value with a column of metadata.csv, got 'source'"),
        (["sheets", "--rows", "0"], "greater than or equal to 1"),
        (["directions", "--selection", "0"], "greater than or equal to 8"),
    ],
)
def test_a_slip_is_refused_before_anything_is_written(
    world: World, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    setup, (name, *options) = world(), arguments
    given = ["evaluate", name, str(setup.manifest), "-o", str(setup.out), "--classifier", "one", *options]
    assert groups.run(app, given) == 2
    shown = " ".join(capsys.readouterr().err.replace("\u2502", " ").split())  # usage errors are boxed and wrapped
    assert words in shown
    assert not setup.out.exists()


@pytest.mark.parametrize(
    ("name", "option"),
    [("reconstruction", "--method"), ("curves", "--method"), ("alignment", "--method"), ("models", "--limit"),
     ("shortcut", "--classifier"), ("sheets", "--limit"), ("directions", "--method"), ("directions", "--boxes")],
)  # fmt: skip
def test_an_option_that_an_experiment_does_not_use_is_none_of_its_own(
    capsys: pytest.CaptureFixture[str], name: str, option: str
) -> None:
    assert groups.run(app, ["evaluate", name, "metadata.csv", "-o", "out", option, "1"]) == 2
    assert f"No such option: {option}" in capsys.readouterr().err


def test_model_figures_need_no_column_weights_ok(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    setup = world()
    arguments = ["evaluate", "models", str(setup.manifest), "-o", str(setup.out), "--classifier", "one"]
    assert groups.run(app, [*arguments, "--explained", "0"]) == 0
    assert "Reconstruction" in capsys.readouterr().out


@pytest.mark.parametrize("experiment", ["curves", "robustness"])
def test_another_fit_of_directions_does_not_continue_old_results(
    world: World, monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    def claimed(sha256: str, method: str) -> None:
        monkeypatch.setattr(store.fits, "load", lambda pair: store.fits.Fit({}, sha256=sha256))
        monkeypatch.setattr(parts, "run_parts", lambda *_, **__: parts.Parts(pd.DataFrame({"done": [1]})))
        setup = world(methods=("grad", method), out=world().out / method)
        if experiment == "curves":
            curves.run(curves.CurvesConfig(setup, method=method))
        else:
            robustness.run(robustness.RobustnessConfig(setup))

    claimed("one", "eigenfind-subset")
    claimed("one", "eigenfind-subset")
    with pytest.raises(ConfigurationError, match=r"\(the fits of directions differ\); choose another --output"):
        claimed("two", "eigenfind-subset")
    claimed("one", "latentshift")
    claimed("two", "latentshift")


def test_a_value_of_another_kind_is_refused_by_its_place(tmp_path: Path) -> None:
    for text, words in (
        ("limit: four", "setup.limit must be a whole number, got 'four'"),
        ("seed: 0.5", "setup.seed must be a whole number, got 0.5"),
        ("resize: 1", "setup.resize must be true or false, got 1"),
        ("settings: {drop: deep}", "setup.settings.drop must be a number, got 'deep'"),
    ):
        path = tmp_path / "paper.yaml"
        path.write_text(f"setup: {{manifest: m.csv, out: o, {text}}}\nexperiments: {{curves: {{}}}}\n")
        with pytest.raises(ConfigurationError, match=words):
            paper.read(path)
    path.write_text("setup: {manifest: m.csv, out: o}\nexperiments: {curves: {reach: 2}}\n")
    assert paper.read(path)["curves"].reach == 2
