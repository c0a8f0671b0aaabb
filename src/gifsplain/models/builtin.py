"""The models that ship inside the package: weights as safetensors, a model card as JSON beside them."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from gifsplain.errors import WeightsError
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
        WeightsError: When the installation lacks it.
    """
    path = (folder or weights_folder()) / f"{stem}.json"
    if not path.is_file():
        raise WeightsError(f"expected the model card {path}, found none; reinstall gifsplain or run `make models`")
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def read_weights(stem: str, card: dict[str, Any], folder: Path | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and float32 state of `stem`; the checksum must be the card's.

    Raises:
        WeightsError: When the file is missing or is not the one that the card describes.
    """
    path = (folder or weights_folder()) / f"{stem}.safetensors"
    if not path.is_file():
        raise WeightsError(f"expected weights {path} (sha256 {card.get('sha256', 'unknown')}), found none; reinstall")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != card["sha256"]:
        raise WeightsError(
            f"{path.name}: expected sha256 {card['sha256']}, got {found}; the file is damaged, reinstall"
        )
    with safe_open(path, framework="pt") as file:
        config = json.loads((file.metadata() or {})["config"])
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a mapping)
    return config, {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}


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
    net.load_state_dict(state)
    net = wrap.place(net, device)
    return wrap.ImageClassifier(_card(values, "classifier"), net, torch.sigmoid, 1, net)


def cxr_autoencoder(device: torch.device | str | None = None, folder: Path | None = None) -> wrap.ImageAutoencoder:
    """The chest X-ray autoencoder of the package."""
    values = read_card(AUTOENCODER_FILE, folder)
    config, state = read_weights(AUTOENCODER_FILE, values, folder)
    net = networks.build_autoencoder(networks.AutoencoderConfig.from_dict(config))
    net.load_state_dict(state)
    net = wrap.place(net, device)
    return wrap.ImageAutoencoder(_card(values, "autoencoder"), net.encode, net.decode, net)
