"""The latent's frame: coordinates in which a gradient follows the ways in which real images differ."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import ConfigurationError
from gifsplain.models.networks import Autoencoder, build_autoencoder


@dataclass(frozen=True)
class FrameConfig:
    """How the frame is fitted after training; see `networks.LatentFrame`."""

    rank: int = 0
    """Principal directions kept; 0: no frame."""
    power: float = 0.5
    """Gain of a direction: its variance to this power; 0.5 whitens."""
    floor: float = 1.0
    """Gain of all other directions, relative to the mean of their variance to the same power."""
    passes: int = 2
    """Times that the training images are encoded; all but the first are augmented."""


def fit_frame(model: Autoencoder, codes: Float[Tensor, "n d"], config: FrameConfig) -> Autoencoder:
    """A copy of `model` with a frame fitted to `codes`; it reconstructs the same."""
    count, size = codes.shape
    if not 0 < config.rank < min(count, size):
        raise ConfigurationError(f"frame.rank must lie between 1 and {min(count, size) - 1}, got {config.rank}")
    mean = codes.mean(0)
    centred = codes - mean
    more = min(config.rank + 32, count, size)
    _, singular, basis = torch.svd_lowrank(centred, q=more, niter=3)
    variances = singular.square() / count
    rest = (centred.square().sum() / count - variances[: config.rank].sum()).clamp_min(1e-8) / (size - config.rank)
    framed = build_autoencoder(replace(model.config, rank=config.rank))
    framed.load_state_dict(model.state_dict(), strict=False)
    frame = framed.frame
    if frame is None:
        raise AssertionError("a positive rank makes a frame")
    frame.mean.copy_(mean)
    frame.basis.copy_(basis[:, : config.rank])
    frame.gains.copy_(variances[: config.rank].clamp_min(1e-8) ** config.power)
    frame.floor.copy_(config.floor * rest**config.power)
    return framed.eval().requires_grad_(False)
