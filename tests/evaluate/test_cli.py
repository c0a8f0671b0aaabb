"""The commands: exit codes, what they print and write."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from gifsplain.cli import app, groups
from gifsplain.errors import ConfigurationError, InputError
from gifsplain.evaluate import config, panel, parts
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
