"""The models that ship inside the package: weights as safetensors, a model card as JSON beside them."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gifsplain.errors import WeightsError
from gifsplain.io import files, weights
from gifsplain.models import networks, wrap
from gifsplain.models.protocols import ModelCard
from gifsplain.types import ScoreMeaning

CLASSIFIER_FILE = "cxr-classifier"
AUTOENCODER_FILE = "cxr-autoencoder"


def weights_folder() -> Path:
    """Where the package keeps its weights."""
    return Path(str(resources.files("gifsplain") / "weights"))


def read_card(stem: str, folder: Path | None = None) -> dict[str, Any]:
    """The model card of `stem` as written beside its weights.

    Raises:
        WeightsError: When the installation lacks it, or it is no card.
    """
    path = (folder or weights_folder()) / f"{stem}.json"
    if not path.is_file():
        raise WeightsError(f"expected the model card {path}, found none; reinstall gifsplain or run `make models`")
    values = read_declaration(path)
    if lacking := {"name", "size", "channels", "sha256"} - values.keys():
        raise WeightsError(f"{path}: expected a model card, it lacks {', '.join(sorted(lacking))}; bring it back")
    return values


def read_declaration(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        WeightsError: When it is something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: expected JSON in UTF-8, got something else ({error}); write it again") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: expected a JSON object, got {type(values).__name__}; write it again")
    return values


def read_weights(stem: str, card: dict[str, Any], folder: Path | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and float32 state of `stem`; the checksum must be the card's, and what both say must agree.

    Raises:
        WeightsError: When the file is missing or is not the one that the card describes.
    """
    path = (folder or weights_folder()) / f"{stem}.safetensors"
    if not path.is_file():
        raise WeightsError(f"expected weights {path} (sha256 {card.get('sha256', 'unknown')}), found none; reinstall")
    if (found := files.sha256_file(path)) != card["sha256"]:  # the whole of it, and never none
        raise WeightsError(
            f"{path.name}: expected sha256 {card['sha256']}, got {found}; the file or its card is damaged: bring it back, or "
            "reinstall"
        )
    state, metadata = weights.read_tensors(path)
    try:
        config = dict(json.loads(metadata["config"]))
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{path}: expected a configuration in its header, got none ({error}); train it again"
        ) from error
    differ = [
        key for key in ("targets", "size", "channels") if key in config and config[key] != card.get(key, config[key])
    ]
    if differ:
        raise WeightsError(
            f"{path.with_suffix('.json')}: expected the {' and '.join(differ)} of {path.name}, "
            f"{[config[key] for key in differ]}, got {[card[key] for key in differ]}; bring the card back"
        )
    return config, {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}


def fill(net: nn.Module, state: dict[str, Any], name: str) -> None:
    """Load `state` into `net`.

    Raises:
        WeightsError: When a tensor is missing, has another shape, or is too many.
    """
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{name}: expected the weights of its configuration, got others ({error})") from error


def _card(values: dict[str, Any], kind: str) -> ModelCard:
    known = {"name", "size", "channels", "targets", "sha256"}
    return ModelCard(
        name=values["name"],
        kind="classifier" if kind == "classifier" else "autoencoder",
        size=values["size"],
        channels=values["channels"],
        targets=tuple(values.get("targets", ())),
        meaning=ScoreMeaning.CALIBRATED,
        sha256=values["sha256"],
        details={key: value for key, value in values.items() if key not in known},
    )


def cxr_classifier(device: torch.device | str | None = None, folder: Path | None = None) -> wrap.ImageClassifier:
    """The chest X-ray classifier of the package: calibrated probabilities, 0.5 is the operating point on validation."""
    values = read_card(CLASSIFIER_FILE, folder)
    config, state = read_weights(CLASSIFIER_FILE, values, folder)
    net = networks.build_classifier(networks.ClassifierConfig.from_dict(config))
    fill(net, state, values["name"])
    net = wrap.place(net, device)
    return wrap.ImageClassifier(_card(values, "classifier"), net, torch.sigmoid, 1, net)


def cxr_autoencoder(device: torch.device | str | None = None, folder: Path | None = None) -> wrap.ImageAutoencoder:
    """The chest X-ray autoencoder of the package."""
    values = read_card(AUTOENCODER_FILE, folder)
    config, state = read_weights(AUTOENCODER_FILE, values, folder)
    net = networks.build_autoencoder(networks.AutoencoderConfig.from_dict(config))
    fill(net, state, values["name"])
    net = wrap.place(net, device)
    return wrap.ImageAutoencoder(_card(values, "autoencoder"), net.encode, net.decode, net)
