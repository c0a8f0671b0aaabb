"""Reading other people's PyTorch checkpoints without running their code."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gifsplain.errors import WeightsError

_TRUSTED = ("torch.", "torchvision.", "torchxrayvision.", "collections.")
"""Modules whose named classes may be built while reading; everything else is replaced by an empty stand-in."""


def _stand_in(name: str) -> type:
    """An inert class that takes the place of a pickled one, such as a training callback."""

    def ignore(self: Any, *args: Any, **kwargs: Any) -> None:
        return None

    module, _, plain = name.rpartition(".")
    return type(plain, (), {"__module__": module, "__init__": ignore, "__setstate__": ignore})


def _resolve(name: str) -> Any:
    """The class called `name` when it is an `nn.Module` of a trusted library, a stand-in otherwise."""
    if name.startswith(_TRUSTED):
        module, _, plain = name.rpartition(".")
        found = getattr(__import__(module, fromlist=[plain]), plain, None)
        if isinstance(found, type) and issubclass(found, nn.Module):
            return found
    return _stand_in(name)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name: a state dict, one under `state_dict`, or a whole pickled module.

    Only `nn.Module` classes of torch, torchvision and torchxrayvision are built; other pickled classes become empty
    stand-ins, so nothing of the file runs (`torch.load(weights_only=True)`).

    Raises:
        WeightsError: When the file is no checkpoint or holds no tensors.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_resolve(name), name) for name in names]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"{path.name}: expected a PyTorch checkpoint, could not read it ({error}); download it again"
        ) from error
    if isinstance(content, nn.Module):
        for module in content.modules():
            module.__dict__.setdefault("_non_persistent_buffers_set", set())
        content = content.state_dict()
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path.name}: expected named tensors, found none; it is not the file that the model needs")
    return tensors
