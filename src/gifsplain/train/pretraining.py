"""Pre-training of a classifier's body: views of one film are told from views of others, pasted findings from pasted health."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor, nn

from gifsplain.errors import ConfigurationError
from gifsplain.models import backbones, trained
from gifsplain.train import boxes, checkpoints, data, identity, imagenet, loop, losses, machine, optimise, pasting
from gifsplain.train import config as configuration
from gifsplain.train.augment import AugmentConfig, draw_affines, draw_crops, expose, warp
from gifsplain.train.config import LoopConfig
from gifsplain.train.records import read_history
from gifsplain.train.rows import DataConfig, without_labels
from gifsplain.types import Images

VALIDATED = 512
"""At most so many validation films are looked at."""


@dataclass(frozen=True)
class Pretraining:
    """Everything that decides the weights."""

    data: DataConfig
    """Its targets count only where findings are pasted: the films' `healthy` one, and the findings."""
    backbone: str = "efficientnet-lite0"
    """`efficientnet-lite0` to `-lite2` or `small`."""
    width: int = 32
    """Of the backbone `small`."""
    init: str = ""
    """`imagenet`; empty: random."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    view_size: int = 160
    """Height and width in pixels of what the body sees, drawn from images of `data.size`."""
    least_area: float = 0.35
    """A view shows between this share of the film and all of it."""
    views: AugmentConfig = AugmentConfig(
        rotation=15,
        zoom=0,
        aspect=0.15,
        shift=0,
        gamma=0.5,
        contrast=0.4,
        brightness=0.15,
        blur_chance=0.5,
        noise_chance=0.5,
    )
    """How views differ besides; its exposure, sharpness and noise are those of pasted films as well."""
    projection: tuple[int, int] = (512, 128)
    """Widths of the hidden layer and of the codes that are compared; both are thrown away afterwards."""
    temperature: float = 0.2
    pasted: int = 0
    """Pasted films beside each batch, half of them with a finding; 0: none."""
    healthy: str = "No Finding"
    """Target that marks the films into which, and from which for comparison, is pasted."""
    boxes: Path | None = None
    """Expert boxes (CSV: path, label, x, y, w, h in pixels) of the findings that are pasted."""
    placement: AugmentConfig = AugmentConfig(rotation=10, zoom=0.2, aspect=0.1, shift=0.05)
    """How giver and background are moved before; of this only the geometry counts."""
    pasted_weight: float = 2.0
    dropout: float = 0.3
    """Of the features from which pasted findings are told."""
    epochs: float = 70.0
    batch_size: int = 128
    """Films of which two views are drawn; each is told from those of the others, so many are better."""
    rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup: int = 40
    clip: float = 5.0
    evaluate_epochs: float = 5.0
    half: bool = False


class PretrainNet(nn.Module):
    """The body with what is thrown away: a projection for views, and a logit for each finding that is pasted."""

    def __init__(self, body: nn.Module, features: int, config: Pretraining, findings: int) -> None:
        super().__init__()
        hidden, width = config.projection
        self.body = body
        self.dropout = config.dropout
        self.projection = nn.Sequential(
            nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, width)
        )
        self.head = nn.Linear(features, findings) if findings else None

    def forward(self, images: Images, views: int) -> tuple[Float[Tensor, "v d"], Float[Tensor, "p t"] | None]:
        """Codes of the first `views` images, and logits of the others."""
        features = self.body(images * 2 - 1).mean((2, 3))
        codes = self.projection(features[:views])
        if self.head is None:
            return codes, None
        return codes, self.head(F.dropout(features[views:], self.dropout, self.training))


class Pasted(NamedTuple):
    """Films with something pasted, and what it is."""

    images: Images
    kinds: Int[Tensor, " p"]
    labels: Float[Tensor, " p"]


class PretrainTask:
    """One body in pre-training; see `loop.Trainee`. Only training films are learnt from."""

    def __init__(self, config: Pretraining, dataset: data.Dataset, fabric: Fabric) -> None:
        machine.seed_step(config.loop.seed, 0, stream=2)
        self.config, self.dataset, self.fabric = config, dataset, fabric
        self.train, self.val = dataset.rows("train"), _some(np.flatnonzero(dataset.table.splits == "val"))
        if len(self.train) < config.batch_size:
            raise ConfigurationError(
                f"batch_size {config.batch_size} is more than the {len(self.train)} training films: a film would be told "
                "from itself; make it smaller"
            )
        if config.loop.monitor and not len(self.val):
            raise ConfigurationError(
                f"loop.monitor {config.loop.monitor!r} needs films in the split val; leave it empty"
            )
        self.weights = dataset.weights(self.train)
        self.findings = _findings(config, dataset)
        self.body_config = describe(config)
        body, features = backbones.build_body(self.body_config)
        if config.init == "imagenet":
            backbones.load_lite_body(body, self.body_config, imagenet.lite_weights(config.backbone))
        net = PretrainNet(body, features, config, len(self.findings.names) if self.findings else 0)
        self.model = net.to(memory_format=torch.channels_last)
        groups = optimise.parameter_groups(self.model, rate=config.rate)
        optimizer = torch.optim.AdamW(groups, lr=config.rate, weight_decay=config.weight_decay)
        self.net, self.optimizer = fabric.setup(self.model, optimizer)
        self.per_epoch = data.steps_per_epoch(self.train, config.batch_size, fabric.world_size)
        self.steps = max(1, round(config.epochs * self.per_epoch))

    def step(self, step: int) -> Mapping[str, Tensor]:
        """One batch forward, back, and a step of the optimiser."""
        config, fabric = self.config, self.fabric
        rows = data.rows_of_process(
            self.train, step, fabric, batch_size=config.batch_size, seed=config.loop.seed, weights=self.weights
        )
        views, pasted = self.draw_views(rows), self.draw_pasted()
        images = views if pasted is None else torch.cat([views, pasted.images])
        self.net.train()
        codes, logits = self.net(images.contiguous(memory_format=torch.channels_last), len(views))
        films = torch.from_numpy(rows).to(codes.device)
        terms = self._terms(codes, films, logits, pasted)
        rate = optimise.warm_cosine(step, self.steps, config.warmup)
        optimise.descend(fabric, self.net, self.optimizer, terms["loss"], factor=rate, clip=config.clip)
        return {name: value.detach() for name, value in terms.items()}

    def _terms(
        self, codes: Tensor, films: Int[Tensor, " n"], logits: Tensor | None, pasted: Pasted | None
    ) -> dict[str, Tensor]:
        """Losses outside of mixed precision, and how often they were answered rightly."""
        contrast = losses.nt_xent(codes, self.config.temperature, films)
        terms = {"loss": contrast, "contrast": contrast, "partner": losses.partners_found(codes, films)}
        if logits is None or pasted is None:
            return terms
        asked = logits.gather(1, pasted.kinds[:, None])[:, 0]
        cost = F.binary_cross_entropy_with_logits(asked, pasted.labels)
        told = ((asked > 0) == (pasted.labels > 0)).float().mean()
        return terms | {"loss": contrast + self.config.pasted_weight * cost, "pasted": cost, "told": told}

    def draw_views(self, rows: data.Rows) -> Images:
        """Two views of each film: first one of all, then, in the same order, another of all."""
        config, device = self.config, self.fabric.device
        films, views = self.dataset.images(rows, device), []
        for _ in range(2):
            crops = draw_crops(len(rows), config.views, config.least_area, device)
            views.append(expose(warp(films, crops, size=config.view_size), config.views))
        return torch.cat(views)

    def draw_pasted(self) -> Pasted | None:
        """Pasted films for one batch; None where none are asked for."""
        if self.findings is None:
            return None
        config, device, size = self.config, self.fabric.device, self.config.view_size
        recipe, count = pasting.draw_recipe(self.findings, config.pasted), config.pasted
        moved = draw_affines(count, config.placement, device)
        givers = warp(self.dataset.images(recipe.givers, device), moved, size=size)
        inside = boxes.draw(recipe.places, np.arange(count), 1, size).to(device)
        places = warp(inside, moved, padding="zeros")[:, 0]
        others = draw_affines(count, config.placement, device)
        backgrounds = warp(self.dataset.images(recipe.backgrounds, device), others, size=size)
        images = expose(pasting.paste(backgrounds, givers, places), config.views)
        return Pasted(images, recipe.kinds.to(device), recipe.labels.to(device))

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `evaluate` tells."""
        return ("val/partner",) if len(self.val) else ()

    @torch.no_grad()
    def evaluate(self, step: int) -> Mapping[str, float]:
        """Share of views of at most `VALIDATED` films of val that find their partner in a batch; none without val."""
        self.net.eval()
        found, count = 0.0, 0
        for rows in data.in_batches(self.val, self.config.batch_size):
            images = self.draw_views(rows).contiguous(memory_format=torch.channels_last)
            with self.fabric.autocast():
                codes, _ = self.model(images, len(images))
            found += float(losses.partners_found(codes.float())) * len(rows)
            count += len(rows)
        return {"val/partner": found / count} if count else {}

    def state_dict(self) -> dict[str, Any]:
        """Weights and the optimiser."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def pretrain_body(
    config: Pretraining,
    folder: Path,
    *,
    resume: bool = False,
    reporter: loop.Reporter | None = None,
    dataset: data.Dataset | None = None,
) -> Path:
    """Train, and write `pretrained.safetensors`, `pretrained.json`, `config.yaml` and logs; returns the weights' path.

    The last weights are kept, unless `loop.monitor` is `val/partner`. `init` of a classifier's training takes the folder.
    An interrupted training goes on with `resume`.
    """
    config = check(config)
    checkpoints.open_folder(config, folder, resume=resume)
    dataset = dataset or data.open_dataset(config.data, reporter.decoded if reporter else None)
    data.write_bad_rows(dataset.bad, folder)
    fabric = machine.make_fabric(config.loop)
    task = PretrainTask(config, dataset, fabric)
    plan = loop.Plan(task.steps, max(1, round(config.evaluate_epochs * task.per_epoch)))
    outcome = loop.run(
        task, fabric, folder, config.loop, plan=plan, reporter=reporter, origin=identity.origin(config, dataset)
    )
    loop.load_best(task, folder, outcome)
    path = folder / f"{trained.PRETRAINED}.safetensors"
    if fabric.is_global_zero:
        card = _card(config, folder, task, outcome)
        body, described = task.model.body, task.body_config.to_dict()
        trained.save(folder, trained.PRETRAINED, body, described, card, half=config.half)
    fabric.barrier()
    return path


def describe(config: Pretraining) -> backbones.ClassifierConfig:
    """What rebuilds the body."""
    name: backbones.Backbone = config.backbone  # type: ignore[assignment]  # checked by the builder
    return backbones.ClassifierConfig((), name, config.view_size, config.data.channels, 0.0, config.width)


def check(config: Pretraining) -> Pretraining:
    """The configuration, without labels where nothing is pasted; refused where it cannot be trained."""
    if ":" in config.backbone:
        raise ConfigurationError(f"pre-training needs a built-in backbone, got {config.backbone}")
    if config.view_size < backbones.LEAST_SIZE:
        raise ConfigurationError(f"view_size must be {backbones.LEAST_SIZE} or more, got {config.view_size}")
    if config.init not in ("", "imagenet"):
        raise ConfigurationError(f"init must be imagenet or empty, got {config.init!r}")
    if config.batch_size < 2:
        raise ConfigurationError(
            f"batch_size must be 2 or more, got {config.batch_size}: views are told from those of others"
        )
    if not 0 < config.least_area <= 1 or config.temperature <= 0:
        raise ConfigurationError(
            f"least_area must lie in (0, 1] and temperature above 0, got {config.least_area} and {config.temperature}"
        )
    if config.pasted < 0 or config.pasted % 2:
        raise ConfigurationError(
            f"pasted must be even and 0 or more, got {config.pasted}: half of it is for comparison"
        )
    if config.view_size < 1:
        raise ConfigurationError(f"view_size must be 1 or more, got {config.view_size}")
    if not config.pasted and config.boxes is not None:
        raise ConfigurationError(
            "boxes are for pasted findings; say how many are pasted beside each batch, or leave boxes out"
        )
    if not config.pasted:
        return replace(config, data=without_labels(config.data))
    if config.boxes is None:
        raise ConfigurationError("pasted needs boxes; name their CSV file, or make pasted 0")
    if config.healthy not in config.data.targets or len(config.data.targets) < 2:
        raise ConfigurationError(
            f"pasted needs data.targets with {config.healthy!r} and the findings to paste, got {list(config.data.targets)}"
        )
    return config


def _findings(config: Pretraining, dataset: data.Dataset) -> pasting.Findings | None:
    if not config.pasted or config.boxes is None:
        return None
    return pasting.read_findings(config.boxes, dataset, config.data, config.healthy, config.view_size)


def _some(rows: data.Rows) -> data.Rows:
    """At most `VALIDATED` of them, spread evenly."""
    return rows[:: max(1, -(-len(rows) // VALIDATED))]


def _card(config: Pretraining, folder: Path, task: PretrainTask, outcome: loop.Outcome) -> dict[str, Any]:
    history = read_history(folder)
    terms = [row for row in history if "loss" in row]
    seen = [row for row in history if "val/partner" in row and row["step"] == outcome.best_step]
    return {
        "name": folder.name,
        "kind": "body",
        "backbone": config.backbone,
        "size": config.view_size,
        "channels": config.data.channels,
        "rows": {"train": len(task.train), "val": len(task.val)},
        **({"pasted": _counts(task.findings)} if task.findings else {}),
        "terms": _unnumbered(terms),
        "validation": _unnumbered(seen),
        "training": configuration.to_dict(config),
        "computed": machine.computed(task.fabric),
        "steps": outcome.step,
        "best_step": outcome.best_step,
    }


def _unnumbered(rows: list[dict[str, float]]) -> dict[str, float]:
    """The values of the last row; empty without rows."""
    return {name: value for name, value in rows[-1].items() if name != "step"} if rows else {}


def _counts(findings: pasting.Findings) -> dict[str, Any]:
    numbers = np.bincount(findings.kinds, minlength=len(findings.names)).tolist()
    return {"healthy": len(findings.healthy), "boxes": dict(zip(findings.names, numbers, strict=True))}
