"""The program on real files, with models of a user's own so that it is quick; where a process is not the point, in this one."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from gifsplain.errors import ModelError

MODELS = """
import torch
from gifsplain.models import wrap

class Drawer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.down = torch.nn.Linear(256, 12)
        self.up = torch.nn.Linear(12, 256)
    def encode(self, x):
        return self.down(x.flatten(1))
    def decode(self, z):
        return torch.sigmoid(self.up(z)).view(-1, 1, 16, 16)

def classifier():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2))
    net[1].weight.data *= 40
    return wrap.classifier(net, name="mine", targets=("left", "right"), size=16)

def autoencoder():
    torch.manual_seed(1)
    return wrap.autoencoder(Drawer(), name="drawer", size=16)
"""
OWN = ["--classifier", "my_models:classifier", "--autoencoder", "my_models:autoencoder"]
FILES = {
    "animation.gif", "animation.mp4", "map.png", "overlay.png", "curve.png", "flow.png", "report.html", "explanation.json",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with models of one's own, two images, and three files that are none."""
    (tmp_path / "my_models.py").write_text(MODELS)
    generator = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        Image.fromarray(generator.integers(0, 256, (40, 32), dtype=np.uint8)).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    (tmp_path / "in" / "text.png").write_text("no image")
    Image.fromarray(np.full((20, 20), 7, np.uint8)).save(tmp_path / "in" / "constant.png")
    return tmp_path


class Done(NamedTuple):
    """How a run of the program ended."""

    returncode: int
    stdout: str
    stderr: str


Program = Callable[..., Done]


@pytest.fixture
def program(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Program]:
    """The program within this process, working in `folder`: a process of its own takes seconds to load torch."""
    from gifsplain.cli import main

    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "my_models", raising=False)

    def run(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, *capsys.readouterr())

    yield run
    sys.modules.pop("my_models", None)


def test_a_folder_with_bad_files_gives_the_good_ones_and_a_table(folder: Path, program: Program) -> None:
    done = program("explain", "in", "-t", "left", "-t", "right", "-o", "out", *OWN)
    assert done.returncode == 1, done.stderr
    for case in ("a", "b"):
        for target in ("left", "right"):
            assert {p.name for p in (folder / "out" / case / target).iterdir()} >= FILES
    for bad in ("empty", "text", "constant"):
        assert bad in done.stderr
        assert not (folder / "out" / bad).exists()
    assert "3 of 5 cases failed" in done.stderr
    assert "Traceback" not in done.stderr
    record = json.loads((folder / "out" / "a" / "left" / "explanation.json").read_text())
    assert {"input", "reconstruction", "counterfactual"} <= record["scores"].keys()
    assert len(record["strengths"]) == len(record["frame_scores"]) == 21
    assert {"name", "verdict", "text"} <= record["checks"][0].keys()
    assert isinstance(record["stop"], str)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["explain", "in/a.png", "-t", "nose", *OWN], 2, "has no target 'nose'; it has left, right"),
        (["explain", "in/a.png", *OWN], 2, "name one with --target"),
        (["batch", "in", "--targets", "left", "-o", "in/a.png", *OWN], 2, "expected a place that can be written"),
        (["explain", "in/a.png", "-t", "left", "--window", "²", "--format", "json", *OWN], 0, ""),
        (["explain", "nowhere.png", "-t", "left", *OWN], 1, "there is no such file"),
        (["explain", "in/a.png", "-t", "left", "--policy", "nose"], 2, "--policy must be one of exact"),
        (["explain", "in/a.png", "-t", "left", "--classifier", "nose"], 3, "no classifier is called 'nose'"),
        (["explain", "in/a.png", "-t", "left", "--classifier", "xrv:jfhealthcare"], 3, "are not on this machine"),
        (["models", "show", "nose"], 3, "models list"),
        (["nose"], 2, "No such command"),
        (["explain", "in/a.png", "-t", "left", "--method", "nose", *OWN], 2, "no method is called 'nose'"),
        (["explain", "in/a.png", "-t", "left", "--format", "gif,nose", *OWN], 2, "expected formats among gif, mp4"),
        (["explain", "in/a.png", "-t", "left", "--format", ",", *OWN], 2, "--format must name one or more of gif, mp4"),
        (
            ["explain", "in/a.png", "-t", "left", "--drop", "2", *OWN],
            2,
            "must lie in [0, 1] for probabilities, got 2.0",
        ),
        (["explain", "in/a.png", "-t", "left", "--drop", "-1", *OWN], 2, "gifsplain: drop must be 0 or more, got -1.0"),
        (
            ["explain", "in/a.png", "-t", "left", "--method", "pca", *OWN],
            3,
            "there are none; run `gifsplain directions fit",
        ),
        (
            ["explain", "in/a.png", "-t", "left", "-o", "in/a.png", *OWN],
            2,
            "expected a folder to write to, in/a.png is a file",
        ),
        (["batch", "in", "-o", "run", "-t", "nose", *OWN], 2, "has no target 'nose'; it has left, right"),
        (["batch", "in", "-o", "run", "-t", "left", "--method", "nose", *OWN], 2, "no method is called 'nose'"),
        (["batch", "in", "-o", "run", "-t", "left", "--format", "nose", *OWN], 2, "expected formats among gif, mp4"),
        (
            ["batch", "in", "-o", "run", "-t", "left", "--drop", "2", *OWN],
            2,
            "must lie in [0, 1] for probabilities, got 2.0",
        ),
        (["explain", "in/a.png", "-t", "left", "--keep-identity", *OWN], 2, "give --dicom-out too"),
        (["serve", "--classifier", "nose"], 3, "no classifier is called 'nose'"),
        (["serve", "--autoencoder", "nose"], 3, "no autoencoder is called 'nose'"),
        (["batch", "in", "-o", "run", *OWN], 2, "name one with --targets"),
        (["batch", "in", "-o", "in/a.png", "-t", "left", *OWN], 2, "in/a.png: File exists; check the place"),
    ],
)
def test_an_error_is_one_line_with_a_remedy(
    folder: Path, program: Program, arguments: list[str], code: int, words: str
) -> None:
    done = program(*arguments)
    assert done.returncode == code, done.stderr
    assert words in " ".join(done.stderr.split())  # usage errors are boxed and wrapped
    assert "Traceback" not in done.stderr
    assert not (folder / "run").exists()


def test_batch_says_why_cases_failed(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gifsplain.cli.batch.SHOWN", 2)
    done = program("batch", "in", "-o", "run", "-t", "left", "--no-media", *OWN)
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert lines[1].startswith("constant") and "every pixel has the same value" in lines[1]
    assert lines[2].startswith("empty") and lines[3].startswith("and 1 more: see run/errors")


def test_a_name_that_is_no_utf8_is_written_down(folder: Path, program: Program) -> None:
    (folder / "old").mkdir()
    try:
        Path(os.fsdecode(b"old/b\xe4r.png")).write_bytes((folder / "in" / "a.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    done = program("explain", "old", "-t", "left", "-o", "out", "--format", "report,json", *OWN)
    assert done.returncode == 0, done.stderr
    (record,) = (folder / "out").glob("*/left/explanation.json")
    assert json.loads(record.read_text())["picture"]["name"] == "b?r"


def test_no_format_at_all_is_one_too() -> None:
    """For arrays or DICOM alone."""
    from gifsplain.cli import console

    assert console.formats([""]) == () and console.formats(["gif,json", "gif"]) == ("gif", "json")
    assert "report" in console.formats([])


def test_a_program_ends_with_its_code() -> None:
    """A process of its own, with a command that fails at once: those of the program load torch first."""
    code = (
        "from gifsplain.cli import app, main\nfrom gifsplain.errors import ModelError\n"
        "@app.command()\ndef fail():\n    raise ModelError('no nose')\n"
        "main(['fail'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (3, "gifsplain: no nose\n")


def test_debug_shows_the_traceback() -> None:
    """What `main` lets out is printed by Python with its traceback."""
    from gifsplain.cli import main

    with pytest.raises(ModelError, match="nose"):
        main(["--debug", "models", "show", "nose"])


def test_predict_prints_scores_with_their_meaning(program: Program) -> None:
    done = program("predict", "in/a.png", "in/b.png", "--classifier", "my_models:classifier", "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["meaning"] == "probability"
    assert [set(c["scores"]) for c in values["cases"]] == [{"left", "right"}] * 2
    assert all(0 <= s <= 1 for c in values["cases"] for s in c["scores"].values())


def test_native_size_animates_the_original(folder: Path, program: Program) -> None:
    done = program(
        "explain", "in/a.png", "-t", "left", "-o", "out", "--native", "--format", "gif", "--format", "json", *OWN
    )
    assert done.returncode == 0, done.stderr
    with Image.open(folder / "out" / "a" / "left" / "animation.gif") as film:
        assert film.width >= 32
    assert {path.name for path in (folder / "out" / "a" / "left").iterdir()} == {"animation.gif", "explanation.json"}


def test_help_is_quick_and_loads_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys\nfrom gifsplain.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'matplotlib', 'pydicom', 'PIL', 'fastapi'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    started = time.process_time()
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.process_time() - started < 5


def test_every_command_explains_itself(program: Program) -> None:
    from gifsplain.cli.groups import COMMANDS

    done = program("--help")
    assert done.returncode == 0
    for name in ("explain", "predict", "demo", "models"):
        assert name in done.stdout
    assert {"explain", "models"} <= set(COMMANDS)


def test_serve_loads_a_model_of_ones_own_once(folder: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from gifsplain.explorer import server

    counted = "\nmade = []\nplain = classifier\ndef classifier():\n    made.append(1)\n    return plain()\n"
    (folder / "my_models.py").write_text(MODELS + counted)
    scored = []

    def run(app: FastAPI, port: int, ready: object) -> None:
        client = TestClient(app, base_url="http://127.0.0.1:8088")
        kept = client.post("/api/pictures", content=(folder / "in" / "a.png").read_bytes()).json()
        chosen = {"classifier": "my_models:classifier", "autoencoder": "my_models:autoencoder", "target": "left"}
        scored.append(client.post("/api/explanations", json={"picture": kept["id"], "frames": 3, **chosen}))

    monkeypatch.setattr(server, "run", run)
    done = program("serve", *OWN)
    assert done.returncode == 0, done.stderr
    assert scored[0].status_code == 201, scored[0].text
    assert sys.modules["my_models"].made == [1]


def test_serve_refuses_a_device_that_is_none(program: Program) -> None:
    done = program("serve", "--device", "toaster")
    assert done.returncode == 3 and "toaster" in done.stderr


@pytest.mark.parametrize(
    ("composition", "order"), [("residual", r"\d -> \d.*\(recon"), ("reconstruction", r"\(recon.* -> ")]
)
def test_the_line_begins_where_the_change_begins(program: Program, composition: str, order: str) -> None:
    done = program("explain", "in/a.png", "-t", "left", "-o", "out", "--compose", composition, *OWN)
    assert done.returncode == 0, done.stderr
    assert re.search(order, done.stdout)


def test_a_module_is_the_program() -> None:
    done = subprocess.run([sys.executable, "-m", "gifsplain", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip()
