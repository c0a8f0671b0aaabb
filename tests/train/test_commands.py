"""The commands themselves: a real process, killed without warning, goes on to the same curve; quiet when piped."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from gifsplain.cli import console
from gifsplain.cli import train as commands
from gifsplain.errors import ConfigurationError
from gifsplain.models.load import load_classifier
from gifsplain.train import autoencoder, bottleneck, given
from gifsplain.train.autoencoder import AutoencoderTraining
from gifsplain.train.checkpoints import CHECKPOINT, read_checkpoint
from gifsplain.train.loop import SilentReporter
from gifsplain.train.progress import BarReporter, make_reporter
from gifsplain.train.records import read_history

from . import phantoms

TRAINING = {
    "model": {"size": 16, "patch": 2, "widths": [8], "blocks": [1], "decoder_blocks": [1], "bottleneck": [8, 2, 2]},
    "loop": {"accelerator": "cpu", "log_every": 5, "checkpoint_minutes": 0.001, "deterministic": True},
    "epochs": 100,
    "evaluate_epochs": 25,
    "batch_size": 8,
}


def arguments(folder: Path, output: str, *more: str) -> list[str]:
    return ["autoencoder", "--config", str(folder / "config.yaml"), "-o", str(folder / output), *more]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    manifest = phantoms.write(tmp_path / "phantoms", count=24)
    rows = {"size": 16, "cache": str(tmp_path / "cache"), "sources": [{"manifest": str(manifest)}]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(TRAINING | {"data": rows}))
    return tmp_path


def test_command_writes_everything_and_says_where(folder: Path) -> None:
    result = CliRunner().invoke(commands.app, arguments(folder, "out", "--set", "epochs=2", "--set", "loop.seed=4"))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"wrote {folder / 'out' / 'autoencoder.safetensors'}\n"
    assert result.stderr == ""  # no bar where nobody watches
    names = {path.name for path in (folder / "out").iterdir()}
    assert names >= {
        "autoencoder.safetensors",
        "autoencoder.json",
        "config.yaml",
        "history.jsonl",
        "last.ckpt",
        "tensorboard",
    }
    assert yaml.safe_load((folder / "out" / "config.yaml").read_text())["loop"]["seed"] == 4


def test_classifiers_are_trained_and_joined(tmp_path: Path) -> None:
    manifest = phantoms.write(tmp_path / "phantoms", count=60)
    rows = {"size": 32, "targets": list(phantoms.TARGETS), "cache": str(tmp_path / "cache")}
    rows["sources"] = [{"manifest": str(manifest)}]
    plan = {"data": rows, "backbone": "small", "width": 8, "epochs": 2, "loop": {"accelerator": "cpu"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plan))
    for name, seed in (("one", 0), ("two", 1)):
        words = ["classifier", "--config", str(tmp_path / "config.yaml"), "-o", str(tmp_path / name)]
        result = CliRunner().invoke(commands.app, [*words, "--set", f"loop.seed={seed}"])
        assert result.exit_code == 0, result.output
    both, (one, other) = [str(tmp_path / "one"), str(tmp_path / "two")], phantoms.TARGETS
    wrong = CliRunner().invoke(commands.app, ["join", *both, "--target-share", "1,0", "-o", str(tmp_path / "both")])
    assert "expected --target-share such as Cardiomegaly=1,4, got '1,0'" in str(wrong.exception)
    result = CliRunner().invoke(
        commands.app,
        ["join", *both, "--share=1", "--share=3", f"--target-share={one}=1,0", "-o", str(tmp_path / "both")],
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == f"wrote {tmp_path / 'both' / 'classifier.safetensors'}\n"
    scores = load_classifier(str(tmp_path / "both")).scores(torch.rand(2, 1, 32, 32))
    assert scores.shape == (2, len(phantoms.TARGETS))
    members = json.loads((tmp_path / "both" / "classifier.json").read_text())["joined"]
    assert [member["name"] for member in members] == ["one", "two"]
    assert [member["share"] for member in members] == [{one: 1.0, other: 0.25}, {one: 0.0, other: 0.75}]
    assert [member["training"]["loop"]["seed"] for member in members] == [0, 1]


def test_a_classifier_starts_from_a_pretrained_body(tmp_path: Path) -> None:
    manifest, boxes = phantoms.box(phantoms.write(tmp_path / "phantoms", count=60))
    plan = {"width": 8, "epochs": 1, "batch_size": 8, "loop": {"accelerator": "cpu"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plan | {"data": {"cache": str(tmp_path / "cache")}}))
    words = [str(manifest), "--config", str(tmp_path / "config.yaml"), "--size=40", "--backbone=small", "-t", "Spot"]
    more = ["-t", "No Finding", "--set", f"boxes={boxes}", "--set", "pasted=4", "--set", "view_size=32"]
    folder = tmp_path / "pre"
    begun = (f"nothing to go on from in {folder}: starting\n", f"continuing {folder} from step 5\n")
    for told in begun:  # what has ended goes on to the same end
        result = CliRunner().invoke(commands.app, ["pretrain", *words, *more, "-o", str(folder), "--resume"])
        assert result.exit_code == 0, result.output
        assert (result.stdout, result.stderr) == (f"wrote {folder / 'pretrained.safetensors'}\n", told)
    card = json.loads((folder / "pretrained.json").read_text())
    assert card["pasted"]["boxes"].keys() == {"Spot"} and card["size"] == 32
    start = ["classifier", *words, "--set", f"init={folder}", "-o", str(tmp_path / "cl")]
    result = CliRunner().invoke(commands.app, start)
    assert result.exit_code == 0, result.output
    assert load_classifier(str(tmp_path / "cl")).scores(torch.rand(2, 1, 40, 40)).shape == (2, 1)


def test_folds_are_trained_one_by_one_and_imitated(tmp_path: Path) -> None:
    manifest = phantoms.write(tmp_path / "phantoms", count=60)
    plan = {
        "data": {"size": 32, "cache": str(tmp_path / "cache"), "sources": [{"manifest": str(manifest)}]},
        "backbone": "small",
        "width": 4,
        "epochs": 1,
        "loop": {"accelerator": "cpu", "log_every": 1},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plan))
    told = ["--config", str(tmp_path / "config.yaml"), "-t", "Big", "-t", "Spot", "-o"]

    def run(*more: str) -> Result:
        return CliRunner().invoke(commands.app, ["cross-fit", *told, str(tmp_path / "out"), "--folds", "2", *more])

    first = run("--fold", "1")
    assert (first.exit_code, first.stdout) == (0, f"trained fold 1; {tmp_path / 'out'} lacks others\n"), first.output
    again = run("--fold", "1")
    assert "fold-1 already holds a training; add --resume" in str(again.exception)
    other = run("--fold", "0", "--set", "rate=0.1")
    assert "(rate: 0.0006 there, 0.1 now)" in str(other.exception)
    whole = run("--resume")
    assert (whole.exit_code, whole.stdout) == (0, f"wrote {tmp_path / 'out' / 'crossfit.npz'}\n"), whole.output
    wrong = CliRunner().invoke(commands.app, ["cross-fit", *told, str(tmp_path / "out"), "--folds", "3", "--resume"])
    assert isinstance(wrong.exception, ConfigurationError)
    student = ["--set", f"hardening.crossfit=[{tmp_path / 'out'}]", "--set", "hardening.imitation=8"]
    result = CliRunner().invoke(commands.app, ["classifier", *told, str(tmp_path / "student"), *student])
    assert result.exit_code == 0, result.output
    assert all(row["imitation"] > 0 for row in read_history(tmp_path / "student") if "loss" in row)


def test_what_a_training_logs_stands_on_standard_error_once(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the program is called; nothing of it is left behind, and what others log stays quiet."""
    log = logging.getLogger("gifsplain.train")
    before = log.level, list(log.handlers)

    def training(*_: object, **__: object) -> Path:
        logging.getLogger("gifsplain.train.loop").info("continuing")
        logging.getLogger("gifsplain.train.data").warning("left out")
        logging.getLogger("gifsplain.models").info("other")
        return Path("weights")

    monkeypatch.setattr(autoencoder, "train_autoencoder", training)
    for _ in range(3):
        caplog.clear()
        result = CliRunner().invoke(commands.app, arguments(folder, "out"))
        assert (result.stdout, result.stderr) == ("wrote weights\n", "continuing\nleft out\n")
        assert caplog.messages == ["continuing", "left out"]
        assert (log.level, list(log.handlers)) == before


def test_what_is_logged_stands_above_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Console(stderr=True, force_terminal=True, width=80)
    with console.told("gifsplain.train"):
        bar = BarReporter("autoencoder", shown)
        bar.start(0, 20)
        logging.getLogger("gifsplain.train").info("knows 3 of 4")
        bar.update(10, {"loss": 0.1234})
        bar.close()
    lines = [line for line in capsys.readouterr().err.splitlines() if "knows" in line or "10/20" in line]
    assert lines[0].rstrip().endswith("knows 3 of 4") and "10/20" in lines[-1]


@pytest.mark.slow
def test_killed_process_resumes_to_the_same_curve(folder: Path) -> None:
    program = [sys.executable, "-c", "from gifsplain.cli import train; train.app()"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(program + arguments(folder, "killed"), env=environment, stdout=subprocess.DEVNULL)
    checkpoint = folder / "killed" / CHECKPOINT
    deadline = time.monotonic() + 500  # a busy machine takes minutes to import torch
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was too fast to be killed"
    reached = read_checkpoint(checkpoint)["step"]
    for output, more in (("killed", ["--resume"]), ("whole", [])):
        done = subprocess.run(
            program + arguments(folder, output, *more), env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    steps = read_history(folder / "whole")[-1]["step"]
    assert 0 < reached < steps
    assert read_history(folder / "killed") == read_history(folder / "whole")
    ours, theirs = (read_checkpoint(folder / name / CHECKPOINT)["trainee"]["model"] for name in ("killed", "whole"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.slow
def test_two_processes_train_as_one(folder: Path) -> None:
    """Two CPU processes share every epoch, and one of them writes."""
    script = folder / "program.py"
    script.write_text("from gifsplain.cli import train\n\ntrain.app()\n")
    options = ("--set", "loop.devices=2", "--set", "epochs=8", "--set", "batch_size=4", "--set", "evaluate_epochs=4")
    done = subprocess.run(
        [sys.executable, str(script), *arguments(folder, "two", *options)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    rows = read_history(folder / "two")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
    assert [row["step"] for row in rows if "val/mae_error" in row] == [8, 16]  # 15 images, 2 x 4 a step
    assert (folder / "two" / "autoencoder.safetensors").exists()


def test_bar_shows_losses_and_time_left() -> None:
    text = io.StringIO()
    bar = BarReporter("autoencoder", Console(file=text, force_terminal=True, width=140))
    bar.decoded(1, 1)
    bar.start(5, 20)
    bar.evaluated(10, {"val/auc": 0.75, "val/auc/Mass": 0.5})
    bar.update(10, {"loss": 0.1234})
    bar.close()
    last = text.getvalue().splitlines()[-1]
    assert all(part in text.getvalue() for part in ("autoencoder", "10/20", "left", "loss 0.1234", "val/auc 0.75")), (
        last
    )
    assert "Mass" not in text.getvalue()
    assert isinstance(make_reporter("x", Console(file=io.StringIO())), SilentReporter)


def test_options_change_the_file(folder: Path) -> None:
    options = given.Given(config=folder / "config.yaml", overrides=("rate=0.5",), data=("x.csv",), where=("a=1",))
    made = given.settings(AutoencoderTraining, options)
    assert (made.rate, made.data.sources[0].manifest, made.data.sources[0].where) == (0.5, "x.csv", ("a=1",))
    assert made.data.size == 16 and made.model.bottleneck == (8, 2, 2)


@pytest.mark.parametrize("depth", [18, 50, 101, 151])
def test_depth_and_bottleneck_make_the_papers_model(depth: int) -> None:
    model = given.autoencoder_model(None, depth, "512x3x3", None)
    made = given.settings(AutoencoderTraining, given.Given(data=("x.csv",)), model)
    assert made.model.bottleneck == (512, 3, 3) and made.model.latent_shape == (512, 3, 3)
    assert sum(made.model.blocks) * (2 if depth == 18 else 3) == {18: 16, 50: 48, 101: 99, 151: 150}[depth]


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="such as 512x3x3, got '512x3'"):
        given.parse_bottleneck("512x3")
    with pytest.raises(ConfigurationError, match="no data: name a manifest"):
        given.settings(AutoencoderTraining, given.Given())


@pytest.mark.parametrize(("option", "values"), [("where", ("source=nih",)), ("images", Path("films"))])
def test_options_for_named_data_are_refused_without_any(folder: Path, option: str, values: object) -> None:
    """They would choose among rows that the file names, and be ignored."""
    options = given.Given(config=folder / "config.yaml", **{option: values})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=rf"--{option} goes with data .*`{option}` to each of data\.sources"):
        given.settings(AutoencoderTraining, options)
    with pytest.raises(ConfigurationError, match=rf"--{option} goes with .* each of training\.data\.sources"):
        given.experiment(bottleneck.BottleneckExperiment, options, {})


@pytest.mark.parametrize("text", ["[1, 2]", "foo", "3"])
def test_parts_of_a_file_that_have_no_keys_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"data: {text}\n")
    with pytest.raises(ConfigurationError, match="data must be keys and values, got"):
        given.settings(AutoencoderTraining, given.Given(config=path))
    with pytest.raises(ConfigurationError, match="data must be keys and values, got"):
        given.settings(AutoencoderTraining, given.Given(overrides=(f"data={text}",)))
    for wrong in (f"training: {text}\n", f"training:\n  data: {text}\n"):
        path.write_text(wrong)
        with pytest.raises(ConfigurationError, match=r"training(\.data)? must be keys and values, got"):
            given.experiment(bottleneck.BottleneckExperiment, given.Given(config=path), {})
