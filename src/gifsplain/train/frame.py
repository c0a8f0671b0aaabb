"""The latent's frame: coordinates in which a gradient takes smooth, local steps."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.models.networks import LAYERS, Autoencoder, build_autoencoder
from gifsplain.train.augment import blur

PATCH = 1.5
"""Standard deviation, in places of the grid, of the patch in which a channel is moved."""
Codes = Float[Tensor, "n c h w"]


@dataclass(frozen=True)
class FrameConfig:
    """How the frame is fitted after training; see `networks.LatentFrame`."""

    kind: Literal["none", "local", "smooth"] = "none"
    """Mixtures of channels weighted by their covariance, or by how smooth the change is that they draw."""
    power: float = 0.5
    """Gain of a mixture: its variance (or smoothness) to this power; 0.5 whitens."""
    blur: float = 0.9
    """Standard deviation of the Gaussian over places of the grid by which steps are made smooth."""
    floor: float = 0.1
    """Least gain within a layer, relative to its largest."""
    cutoff: float = 6.0
    """`smooth`: standard deviation in pixels of the Gaussian that tells smooth from fine changes."""
    damping: float = 10.0
    """`smooth`: a fine change counts so many times as long as a smooth one of the same size."""
    samples: int = 24
    """`smooth`: images on which the decoder's changes are measured."""
    passes: int = 2
    """Times that the training images are encoded; all but the first are augmented."""
    layered: bool = False
    """Add shading and deformation to the latent."""
    texture: float = 1.0
    """Largest gain of the code (of its own standard deviation)."""
    shading: float = 0.1
    """Largest gain of the shading, in full scales."""
    shading_blur: float = 1.0
    """As `blur`, for the shading."""
    velocity: float = 1.0
    """Largest gain of the velocity, in pixels."""
    velocity_blur: float = 1.5
    """As `blur`, for the velocity."""


@torch.no_grad()
def fit_frame(model: Autoencoder, codes: Codes, config: FrameConfig) -> Autoencoder:
    """A copy of `model` with a frame fitted to `codes`, the decoder's input; it reconstructs the same.

    With `config.layered` the copy has shading and deformation too: it reconstructs with the image's own coarse
    brightness.
    """
    framed = build_autoencoder(replace(model.config, framed=True, layered=config.layered or model.config.layered))
    framed.load_state_dict(model.state_dict(), strict=False)
    frame = framed.frame
    if frame is None:
        raise AssertionError("a framed configuration makes a frame")
    channels, grid = framed.config.bottleneck[0], framed.config.bottleneck[1:]
    texture = codes[:, :channels]
    metric = covariance(texture) if config.kind == "local" else torch.linalg.inv(smoothness(model, texture, config))
    variances, mixtures = torch.linalg.eigh((metric + metric.T) / 2)
    frame.mean[:channels] = texture.mean(0)
    frame.mixtures[:channels, :channels] = mixtures.float()
    frame.waves.copy_(waves(grid))
    shares = (variances / variances.max()).clamp_min(1e-12) ** config.power
    gains = [config.texture * floored(shares[:, None] * smoothing(grid, config.blur), config.floor)]
    if framed.config.layered:
        gains.append(config.shading * floored(smoothing(grid, config.shading_blur)[None], config.floor))
        moves = config.velocity * floored(smoothing(grid, config.velocity_blur)[None], config.floor)
        gains += [moves] * LAYERS[1]
    frame.gains.copy_(torch.cat(gains))
    return framed.eval().requires_grad_(False)


def waves(grid: tuple[int, int]) -> Float[Tensor, "p p"]:
    """Cosines over the places of a grid, orthonormal, one a column: products of two discrete cosine transforms."""
    down, across = (_cosines(side) for side in grid)
    return torch.kron(down, across).float()


def smoothing(grid: tuple[int, int], sigma: float) -> Float[Tensor, " p"]:
    """Gain of each wave when a field is blurred by a Gaussian of `sigma` places, with mirrored edges: 1 for the mean.

    The square of the gain of a wave is what a gradient's wave keeps, so this is the root of the Gaussian's transform.
    """
    down, across = (torch.arange(side).double() * torch.pi / side for side in grid)
    squares = down[:, None].square() + across[None, :].square()
    gains: Tensor = (-squares * sigma**2 / 4).exp().flatten()
    return gains


def floored(gains: Tensor, floor: float) -> Tensor:
    """No gain below `floor` times the largest, so that the frame can be inverted."""
    return gains.clamp_min(floor * float(gains.max()))


def _cosines(side: int) -> Float[Tensor, "s s"]:
    places = (torch.arange(side).double() + 0.5) * torch.pi / side
    columns = (places[:, None] * torch.arange(side).double()).cos()
    cosines: Tensor = columns / columns.norm(dim=0)
    return cosines


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
