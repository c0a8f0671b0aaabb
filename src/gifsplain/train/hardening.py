"""Making a classifier fit to be explained: reconstructions, adversarial steps and teachers."""

from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from gifsplain.errors import ConfigurationError
from gifsplain.models import load, trained
from gifsplain.models.protocols import Autoencoder
from gifsplain.train import losses
from gifsplain.train.rows import DataConfig
from gifsplain.types import Images


@dataclass(frozen=True)
class Hardening:
    """What makes a classifier fit to be explained: it sees what the autoencoder draws, small steps do not fool it."""

    autoencoder: str = ""
    """Folder of a finished autoencoder training, or a name of `gifsplain models list`."""
    reconstructed: float = 0.0
    """Chance that a batch's images are replaced by their reconstructions."""
    adversarial: float = 0.0
    """Size of one signed-gradient step that raises the loss before training on the result, of full scale."""
    teachers: tuple[str, ...] = ()
    """Folders of finished classifier trainings whose mean logits are imitated."""
    imitation: float = 0.0
    """Weight of that term."""


class Hardener:
    """The frozen models that `config` names, on the training's device; `judge` is the averaged classifier."""

    def __init__(self, config: Hardening, rows: DataConfig, judge: trained.ClassifierNet, fabric: Fabric) -> None:
        self.config, self.judge, self.fabric = config, judge, fabric
        self.teachers = [fabric.to_device(_teacher(name, rows)) for name in config.teachers]
        self.autoencoder = _autoencoder(config.autoencoder, rows, fabric) if config.reconstructed else None

    def harden(self, images: Images, labels: Tensor) -> Images:
        """The batch to train on."""
        if self.autoencoder is not None and float(torch.rand(())) < self.config.reconstructed:
            with torch.no_grad(), self.fabric.autocast():
                images = self.autoencoder.decode(self.autoencoder.encode(images)).float().clamp(0, 1)
        return self._worst_step(images, labels) if self.config.adversarial else images

    @torch.no_grad()
    def imitated(self, images: Images) -> Tensor | None:
        """Mean logits of the teachers; None without any."""
        if not self.teachers:
            return None
        with self.fabric.autocast():
            return torch.stack([teacher.raw_logits(images).float() for teacher in self.teachers]).mean(0)

    def _worst_step(self, images: Images, labels: Tensor) -> Images:
        """One signed-gradient step against the averaged classifier (Goodfellow et al. 2015)."""
        moved = images.detach().requires_grad_(True)
        with self.fabric.autocast():
            logits = self.judge.raw_logits(moved).float()
        (gradient,) = torch.autograd.grad(losses.masked_bce(logits, labels), moved)
        return (images + self.config.adversarial * gradient.sign()).clamp(0, 1).detach()


def check_hardening(config: Hardening) -> None:
    """Refuse halves of settings."""
    if config.reconstructed and not config.autoencoder:
        raise ConfigurationError("hardening.reconstructed needs hardening.autoencoder")
    if bool(config.imitation) != bool(config.teachers):
        raise ConfigurationError("hardening.imitation and hardening.teachers go together")


def _teacher(name: str, rows: DataConfig) -> trained.ClassifierNet:
    net, _ = trained.load_classifier_net(Path(name))
    if net.config.targets != rows.targets:
        raise ConfigurationError(f"teacher {name} has the targets {net.config.targets}, expected {rows.targets}")
    return net


def _autoencoder(name: str, rows: DataConfig, fabric: Fabric) -> Autoencoder:
    found = trained.autoencoder(Path(name)) if Path(name).is_dir() else load.load_autoencoder(name)
    if found.card.size != rows.size:
        raise ConfigurationError(f"{name} draws {found.card.size} pixels, the data has {rows.size}")
    net = getattr(found, "net", None)
    if isinstance(net, nn.Module):
        fabric.to_device(net)
    return found
