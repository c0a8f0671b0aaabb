"""The latent's frame: coordinates in which a gradient follows the ways in which real images differ."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import ConfigurationError
from gifsplain.models.networks import Autoencoder, build_autoencoder

Codes = Float[Tensor, "n c h w"]
Directions = tuple[Float[Tensor, "d k"], Float[Tensor, " k"], Float[Tensor, ""]]
"""Orthonormal directions, their gains, largest first, and the gain of everything else."""


@dataclass(frozen=True)
class FrameConfig:
    """How the frame is fitted after training; see `networks.LatentFrame`."""

    rank: int = 0
    """Directions kept; 0: no frame."""
    kind: Literal["components", "local"] = "components"
    """Principal components of whole latents; or channels' covariance times a Gaussian over places (local changes)."""
    power: float = 0.5
    """Gain of a direction: its variance to this power; 0.5 whitens."""
    floor: float = 1.0
    """Gain of all other directions: for components relative to the mean of their variance to the same power, for local
    relative to the smallest gain kept."""
    blur: float = 0.9
    """Standard deviation of the Gaussian in places of the latent's grid."""
    passes: int = 2
    """Times that the training images are encoded; all but the first are augmented."""


def fit_frame(model: Autoencoder, codes: Codes, config: FrameConfig) -> Autoencoder:
    """A copy of `model` with a frame fitted to `codes`; it reconstructs the same."""
    count, size = codes.shape[0], codes[0].numel()
    most = size if config.kind == "local" else min(count, size) - 1
    if not 0 < config.rank <= most:
        raise ConfigurationError(f"frame.rank must lie between 1 and {most}, got {config.rank}")
    basis, gains, floor = local(codes, config) if config.kind == "local" else components(codes, config)
    framed = build_autoencoder(replace(model.config, rank=config.rank))
    framed.load_state_dict(model.state_dict(), strict=False)
    frame = framed.frame
    if frame is None:
        raise AssertionError("a positive rank makes a frame")
    frame.mean.copy_(codes.flatten(1).mean(0))
    frame.basis.copy_(basis)
    frame.gains.copy_(gains)
    frame.floor.copy_(floor)
    return framed.eval().requires_grad_(False)


def components(codes: Codes, config: FrameConfig) -> Directions:
    """Principal components of whole latents: each may change the whole image."""
    flat = codes.flatten(1)
    count, size = flat.shape
    centred = flat - flat.mean(0)
    _, singular, basis = torch.svd_lowrank(centred, q=min(config.rank + 32, count, size), niter=3)
    variances = (singular.square() / count)[: config.rank].clamp_min(1e-8)
    rest = (centred.square().sum() / count - variances.sum()).clamp_min(1e-8) / max(1, size - config.rank)
    return basis[:, : config.rank], variances**config.power, config.floor * rest**config.power


def local(codes: Codes, config: FrameConfig) -> Directions:
    """Smooth local directions: gains are eigenvalues of `C^power (x) K^(1/2)`, the largest `rank` of them.

    `C` is the covariance of the channels once each place's mean over images and each image's mean over places are
    taken away; `K` is a Gaussian of the distance between places.
    """
    _, channels, height, width = codes.shape
    inner = (codes - codes.mean(0)).double()
    inner = (inner - inner.mean((2, 3), keepdim=True)).transpose(0, 1).reshape(channels, -1)
    variances, mixes = torch.linalg.eigh(inner @ inner.T / inner.shape[1])
    rows, columns = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], 1)
    spread, waves = torch.linalg.eigh((-torch.cdist(places, places).square() / (2 * config.blur**2)).exp())
    gains = variances.clamp_min(1e-6)[:, None] ** config.power * spread.clamp_min(1e-9).sqrt()
    kept = gains.flatten().argsort(descending=True)[: config.rank]
    mix, wave = kept // len(spread), kept % len(spread)
    basis = (mixes[:, mix][:, None, :] * waves[:, wave][None, :, :]).reshape(-1, len(kept))
    chosen = gains.flatten()[kept].float()
    return basis.float(), chosen, config.floor * chosen[-1]
