"""One loop for every training: checkpoints, exact resume, logs, progress, early stop.

Randomness and data order are functions of (seed, step, rank) and not of what ran before, so a checkpoint needs no
generator state and a resumed run repeats the uninterrupted one; see `machine.seed_step` and `data.batch_indices`.
"""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from lightning_fabric import Fabric
from torch import Tensor

from gifsplain.errors import ConfigurationError, ModelError, WeightsError
from gifsplain.train import checkpoints, machine
from gifsplain.train.config import LoopConfig
from gifsplain.train.records import Records

logger = logging.getLogger(__name__)


class Trainee(Protocol):
    """What is trained. `state_dict` must hold everything that a step changes, as tensors and plain values."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `evaluate` returns, known before the first step."""
        ...

    def step(self, step: int) -> Mapping[str, Tensor]:
        """Do step number `step` (counted from 0), optimiser included; returns detached scalar losses."""
        ...

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Validation metrics after `step` steps; must leave the state unchanged."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Reporter(Protocol):
    """Who watches: `progress.BarReporter` on a terminal, `SilentReporter` otherwise."""

    def decoded(self, done: int, total: int) -> None:
        """Images decoded so far, before the training starts."""
        ...

    def start(self, step: int, steps: int) -> None: ...

    def update(self, step: int, losses: Mapping[str, float]) -> None: ...

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class SilentReporter:
    """Reports nothing."""

    def decoded(self, done: int, total: int) -> None:
        """Nothing."""

    def start(self, step: int, steps: int) -> None:
        """Nothing."""

    def update(self, step: int, losses: Mapping[str, float]) -> None:
        """Nothing."""

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Plan:
    """How long to train and how often to look; `evaluate_every` 0 looks only at the end."""

    steps: int
    evaluate_every: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    step: int
    """Steps done, those before a resume included."""
    best_step: int
    """Steps done when the monitored metric was best; `step` without a monitor."""
    best: float
    """Best monitored metric; nan without one."""
    stopped_early: bool


@dataclass
class _Progress:
    """What the loop itself carries from checkpoint to checkpoint."""

    step: int = 0
    sums: dict[str, Tensor] | None = None
    count: int = 0
    best: float = math.nan
    best_step: int = 0
    bad: int = 0
    stopped: bool = False


def run(
    trainee: Trainee,
    fabric: Fabric,
    folder: Path,
    config: LoopConfig,
    *,
    plan: Plan,
    reporter: Reporter | None = None,
    origin: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """Train until `plan.steps` or early stop, going on from the checkpoint in `folder` if there is one.

    Interrupted by SIGINT or SIGTERM it writes a checkpoint and raises KeyboardInterrupt; SIGKILL costs at most
    `config.checkpoint_minutes`. `origin` has checksums of what is learnt from (`identity.origin`): a training goes on only
    with the same.
    """
    if config.monitor and config.monitor not in trainee.metrics:
        raise ConfigurationError(
            f"loop.monitor {config.monitor!r} is not a metric of this training; it has {sorted(trainee.metrics)}"
        )
    reporter = reporter or SilentReporter()
    progress = _restore(trainee, folder, origin)
    with Records(folder, progress.step, active=fabric.is_global_zero) as records, machine.determinism(config):
        reporter.start(progress.step, plan.steps)
        try:
            _train(trainee, fabric, _Run(folder, config, plan, records, reporter, origin), progress)
        finally:
            reporter.close()
    monitored = bool(config.monitor) and not math.isnan(progress.best)
    return Outcome(progress.step, progress.best_step if monitored else progress.step, progress.best, progress.stopped)


def load_best(trainee: Trainee, folder: Path, outcome: Outcome) -> int:
    """Give the trainee its best state, if the training chose one; otherwise it keeps its last. Returns the state's step.

    A run that was killed after its best step and went on from a checkpoint before it may not repeat that step to the last
    bit (on a GPU); what it had reached is kept.

    Raises:
        WeightsError: When the checkpoint of the best step is not there.
    """
    if math.isnan(outcome.best):
        return outcome.step
    path = folder / checkpoints.BEST
    if not path.exists():
        raise WeightsError(
            f"{path} is missing, expected that of the best step, {outcome.best_step}; train in a new folder"
        )
    content = checkpoints.read_checkpoint(path)
    if content["step"] != outcome.best_step:
        logger.warning("%s is of step %d, reached before a kill; kept", path, content["step"])
    trainee.load_state_dict(content["trainee"])
    step: int = content["step"]
    return step


@dataclass(frozen=True)
class _Run:
    folder: Path
    config: LoopConfig
    plan: Plan
    records: Records
    reporter: Reporter
    origin: Mapping[str, str]


def _train(trainee: Trainee, fabric: Fabric, run: _Run, progress: _Progress) -> None:
    saved, config, plan = time.monotonic(), run.config, run.plan
    with machine.Signals() as signals:
        while progress.step < plan.steps and not progress.stopped:
            machine.seed_step(config.seed, progress.step, fabric.global_rank)
            _add(progress, trainee.step(progress.step))
            progress.step += 1
            last = progress.step == plan.steps
            losses = _log(run, progress) if last or progress.step % config.log_every == 0 else {}
            run.reporter.update(progress.step, losses)
            if last or (plan.evaluate_every and progress.step % plan.evaluate_every == 0):
                _evaluate(trainee, fabric, run, progress)
            due = time.monotonic() - saved >= 60 * config.checkpoint_minutes
            due, stop = _agree(fabric, due or last or progress.stopped, signals.asked)
            if due or stop:
                _save(trainee, fabric, run, progress)
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt


def _agree(fabric: Fabric, due: bool, stop: bool) -> tuple[bool, bool]:
    """The first process decides for all, because clocks and signals differ."""
    if fabric.world_size == 1:
        return due, stop
    agreed: tuple[bool, bool] = fabric.broadcast((due, stop))
    return agreed


def _add(progress: _Progress, losses: Mapping[str, Tensor]) -> None:
    values = {name: value.detach().float() for name, value in losses.items()}
    sums = progress.sums or {}
    progress.sums = sums | {name: sums[name] + value if name in sums else value for name, value in values.items()}
    progress.count += 1


def _log(run: _Run, progress: _Progress) -> dict[str, float]:
    losses = _mean_losses(run, progress)
    progress.sums, progress.count = None, 0
    run.records.write(progress.step, losses)
    return losses


def _mean_losses(run: _Run, progress: _Progress) -> dict[str, float]:
    losses = {name: float(total) / progress.count for name, total in (progress.sums or {}).items()}
    _require_finite(run, [name for name, value in losses.items() if not math.isfinite(value)], "loss", progress.step)
    return losses


def _require_finite(run: _Run, broken: list[str], kind: str, step: int) -> None:
    """Refuse to go on with, or to keep, what is not finite."""
    if not broken:
        return
    spared = (
        "the last checkpoint is from before"
        if (run.folder / checkpoints.CHECKPOINT).exists()
        else "there is no checkpoint yet"
    )
    exact = "" if run.config.precision == "32-true" else ", or with loop.precision 32-true"
    raise ModelError(
        f"{kind} {', '.join(broken)} is no longer finite near step {step}; {spared}. Train in a new folder with a lower "
        f"learning rate{exact}"
    )


def _evaluate(trainee: Trainee, fabric: Fabric, run: _Run, progress: _Progress) -> None:
    machine.seed_step(run.config.seed, progress.step, fabric.global_rank, stream=1)
    metrics = dict(trainee.evaluate(progress.step))
    run.records.write(progress.step, metrics)
    run.reporter.evaluated(progress.step, metrics)
    name = run.config.monitor
    if not name:
        return
    value = float(fabric.broadcast(metrics[name])) if fabric.world_size > 1 else metrics[name]
    if _better(name, value, progress.best):
        progress.best, progress.best_step, progress.bad = value, progress.step, 0
        _save(trainee, fabric, run, progress, name=checkpoints.BEST)
    elif not math.isnan(value):  # what cannot be known is no sign of overfitting
        progress.bad += 1
    progress.stopped = 0 < run.config.patience <= progress.bad


def _better(name: str, value: float, best: float) -> bool:
    if math.isnan(value):
        return False
    low = name.endswith(("_error", "loss"))
    return math.isnan(best) or (value < best if low else value > best)


def _save(
    trainee: Trainee, fabric: Fabric, run: _Run, progress: _Progress, *, name: str = checkpoints.CHECKPOINT
) -> None:
    _mean_losses(run, progress)  # never replace a good checkpoint by a broken one
    state = trainee.state_dict()
    _require_finite(
        run, list(checkpoints.not_finite(state))[:3], "state", progress.step
    )  # a loss is of before the update
    content = {
        "origin": dict(run.origin),
        "step": progress.step,
        "sums": progress.sums,
        "count": progress.count,
        "best": progress.best,
        "best_step": progress.best_step,
        "bad": progress.bad,
        "stopped": progress.stopped,
        "trainee": state,
    }
    if fabric.is_global_zero:
        checkpoints.write_checkpoint(content, run.folder / name)
    fabric.barrier()


def _restore(trainee: Trainee, folder: Path, origin: Mapping[str, str]) -> _Progress:
    path = folder / checkpoints.CHECKPOINT
    if not path.exists():
        return _Progress()
    content = checkpoints.read_checkpoint(path)
    checkpoints.require_same_origin(content, origin, folder)
    trainee.load_state_dict(content.pop("trainee"))
    logger.info("continuing %s from step %d", folder, content["step"])
    return _Progress(**content)
