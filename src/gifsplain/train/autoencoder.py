"""Training of an autoencoder (Cohen et al. 2021, section 4.1): elastic loss, and what keeps its latent smooth."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from gifsplain.errors import ConfigurationError
from gifsplain.models import trained
from gifsplain.models.networks import Autoencoder, AutoencoderConfig, build_autoencoder
from gifsplain.train import checkpoints, data, identity, loop, losses, machine, optimise
from gifsplain.train import config as configuration
from gifsplain.train.augment import AugmentConfig, augment
from gifsplain.train.config import LoopConfig
from gifsplain.train.features import FeatureConfig, Features, open_features
from gifsplain.train.frame import FrameConfig, fit_frame
from gifsplain.train.rows import DataConfig, without_labels
from gifsplain.types import Images

GENTLE = AugmentConfig(rotation=6, zoom=0.08, shift=0.03, blur_chance=0, noise_chance=0)


@dataclass(frozen=True)
class AutoencoderLoss:
    """Weight of each term; 0 leaves it out."""

    squared: float = 1.0
    absolute: float = 1.0
    edges: float = 0.0
    edge_scales: int = 3
    perceptual: float = 0.0
    """Features of `features.classifier`."""
    scores: float = 0.0
    """The classifier's scores of the reconstruction as of the image."""
    noise: float = 0.0
    """Standard deviation of the noise on the latent that the decoder has to live with; the latent has deviation 1."""
    smoothness: float = 0.0
    smoothness_step: float = 0.5
    decorrelation: float = 0.0


@dataclass(frozen=True)
class AutoencoderTraining:
    """Everything that decides the weights."""

    data: DataConfig
    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(monitor="val/mae_error"))
    loss: AutoencoderLoss = field(default_factory=AutoencoderLoss)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    augment: AugmentConfig = GENTLE
    frame: FrameConfig = field(default_factory=FrameConfig)
    init: str = ""
    """Folder of an earlier training whose weights are the start; empty: random."""
    epochs: float = 20.0
    batch_size: int = 32
    rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 1e-4
    warmup: int = 100
    clip: float = 1.0
    """Largest norm of the gradient; 0: no limit."""
    average: float = 0.995
    """Decay of the averaged weights, which are the ones that are kept."""
    evaluate_epochs: float = 1.0
    half: bool = False
    """Store the weights as float16."""


class Objective(nn.Module):
    """The autoencoder with its losses: images to named scalars, the weighted sum under `loss`."""

    def __init__(self, model: Autoencoder, weights: AutoencoderLoss, features: Features | None) -> None:
        super().__init__()
        self.model = model
        self.weights = weights
        self.features = (features,)  # in a tuple: frozen, so neither parameter nor state of the objective

    def forward(self, images: Images) -> dict[str, Tensor]:
        """Unweighted terms and their weighted sum."""
        weights = self.weights
        latents = self.model.encode(images)
        noisy = latents + torch.randn_like(latents) * weights.noise if weights.noise else latents
        drawn = self.model.decode(noisy).float()
        terms = {
            "mae": losses.elastic(drawn, images, squared=0),
            "mse": losses.elastic(drawn, images, absolute=0),
        }
        total = weights.absolute * terms["mae"] + weights.squared * terms["mse"]
        extra = self._extra(images, latents, drawn)
        for name, value in extra.items():
            total = total + cast(float, getattr(weights, name)) * value
        return {"loss": total, **terms, **extra}

    def _extra(self, images: Images, latents: Tensor, drawn: Images) -> dict[str, Tensor]:
        weights, (features,) = self.weights, self.features
        terms: dict[str, Tensor] = {}
        if weights.edges:
            terms["edges"] = losses.edges(drawn, images, scales=weights.edge_scales)
        if weights.smoothness:
            direction = torch.randn_like(latents)
            direction = direction / direction.flatten(1).norm(dim=1).view(-1, *[1] * (latents.ndim - 1))
            near = self.model.decode(latents + weights.smoothness_step * direction).float()
            terms["smoothness"] = losses.smoothness(near, drawn, weights.smoothness_step)
        if weights.decorrelation:
            terms["decorrelation"] = losses.decorrelation(latents)
        if features is not None:
            ours, theirs = features.compare(drawn, images)
            if weights.perceptual:
                terms["perceptual"] = losses.perceptual(ours.maps, theirs.maps)
            if weights.scores:
                terms["scores"] = losses.same_scores(ours.logits, theirs.logits)
        return terms


class AutoencoderTask:
    """One autoencoder in training; see `loop.Trainee`."""

    def __init__(self, config: AutoencoderTraining, dataset: data.Dataset, fabric: Fabric) -> None:
        machine.seed_step(config.loop.seed, 0, stream=2)
        self.config, self.dataset, self.fabric = config, dataset, fabric
        self.train, self.val = dataset.rows("train"), dataset.rows("val")
        self.weights = dataset.weights(self.train)
        model = _start(config).to(memory_format=torch.channels_last)
        features = open_features(config.features) if config.loss.perceptual or config.loss.scores else None
        self.average = optimise.Average(model, config.average, updates=1000 if config.init else 0)
        optimizer = torch.optim.AdamW(
            optimise.parameter_groups(model, rate=config.rate),
            lr=config.rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        self.model = model
        self.objective, self.optimizer = fabric.setup(Objective(model, config.loss, features), optimizer)
        fabric.to_device(self.average.module)
        if features is not None:
            fabric.to_device(features)
        self.per_epoch = data.steps_per_epoch(self.train, config.batch_size, fabric.world_size)
        self.steps = max(1, round(config.epochs * self.per_epoch))

    def step(self, step: int) -> Mapping[str, Tensor]:
        """One batch forward, back, and a step of the optimiser."""
        config, fabric = self.config, self.fabric
        rows = data.rows_of_process(
            self.train, step, fabric, batch_size=config.batch_size, seed=config.loop.seed, weights=self.weights
        )
        images = augment(self.dataset.images(rows, fabric.device), config.augment)
        terms = self.objective(images.contiguous(memory_format=torch.channels_last))
        rate = optimise.warm_cosine(step, self.steps, config.warmup)
        optimise.descend(fabric, self.objective, self.optimizer, terms["loss"], factor=rate, clip=config.clip)
        self.average.update(self.model)
        return {name: value.detach() for name, value in terms.items()}

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `evaluate` tells."""
        return "val/mae_error", "val/rmse_error"

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Errors of the averaged weights on val."""
        return self.errors(self.average.module)

    @torch.no_grad()
    def errors(self, model: nn.Module) -> dict[str, float]:
        """Mean absolute and root mean squared error of a model's reconstructions on val, clamped to [0, 1]."""
        absolute, squared, count = 0.0, 0.0, 0
        for rows in data.in_batches(self.val, self.config.batch_size):
            images = self.dataset.images(rows, self.fabric.device)
            with self.fabric.autocast():
                drawn = model(images)
            change = drawn.float().clamp(0, 1) - images
            absolute += float(change.abs().sum())
            squared += float(change.square().sum())
            count += change.numel()
        return {"val/mae_error": absolute / count, "val/rmse_error": (squared / count) ** 0.5}

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


def train_autoencoder(
    config: AutoencoderTraining,
    folder: Path,
    *,
    resume: bool = False,
    reporter: loop.Reporter | None = None,
    dataset: data.Dataset | None = None,
) -> Path:
    """Train, and write `autoencoder.safetensors`, `autoencoder.json`, `config.yaml` and logs; returns the weights.

    The weights kept are those with the lowest validation error. An interrupted training goes on with `resume`.
    """
    config = check(config)
    checkpoints.open_folder(config, folder, resume=resume)
    dataset = dataset or data.open_dataset(config.data, reporter.decoded if reporter else None)
    data.write_bad_rows(dataset.bad, folder)
    fabric = machine.make_fabric(config.loop)
    task = AutoencoderTask(config, dataset, fabric)
    plan = loop.Plan(task.steps, max(1, round(config.evaluate_epochs * task.per_epoch)))
    outcome = loop.run(
        task, fabric, folder, config.loop, plan=plan, reporter=reporter, origin=identity.origin(config, dataset)
    )
    best_step = loop.load_best(task, folder, outcome)
    path = folder / f"{trained.AUTOENCODER}.safetensors"
    if fabric.is_global_zero:
        card = _card(config, folder, task) | {"steps": outcome.step, "best_step": best_step}
        model = framed(task, config.frame) if config.frame.kind != "none" else task.average.module.cpu()
        card["validation"] = task.errors(fabric.to_device(model))  # shading changes what is drawn
        model = model.cpu()
        card |= percentiles(model, dataset, task.val)
        trained.save(folder, trained.AUTOENCODER, model, model.config.to_dict(), card, half=config.half)
    fabric.barrier()
    return path


def framed(task: AutoencoderTask, config: FrameConfig) -> Autoencoder:
    """The averaged network with its latent in the frame of the training images' codes."""
    machine.seed_step(task.config.loop.seed, task.steps, stream=3)
    codes = []
    for number in range(config.passes):
        for rows in data.in_batches(task.train, task.config.batch_size):
            images = task.dataset.images(rows, task.fabric.device)
            images = augment(images, task.config.augment) if number else images
            with torch.no_grad(), task.fabric.autocast():
                codes.append(task.average.module.encode(images).float().cpu())
    return fit_frame(task.average.module.cpu(), torch.cat(codes), config)


@torch.no_grad()
def percentiles(model: Autoencoder, dataset: data.Dataset, rows: data.Rows) -> dict[str, dict[str, float]]:
    """What is usual on these rows, for the checks of an explanation: error of D(E(x)), and norm of the latent."""
    errors, norms = [], []
    for part in data.in_batches(rows, 32):
        images = dataset.images(part)
        latents = model.encode(images)
        errors.append((model.decode(latents).clamp(0, 1) - images).abs().mean((1, 2, 3)))
        norms.append(latents.flatten(1).norm(dim=1))
    found = {"reconstruction_mae_percentiles": torch.cat(errors), "latent_norm_percentiles": torch.cat(norms)}
    return {
        name: {f"p{p}": round(float(torch.quantile(values, p / 100)), 6) for p in (50, 90, 95, 99)}
        for name, values in found.items()
    }


def check(config: AutoencoderTraining) -> AutoencoderTraining:
    """The configuration without labels; refused where model and data disagree."""
    model, rows = config.model, config.data
    if (model.size, model.channels) != (rows.size, rows.channels):
        raise ConfigurationError(
            f"model takes {model.channels} x {model.size} pixels, data gives {rows.channels} x {rows.size}; "
            "make model.size and data.size equal (and channels)"
        )
    if model.framed or model.layered:
        raise ConfigurationError(
            "model.framed and model.layered must be false in training; the frame is fitted afterwards"
        )
    if config.frame.layered and config.frame.kind == "none":
        raise ConfigurationError("frame.layered needs a frame; set frame.kind to local or smooth")
    return replace(config, data=without_labels(rows))


def _start(config: AutoencoderTraining) -> Autoencoder:
    if not config.init:
        return build_autoencoder(config.model)
    net, _ = trained.load_autoencoder_net(Path(config.init))
    if net.config != config.model:
        raise ConfigurationError(f"init {config.init} has the model {net.config}, this training {config.model}")
    return net.train().requires_grad_(True)


def _card(config: AutoencoderTraining, folder: Path, task: AutoencoderTask) -> dict[str, Any]:
    return {
        "name": folder.name,
        "kind": "autoencoder",
        "size": config.model.size,
        "channels": config.model.channels,
        "rows": {"train": len(task.train), "val": len(task.val)},
        "training": configuration.to_dict(config),
        "computed": machine.computed(task.fabric),
    }
