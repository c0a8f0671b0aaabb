"""What a folder of results says of its making."""

import json
import logging
from importlib import metadata
from pathlib import Path

import pytest
import torch

from gifsplain.errors import ConfigurationError
from gifsplain.evaluate import parts
from gifsplain.evaluate.config import Setup
from gifsplain.explain import record


def read(folder: Path) -> dict[str, object]:
    return json.loads((folder / "config.json").read_text())


def test_other_versions_go_on_and_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setup, folder = Setup(tmp_path / "m.csv", tmp_path), tmp_path / "curves"
    mine = {"gifsplain": metadata.version("gifsplain"), "torch": metadata.version("torch")}
    assert torch.__version__.startswith(mine["torch"].split("+")[0])
    parts.claim(folder, setup, ["weights"])
    begun = read(folder)
    assert begun["versions"] == [mine]
    with caplog.at_level(logging.WARNING):
        parts.claim(folder, setup, ["weights"])
        assert read(folder) == begun and not caplog.messages
        newer = {**mine, "torch": "9.9"}
        monkeypatch.setattr(record, "versions", lambda: newer)
        parts.claim(folder, setup, ["weights"])
    assert read(folder) == {**begun, "versions": [mine, newer]}
    (said,) = caplog.messages
    assert f"torch {mine['torch']}; it goes on with gifsplain {mine['gifsplain']}, torch 9.9" in said
    with pytest.raises(ConfigurationError, match="the models' weights differ"):
        parts.claim(folder, setup, ["others"])


def test_a_folder_of_before_versions_were_recorded_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(tmp_path / "m.csv", tmp_path)
    parts.claim(tmp_path, setup)
    old = {key: value for key, value in read(tmp_path).items() if key != "versions"}
    (tmp_path / "config.json").write_text(json.dumps(old))
    with caplog.at_level(logging.WARNING):
        parts.claim(tmp_path, setup)
    assert read(tmp_path)["versions"][0] == {"gifsplain": "unknown", "torch": "unknown"}
    assert "holds results of gifsplain unknown, torch unknown" in caplog.text
