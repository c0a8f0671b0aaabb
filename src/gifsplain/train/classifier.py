"""Training of a multi-label classifier: unknown labels masked, rare targets balanced, 0.5 the operating point."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from gifsplain.errors import ConfigurationError
from gifsplain.models import backbones, foreign, trained
from gifsplain.train import (
    boxes,
    calibration,
    checkpoints,
    data,
    identity,
    imagenet,
    loop,
    losses,
    machine,
    optimise,
    out_of_fold,
)
from gifsplain.train import config as configuration
from gifsplain.train.augment import AugmentConfig, draw_affines, expose, warp
from gifsplain.train.config import LoopConfig
from gifsplain.train.edits import Batch, EditsConfig, check_edits, edit
from gifsplain.train.evidence import Evidence, Films, Wide
from gifsplain.train.hardening import Hardener, Hardening, check_hardening
from gifsplain.train.rows import DataConfig
from gifsplain.types import Images, ScoreMeaning


@dataclass(frozen=True)
class ClassifierTraining:
    """Everything that decides the weights."""

    data: DataConfig
    backbone: str = "efficientnet-lite0"
    """`efficientnet-lite0` to `-lite2` and `small` are built in; `timm:NAME` and `torchvision:NAME` are any of theirs."""
    dropout: float = 0.3
    width: int = 32
    """Of the backbone `small`."""
    init: str = ""
    """`imagenet`, or the folder of an earlier training or pre-training; empty: random."""
    frozen: int = 0
    """So many first layers of a built-in backbone stay as they are."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(monitor="val/auc", patience=5))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    hardening: Hardening = field(default_factory=Hardening)
    edits: EditsConfig = field(default_factory=EditsConfig)
    balance: float = 0.5
    """Positives weigh (negatives / positives) to this power: 0 no balance, 1 full balance."""
    smoothing: float = 0.03
    boxes: Path | None = None
    """Expert boxes (CSV: path, label, x, y, w, h in pixels) that tell the built-in backbones where to look."""
    box_weight: float = 0.3
    epochs: float = 10.0
    batch_size: int = 24
    rate: float = 6e-4
    head_factor: float = 3.0
    weight_decay: float = 0.05
    warmup: int = 60
    clip: float = 5.0
    average: float = 0.99
    evaluate_epochs: float = 1.0
    half: bool = False
    operating_point: calibration.Point = "smoothed"
    """Where a score is 0.5 (docs/training.md)."""
    spread: float = calibration.SPREAD
    """How far the temperatures of the targets may lie apart after training: expected standard deviation of their logarithms."""


class Objective(nn.Module):
    """The classifier with its losses; what leaves it is a scalar each, `loss` the weighted sum."""

    def __init__(
        self,
        model: trained.ClassifierNet,
        config: ClassifierTraining,
        balance: Float[Tensor, " t"],
        hardener: Hardener,
    ) -> None:
        super().__init__()
        self.model, self.config, self.hardener = model, config, hardener
        self.register_buffer("balance", balance, persistent=False)
        for layer in _frozen_layers(model, config):
            layer.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode, except for frozen layers, whose statistics stay as well."""
        super().train(mode)
        for layer in _frozen_layers(self.model, self.config):
            layer.eval()
        return self

    def forward(
        self,
        images: Images,
        labels: Tensor,
        masks: Tensor | None,
        teachers: Tensor | None,
        evidence: Evidence | None = None,
        edited: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Terms for one batch; `masks` are boxes at image size, `teachers` logits to imitate, except of `edited` images and where nan."""
        model, config = self.model, self.config
        terms: dict[str, Tensor] = {}
        if masks is not None and isinstance(model, backbones.Classifier):
            maps = model.feature_maps(images)
            logits = model.head(model.dropout(maps.mean((2, 3)))).float()
            coarse = F.adaptive_avg_pool2d(masks, maps.shape[-1])
            terms["boxes"] = losses.inside_boxes(model.target_maps(maps).float(), coarse)
        else:
            logits = model.raw_logits(images).float()
        balance = self.get_buffer("balance")
        terms["bce"] = losses.masked_bce(logits, labels, balance, smoothing=config.smoothing)
        total = terms["bce"] + config.box_weight * terms.get("boxes", 0.0)
        if teachers is not None:
            terms["imitation"] = losses.same_scores(logits, teachers, None if edited is None else ~edited)
            total = total + config.hardening.imitation * terms["imitation"]
        if evidence is not None:
            self.eval()  # the network that will be explained: fixed statistics, no dropout
            terms |= self.hardener.explained(model, evidence)
            self.train()
            total = total + config.hardening.localise * terms["misplaced"]
            total = total + config.hardening.response * terms.get("response", 0.0)
            total = total + config.hardening.outline * terms.get("outline", 0.0)
            total = total + config.hardening.heal * terms.get("healing", 0.0)
        return {"loss": total, **terms}


def _frozen_layers(model: trained.ClassifierNet, config: ClassifierTraining) -> list[nn.Module]:
    if not config.frozen:
        return []
    bodies = model.bodies if isinstance(model, backbones.Classifier) else [model.body]
    return [layer for body in bodies for layer in list(body.children())[: config.frozen]]


class ClassifierTask:
    """One classifier in training; see `loop.Trainee`."""

    def __init__(self, config: ClassifierTraining, dataset: data.Dataset, fabric: Fabric) -> None:
        machine.seed_step(config.loop.seed, 0, stream=2)
        self.config, self.dataset, self.fabric = config, dataset, fabric
        self.train, self.val = dataset.rows("train"), dataset.rows("val")
        self.weights = dataset.weights(self.train)
        self.boxes = boxes.read_boxes(config.boxes, dataset, config.data) if config.boxes else None
        self.widened = config.data.targets.index(config.edits.widened) if config.edits.widened_share else None
        crossfit = config.hardening.crossfit
        self.given = out_of_fold.read(crossfit, dataset, config.data.targets) if crossfit else None
        self.usual: boxes.Boxes = {}
        if self.boxes is not None and self.widened is not None:
            box = boxes.usual(self.boxes, self.widened, self.train)
            self.usual = {int(row): [box] for row in self.train}
        model = _start(config).to(memory_format=torch.channels_last)
        balance = losses.positive_weights(dataset.table.labels[self.train], config.balance)
        self.average = optimise.Average(model, config.average, updates=0 if _fresh(config.init) else 60)
        self.hardener = Hardener(config.hardening, config.data, self.average.module, fabric)
        self.model, objective = model, Objective(model, config, balance, self.hardener)
        groups = optimise.parameter_groups(model, rate=config.rate, head="head", head_factor=config.head_factor)
        optimizer = torch.optim.AdamW(groups, lr=config.rate, weight_decay=config.weight_decay)
        self.objective, self.optimizer = fabric.setup(objective, optimizer)
        fabric.to_device(self.average.module)
        self.per_epoch = data.steps_per_epoch(self.train, config.batch_size, fabric.world_size)
        self.steps = max(1, round(config.epochs * self.per_epoch))

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `evaluate` tells."""
        return "val/auc", "val/loss", *(f"val/auc/{name}" for name in self.config.data.targets)

    def step(self, step: int) -> Mapping[str, Tensor]:
        """One batch forward, back, and a step of the optimiser."""
        config, fabric = self.config, self.fabric
        rows = self._rows(step)
        images, labels, masks, usual = self._batch(rows)
        teachers = self._imitated(images, rows)
        wide = Wide(self.widened, usual) if self.widened is not None and usual is not None else None
        parts = torch.from_numpy(self.dataset.table.parts[rows]).to(images.device)
        evidence = self.hardener.evidence(Films(images, labels, masks, parts), wide)
        untouched = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        edited = None if self.given is None else untouched
        if masks is not None:
            made = edit(Batch(images, labels, masks, untouched, parts), usual, config.edits, self.widened)
            images, labels, masks, edited, _ = made
        images, labels, mixture = self.hardener.harden(images, labels, masks, self.widened)
        if mixture is not None:
            teachers = None if teachers is None else mixture.of_logits(teachers)
            edited = None if edited is None else edited | edited[mixture.other]
        images = images.contiguous(memory_format=torch.channels_last)
        self.objective.train()
        terms = self.objective(images, labels, masks, teachers, evidence, edited)
        rate = optimise.warm_cosine(step, self.steps, config.warmup)
        optimise.descend(fabric, self.objective, self.optimizer, terms["loss"], factor=rate, clip=config.clip)
        self.average.update(self.model)
        return {name: value.detach() for name, value in terms.items()}

    def _rows(self, step: int) -> data.Rows:
        """Rows of this process's part of the batch."""
        config = self.config
        return data.rows_of_process(
            self.train, step, self.fabric, batch_size=config.batch_size, seed=config.loop.seed, weights=self.weights
        )

    def _imitated(self, images: Images, rows: data.Rows) -> Tensor | None:
        """Logits to imitate, nan where none is known; None when nothing is imitated."""
        if self.given is None:
            return self.hardener.imitated(images)
        return torch.from_numpy(self.given[rows]).float().to(images.device)

    def _batch(self, rows: data.Rows) -> tuple[Images, Tensor, Tensor | None, Tensor | None]:
        """Images, labels, boxes of each target, and where the target lies whose width is edited."""
        config, fabric = self.config, self.fabric
        affines = draw_affines(len(rows), config.augment, fabric.device)
        images = expose(warp(self.dataset.images(rows, fabric.device), affines), config.augment)
        labels, masks, usual = self.dataset.labels(rows, fabric.device), None, None
        if self.boxes is not None:
            masks = warp(self._drawn(self.boxes, rows), affines, padding="zeros")
        if self.widened is not None:
            usual = warp(self._drawn(self.usual, rows), affines, padding="zeros")[:, self.widened]
        return images, labels, masks, usual

    def _drawn(self, known: boxes.Boxes, rows: data.Rows) -> Tensor:
        targets, size = len(self.config.data.targets), self.config.data.size
        return boxes.draw(known, rows, targets, size).to(self.fabric.device)

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Area under the ROC curve on val with the averaged weights, per target and in mean, and the loss there."""
        labels, logits = self.dataset.table.labels[self.val], self.predict(self.val)
        areas = [calibration.area_under_curve(labels[:, t], logits[:, t]) for t in range(labels.shape[1])]
        loss = losses.masked_bce(torch.from_numpy(logits), torch.from_numpy(labels))
        mean = float(np.nanmean(areas)) if not np.isnan(areas).all() else float("nan")
        named = {f"val/auc/{name}": area for name, area in zip(self.config.data.targets, areas, strict=True)}
        return {"val/auc": mean, "val/loss": float(loss), **named}

    @torch.no_grad()
    def predict(self, rows: data.Rows, *, exact: bool = False) -> Float[np.ndarray, "n t"]:
        """Uncalibrated logits of the averaged weights; `exact`: in single precision, as the finished model computes."""
        parts = []
        for part in data.in_batches(rows, 2 * self.config.batch_size):
            images = self.dataset.images(part, self.fabric.device).contiguous(memory_format=torch.channels_last)
            with contextlib.nullcontext() if exact else self.fabric.autocast():
                parts.append(self.average.module.raw_logits(images).float().cpu().double())
        return torch.cat(parts).numpy()

    def state_dict(self) -> dict[str, Any]:
        """Weights, their average and the optimiser."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


def train_classifier(
    config: ClassifierTraining,
    folder: Path,
    *,
    resume: bool = False,
    reporter: loop.Reporter | None = None,
    dataset: data.Dataset | None = None,
) -> Path:
    """Train, and write `classifier.safetensors`, `classifier.json`, `config.yaml` and logs; returns the weights' path.

    The weights kept are those with the best validation AUC, calibrated so that a score of 0.5 is the operating point
    on val. An interrupted training goes on with `resume`.
    """
    check(config)
    checkpoints.open_folder(config, folder, resume=resume)
    dataset = dataset or data.open_dataset(config.data, reporter.decoded if reporter else None)
    data.write_bad_rows(dataset.bad, folder)
    fabric = machine.make_fabric(config.loop)
    task = ClassifierTask(config, dataset, fabric)
    plan = loop.Plan(task.steps, max(1, round(config.evaluate_epochs * task.per_epoch)))
    labels = dataset.table.labels
    calibration.check_labels(labels[task.train], labels[task.val], config.data.targets, config.loop.monitor)
    outcome = loop.run(
        task, fabric, folder, config.loop, plan=plan, reporter=reporter, origin=identity.origin(config, dataset)
    )
    best_step = loop.load_best(task, folder, outcome)
    model = task.average.module
    labels, logits = dataset.table.labels[task.val], task.predict(task.val, exact=True)
    calibrated = calibration.calibrate(
        model, labels, logits, config.data.targets, config.spread, config.operating_point
    )
    path = folder / f"{trained.CLASSIFIER}.safetensors"
    if fabric.is_global_zero:
        card = _card(config, folder, task) | {"steps": outcome.step, "best_step": best_step} | calibrated
        trained.save(folder, trained.CLASSIFIER, model, model.config.to_dict(), card, half=config.half)
    fabric.barrier()
    return path


def check(config: ClassifierTraining) -> None:
    """Refuse what cannot be trained."""
    configuration.verify(config)
    if not config.data.targets:
        raise ConfigurationError("data.targets is empty; name what the classifier shall find")
    if config.boxes and ":" in config.backbone:
        raise ConfigurationError(f"boxes need a built-in backbone, got {config.backbone}; leave boxes out")
    if ":" not in config.backbone and config.data.size < backbones.LEAST_SIZE:
        raise ConfigurationError(
            f"data.size must be {backbones.LEAST_SIZE} or more for the backbone {config.backbone}, got {config.data.size}"
        )
    if config.frozen and ":" in config.backbone:
        raise ConfigurationError(f"frozen needs a built-in backbone, got {config.backbone}; leave frozen out")
    widened = bool(config.edits.widened_share)
    check_hardening(config.hardening, config.data.targets, boxes=config.boxes is not None, widened=widened)
    check_edits(config.edits, config.data.targets, boxes=config.boxes is not None)


def _fresh(init: str) -> bool:
    """Whether the head starts from random weights."""
    return init in ("", "imagenet") or trained.is_pretrained(Path(init))


def _start(config: ClassifierTraining) -> trained.ClassifierNet:
    rows = config.data
    if not _fresh(config.init):
        return _earlier(config)
    if ":" in config.backbone:
        if config.init not in ("", "imagenet"):
            raise ConfigurationError(f"init {config.init} is a body for a built-in backbone, got {config.backbone}")
        made = foreign.ForeignConfig(rows.targets, config.backbone, rows.size, rows.channels, config.dropout)
        return foreign.ForeignClassifier(made, pretrained=config.init == "imagenet")
    name: backbones.Backbone = config.backbone  # type: ignore[assignment]  # checked by the builder
    net = backbones.build_classifier(
        backbones.ClassifierConfig(rows.targets, name, rows.size, rows.channels, config.dropout, config.width)
    )
    if config.init == "imagenet":
        backbones.load_lite_imagenet(net, imagenet.lite_weights(config.backbone))
    elif config.init:
        _load_body(net, Path(config.init))
    return net


def _load_body(net: backbones.Classifier, folder: Path) -> None:
    """Copy a pre-trained body into the classifier, in place; its head stays as it is."""
    body, found, _ = trained.load_pretrained(folder)
    ours, theirs = net.config, found
    if (ours.backbone, ours.channels) != (theirs.backbone, theirs.channels):
        raise ConfigurationError(
            f"init {folder} is a body of {theirs.backbone} for {theirs.channels} channels, this training is "
            f"{ours.backbone} for {ours.channels}; make backbone and data.channels equal"
        )
    if ours.backbone == "small" and ours.width != theirs.width:
        raise ConfigurationError(f"init {folder} has width {theirs.width}, this training {ours.width}")
    net.body.load_state_dict(body.state_dict())


def _earlier(config: ClassifierTraining) -> trained.ClassifierNet:
    """An earlier training's network, uncalibrated again."""
    net, _ = trained.load_classifier_net(Path(config.init))
    if net.config.targets != config.data.targets or net.config.backbone != config.backbone:
        raise ConfigurationError(
            f"init {config.init} is {net.config.backbone} for {net.config.targets}, this training is "
            f"{config.backbone} for {config.data.targets}"
        )
    if net.config.channels != config.data.channels:
        raise ConfigurationError(
            f"init {config.init} takes {net.config.channels} channel(s), this training's data have {config.data.channels}; "
            "make data.channels equal, or take another init"
        )
    net.calibration_offset.zero_()
    net.calibration_temperature.fill_(1.0)
    return net.train().requires_grad_(True)


def _card(config: ClassifierTraining, folder: Path, task: ClassifierTask) -> dict[str, Any]:
    labels = task.dataset.table.labels[task.train]
    untrained = calibration.one_sided(labels, config.data.targets)
    return {
        "name": folder.name,
        "kind": "classifier",
        "size": config.data.size,
        "channels": config.data.channels,
        "targets": list(config.data.targets),
        "meaning": ScoreMeaning.CALIBRATED.value,
        "rows": {"train": len(task.train), "val": len(task.val)},
        "positives": [int(count) for count in (labels == 1).sum(0)],
        **({"untrained": untrained, "untrained_of": "train"} if untrained else {}),
        "validation": dict(task.evaluate(task.steps)),
        "training": configuration.to_dict(config),
        "computed": machine.computed(task.fabric),
    }
