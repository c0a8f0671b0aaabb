"""The loop: resume repeats the uninterrupted run, early stop, signals, what is refused."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gifsplain.errors import ConfigurationError, ModelError, WeightsError
from gifsplain.train import checkpoints, loop, machine
from gifsplain.train.config import LoopConfig
from gifsplain.train.records import read_history


class Noisy:
    """Fits a line to random points with dropout: any slip in randomness or state shows in the weights."""

    def __init__(self, *, metrics: tuple[float, ...] = (0.5,), stop_at: int = -1) -> None:
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05)
        self.values, self.stop_at = metrics, stop_at

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("val/auc",)

    def step(self, step: int) -> Mapping[str, Tensor]:
        if step == self.stop_at:
            raise RuntimeError("killed")
        x = torch.randn(16, 4)
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def evaluate(self, step: int) -> Mapping[str, float]:
        torch.rand(3)  # evaluation may draw numbers without disturbing training
        return {"val/auc": self.values[min(step // 2 - 1, len(self.values) - 1)]}

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def train(trainee: loop.Trainee, folder: Path, *, every: int = 0, steps: int = 12, **options: Any) -> loop.Outcome:
    config = LoopConfig(accelerator="cpu", log_every=3, **options)
    folder.mkdir(exist_ok=True)
    plan = loop.Plan(steps=steps, evaluate_every=every)
    return loop.run(trainee, machine.make_fabric(config), folder, config, plan=plan)


@pytest.mark.parametrize("stop_at", [1, 3, 7, 11])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, stop_at: int) -> None:
    whole = Noisy()
    train(whole, tmp_path / "whole", every=4, checkpoint_minutes=0)
    with pytest.raises(RuntimeError, match="killed"):
        train(Noisy(stop_at=stop_at), tmp_path / "parts", every=4, checkpoint_minutes=0)
    resumed = Noisy()
    train(resumed, tmp_path / "parts", every=4, checkpoint_minutes=0)
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert read_history(tmp_path / "parts") == read_history(tmp_path / "whole")


def test_history_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        train(Noisy(stop_at=10), tmp_path, checkpoint_minutes=60)  # logs written, no checkpoint
    assert [row["step"] for row in read_history(tmp_path)] == [3, 6, 9]
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 1')  # a line that the kill cut
    train(Noisy(), tmp_path)
    assert [row["step"] for row in read_history(tmp_path)] == [3, 6, 9, 12, 12]


def test_logged_loss_is_the_mean_since_the_last_line(tmp_path: Path) -> None:
    class Counting(Noisy):
        def step(self, step: int) -> Mapping[str, Tensor]:
            return {"loss": torch.tensor(float(step))}

    train(Counting(), tmp_path)
    losses = [row["loss"] for row in read_history(tmp_path) if "loss" in row]
    assert losses == [1.0, 4.0, 7.0, 10.0]


def test_stops_early_and_keeps_the_best(tmp_path: Path) -> None:
    outcome = train(
        Noisy(metrics=(0.6, 0.8, 0.7, 0.8, 0.9)), tmp_path, every=2, steps=20, monitor="val/auc", patience=2
    )
    assert (outcome.step, outcome.best_step, outcome.best, outcome.stopped_early) == (8, 4, 0.8, True)
    assert checkpoints.read_checkpoint(tmp_path / checkpoints.BEST)["step"] == 4
    again = train(Noisy(), tmp_path, every=2, steps=20, monitor="val/auc", patience=2)
    assert again == outcome


@pytest.mark.parametrize(("name", "best"), [("val/auc", 3.0), ("val/mae_error", 1.0), ("val/loss", 1.0)])
def test_suffix_says_which_way_is_better(name: str, best: float) -> None:
    kept = math.nan
    for value in (2.0, math.nan, 3.0, 1.0):
        kept = value if loop._better(name, value, kept) else kept
    assert kept == best


def test_seed_step_is_a_function_of_its_arguments() -> None:
    def draw(*place: int, stream: int = 0) -> float:
        machine.seed_step(*place, stream=stream)
        return float(torch.rand(()))

    first = draw(1, 2, 3)
    torch.rand(7)
    assert draw(1, 2, 3) == first
    others = [draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4), draw(1, 2, 3, stream=1)]
    assert len({first, *others}) == 5


def test_interrupt_writes_a_checkpoint(tmp_path: Path) -> None:
    class Interrupted(Noisy):
        def step(self, step: int) -> Mapping[str, Tensor]:
            if step == 5:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)
            return super().step(step)

    whole, resumed = Noisy(), Noisy()
    train(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(), tmp_path / "parts")
    assert checkpoints.read_checkpoint(tmp_path / "parts" / checkpoints.CHECKPOINT)["step"] == 6
    train(resumed, tmp_path / "parts")
    assert torch.equal(resumed.model[0].weight, whole.model[0].weight)  # type: ignore[arg-type]


def test_loss_that_is_not_finite_ends_the_run_and_spares_the_checkpoint(tmp_path: Path) -> None:
    class Diverging(Noisy):
        def step(self, step: int) -> Mapping[str, Tensor]:
            losses = super().step(step)
            return {"loss": losses["loss"] * (math.nan if step >= 4 else 1.0)}

    with pytest.raises(ModelError, match="loss is no longer finite near step 5"):
        train(Diverging(), tmp_path, checkpoint_minutes=0)
    assert checkpoints.read_checkpoint(tmp_path / checkpoints.CHECKPOINT)["step"] == 4


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    """The loss of the step that broke them is finite still."""

    class Bursting(Noisy):
        def step(self, step: int) -> Mapping[str, Tensor]:
            losses = super().step(step)
            if step == 4:
                with torch.no_grad():
                    self.model[0].weight[0, 0] = math.inf  # type: ignore[index]
            return losses

    with pytest.raises(
        ModelError, match=r"state model\.0\.weight is no longer finite near step 5; the last checkpoint is"
    ):
        train(Bursting(), tmp_path / "often", checkpoint_minutes=0)
    assert checkpoints.read_checkpoint(tmp_path / "often" / checkpoints.CHECKPOINT)["step"] == 4
    with pytest.raises(ModelError, match=r"near step 5; there is no checkpoint yet.*or with loop\.precision 32-true"):
        train(Bursting(), tmp_path / "last", steps=5, precision="bf16-mixed")
    assert not (tmp_path / "last" / checkpoints.CHECKPOINT).exists()


def test_what_is_not_known_stops_nothing(tmp_path: Path) -> None:
    outcome = train(Noisy(metrics=(math.nan,)), tmp_path, every=2, monitor="val/auc", patience=2)
    assert (outcome.step, outcome.stopped_early) == (12, False) and math.isnan(outcome.best)


def test_a_best_checkpoint_of_another_run_is_never_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(Noisy(metrics=(0.6, 0.8, 0.7)), tmp_path, every=2, steps=6, monitor="val/auc")
    (tmp_path / checkpoints.CHECKPOINT).unlink()  # as a kill before the first regular checkpoint leaves it
    checkpoints.prepare_folder(tmp_path, resume=False)
    assert not (tmp_path / checkpoints.BEST).exists()
    kept = Noisy()
    assert loop.load_best(kept, tmp_path, train(kept, tmp_path)) == 12  # nothing is monitored: the last weights
    outcome = train(Noisy(metrics=(0.6, 0.8, 0.7)), tmp_path / "new", every=2, steps=6, monitor="val/auc")
    best = Noisy()
    loop.load_best(best, tmp_path / "new", outcome)
    expected = checkpoints.read_checkpoint(tmp_path / "new" / checkpoints.BEST)["trainee"]["model"]["0.weight"]
    assert torch.equal(best.model[0].weight, expected)  # type: ignore[arg-type]
    assert loop.load_best(best, tmp_path / "new", replace(outcome, best_step=2)) == 4  # a kill came after it
    assert "best.ckpt is of step 4, reached before a kill; kept" in caplog.text
    (tmp_path / "new" / checkpoints.BEST).unlink()
    with pytest.raises(WeightsError, match=r"best\.ckpt is missing, expected that of the best step, 4"):
        loop.load_best(best, tmp_path / "new", outcome)


def test_a_training_goes_on_with_what_it_was_begun_with_only(tmp_path: Path) -> None:
    def go(steps: int, data: str, **more: str) -> loop.Outcome:
        config, origin = LoopConfig(accelerator="cpu"), {checkpoints.DATA: data, **more}
        return loop.run(Noisy(), machine.make_fabric(config), tmp_path, config, plan=loop.Plan(steps), origin=origin)

    go(4, "aa", boxes="11")
    with pytest.raises(ConfigurationError, match="was begun with other films, patients, splits or labels"):
        go(8, "bb", boxes="11")
    with pytest.raises(ConfigurationError, match="was begun with another content of boxes than is there now"):
        go(8, "aa", boxes="22")
    assert go(8, "aa", boxes="11").step == 8
    content = checkpoints.read_checkpoint(tmp_path / checkpoints.CHECKPOINT)
    content["checksum"] = content.pop("origin")[checkpoints.DATA]
    checkpoints.write_checkpoint(content, tmp_path / checkpoints.CHECKPOINT)  # as the version before wrote it
    with pytest.raises(ConfigurationError, match="was begun with other films"):
        go(10, "bb")
    assert go(10, "aa", boxes="22").step == 10
    content = checkpoints.read_checkpoint(tmp_path / checkpoints.CHECKPOINT)
    content.pop("origin")
    checkpoints.write_checkpoint(content, tmp_path / checkpoints.CHECKPOINT)  # and the one before that
    assert go(12, "bb").step == 12


def test_a_full_disk_is_said_and_spares_the_checkpoint(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / checkpoints.CHECKPOINT
    checkpoints.write_checkpoint({"step": 1}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            checkpoints.write_checkpoint({"step": 2, "weights": torch.rand(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoints.read_checkpoint(path) == {"step": 1} and [p.name for p in tmp_path.iterdir()] == [
        checkpoints.CHECKPOINT
    ]


def test_a_finished_training_is_not_overwritten_when_its_checkpoint_is_gone(tmp_path: Path) -> None:
    (tmp_path / "classifier.safetensors").write_bytes(b"weights")
    for resume in (False, True):
        with pytest.raises(ConfigurationError, match=r"holds a finished training, classifier\.safetensors, whose"):
            checkpoints.prepare_folder(tmp_path, resume=resume)


def test_refusals(tmp_path: Path) -> None:
    train(Noisy(), tmp_path / "done")
    with pytest.raises(ConfigurationError, match="already holds a training; add --resume"):
        checkpoints.prepare_folder(tmp_path / "done", resume=False)
    checkpoints.prepare_folder(tmp_path / "done", resume=True)
    with pytest.raises(ConfigurationError, match=r"loop.monitor 'val/iou' is not a metric .* \['val/auc'\]"):
        train(Noisy(stop_at=0), tmp_path / "monitor", monitor="val/iou")  # before the first step
    (tmp_path / "done" / checkpoints.CHECKPOINT).write_bytes(b"PK damaged")
    with pytest.raises(WeightsError, match="is not a readable checkpoint"):
        train(Noisy(), tmp_path / "done")


def test_tensorboard_events_are_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(Noisy(), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [3, 6, 9, 12]
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [3, 6, 9, 12, 12]


def test_bfloat16_is_left_where_it_would_be_emulated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = LoopConfig(accelerator="cpu", precision="bf16-mixed")
    monkeypatch.setattr(machine.precision, "helps", lambda device: True)
    assert machine.computed(machine.make_fabric(config))["precision"] == "bf16-mixed"
    assert "no bfloat16" not in caplog.text
    monkeypatch.setattr(machine.precision, "helps", lambda device: False)
    found = machine.computed(machine.make_fabric(config))
    assert found == {"device": "cpu", "precision": "32-true", "torch": torch.__version__}
    assert "cpu has no bfloat16 in hardware" in caplog.text


@pytest.mark.parametrize(("accelerator", "devices"), [("gppu", 1), ("cpu", -1), ("cuda", 99)])
def test_devices_that_are_not_here_are_refused(accelerator: str, devices: int) -> None:
    with pytest.raises(
        ConfigurationError, match=f"loop.accelerator '{accelerator}' with loop.devices {devices} cannot"
    ):
        machine.make_fabric(LoopConfig(accelerator=accelerator, devices=devices))
