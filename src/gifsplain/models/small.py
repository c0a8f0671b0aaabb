"""A small dense classifier for images of 32 to 256 pixels: cheap enough to sit inside a StyleEx training."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gifsplain.errors import ModelError


@dataclass(frozen=True)
class SmallConfig:
    """What rebuilds a small classifier; one stage for each width, each halving the side."""

    targets: tuple[str, ...]
    size: int = 64
    channels: int = 1
    widths: tuple[int, ...] = (24, 48, 96, 128)

    def to_dict(self) -> dict[str, Any]:
        """The config as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SmallConfig":
        """The config out of JSON values."""
        lists = {key: tuple(values[key]) for key in ("targets", "widths") if key in values}
        return cls(**{**values, **lists})


def _stage(c_in: int, c_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (c_in, c_out):
        layers += [nn.Conv2d(width, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AvgPool2d(2))


class SmallClassifier(nn.Module):
    """Images `b c h w` in [0, 1] to logits `b t`; `sigmoid` makes them probabilities."""

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        if config.size % 2 ** len(config.widths):
            raise ModelError(
                f"size {config.size} must be a multiple of {2 ** len(config.widths)} for {len(config.widths)} stages"
            )
        self.config = config
        stages = [_first_stage(config.channels, config.widths[0])]
        stages += [_stage(a, b) for a, b in itertools.pairwise(config.widths)]
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(config.widths[-1], len(config.targets))

    def maps(self, images: Float[Tensor, "b c h w"]) -> Sequence[Float[Tensor, "b d i j"]]:
        """What each stage gives, finest first: the layers of the perceptual loss."""
        maps, found = images * 2 - 1, []
        for stage in self.stages:
            maps = stage(maps)
            found.append(maps)
        return found

    def head_logits(self, maps: Float[Tensor, "b d i j"]) -> Float[Tensor, "b t"]:
        """Logits from the last stage's maps."""
        logits: Tensor = self.head(self.dropout(maps.mean((2, 3)))).float()
        return logits

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b t"]:
        """Logits in the order of the targets."""
        return self.head_logits(self.maps(images)[-1])


def _first_stage(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 5, padding=2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
    )


def normalised_difference(
    maps: Sequence[Float[Tensor, "b d i j"]], reference: Sequence[Float[Tensor, "b d i j"]]
) -> Float[Tensor, ""]:
    """Mean absolute difference of feature maps by the reference's mean absolute value, averaged over layers."""
    terms = [F.l1_loss(a.float(), b.float()) / b.float().abs().mean() for a, b in zip(maps, reference, strict=True)]
    total: Tensor = sum(terms[1:], terms[0])
    return total / len(terms)
