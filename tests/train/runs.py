"""What tests of trainings share: a quiet loop on the CPU, a run that is killed, and what a folder holds."""

from pathlib import Path
from typing import Any, Protocol

import pytest
import torch

from gifsplain.train import loop
from gifsplain.train.config import LoopConfig
from gifsplain.train.records import read_history

CPU = LoopConfig(accelerator="cpu", log_every=5, checkpoint_minutes=60, deterministic=True)


class Killed(Exception):
    pass


class KillAfter(loop.SilentReporter):
    """Ends the run without warning after some steps, as a power cut would."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def update(self, step: int, losses: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_history(folder) if "loss" in row]


def state(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


class Training(Protocol):
    """`train_classifier` and its like."""

    def __call__(
        self, config: Any, folder: Path, *, resume: bool = False, reporter: loop.Reporter | None = None
    ) -> Path: ...


def assert_resumes(train: Training, config: Any, folder: Path, *, steps: int) -> None:
    """Killed after so many steps and resumed, the training gives the weights and the curve of an uninterrupted one."""
    whole = train(config, folder / "whole")
    with pytest.raises(Killed):
        train(config, folder / "parts", reporter=KillAfter(steps))
    parts = train(config, folder / "parts", resume=True)
    theirs = state(whole)
    assert all(torch.equal(value, theirs[name]) for name, value in state(parts).items())
    assert read_history(folder / "parts") == read_history(folder / "whole")
