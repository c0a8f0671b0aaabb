"""Folders of trainings: their checkpoints, and who may go on in them."""

import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gifsplain.errors import ConfigurationError, WeightsError
from gifsplain.io import files
from gifsplain.train import config as configuration

CHECKPOINT = "last.ckpt"
BEST = "best.ckpt"
FREE = ("loop.checkpoint_minutes", "data.cache")
"""Settings that may change when a training goes on."""
DATA = "the data"
"""What the origin of a training calls its films, patients, splits and labels."""
FINISHED = ("classifier", "autoencoder", "pretrained", "styleex")
"""Stems of the weights that finished trainings leave."""

logger = logging.getLogger(__name__)


def prepare_folder(folder: Path, *, resume: bool) -> None:
    """Make the output folder; refuse one that already holds a training unless `resume`."""
    folder.mkdir(parents=True, exist_ok=True)
    begun = (folder / CHECKPOINT).exists()
    if begun and not resume:
        raise ConfigurationError(
            f"{folder} already holds a training; add --resume to continue it or use another folder"
        )
    done = [name for stem in FINISHED if (folder / (name := f"{stem}.safetensors")).exists()]
    if done and not begun:
        raise ConfigurationError(
            f"{folder} holds a finished training, {done[0]}, whose checkpoint is gone, so it cannot go on; use another folder"
        )
    if not begun:
        if resume:
            logger.info("nothing to go on from in %s: starting", folder)
        (folder / BEST).unlink(missing_ok=True)  # of a run that was killed before its first checkpoint
    for left in folder.glob(".*.tmp.ckpt"):  # of a killed run
        left.unlink(missing_ok=True)


def open_folder(config: Any, folder: Path, *, resume: bool, free: Sequence[str] = FREE) -> None:
    """Save the configuration into a training's folder; refuse to resume a training that had another one, except in `free`."""
    configuration.verify(config)
    prepare_folder(folder, resume=resume)
    path = folder / "config.yaml"
    if path.exists() and (folder / CHECKPOINT).exists():
        configuration.require_same(configuration.load_kept(type(config), path), config, folder, free=free)
    configuration.save(config, path)


def require_same_origin(content: dict[str, Any], origin: Mapping[str, str], folder: Path) -> None:
    """Take a checkpoint's origin out of it; what earlier versions did not write is not compared."""
    begun: dict[str, str] = content.pop("origin", {})
    if earlier := content.pop("checksum", ""):
        begun = {DATA: earlier}
    data = origin.get(DATA, "")
    if begun.get(DATA, data) != data:
        raise ConfigurationError(
            f"{folder} was begun with other films, patients, splits or labels than there are now, or in another order; use "
            "another folder"
        )
    require_same_files(begun, origin, folder)


def require_same_files(begun: Mapping[str, str], now: Mapping[str, str], folder: Path) -> None:
    """Refuse to go on where the content of a file or model has changed; what only one of them knows is not compared."""
    changed = [name for name, value in begun.items() if now.get(name, value) != value]
    if changed:
        raise ConfigurationError(
            f"{folder} was begun with another content of {', '.join(changed)} than is there now; use another folder, or put "
            "back what was there"
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content on the CPU; only tensors and plain values are accepted."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many unrelated kinds for a damaged file
        raise WeightsError(f"{path} is not a readable checkpoint: {error}; delete it to start again") from error
    return content


def write_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write through a temporary name, synced to disk: a kill leaves the old or the new file, never a part."""
    whole = io.BytesIO()  # torch says of a full disk that its archive is inconsistent
    torch.save(dict(content), whole)
    with files.atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(whole.getbuffer())


def not_finite(state: Any, name: str = "") -> Iterable[str]:
    """Names of the tensors of a nested state that hold nan or infinity."""
    if isinstance(state, Tensor):
        if state.is_floating_point() and not bool(state.isfinite().all()):
            yield name
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from not_finite(value, f"{name}.{key}" if name else str(key))
