"""Autoencoder networks as plain modules, rebuilt from a frozen config; classifiers live in `backbones`."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gifsplain.errors import ModelError
from gifsplain.models import deform
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

LAYERS = (1, 2)
"""Channels of a layered latent after the code: shading; how far to the right and down the drawing is sampled."""
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
    `layered`: three channels more in the latent, a shading and a deformation of what the decoder draws (`deform`).
    `framed`: the latent has the coordinates of a `LatentFrame` instead of the network's own.
    """

    size: int = 224
    channels: int = 1
    patch: int = 4
    widths: tuple[int, ...] = (64, 128, 192, 256)
    blocks: tuple[int, ...] = (0, 1, 1, 1)
    decoder_blocks: tuple[int, ...] = (0, 1, 2, 1)
    block: Literal["basic", "bottleneck"] = "basic"
    bottleneck: tuple[int, int, int] = (96, 7, 7)
    layered: bool = False
    framed: bool = False

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
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latent: the bottleneck's, and one for shading and two for velocity."""
        c, h, w = self.bottleneck
        return (c + sum(LAYERS) if self.layered else c), h, w

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
    """A fixed linear change of latent coordinates in which the gradient takes the steps that are wanted.

    Coordinates are `z = A^-1 (code - mean)` with `A = (M x W) diag(gains) (M x W)'`: `M` are mixtures of channels, `W`
    waves over the places of the grid, both orthonormal, and each product of a mixture and a wave has a gain. A gradient
    in `z`, decoded, moves the code along `A^2` times the gradient in the code: far along smooth moves of large gain,
    hardly along fine ones, which is where adversarial directions lie. Reconstruction is unchanged.
    """

    mean: Tensor
    mixtures: Tensor
    waves: Tensor
    gains: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, places = shape[0], shape[1] * shape[2]
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("mixtures", torch.eye(channels))
        self.register_buffer("waves", torch.eye(places))
        self.register_buffer("gains", torch.ones(channels, places))

    def to_frame(self, codes: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Codes in the frame's coordinates."""
        return self._scaled(codes - self.mean, 1 / self.gains)

    def from_frame(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The inverse of `to_frame`."""
        return self.mean + self.shift(latents)

    def shift(self, moves: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """How far the code moves when the latent moves by `moves`: the linear part of `from_frame`."""
        return self._scaled(moves, self.gains)

    def unshift(self, moves: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The inverse of `shift`."""
        return self._scaled(moves, 1 / self.gains)

    def _scaled(self, moves: Float[Tensor, "b c h w"], factors: Float[Tensor, "c p"]) -> Float[Tensor, "b c h w"]:
        parts = self.mixtures.T @ moves.flatten(2) @ self.waves * factors
        return (self.mixtures @ parts @ self.waves.T).view_as(moves)


class Autoencoder(nn.Module):
    """Convolutional autoencoder: images `b c size size` in [0, 1] to latents of `config.latent_shape` and back.

    A layered one draws with its decoder, replaces the drawing's coarse brightness by the shading in the latent (the
    encoder puts the image's own there) and moves the drawing along the velocity in the latent (the encoder puts 0).
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)
        self.frame = LatentFrame(config.latent_shape) if config.framed else None

    def encode(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        """Latents, in the frame's coordinates where there is one."""
        codes = cast(Tensor, self.encoder(images * 2 - 1))
        if self.config.layered:
            shading = deform.cell_means(images.mean(1, keepdim=True), codes.shape[-2:])
            codes = torch.cat([codes, shading.to(codes), torch.zeros_like(codes[:, :2])], 1)
        return self.frame.to_frame(codes) if self.frame is not None else codes

    def decode(self, latents: Float[Tensor, "b k i j"]) -> Float[Tensor, "b c h w"]:
        """Images, near [0, 1] but not clipped, so that gradients survive at black and white."""
        drawn, velocity = self._drawn(latents)
        return drawn if velocity is None else deform.warp(drawn, velocity)

    def decode_first_order(self, latents: Float[Tensor, "b k i j"]) -> Float[Tensor, "b c h w"]:
        """As `decode`, to first order in the velocity; its gradient can be differentiated once more."""
        drawn, velocity = self._drawn(latents)
        return drawn if velocity is None else deform.warp_first_order(drawn, velocity)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The reconstruction `D(E(x))`."""
        return self.decode(self.encode(images))

    def _drawn(self, latents: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the decoder draws, shaded, and the velocity that shall move it; None without layers."""
        codes = self.frame.from_frame(latents) if self.frame is not None else latents
        if not self.config.layered:
            return (cast(Tensor, self.decoder(codes)) + 1) / 2, None
        codes, shading, velocity = codes.split([self.config.bottleneck[0], *LAYERS], dim=1)
        drawn = (cast(Tensor, self.decoder(codes)) + 1) / 2
        return deform.shade(drawn, shading), velocity


def build_autoencoder(config: AutoencoderConfig) -> Autoencoder:
    """The autoencoder that `config` describes, with random weights."""
    return Autoencoder(config)
