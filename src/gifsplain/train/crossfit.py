"""Out-of-fold logits: what classifiers that never saw a film's patient say of it, to be imitated beside its label.

A classifier that has learnt its training films by heart repeats their labels, right or wrong; one that has not seen them
says what the other films teach about them (cross-fitting, Chernozhukov et al. 2018).
"""

import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from gifsplain.errors import ConfigurationError, InputError
from gifsplain.io import files
from gifsplain.models import trained
from gifsplain.train import calibration, checkpoints, data, loop, machine
from gifsplain.train import config as configuration
from gifsplain.train.classifier import ClassifierTraining, check, train_classifier
from gifsplain.train.identity import checksum, films, named, places
from gifsplain.train.out_of_fold import FILE
from gifsplain.train.patients import hashed

SETTINGS = "crossfit.yaml"
CARD = "crossfit.json"

logger = logging.getLogger(__name__)

Folds = NDArray[np.int64]
"""The fold of each training row; -1 for other rows."""


@dataclass(frozen=True)
class CrossFit:
    """What the classifiers in one folder have in common, in `crossfit.yaml` there."""

    folds: int
    films: str
    """Checksum of the films for training and validation, with their patients and labels."""
    training: ClassifierTraining
    origin: Mapping[str, str] = field(default_factory=dict)
    """Checksums of the files and models that the training names; empty in folders of earlier versions."""


def fold_of(patient: str, folds: int) -> int:
    """Which of `folds` parts a patient belongs to: a function of the name, so that all images of one stay together."""
    return hashed(f"fold of {patient}") % folds


def cross_fit(
    config: ClassifierTraining,
    folds: int,
    folder: Path,
    *,
    only: int | None = None,
    resume: bool = False,
    reporter: loop.Reporter | None = None,
) -> Path | None:
    """Train a classifier without each fold of the training patients and write what each says of its own fold.

    Validation rows stay what they are for each of them. `only` trains the classifier that lacks that fold alone, for
    several processes side by side, each with a fold of its own. With `resume` finished folds are not trained again.

    The file (`out_of_fold.FILE`) is written as soon as all folds are there, by whoever finishes one then; None before. Its
    logits are raw ones less one offset, over one temperature a target, both fitted on all of them and the labels: the only
    way in which a film's own label reaches its logit. They are nan for a target of which some classifier saw no positive or
    no negative. `crossfit.json` has the two, and the areas under the ROC curve.

    Raises:
        ConfigurationError: For fewer than 2 folds, a fold that does not exist or is trained already, or a folder whose
            folds were trained with other settings, in another number, or on other films or labels.
        InputError: For a fold without patients.
    """
    _check(config, folds, only)
    dataset = data.open_dataset(config.data, reporter.decoded if reporter else None)
    dataset.rows("val")  # refused before the folder is bound to settings that cannot be trained
    parts = _folds(dataset, folds)
    wanted = range(folds) if only is None else (only,)
    done = _finished(config, parts, folder, folds)
    for fold in wanted:
        if fold in done and not resume:
            raise ConfigurationError(f"{_place(folder, fold)} already holds a training; add --resume to keep it")
        if fold not in done:
            checkpoints.prepare_folder(_place(folder, fold), resume=resume)
    _bind(CrossFit(folds, checksum(dataset, ordered=False), config, named(config)), folder)
    for fold in wanted:
        if fold not in done:
            apart = _without(dataset, parts == fold)
            train_classifier(config, _place(folder, fold), resume=resume, reporter=reporter, dataset=apart)
    missing = sorted(set(range(folds)) - set(_finished(config, parts, folder, folds)))
    if missing:
        logger.info("folds %s are still to be trained", missing)
        return None
    return _write(config, dataset, parts, folder)


def _check(config: ClassifierTraining, folds: int, only: int | None) -> None:
    """Refuse what cannot be trained, and what would not be out of fold."""
    if folds < 2 or only not in (None, *range(folds)):
        raise ConfigurationError(f"expected 2 or more folds, counted from 0, got {folds} and fold {only}")
    check(config)
    if config.loop.devices != 1 or config.loop.nodes != 1:
        raise ConfigurationError(
            f"cross-fit trains on one device, got loop.devices={config.loop.devices}, loop.nodes={config.loop.nodes}; give "
            "each device folds of its own with --fold"
        )
    if config.hardening.crossfit:
        raise ConfigurationError("hardening.crossfit has been told of every fold; leave it out of cross-fit")
    earlier = [*([config.init] if _may_tell(config.init) else []), *config.hardening.teachers]
    if earlier:
        logger.warning("%s must not have learnt from the labels that are left out here", ", ".join(earlier))


def _may_tell(init: str) -> bool:
    """Whether what a training starts from may have learnt labels: all but ImageNet's weights and a body that no boxes taught."""
    if init in ("", "imagenet"):
        return False
    return not trained.is_pretrained(Path(init)) or "pasted" in trained.load_pretrained(Path(init))[2]


def _place(folder: Path, fold: int) -> Path:
    return folder / f"fold-{fold}"


def _folds(dataset: data.Dataset, folds: int) -> Folds:
    table = dataset.table
    parts = np.asarray([fold_of(patient, folds) for patient in table.patients.tolist()], dtype=np.int64)
    parts[table.splits != "train"] = -1
    empty = sorted(set(range(folds)) - set(parts.tolist()))
    if empty:
        raise InputError(f"folds {empty} have no training patient; use fewer than {folds} folds")
    return parts


def _without(dataset: data.Dataset, rows: NDArray[np.bool_]) -> data.Dataset:
    """The same rows, of which some are in no split."""
    splits = np.where(rows, "", dataset.table.splits)
    return replace(dataset, table=replace(dataset.table, splits=splits))


def _bind(ours: CrossFit, folder: Path) -> None:
    """Save what the folds have in common, or refuse a folder where it is another; the first of several processes decides."""
    path = folder / SETTINGS
    files.write_text_once(path, configuration.to_yaml(ours))
    theirs = configuration.load_kept(CrossFit, path)
    free = (
        "films",
        *(f"origin.{name}" for name in {**theirs.origin, **ours.origin}),
        *(f"training.{name}" for name in checkpoints.FREE),
    )
    configuration.require_same(theirs, ours, folder, free=free)
    if theirs.films != ours.films:
        raise ConfigurationError(
            f"{folder} was begun with other films, patients, splits or labels of {ours.training.data.sources[0].manifest} "
            "than there are now; use another folder"
        )
    checkpoints.require_same_files(theirs.origin, ours.origin, folder)


def _finished(config: ClassifierTraining, parts: Folds, folder: Path, folds: int) -> list[int]:
    """The folds whose classifier is there; one that was trained otherwise is refused."""
    found = []
    for fold in range(folds):
        place = _place(folder, fold)
        if not (place / f"{trained.CLASSIFIER}.json").is_file():  # written last
            continue
        theirs = configuration.load_kept(ClassifierTraining, place / "config.yaml")
        configuration.require_same(theirs, config, place, free=checkpoints.FREE)
        rows = trained.load_classifier_net(place)[1]["rows"]["train"]
        expected = int(((parts >= 0) & (parts != fold)).sum())
        if rows != expected:
            raise ConfigurationError(
                f"{place} was trained on {rows} films, without fold {fold} of {folds} there are {expected}: it is of another "
                "number of folds, or of other data; use another folder"
            )
        found.append(fold)
    return found


def _write(config: ClassifierTraining, dataset: data.Dataset, parts: Folds, folder: Path) -> Path:
    targets, train = config.data.targets, dataset.rows("train")
    seen = [dataset.table.labels[(parts >= 0) & (parts != fold)] for fold in range(parts.max() + 1)]
    known = np.all([(part == 1).any(0) & (part == 0).any(0) for part in seen], axis=0)
    logits, labels = _raw_logits(config, dataset, parts, folder)[train], dataset.table.labels[train]
    labels = np.where(known, labels, np.nan)
    offsets, temperatures = calibration.fit(labels, logits, config.spread, config.operating_point)
    logits = np.where(known, (logits - offsets) / temperatures, np.nan)
    everything = films(dataset)
    names = [everything[row] for row in train]
    _warn([target for target, told in zip(targets, known, strict=True) if not told], names)
    areas = [calibration.area_under_curve(labels[:, i], logits[:, i]) for i in range(len(targets))]
    card: dict[str, Any] = {
        "folds": [int((parts == fold).sum()) for fold in range(parts.max() + 1)],
        "calibration": {"offset": offsets.tolist(), "temperature": temperatures.tolist()},
        "auc": {target: None if np.isnan(area) else area for target, area in zip(targets, areas, strict=True)},
    }
    files.write_text(folder / CARD, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    content = io.BytesIO()
    np.savez(content, films=np.asarray(names), targets=np.asarray(targets), logits=logits)
    files.write_bytes(folder / FILE, content.getvalue())
    return folder / FILE


def _warn(lacking: Sequence[str], names: Sequence[str]) -> None:
    if lacking:
        logger.warning("no logits for %s: all its positives, or negatives, are in one fold", ", ".join(lacking))
    alike = len(names) - len(places(names))
    if alike:
        logger.warning("%d films share patient and path (or pixels) with another; they will not be found", alike)


@torch.no_grad()
def _raw_logits(
    config: ClassifierTraining, dataset: data.Dataset, parts: Folds, folder: Path
) -> Float[np.ndarray, "n t"]:
    """What each fold's classifier says of its fold; nan for other rows."""
    fabric = machine.make_fabric(config.loop)
    logits = np.full((len(parts), len(config.data.targets)), np.nan)
    for fold in range(parts.max() + 1):
        net, _ = trained.load_classifier_net(_place(folder, fold))
        net = fabric.to_device(net)
        for rows in data.in_batches(np.flatnonzero(parts == fold), 2 * config.batch_size):
            logits[rows] = net.raw_logits(dataset.images(rows, fabric.device)).double().cpu().numpy()
    return logits
