"""Lets this process and its children find the tiny models by name."""

import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)


@pytest.fixture(autouse=True)
def tiny_models_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children of this process, too."""
    monkeypatch.setenv("PYTHONPATH", HERE)
