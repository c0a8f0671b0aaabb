"""Step size over time, and the running average of the weights."""

import copy
import math
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

M = TypeVar("M", bound=nn.Module)


def warm_cosine(step: int, steps: int, warmup: int) -> float:
    """Factor of the learning rate: rises linearly over `warmup` steps, then falls to 0 as half a cosine."""
    return min(1.0, (step + 1) / max(1, warmup)) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))


def set_rates(optimizer: Optimizer, factor: float) -> None:
    """Each group's learning rate becomes `factor` times its first one, kept as `base_rate`."""
    for group in optimizer.param_groups:
        group.setdefault("base_rate", group["lr"])
        group["lr"] = group["base_rate"] * factor


def descend(
    fabric: Fabric, module: nn.Module, optimizer: Optimizer, loss: Tensor, *, factor: float, clip: float = 0.0
) -> None:
    """One step down the gradient of `loss`, at `factor` times the first learning rates.

    `clip`: largest norm of the gradient; 0 leaves it. One that is not finite is left to whoever looks at the loss.
    """
    set_rates(optimizer, factor)
    optimizer.zero_grad()
    fabric.backward(loss)
    if clip:
        fabric.clip_gradients(module, optimizer, max_norm=clip, error_if_nonfinite=False)
    optimizer.step()


class Average(Generic[M]):
    """A copy of a module whose weights follow it slowly; young averages forget faster.

    `decay` 0 makes the copy equal to the module after each update; `updates` says how old it is at the start.
    """

    def __init__(self, module: M, decay: float, updates: int = 0) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._decay, self._updates = decay, updates

    @torch.no_grad()
    def update(self, module: M) -> None:
        """Move a little towards the module's weights; counters and the like are copied."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for ours, theirs in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if ours.dtype.is_floating_point:
                ours.lerp_(theirs, 1 - decay)
            else:
                ours.copy_(theirs)

    def state_dict(self) -> dict[str, Any]:
        """Weights and the number of updates."""
        return {"module": self.module.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.module.load_state_dict(state["module"])
        self._updates = int(state["updates"])


def parameter_groups(
    module: nn.Module, *, rate: float, head: str = "", head_factor: float = 1.0
) -> list[dict[str, Any]]:
    """Optimiser groups: no weight decay on biases and norms; what is under `head` learns `head_factor` times faster."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, value in module.named_parameters():
        if value.requires_grad:
            groups.setdefault((bool(head) and name.startswith(head), value.ndim > 1), []).append(value)
    return [
        {"params": values, "lr": rate * (head_factor if is_head else 1.0), **({} if decays else {"weight_decay": 0.0})}
        for (is_head, decays), values in groups.items()
    ]
