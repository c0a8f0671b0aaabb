"""StyleGAN2 in plain PyTorch: mapping, synthesis from a style tensor, encoder, discriminator (Karras et al. 2020).

No noise inputs: decoding is deterministic. Images enter and leave in [0, 1]; the networks work in [-1, 1].
"""

import itertools
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gifsplain.errors import ConfigurationError

Condition = Literal["none", "concat"]
Maps = Float[Tensor, "b _ _ _"]
GAIN = math.sqrt(2.0)
"""What a leaky rectifier of slope 0.2 takes from the variance; folded into the weights before it."""


@dataclass(frozen=True)
class StyleConfig:
    """What rebuilds a StyleEx: sizes of the networks and how the generator sees the classifier."""

    size: int = 64
    channels: int = 1
    widths: tuple[int, ...] = (64, 64, 64, 48, 24)
    """Channels at 4, 8, 16 ... `size` pixels, in generator, discriminator and encoder alike."""
    w_dim: int = 64
    mapping_layers: int = 4
    condition: Condition = "none"
    """`concat`: the generator sees `[w ; 2 p - 1]` with the classifier's probabilities p (Lang et al. 2021)."""
    targets: tuple[str, ...] = ("Cardiomegaly", "Effusion")

    def __post_init__(self) -> None:
        if self.size not in (32, 64, 128, 256):
            raise ConfigurationError(f"size must be 32, 64, 128 or 256, got {self.size}")
        steps = int(math.log2(self.size)) - 1
        if self.channels not in (1, 3):
            raise ConfigurationError(f"channels must be 1 or 3, got {self.channels}")
        if len(self.widths) != steps:
            raise ConfigurationError(
                f"size {self.size} needs {steps} widths (4 px to {self.size} px), got {len(self.widths)}"
            )
        if min(*self.widths, self.w_dim, self.mapping_layers, len(self.targets)) < 1:
            raise ConfigurationError(
                f"widths, w_dim, mapping_layers and the number of targets must be 1 or more, got {self}"
            )
        if self.condition not in ("none", "concat"):
            raise ConfigurationError(f"condition must be 'none' or 'concat', got {self.condition!r}")

    @property
    def code_dim(self) -> int:
        """Length of what the affine layers see: w, and the condition where there is one."""
        return self.w_dim + (len(self.targets) if self.condition == "concat" else 0)

    def to_dict(self) -> dict[str, Any]:
        """The config as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "StyleConfig":
        """The config out of JSON values; keys that no field names are refused."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ConfigurationError(
                f"StyleEx config has unknown keys {sorted(unknown)}; known: {[f.name for f in fields(cls)]}"
            )
        lists = {key: tuple(values[key]) for key in ("widths", "targets") if key in values}
        return cls(**{**values, **lists})


CONFIGS: dict[str, StyleConfig] = {
    "32-xs": StyleConfig(size=32, widths=(64, 64, 48, 32)),
    "64-xs": StyleConfig(),
    "64-xs-w128": StyleConfig(w_dim=128),
    "64-s": StyleConfig(widths=(96, 96, 96, 64, 32), w_dim=96),
    "128-s": StyleConfig(size=128, widths=(96, 96, 96, 64, 32, 16), w_dim=96),
    "128-gpu": StyleConfig(size=128, widths=(256, 256, 256, 256, 128, 64), w_dim=256, mapping_layers=8),
    "256-gpu": StyleConfig(size=256, widths=(512, 512, 512, 512, 256, 128, 64), w_dim=512, mapping_layers=8),
}
"""Named sizes; multiply-accumulates per image from 24 M (`32-xs`) to 15 G (`256-gpu`)."""


def smoothing_filter(channels: int, gain: float) -> Float[Tensor, "c 1 4 4"]:
    """The filter [1, 3, 3, 1] in both axes, summing to `gain`, once a channel (for depthwise convolution)."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(line, line) / 64 * gain
    return kernel.expand(channels, 1, 4, 4).contiguous()


def activate(maps: Tensor) -> Tensor:
    """Leaky rectifier of slope 0.2; its gain sqrt 2, which commutes with it, is in the caller's weights and biases."""
    return F.leaky_relu(maps, 0.2)


class EqualLinear(nn.Module):
    """Linear layer with unit-variance weights scaled when used: Adam treats all layers alike (Karras et al. 2018)."""

    def __init__(self, n_in: int, n_out: int, *, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / rate)
        self.bias = nn.Parameter(torch.full((n_out,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(n_in), rate

    def matrix(self) -> Float[Tensor, "o i"]:
        """The weight as applied."""
        return self.weight * self.scale

    def forward(self, vectors: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        """The affine image, always in float32: styles and codes are small and sensitive."""
        with torch.autocast(vectors.device.type, enabled=False):
            return F.linear(vectors.float(), self.matrix(), self.bias * self.rate)


class EqualConv(nn.Module):
    """Convolution with equalised rate and activation; `down` smooths and halves."""

    blur: Tensor

    def __init__(self, c_in: int, c_out: int, kernel: int, *, down: bool = False, active: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out)) if active else None
        self.scale, self.down = (GAIN if active else 1.0) / math.sqrt(c_in * kernel * kernel), down
        self.padding = kernel // 2
        self.register_buffer("blur", smoothing_filter(c_in, 1.0), persistent=False)

    def forward(self, maps: Maps) -> Maps:
        """Filtered maps, of half the side where `down`."""
        weight = self.weight * self.scale
        if self.down and self.padding == 0:
            maps = F.conv2d(maps, self.blur, stride=2, padding=1, groups=maps.shape[1])
            maps = F.conv2d(maps, weight)
        elif self.down:
            maps = F.conv2d(maps, self.blur, padding=2, groups=maps.shape[1])
            maps = F.conv2d(maps, weight, stride=2)
        else:
            maps = F.conv2d(maps, weight, padding=self.padding)
        if self.bias is None:
            return maps
        return activate(maps + (self.bias * GAIN).to(maps.dtype).view(1, -1, 1, 1))


class StyledConv(nn.Module):
    """Modulated convolution: scale the input by the style, convolve, scale the output (Karras et al. 2020)."""

    blur: Tensor

    def __init__(self, c_in: int, c_out: int, *, kernel: int = 3, up: bool = False, image: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.scale, self.up, self.image = 1 / math.sqrt(c_in * kernel * kernel), up, image
        self.c_in = c_in
        self.register_buffer("blur", smoothing_filter(c_out, 4.0), persistent=False)

    def demodulation(self, style: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        """Factor that gives each output channel unit expected variance; in float32."""
        with torch.autocast(style.device.type, enabled=False):
            energy = (self.weight * self.scale).square().sum((2, 3))
            return torch.rsqrt(F.linear(style.float().square(), energy) + 1e-8)

    def forward(self, maps: Maps, style: Float[Tensor, "b i"]) -> Maps:
        """Filtered maps, of twice the side where `up`; no activation or demodulation where `image`."""
        weight = self.weight * self.scale
        maps = maps * style.to(maps.dtype)[:, :, None, None]
        if self.up:
            maps = F.conv_transpose2d(maps, weight.transpose(0, 1), stride=2)
            maps = F.conv2d(maps, self.blur, padding=1, groups=maps.shape[1])
        else:
            maps = F.conv2d(maps, weight, padding=weight.shape[-1] // 2)
        if self.image:
            return maps + self.bias.to(maps.dtype)[:, None, None]
        factor = (self.demodulation(style) * GAIN).to(maps.dtype)[:, :, None, None]
        return activate(torch.addcmul((self.bias * GAIN).to(maps.dtype)[:, None, None], maps, factor))


class Mapping(nn.Module):
    """Noise z to w: normalise, then linear layers at a hundredth of the learning rate, the last without activation."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EqualLinear(config.w_dim, config.w_dim, rate=0.01) for _ in range(config.mapping_layers)
        )

    def forward(self, noise: Float[Tensor, "b z"]) -> Float[Tensor, "b d"]:
        """Codes w."""
        codes = noise * torch.rsqrt(noise.square().mean(1, keepdim=True) + 1e-8)
        for layer in self.layers[:-1]:
            codes = activate(layer(codes)) * GAIN
        return cast(Tensor, self.layers[-1](codes))

    @torch.no_grad()
    def match(self, codes: Float[Tensor, "n d"], samples: int = 4096) -> None:
        """Change the last layer so that noise gets the mean and covariance of `codes`; close to them it moves little."""
        last = cast(EqualLinear, self.layers[-1])
        drawn = torch.randn(samples, codes.shape[1], generator=torch.Generator().manual_seed(0)).to(codes)
        raw, wanted = self(drawn).double(), codes.double()
        change = _covariance_power(wanted, 0.5) @ _covariance_power(raw, -0.5)
        matrix = change @ last.matrix().double()
        bias = change @ (last.bias.double() * last.rate - raw.mean(0)) + wanted.mean(0)
        last.weight.copy_(matrix / last.scale)
        last.bias.copy_(bias / last.rate)


def _covariance_power(codes: Float[Tensor, "n d"], power: float) -> Float[Tensor, "d d"]:
    """Symmetric power of the covariance; eigenvalues below a millionth of the largest are raised to it."""
    values, vectors = torch.linalg.eigh(torch.cov(codes.T))
    root: Tensor = (vectors * values.clamp_min(values[-1] * 1e-6).pow(power)) @ vectors.T
    return root


class State(NamedTuple):
    """What the synthesis holds before one of its convolutions."""

    maps: Maps
    picture: Maps | None


class Synthesis(nn.Module):
    """Style tensor to image: styled convolutions at 4 px up to `size`, the picture summed over resolutions."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        widths = config.widths
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        convs = [StyledConv(widths[0], widths[0])]
        for before, after in itertools.pairwise(widths):
            convs += [StyledConv(before, after, up=True), StyledConv(after, after)]
        self.convs = nn.ModuleList(convs)
        self.to_images = nn.ModuleList(StyledConv(width, config.channels, kernel=1, image=True) for width in widths)
        self.affines = nn.ModuleList(EqualLinear(config.code_dim, conv.c_in, bias=1.0) for conv in convs)
        self.image_affines = nn.ModuleList(EqualLinear(config.code_dim, width, bias=1.0) for width in widths)
        self.lengths = tuple(conv.c_in for conv in convs)
        """Number of style coordinates of each convolution, in order."""
        self.image_lengths = widths

    @property
    def searched(self) -> int:
        """Number of convolution style coordinates: first in the style tensor, the image layers' follow."""
        return sum(self.lengths)

    def styles(self, codes: Float[Tensor, "b d"]) -> Float[Tensor, "b s"]:
        """All styles of w: the convolutions' in order, then the image layers'."""
        return torch.cat([affine(codes) for affine in (*self.affines, *self.image_affines)], dim=1)

    def forward(self, styles: Float[Tensor, "b s"], start: int = 0, state: State | None = None) -> Maps:
        """Images in [0, 1] (not clamped), from convolution `start` on, whose input is `state`."""
        return self.run(styles, start, state)[0]

    def run(self, styles: Float[Tensor, "b s"], start: int = 0, state: State | None = None) -> tuple[Maps, list[State]]:
        """Images, and what stood before each convolution from `start` on: edits of a later layer's styles reuse it."""
        parts = styles.split((*self.lengths, *self.image_lengths), dim=1)
        maps, picture = state or State(self.constant.expand(styles.shape[0], -1, -1, -1), None)
        states: list[State] = []
        for i in range(start, len(self.convs)):
            states.append(State(maps, picture))
            maps = self.convs[i](maps, parts[i])
            if i % 2 == 0:  # every resolution ends on an even convolution
                layer = self.to_images[i // 2](maps, parts[len(self.convs) + i // 2]).float()
                if picture is None:
                    picture = layer
                else:
                    picture = F.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False) + layer
        return cast(Tensor, picture) / 2 + 0.5, states


class Trunk(nn.Module):
    """Residual down-sampling body shared in form by discriminator and encoder: images to maps of 4 by 4."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.entry = EqualConv(config.channels, widths[0], 1)
        self.first = nn.ModuleList(EqualConv(a, a, 3) for a in widths[:-1])
        self.second = nn.ModuleList(EqualConv(a, b, 3, down=True) for a, b in itertools.pairwise(widths))
        self.skip = nn.ModuleList(EqualConv(a, b, 1, down=True, active=False) for a, b in itertools.pairwise(widths))

    def forward(self, images: Maps) -> Maps:
        """Maps of 4 by 4."""
        maps = self.entry(images * 2 - 1)
        for first, second, skip in zip(self.first, self.second, self.skip, strict=True):
            maps = (second(first(maps)) + skip(maps)) / GAIN
        return cast(Tensor, maps)


class Encoder(nn.Module):
    """Images to w, without activation at the end."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        width = config.widths[0]
        self.trunk = Trunk(config)
        self.last = EqualConv(width, width, 3)
        self.to_code = EqualLinear(width * 16, config.w_dim)

    def forward(self, images: Maps) -> Float[Tensor, "b d"]:
        """Codes w in float32."""
        return cast(Tensor, self.to_code(self.last(self.trunk(images)).flatten(1)))


class Discriminator(nn.Module):
    """Images and classifier probabilities to realness, the latter by projection (Miyato and Koyama 2018)."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        width = config.widths[0]
        self.trunk = Trunk(config)
        self.last = EqualConv(width + 1, width, 3)
        self.features = EqualLinear(width * 16, width)
        self.score = EqualLinear(width, 1)
        self.embed = EqualLinear(len(config.targets), width)

    def forward(self, images: Maps, probabilities: Float[Tensor, "b t"]) -> Float[Tensor, " b"]:
        """Logit of being real."""
        maps = self.trunk(images)
        maps = torch.cat([maps, batch_deviation(maps)], dim=1)
        features = activate(self.features(self.last(maps).flatten(1))) * GAIN
        matched = (self.embed(probabilities * 2 - 1) * features).sum(1) / math.sqrt(features.shape[1])
        return cast(Tensor, self.score(features)[:, 0] + matched)


def batch_deviation(maps: Maps, group: int = 4) -> Float[Tensor, "b 1 h w"]:
    """Mean standard deviation within groups of images, one number an image: shows a collapse to the critic."""
    b, _, h, w = maps.shape
    group = math.gcd(b, group)
    grouped = maps.float().reshape(group, b // group, -1)
    spread = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean(1)
    return spread.repeat(group).to(maps.dtype)[:, None, None, None].expand(b, 1, h, w)


class StyleNet(nn.Module):
    """Generator and encoder of a StyleEx: what is averaged, saved and explained with."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)
        self.encoder = Encoder(config)

    def code(self, w: Float[Tensor, "b d"], probabilities: Float[Tensor, "b t"] | None) -> Float[Tensor, "b e"]:
        """What the affine layers see: w alone, or `[w ; 2 p - 1]`; None stands for a dropped condition (zeros)."""
        if self.config.condition == "none":
            return w
        if probabilities is None:
            return F.pad(w, (0, len(self.config.targets)))
        return torch.cat([w, probabilities * 2 - 1], dim=1)

    def decode(self, codes: Float[Tensor, "b e"]) -> Maps:
        """Images in [0, 1], not clamped."""
        return cast(Tensor, self.synthesis(self.synthesis.styles(codes)))

    def affine_matrix(self, *, normalize_rows: bool = False) -> Float[Tensor, "s d"]:
        """Stacked weights of the convolutions' affine layers, w columns only: the map from W to style space."""
        rows = torch.cat([cast(EqualLinear, affine).matrix() for affine in self.synthesis.affines])[
            :, : self.config.w_dim
        ]
        rows = rows.detach()
        return F.normalize(rows, dim=1) if normalize_rows else rows
