"""Autoencoder networks as plain modules, rebuilt from a frozen config; classifiers live in `backbones`."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gifsplain.errors import ModelError
from gifsplain.models.backbones import Classifier, ClassifierConfig, build_classifier

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "Classifier",
    "ClassifierConfig",
    "LatentFrame",
    "build_autoencoder",
    "build_classifier",
    "resnet_autoencoder_config",
]

RESNET_BLOCKS = {  # blocks per stage and kind of block (He et al. 2016, table 1); the paper writes 151 for 152
    18: ("basic", (2, 2, 2, 2)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    151: ("bottleneck", (3, 8, 36, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


@dataclass(frozen=True)
class AutoencoderConfig:
    """What rebuilds an autoencoder.

    `patch`: side of the squares that the stem folds into channels, so the first layer works on `size / patch` pixels.
    `widths`, `blocks`, `decoder_blocks`: channels and residual blocks per stage, fine to coarse; a stage halves its
    grid unless that would fall below the bottleneck. `bottleneck`: channels, height, width of the latent.
    `rank`: principal directions kept by the latent frame; 0 leaves the network's own coordinates.
    """

    size: int = 224
    channels: int = 1
    patch: int = 4
    widths: tuple[int, ...] = (64, 128, 192, 256)
    blocks: tuple[int, ...] = (0, 1, 1, 1)
    decoder_blocks: tuple[int, ...] = (0, 1, 2, 1)
    block: Literal["basic", "bottleneck"] = "basic"
    bottleneck: tuple[int, int, int] = (96, 7, 7)
    rank: int = 0

    def __post_init__(self) -> None:
        stages = {len(self.widths), len(self.blocks), len(self.decoder_blocks)}
        if len(stages) != 1:
            raise ModelError("widths, blocks and decoder_blocks must have one entry per stage each")
        if self.size % self.patch:
            raise ModelError(f"size {self.size} must be a multiple of patch {self.patch}")
        if max(self.bottleneck[1:]) > self.size // self.patch:
            raise ModelError(f"bottleneck {self.bottleneck} is finer than the stem's {self.size // self.patch} pixels")

    @property
    def grids(self) -> tuple[int, ...]:
        """Side of the square grid at each stage, fine to coarse."""
        sides = [self.size // self.patch]
        for _ in self.widths[1:]:
            half = sides[-1] // 2
            sides.append(half if half >= max(self.bottleneck[1:]) and sides[-1] % 2 == 0 else sides[-1])
        return tuple(sides)

    @property
    def latent_size(self) -> int:
        """How many numbers the latent has."""
        c, h, w = self.bottleneck
        return c * h * w

    def to_dict(self) -> dict[str, Any]:
        """The config as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "AutoencoderConfig":
        """The config out of JSON values; keys that no field names are refused."""
        known = {field.name for field in fields(cls)}
        if set(values) - known:
            raise ModelError(
                f"autoencoder config has unknown keys {sorted(set(values) - known)}; known: {sorted(known)}"
            )
        converted: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**converted)


def resnet_autoencoder_config(
    depth: int, bottleneck: tuple[int, int, int], *, size: int = 224, width: int = 64
) -> AutoencoderConfig:
    """The paper's ResNet autoencoder (Cohen et al. 2021, section 4.1) of depth 18, 50, 101 or 152 (151)."""
    if depth not in RESNET_BLOCKS:
        raise ModelError(f"depth must be one of {sorted(RESNET_BLOCKS)}, got {depth}")
    block, counts = RESNET_BLOCKS[depth]
    factor = 4 if block == "bottleneck" else 1
    widths = tuple(width * factor * 2**i for i in range(4))
    kind = cast(Literal["basic", "bottleneck"], block)
    return AutoencoderConfig(
        size=size, widths=widths, blocks=counts, decoder_blocks=counts, block=kind, bottleneck=bottleneck
    )


def _conv_norm(c_in: int, c_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(c_out)]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 on a quarter of the channels, added to the input (He et al. 2016)."""

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        if kind == "basic":
            layers = [*_conv_norm(width, width, 3), nn.ReLU(inplace=True), *_conv_norm(width, width, 3)]
        else:
            inner = max(width // 4, 8)
            layers = [*_conv_norm(width, inner, 1), nn.ReLU(inplace=True), *_conv_norm(inner, inner, 3)]
            layers += [nn.ReLU(inplace=True), *_conv_norm(inner, width, 1)]
        self.branch = nn.Sequential(*layers)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Maps of the same shape."""
        return nn.functional.relu(maps + self.branch(maps))


def _encoder(config: AutoencoderConfig) -> nn.Sequential:
    grids, widths = config.grids, config.widths
    layers: list[nn.Module] = [nn.PixelUnshuffle(config.patch)] if config.patch > 1 else []
    layers += [*_conv_norm(config.channels * config.patch**2, widths[0], 3), nn.ReLU(inplace=True)]
    for i, width in enumerate(widths):
        if i:
            layers += [*_conv_norm(widths[i - 1], width, 3, grids[i - 1] // grids[i]), nn.ReLU(inplace=True)]
        layers += [ResidualBlock(width, config.block) for _ in range(config.blocks[i])]
    c, h, w = config.bottleneck
    strides = (grids[-1] // h, grids[-1] // w)
    kernel = (grids[-1] - (h - 1) * strides[0], grids[-1] - (w - 1) * strides[1])
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], c, kernel, strides), nn.BatchNorm2d(c, affine=False))


def _decoder(config: AutoencoderConfig) -> nn.Sequential:
    grids, widths = config.grids, config.widths
    c, h, w = config.bottleneck
    strides = (grids[-1] // h, grids[-1] // w)
    kernel = (grids[-1] - (h - 1) * strides[0], grids[-1] - (w - 1) * strides[1])
    layers: list[nn.Module] = [nn.ConvTranspose2d(c, widths[-1], kernel, strides, bias=False)]
    layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True)]
    for i in reversed(range(len(widths))):
        layers += [ResidualBlock(widths[i], config.block) for _ in range(config.decoder_blocks[i])]
        if i:
            scale = grids[i - 1] // grids[i]
            layers += _conv_norm(widths[i], widths[i - 1] * scale**2, 1 if scale > 1 else 3)
            layers += [nn.ReLU(inplace=True), *([nn.PixelShuffle(scale)] if scale > 1 else [])]
    layers.append(nn.Conv2d(widths[0], config.channels * config.patch**2, 3, 1, 1))
    return nn.Sequential(*layers, *([nn.PixelShuffle(config.patch)] if config.patch > 1 else []))


class LatentFrame(nn.Module):
    """A fixed linear change of latent coordinates in which the gradient follows how real images vary.

    With the covariance `sum_i l_i u_i u_i'` of the codes of real images, coordinates are
    `z = A^-1 (code - mean)`, `A = floor I + U diag(gains - floor) U'`; gains `l_i^p` with `p = 1/2` whiten. A gradient
    in `z`, decoded, moves the code along `A^2` times the gradient in the code: damped where images never differ,
    which is where adversarial directions lie. Any orthonormal `U` and positive gains are a frame, so directions that
    only change brightness can be damped too. Reconstruction is unchanged.
    """

    mean: Tensor
    basis: Tensor
    gains: Tensor
    floor: Tensor

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.zeros(size, rank))
        self.register_buffer("gains", torch.ones(rank))
        self.register_buffer("floor", torch.ones(()))

    def to_frame(self, codes: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Codes in the frame's coordinates."""
        centred = codes.flatten(1) - self.mean
        inner = (centred @ self.basis) * (1 / self.gains - 1 / self.floor)
        return (centred / self.floor + inner @ self.basis.T).view_as(codes)

    def from_frame(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The inverse of `to_frame`."""
        return self.mean.view(latents.shape[1:]) + self.shift(latents)

    def shift(self, moves: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """How far the code moves when the latent moves by `moves`: the linear part of `from_frame`."""
        flat = moves.flatten(1)
        inner = (flat @ self.basis) * (self.gains - self.floor)
        return (flat * self.floor + inner @ self.basis.T).view_as(moves)


class Autoencoder(nn.Module):
    """Convolutional autoencoder: images `b c size size` in [0, 1] to latents of `config.bottleneck` and back."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)
        self.frame = LatentFrame(config.latent_size, config.rank) if config.rank else None

    def encode(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        """Latents, in the frame's coordinates where there is one."""
        codes = cast(Tensor, self.encoder(images * 2 - 1))
        return self.frame.to_frame(codes) if self.frame is not None else codes

    def decode(self, latents: Float[Tensor, "b k i j"]) -> Float[Tensor, "b c h w"]:
        """Images, near [0, 1] but not clipped, so that gradients survive at black and white."""
        codes = self.frame.from_frame(latents) if self.frame is not None else latents
        return (cast(Tensor, self.decoder(codes)) + 1) / 2

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The reconstruction `D(E(x))`."""
        return self.decode(self.encode(images))


def build_autoencoder(config: AutoencoderConfig) -> Autoencoder:
    """The autoencoder that `config` describes, with random weights."""
    return Autoencoder(config)
