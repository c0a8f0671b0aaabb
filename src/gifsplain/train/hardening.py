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
    """Share of each batch that is replaced by its reconstructions."""
    latent_noise: float = 0.0
    """Largest standard deviation of the noise on their latents; drawn anew for each image."""
    latent_step: float = 0.0
    """Largest length of a step that raises the loss before the image is drawn, in root mean squares of the latent."""
    latent_step_chance: float = 0.5
    """Share of batches that take such a step."""
    adversarial: float = 0.0
    """Size of one signed-gradient step in the image that raises the loss, of full scale."""
    mixup: float = 0.0
    """Parameter of the beta distribution for mixing pairs of images and labels, in half of the batches; 0: never."""
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

    def harden(self, images: Images, labels: Tensor) -> tuple[Images, Tensor]:
        """The batch to train on; labels change where images are mixed."""
        if self.autoencoder is not None:
            images = self._redraw(self.autoencoder, images, labels)
        if self.config.adversarial:
            images = self._worst_step(images, labels)
        if self.config.mixup and float(torch.rand(())) < 0.5:
            images, labels = mix(images, labels, self.config.mixup)
        return images, labels

    @torch.no_grad()
    def imitated(self, images: Images) -> Tensor | None:
        """Mean logits of the teachers; None without any."""
        if not self.teachers:
            return None
        with self.fabric.autocast():
            return torch.stack([teacher.raw_logits(images).float() for teacher in self.teachers]).mean(0)

    def _redraw(self, autoencoder: Autoencoder, images: Images, labels: Tensor) -> Images:
        """Some images become what the autoencoder draws of them, from latents that were moved a little."""
        config, count = self.config, round(self.config.reconstructed * images.shape[0])
        chosen = torch.randperm(images.shape[0], device=images.device)[:count]
        with torch.no_grad(), self.fabric.autocast():
            latents = autoencoder.encode(images[chosen]).float()
        if config.latent_noise:
            latents = latents + torch.randn_like(latents) * config.latent_noise * _any_part(latents)
        if config.latent_step and float(torch.rand(())) < config.latent_step_chance:
            moved = latents.requires_grad_(True)
            with self.fabric.autocast():
                drawn = autoencoder.decode(moved).float().clamp(0, 1)
            (gradient,) = torch.autograd.grad(self._cost(drawn, labels[chosen]), moved)
            latents = latents.detach()
            unit = _root_mean_square(latents) * gradient / _root_mean_square(gradient).clamp_min(1e-12)
            step = config.latent_step / latents[0].numel() ** 0.5
            latents = latents + unit * step * _any_part(latents)
        with torch.no_grad(), self.fabric.autocast():
            drawn = autoencoder.decode(latents).float().clamp(0, 1)
        images = images.clone()
        images[chosen] = drawn
        return images

    def _cost(self, images: Images, labels: Tensor) -> Tensor:
        with self.fabric.autocast():
            logits = self.judge.raw_logits(images).float()
        return losses.masked_bce(logits, labels)

    def _worst_step(self, images: Images, labels: Tensor) -> Images:
        """One signed-gradient step against the averaged classifier (Goodfellow et al. 2015)."""
        moved = images.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self._cost(moved, labels), moved)
        return (images + self.config.adversarial * gradient.sign()).clamp(0, 1).detach()


def mix(images: Images, labels: Tensor, alpha: float) -> tuple[Images, Tensor]:
    """Each image and its labels mixed with another's, the larger part its own (Zhang et al. 2018).

    A label that is unknown in one of the two is unknown in the mixture.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    share = max(share, 1 - share)
    other = torch.randperm(images.shape[0], device=images.device)
    return share * images + (1 - share) * images[other], share * labels + (1 - share) * labels[other]


def _root_mean_square(latents: Tensor) -> Tensor:
    return latents.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (latents.ndim - 1))


def _any_part(latents: Tensor) -> Tensor:
    """One number in [0, 1] for each latent."""
    return torch.rand(latents.shape[0], device=latents.device).view(-1, *[1] * (latents.ndim - 1))


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
