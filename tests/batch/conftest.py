"""Lets this process and its children find the tiny models by name."""

import os
import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)


@pytest.fixture(autouse=True)
def tiny_models_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children of this process, too, with the same package as here."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")])))
