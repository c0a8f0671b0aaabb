"""The latent's frame: coordinates in which a gradient follows the ways in which real images differ."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import ConfigurationError
from gifsplain.models.networks import Autoencoder, build_autoencoder
from gifsplain.train.augment import blur

PATCH = 1.5
"""Standard deviation, in places of the grid, of the patch in which a channel is moved."""
Codes = Float[Tensor, "n c h w"]
Directions = tuple[Float[Tensor, "d k"], Float[Tensor, " k"], Float[Tensor, ""]]
"""Orthonormal directions, their gains, largest first, and the gain of everything else."""


@dataclass(frozen=True)
class FrameConfig:
    """How the frame is fitted after training; see `networks.LatentFrame`."""

    rank: int = 0
    """Directions kept; 0: no frame."""
    kind: Literal["components", "local", "smooth"] = "components"
    """Principal components of whole latents; or channels' covariance times a Gaussian over places (local changes); or
    the same with channels weighted by how smooth the change is that they draw."""
    power: float = 0.5
    """Gain of a direction: its variance to this power; 0.5 whitens."""
    floor: float = 1.0
    """Gain of all other directions: for components relative to the mean of their variance to the same power, for local
    relative to the smallest gain kept."""
    blur: float = 0.9
    """Standard deviation of the Gaussian in places of the latent's grid."""
    cutoff: float = 6.0
    """`smooth`: standard deviation in pixels of the Gaussian that tells smooth from fine changes."""
    damping: float = 10.0
    """`smooth`: a fine change counts so many times as long as a smooth one of the same size."""
    samples: int = 24
    """`smooth`: images on which the decoder's changes are measured."""
    passes: int = 2
    """Times that the training images are encoded; all but the first are augmented."""


def fit_frame(model: Autoencoder, codes: Codes, config: FrameConfig) -> Autoencoder:
    """A copy of `model` with a frame fitted to `codes`; it reconstructs the same."""
    count, size = codes.shape[0], codes[0].numel()
    most = min(count, size) - 1 if config.kind == "components" else size
    if not 0 < config.rank <= most:
        raise ConfigurationError(f"frame.rank must lie between 1 and {most}, got {config.rank}")
    basis, gains, floor = directions(model, codes, config)
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


def directions(model: Autoencoder, codes: Codes, config: FrameConfig) -> Directions:
    """What `config.kind` asks for."""
    if config.kind == "components":
        return components(codes, config)
    if config.kind == "local":
        return local(covariance(codes), codes.shape[2:], config)
    metric = torch.linalg.inv(smoothness(model, codes, config))
    return local((metric + metric.T) / 2, codes.shape[2:], config)


def components(codes: Codes, config: FrameConfig) -> Directions:
    """Principal components of whole latents: each may change the whole image."""
    flat = codes.flatten(1)
    count, size = flat.shape
    centred = flat - flat.mean(0)
    _, singular, basis = torch.svd_lowrank(centred, q=min(config.rank + 32, count, size), niter=3)
    variances = (singular.square() / count)[: config.rank].clamp_min(1e-8)
    rest = (centred.square().sum() / count - variances.sum()).clamp_min(1e-8) / max(1, size - config.rank)
    return basis[:, : config.rank], variances**config.power, config.floor * rest**config.power


def local(metric: Float[Tensor, "c c"], grid: torch.Size | tuple[int, ...], config: FrameConfig) -> Directions:
    """Smooth local directions: gains are eigenvalues of `metric^power (x) K^(1/2)`, the largest `rank` of them.

    `metric` says how far a gradient shall move each mixture of channels; `K` is a Gaussian of the distance between
    the places of the grid.
    """
    height, width = grid
    variances, mixes = torch.linalg.eigh(metric.double())
    rows, columns = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], 1)
    spread, waves = torch.linalg.eigh((-torch.cdist(places, places).square() / (2 * config.blur**2)).exp())
    gains = variances.clamp_min(1e-6)[:, None] ** config.power * spread.clamp_min(1e-9).sqrt()
    kept = gains.flatten().argsort(descending=True)[: config.rank]
    mix, wave = kept // len(spread), kept % len(spread)
    basis = (mixes[:, mix][:, None, :] * waves[:, wave][None, :, :]).reshape(-1, len(kept))
    chosen = gains.flatten()[kept].float()
    return basis.float(), chosen, config.floor * chosen[-1]


def covariance(codes: Codes) -> Float[Tensor, "c c"]:
    """Of the channels, once each place's mean over images and each image's mean over places are taken away."""
    inner = (codes - codes.mean(0)).double()
    inner = (inner - inner.mean((2, 3), keepdim=True)).transpose(0, 1).reshape(codes.shape[1], -1)
    return inner @ inner.T / inner.shape[1]


@torch.no_grad()
def smoothness(model: Autoencoder, codes: Codes, config: FrameConfig, *, step: float = 0.3) -> Float[Tensor, "c c"]:
    """Squared length of a change of the channels: of its smooth part in pixels, plus `damping` times the fine part's.

    Each channel is moved by plus and minus `step` in a round patch of the grid, at another place in each of `samples`
    images; the drawn difference is parted by a Gaussian of `cutoff` pixels. In units of the mean channel.
    """
    channels, height, width = codes.shape[1:]
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    total = torch.zeros(channels, channels, dtype=torch.double)
    smooth = total.clone()
    chosen = torch.randperm(len(codes), generator=generator)[: config.samples]
    for index in chosen.tolist():
        middle = (0.2 + 0.6 * torch.rand(2, generator=generator)) * torch.tensor([height, width])
        patch = (-((rows - middle[0]).square() + (columns - middle[1]).square()) / (2 * PATCH**2)).exp()
        moves = step * torch.eye(channels)[:, :, None, None] * patch
        drawn = (model.decode(codes[index] + moves) - model.decode(codes[index] - moves)) / (2 * step)
        flat, low = drawn.flatten(1).double(), blur(drawn, config.cutoff).flatten(1).double()
        total += flat @ flat.T
        smooth += low @ low.T
    fine = total - smooth
    length = (total + config.damping * (fine + fine.T) / 2) / (total.trace() / channels)
    return length + 1e-3 * torch.eye(channels)
