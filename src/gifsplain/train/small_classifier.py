"""Training of the small classifier that a StyleEx explains; auxiliary findings help it to learn, then go."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from torch import Tensor

from gifsplain.errors import ConfigurationError
from gifsplain.io import files
from gifsplain.models.small import SmallClassifier, SmallConfig
from gifsplain.train import augment, checkpoints, data, identity, loop, losses, machine, optimise
from gifsplain.train.augment import AugmentConfig
from gifsplain.train.config import LoopConfig
from gifsplain.train.progress import make_reporter
from gifsplain.train.rows import DataConfig

WEIGHTS = "classifier.safetensors"


@dataclass(frozen=True)
class SmallTraining:
    """Everything that decides the weights."""

    data: DataConfig
    """Its `targets` are all findings that are learnt."""
    explained: tuple[str, ...]
    """Those that the classifier keeps; the others are auxiliary."""
    widths: tuple[int, ...] = (24, 48, 96, 128)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(monitor="val/auc"))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    epochs: float = 45.0
    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.05
    emphasis: float = 3.0
    """Weight of an explained finding against an auxiliary one."""
    smoothing: float = 0.02
    average: float = 0.99
    evaluate_every: int = 126


class SmallTask:
    """One small classifier in training; see `loop.Trainee`."""

    def __init__(self, config: SmallTraining, dataset: data.Dataset, fabric: Fabric) -> None:
        machine.seed_step(config.loop.seed, 0, stream=2)
        self.config, self.dataset, self.fabric = config, dataset, fabric
        self.train, self.val = dataset.rows("train"), dataset.rows("val")
        shape = SmallConfig(config.data.targets, config.data.size, config.data.channels, config.widths)
        self.net = SmallClassifier(shape).to(memory_format=torch.channels_last)
        self.averaged = optimise.Average(self.net, config.average)
        weight = torch.tensor([config.emphasis if t in config.explained else 1.0 for t in config.data.targets])
        balance = losses.positive_weights(dataset.table.labels[self.train], 0.5)
        self.balance, self.weight = balance.to(fabric.device), (weight / weight.mean()).to(fabric.device)
        optimiser = torch.optim.AdamW(self.net.parameters(), lr=config.rate, weight_decay=config.weight_decay)
        self.model, self.optimiser = fabric.setup(self.net, optimiser)
        fabric.to_device(self.averaged.module)
        self.steps = max(1, round(config.epochs * data.steps_per_epoch(self.train, config.batch, fabric.world_size)))

    def step(self, step: int) -> Mapping[str, Tensor]:
        """One batch forward, back, and a step of the optimiser."""
        rows = data.rows_of_process(
            self.train, step, self.fabric, batch_size=self.config.batch, seed=self.config.loop.seed
        )
        images = augment.augment(self.dataset.images(rows, self.fabric.device), self.config.augment)
        self.model.train()
        logits = self.model(images.contiguous(memory_format=torch.channels_last)).float()
        labels = self.dataset.labels(rows, self.fabric.device)
        loss = losses.masked_bce(logits, labels, self.balance * self.weight, smoothing=self.config.smoothing)
        optimise.set_rates(self.optimiser, optimise.warm_cosine(step, self.steps, 60))
        self.optimiser.zero_grad()
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.model, self.optimiser, max_norm=5.0)
        self.optimiser.step()
        self.averaged.update(self.net)
        return {"loss": loss.detach()}

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `evaluate` tells."""
        return "val/auc", *(f"val/auc/{target}" for target in self.config.explained)

    def evaluate(self, step: int) -> Mapping[str, float]:
        """AUC on validation rows, for each explained finding, and the mean of those that have both kinds of rows."""
        logits, labels = self.predict(self.val)
        found: dict[str, float] = {}
        for target in self.config.explained:
            j = self.config.data.targets.index(target)
            known = ~np.isnan(labels[:, j])
            both = len(np.unique(labels[known, j])) == 2
            found[f"val/auc/{target}"] = float(roc_auc_score(labels[known, j], logits[known, j])) if both else np.nan
        defined = [value for value in found.values() if not np.isnan(value)]
        return {"val/auc": float(np.mean(defined)) if defined else np.nan, **found}

    @torch.no_grad()
    def predict(self, rows: NDArray[np.int64]) -> tuple[Float[np.ndarray, "n t"], Float[np.ndarray, "n t"]]:
        """Logits of the averaged weights, and labels."""
        net = self.averaged.module.eval()
        parts = [net(self.dataset.images(part, self.fabric.device)).cpu() for part in data.in_batches(rows, 128)]
        return torch.cat(parts).numpy(), self.dataset.table.labels[rows]

    def state_dict(self) -> dict[str, Any]:
        """Everything that a step changes."""
        return {
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name in ("net", "averaged", "optimiser"):
            getattr(self, name).load_state_dict(state[name])


def train_small_classifier(config: SmallTraining, folder: Path, *, resume: bool = False) -> Path:
    """Train into `folder`; returns the weights of the explained findings, shifted to their operating points."""
    missing = [target for target in config.explained if target not in config.data.targets]
    if missing or not config.explained:
        raise ConfigurationError(
            f"explained {list(config.explained)} must be among data.targets {list(config.data.targets)}"
        )
    checkpoints.open_folder(config, folder, resume=resume)
    fabric = machine.make_fabric(config.loop)
    task = SmallTask(config, data.open_dataset(config.data), fabric)
    plan = loop.Plan(task.steps, config.evaluate_every)
    reporter = make_reporter("small classifier")
    origin = identity.origin(config, task.dataset)
    outcome = loop.run(task, fabric, folder, config.loop, plan=plan, reporter=reporter, origin=origin)
    loop.load_best(task, folder, outcome)
    path = folder / WEIGHTS
    _save(_explained(task), path)
    return path


def _explained(task: SmallTask) -> SmallClassifier:
    """The averaged network with the explained outputs only, each shifted by its operating point."""
    full, config = task.averaged.module, task.config
    assert isinstance(full, SmallClassifier)
    kept = [config.data.targets.index(target) for target in config.explained]
    logits, labels = task.predict(task.val)
    shift = torch.tensor([operating_point(logits[:, j], labels[:, j]) for j in kept], dtype=torch.float32)
    net = SmallClassifier(SmallConfig(config.explained, config.data.size, config.data.channels, config.widths))
    state = {k: v.detach().cpu() for k, v in full.state_dict().items()}
    state["head.weight"], state["head.bias"] = state["head.weight"][kept], state["head.bias"][kept] - shift
    net.load_state_dict(state)
    return net


def operating_point(logits: Float[np.ndarray, " n"], labels: Float[np.ndarray, " n"]) -> float:
    """Logit at which sensitivity and specificity are nearest to each other; 0 where a class is absent."""
    positive, negative = logits[labels == 1], logits[labels == 0]
    if not len(positive) or not len(negative):
        return 0.0
    places = np.sort(np.concatenate([positive, negative]))
    sensitivity = np.array([(positive > place).mean() for place in places])
    specificity = np.array([(negative <= place).mean() for place in places])
    return float(places[np.abs(sensitivity - specificity).argmin()])


def _save(net: SmallClassifier, path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    with files.atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"config": json.dumps(net.config.to_dict())})
