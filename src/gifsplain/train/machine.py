"""What a training runs on: devices and their precision, repeatable random numbers and operations, signals of the process."""

import contextlib
import logging
import os
import random
import signal
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException

from gifsplain.errors import ConfigurationError
from gifsplain.models import precision
from gifsplain.train.config import LoopConfig, Precision

logger = logging.getLogger(__name__)


def make_fabric(config: LoopConfig) -> Fabric:
    """A launched Fabric for the devices of `config`, in its precision or, where that has to be emulated, in single precision."""
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    fabric = _fabric(config, "32-true")
    emulated = fabric.device.type in ("cpu", "cuda") and not precision.helps(fabric.device)
    if config.precision == "bf16-mixed" and emulated:
        logger.warning(
            "%s has no bfloat16 in hardware, where bf16-mixed takes many times longer: training in 32-true",
            fabric.device,
        )
    elif config.precision != "32-true":
        fabric = _fabric(config, config.precision)
    fabric.launch()
    return fabric


def _fabric(config: LoopConfig, number_format: Precision) -> Fabric:
    try:
        return Fabric(
            accelerator=config.accelerator, devices=config.devices, num_nodes=config.nodes, precision=number_format
        )
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:  # unknown name, device not here
        raise ConfigurationError(
            f"loop.accelerator {config.accelerator!r} with loop.devices {config.devices} cannot be had here: {error}; take "
            "auto or cpu, or fewer devices"
        ) from error


def computed(fabric: Fabric) -> dict[str, str]:
    """What computes a training, for its card (after a resume, what finished it): kind of device, precision, version of torch."""
    return {
        "device": torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else fabric.device.type,
        "precision": fabric.strategy.precision.precision,
        "torch": torch.__version__,
    }


@contextlib.contextmanager
def determinism(config: LoopConfig) -> Iterator[None]:
    """Within it, operations without a repeatable result are refused if `config.deterministic`."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(config.deterministic or before[0])
    torch.backends.cudnn.benchmark = before[1] and not config.deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def seed_step(seed: int, step: int, rank: int = 0, *, stream: int = 0) -> None:
    """Make all random numbers that follow a function of the arguments alone."""
    words = np.random.SeedSequence([seed, stream, step, rank]).generate_state(4)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))
    np.random.seed(int(words[2]))  # noqa: NPY002  (other people's code draws from it)
    random.seed(int(words[3]))


class Signals:
    """Turns the first SIGINT or SIGTERM into a question for the loop, answered after its step; a second acts."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
        signal.signal(number, self._before[number])
