"""Plain JSON values that say how a result was made."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from importlib import metadata
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.explain.moves import Move
from gifsplain.explain.settings import Settings
from gifsplain.models.identity import identity
from gifsplain.models.protocols import Autoencoder, Classifier, Pair
from gifsplain.types import Picture

_PACKAGES = ("gifsplain", "torch", "torchvision", "torchxrayvision", "captum", "numpy", "pydicom")


@lru_cache(maxsize=1)
def versions() -> Mapping[str, str]:
    """Versions of what computes a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def of_model(model: Classifier | Autoencoder) -> dict[str, Any]:
    """What identifies a model and gives its numbers their meaning.

    `identity` stands for a missing checksum (`models.identity`); it is empty where nothing tells the model from another.
    """
    card = model.card
    named = {} if card.sha256 else {"identity": identity(model)}
    return {
        "name": card.name,
        "kind": card.kind,
        "version": card.details.get("version", ""),
        "size": card.size,
        "channels": card.channels,
        "value_range": list(card.value_range),
        "score_meaning": card.meaning.value,
        "targets": list(card.targets),
        "sha256": card.sha256,
        **named,
    }


def of_move(move: Move) -> dict[str, Any]:
    """The move in words and its published unit (strength 1 in units of the paper's lambda), where it has one."""
    return {"name": move.name, "unit": move.unit, "lambda_per_strength": move.raw_unit, "logit_slope": move.slope}


def make(
    pair: Pair,
    settings: Settings,
    picture: Picture,
    *,
    latent: Float[Tensor, "..."],
    move: dict[str, Any] | None = None,
    fit: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that reproduces an explanation of `picture`; with `fit` where directions are of a fit."""
    return {
        "versions": dict(versions()),
        "classifier": of_model(pair.classifier),
        "autoencoder": of_model(pair.autoencoder),
        "settings": {**asdict(settings), "composition": settings.composition.value},
        "resolved": {"frames": settings.frame_count, "map": settings.map_name},
        "latent_norm": float(latent.double().norm()),
        "seed": settings.seed,
        "device": str(pair.device),
        "threads": torch.get_num_threads(),
        "move": move or {},
        **({"fit": dict(fit)} if fit else {}),
        "picture": asdict(picture.provenance),
    }
