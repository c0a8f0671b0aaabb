"""Starting up loads nothing heavy: libraries are imported where they are used."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = [
    "torch",
    "numpy",
    "pandas",
    "matplotlib",
    "PIL",
    "pydicom",
    "captum",
    "torchxrayvision",
    "torchvision",
    "sklearn",
    "skimage",
    "scipy",
    "fastapi",
    "ray",
]


def loaded(code: str) -> list[str]:
    """Heavy modules in a fresh interpreter after `code`."""
    tail = f"import json, sys; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tail}"], capture_output=True, text=True, check=True, timeout=300
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("arguments", [["--help"], ["batch", "--help"], ["explain", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"from gifsplain.cli import main\ntry:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert end.code == 0"
    assert loaded(code) == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded("import gifsplain") == []


@pytest.mark.slow
def test_libraries_are_loaded_where_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation, and a list of models for somebody without weights of torchxrayvision; its libraries take 10 s more."""
    monkeypatch.setenv("HOME", str(tmp_path))
    code = (
        "import gifsplain.api, gifsplain.batch.files, gifsplain.explain.methods, gifsplain.evaluate.experiments\n"
        "from gifsplain.models.load import CATALOGUE, available\n"
        "assert {available(entry) for entry in CATALOGUE} == {'yes', 'no', 'yours'}"
    )
    assert set(loaded(code)) == {"torch", "numpy", "pandas", "matplotlib", "PIL"}


def test_the_check_sees_what_is_loaded() -> None:
    assert loaded("import numpy") == ["numpy"]
