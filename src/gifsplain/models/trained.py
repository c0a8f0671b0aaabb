"""Models that `gifsplain train` made: a folder with weights as safetensors and a card as JSON."""

import json
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from gifsplain.errors import WeightsError
from gifsplain.io import files
from gifsplain.io.plain import plain
from gifsplain.models import backbones, builtin, foreign, networks, styleex, wrap
from gifsplain.models.protocols import Autoencoder, Classifier, ModelCard
from gifsplain.types import ScoreMeaning

CLASSIFIER = "classifier"
AUTOENCODER = "autoencoder"
PRETRAINED = "pretrained"
"""A classifier's body alone, from `gifsplain train pretrain`."""

ClassifierNet = networks.Classifier | foreign.ForeignClassifier
ClassifierConfig = networks.ClassifierConfig | foreign.ForeignConfig


def build_classifier(config: ClassifierConfig) -> ClassifierNet:
    """The network that `config` describes, with random weights."""
    if isinstance(config, foreign.ForeignConfig):
        return foreign.ForeignClassifier(config)
    return networks.build_classifier(config)


def save(
    folder: Path, stem: str, net: nn.Module, config: dict[str, Any], card: dict[str, Any], *, half: bool = False
) -> Path:
    """Write `stem.safetensors` and `stem.json`, in the form that the built-in models have; returns the weights' path.

    `half` stores matrices and kernels as float16; they are float32 again once loaded.
    """
    state = {key: _stored(value, half=half) for key, value in net.state_dict().items()}
    path = folder / f"{stem}.safetensors"
    files.write_bytes(path, safetensors.torch.save(state, metadata={"config": json.dumps(config)}))
    values = plain({**card, "sha256": files.sha256_file(path)})
    files.write_text(folder / f"{stem}.json", json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    return path


def _stored(value: Tensor, *, half: bool) -> Tensor:
    value = value.detach().cpu()
    wide = value.ndim > 1  # statistics, calibration and gains stay exact
    return (value.half() if half and wide and value.is_floating_point() else value).contiguous()


def load_classifier_net(folder: Path) -> tuple[ClassifierNet, dict[str, Any]]:
    """The network with its weights, in evaluation mode, and its card."""
    values, config, state = _read(folder, CLASSIFIER)
    made: ClassifierConfig
    if "backbone" not in config or "targets" not in config:
        raise WeightsError(
            f"{folder}: expected backbone and targets in the header of {CLASSIFIER}.safetensors; train it again"
        )
    if ":" in config["backbone"]:
        made = foreign.ForeignConfig.from_dict(config)
    else:
        made = networks.ClassifierConfig.from_dict(config)
    net = build_classifier(made)
    builtin.fill(net, state, values["name"])
    return net.eval().requires_grad_(False), values


def load_autoencoder_net(folder: Path) -> tuple[networks.Autoencoder, dict[str, Any]]:
    """As `load_classifier_net`."""
    values, config, state = _read(folder, AUTOENCODER)
    net = networks.build_autoencoder(networks.AutoencoderConfig.from_dict(config))
    builtin.fill(net, state, values["name"])
    return net.eval().requires_grad_(False), values


def is_pretrained(folder: Path) -> bool:
    """Whether `gifsplain train pretrain` wrote the folder: it holds a body without a head."""
    return (folder / f"{PRETRAINED}.json").is_file()


def load_pretrained(folder: Path) -> tuple[nn.Sequential, networks.ClassifierConfig, dict[str, Any]]:
    """The body with its weights, what describes it (a classifier without targets), and its card."""
    values, config, state = _read(folder, PRETRAINED)
    made = networks.ClassifierConfig.from_dict(config)
    body, _ = backbones.build_body(made)
    builtin.fill(body, state, values["name"])
    return body, made, values


def is_styleex(folder: Path) -> bool:
    """Whether `gifsplain train styleex` wrote the folder: it holds classifier and autoencoder in one file."""
    return (folder / f"{styleex.OWN_STEM}.json").is_file()


def classifier(folder: Path) -> Classifier:
    """A classifier from its training folder; scores are calibrated probabilities, 0.5 the operating point."""
    if is_styleex(folder):
        return styleex.load_styleex(folder=folder, stem=styleex.OWN_STEM).classifier
    net, values = load_classifier_net(folder)
    net = wrap.place(net)
    return wrap.ImageClassifier(_card(values, "classifier"), net, torch.sigmoid, 1, net)


def autoencoder(folder: Path) -> Autoencoder:
    """An autoencoder from its training folder."""
    if is_styleex(folder):
        return styleex.load_styleex(folder=folder, stem=styleex.OWN_STEM).autoencoder
    net, values = load_autoencoder_net(folder)
    net = wrap.place(net)
    return wrap.ImageAutoencoder(_card(values, "autoencoder"), net.encode, net.decode, net)


def _read(folder: Path, stem: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    if not (folder / f"{stem}.json").is_file():
        command = {PRETRAINED: "pretrain", CLASSIFIER: "classifier` or, to start from, `gifsplain train pretrain"}
        raise WeightsError(
            f"{folder} holds no {stem}.json; expected a folder that `gifsplain train {command.get(stem, stem)}` finished"
        )
    values = builtin.read_card(stem, folder)
    config, state = builtin.read_weights(stem, values, folder)
    return values, config, state


def _card(values: dict[str, Any], kind: Literal["classifier", "autoencoder"]) -> ModelCard:
    known = {"name", "kind", "size", "channels", "targets", "untrained", "untrained_of", "sha256", "meaning"}
    untrained = values.get("untrained", ()) if values.get("untrained_of") == "train" else ()  # once it was of val
    return ModelCard(
        name=values["name"],
        kind=kind,
        size=values["size"],
        channels=values["channels"],
        targets=tuple(values.get("targets", ())),
        untrained=tuple(untrained),
        meaning=wrap.meaning_of(values.get("meaning", ScoreMeaning.PROBABILITY), values["name"]),
        sha256=values["sha256"],
        details={key: value for key, value in values.items() if key not in known},
    )
