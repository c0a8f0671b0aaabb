"""Two or more trained classifiers made one, calibrated again: the mean of their logits.

The network that gives it has the bodies of all side by side, whatever their trainings were.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import ConfigurationError
from gifsplain.models import backbones, trained
from gifsplain.train import calibration, data
from gifsplain.train import config as configuration
from gifsplain.train.classifier import ClassifierTraining

logger = logging.getLogger(__name__)

STILL_TRUE = (
    "kind",
    "size",
    "channels",
    "targets",
    "meaning",
    "rows",
    "positives",
    "untrained",
    "untrained_of",
    "training",
    "computed",
    "steps",
    "best_step",
)
"""What stays in a card when the network is made of several."""


@torch.no_grad()
def join_classifiers(
    folders: Sequence[Path],
    shares: Sequence[float],
    folder: Path,
    *,
    of_targets: Mapping[str, Sequence[float]] | None = None,
) -> Path:
    """Write to `folder` one classifier whose logits are the weighted mean of the classifiers' calibrated logits.

    `shares` weigh the classifiers in all targets but those of `of_targets`, which have shares of their own. All are first calibrated on the validation rows of the last one's training, whose configuration the card keeps, so that
    their logits mean the same; the mean is calibrated again. No member may have been trained on those rows. Returns its
    weights.

    Raises:
        ConfigurationError: When they differ in anything but their weights, shares are not one number for each (none negative,
            not all 0), `of_targets` names no target, or `folder` holds a classifier.
    """
    if (folder / f"{trained.CLASSIFIER}.safetensors").exists():
        raise ConfigurationError(f"{folder} already holds a classifier; use another folder")
    if len(folders) < 2:
        raise ConfigurationError(f"expected two or more classifiers, got {len(folders)}")
    found = [trained.load_classifier_net(path) for path in folders]
    nets, values = [net for net, _ in found if isinstance(net, backbones.Classifier)], found[-1][1]
    config = found[-1][0].config
    for path, (net, card) in zip(folders, found, strict=True):
        if not isinstance(net, backbones.Classifier) or net.config.members > 1:
            raise ConfigurationError(f"join needs classifiers with one built-in backbone each, {path} is {net.config}")
        if net.config != config:
            raise ConfigurationError(f"{path} is {net.config}, {folders[-1]} is {config}; only like can be joined")
        theirs = card.get("training", {}).get("data")  # weights of an old release may not say
        if theirs != values["training"]["data"]:
            logger.warning(
                "%s was trained on %s %s; it must not have seen the val that calibrates all",
                path,
                "unknown data, not surely that of" if theirs is None else "other data than",
                folders[-1],
            )
    parts_of = _shares(config.targets, shares, of_targets or {}, len(folders))
    joined = backbones.build_classifier(replace(nets[-1].config, members=len(nets))).eval()
    seen = _validation(values)
    heads, biases = [], torch.zeros_like(joined.head.bias)
    for number, (net, part) in enumerate(zip(nets, parts_of, strict=True)):
        _calibrated(net, seen)
        scale = part / net.calibration_temperature
        heads.append(net.head.weight * scale[:, None])
        biases += (net.head.bias - net.calibration_offset) * scale
        joined.bodies[number].load_state_dict(net.body.state_dict())
    joined.head.weight.copy_(torch.cat(heads, 1))
    joined.head.bias.copy_(biases)
    parts = [
        {
            "name": path.name,
            "share": dict(zip(config.targets, part.tolist(), strict=True)),
            "sha256": card["sha256"],
            "training": card.get("training"),
        }
        for path, part, (_, card) in zip(folders, parts_of, found, strict=True)
    ]
    return _finished(joined, values, {"joined": parts}, seen, folder)


def _shares(
    targets: Sequence[str], shares: Sequence[float], of_targets: Mapping[str, Sequence[float]], count: int
) -> Float[Tensor, "m t"]:
    """Part of each member in each target's logit; the parts of a target sum to 1."""
    unknown = sorted(set(of_targets) - set(targets))
    if unknown:
        raise ConfigurationError(f"shares are given for {unknown}, targets are {list(targets)}")
    rows = [tuple(of_targets.get(target, shares)) for target in targets]
    for target, row in zip(targets, rows, strict=True):
        if len(row) != count or min(row) < 0 or not sum(row) > 0:
            raise ConfigurationError(f"expected {count} shares, none negative and not all 0, got {row} for {target}")
    parts = torch.tensor(rows, dtype=torch.float64)
    if not (parts > 0).any(0).all():
        raise ConfigurationError(f"every classifier needs a share in some target, got {rows} for {list(targets)}")
    return (parts / parts.sum(1, keepdim=True)).T.float()


class _Validation(NamedTuple):
    dataset: data.Dataset
    rows: data.Rows
    training: ClassifierTraining


def _validation(values: dict[str, Any]) -> _Validation:
    """The validation rows of the training that a card tells of."""
    training = configuration.kept(ClassifierTraining, values["training"])
    dataset = data.open_dataset(training.data)
    return _Validation(dataset, dataset.rows("val"), training)


def _finished(
    net: trained.ClassifierNet, values: dict[str, Any], made: dict[str, Any], seen: _Validation, folder: Path
) -> Path:
    """Calibrate and save, with what a training's card says of the data and of itself; what was measured holds no longer."""
    kept = {key: values[key] for key in STILL_TRUE if key in values}
    card = kept | {"name": folder.name} | made | _calibrated(net, seen)
    return trained.save(folder, trained.CLASSIFIER, net, net.config.to_dict(), card, half=seen.training.half)


def _calibrated(net: trained.ClassifierNet, seen: _Validation) -> dict[str, Any]:
    """Calibrate a network in place; returns what a card says about it."""
    net.calibration_offset.zero_()
    net.calibration_temperature.fill_(1.0)
    parts = [net.raw_logits(seen.dataset.images(part)).double() for part in data.in_batches(seen.rows, 32)]
    labels, logits = seen.dataset.table.labels[seen.rows], torch.cat(parts).numpy()
    training = seen.training
    return calibration.calibrate(net, labels, logits, net.config.targets, training.spread, training.operating_point)
