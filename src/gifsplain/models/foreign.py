"""Any torchvision or timm backbone as a classifier with the built-in one's interface: images to calibrated logits."""

from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gifsplain.errors import MissingExtraError, ModelError

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, in [0, 1]: what both libraries' weights expect."""


@dataclass(frozen=True)
class ForeignConfig:
    """What rebuilds the classifier; `backbone` is `timm:NAME` or `torchvision:NAME`."""

    targets: tuple[str, ...]
    backbone: str
    size: int = 224
    channels: int = 1
    dropout: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The config as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ForeignConfig":
        """The config out of JSON values."""
        return cls(**{**values, "targets": tuple(values["targets"])})


class ForeignClassifier(nn.Module):
    """Images `b c h w` in [0, 1] to calibrated logits `b t`; 0 is the operating point once calibrated."""

    calibration_offset: Tensor
    calibration_temperature: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ForeignConfig, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        if config.channels not in (1, 3):
            raise ModelError(f"{config.backbone} takes 1 or 3 channels, got {config.channels}")
        self.body = _build(config, pretrained=pretrained)
        self.register_buffer("calibration_offset", torch.zeros(len(config.targets)))
        self.register_buffer("calibration_temperature", torch.ones(len(config.targets)))
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None], persistent=False)

    def raw_logits(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b t"]:
        """Logits before calibration."""
        colour = images.expand(-1, 3, -1, -1)
        return cast(Tensor, self.body((colour - self.mean) / self.deviation))

    def calibrate_logits(self, logits: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        """Logits on the calibrated scale."""
        return (logits - self.calibration_offset) / self.calibration_temperature

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b t"]:
        """Calibrated logits, in the order of `config.targets`."""
        return self.calibrate_logits(self.raw_logits(images))


def _build(config: ForeignConfig, *, pretrained: bool) -> nn.Module:
    library, _, name = config.backbone.partition(":")
    if library == "timm":
        return _timm(name, config, pretrained=pretrained)
    if library == "torchvision":
        return _torchvision(name, config, pretrained=pretrained)
    raise ModelError(f"backbone must be timm:NAME or torchvision:NAME, got {config.backbone!r}")


def _timm(name: str, config: ForeignConfig, *, pretrained: bool) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError(f"timm:{name} needs timm; install gifsplain[timm]") from error
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name[:6]}*")[:8]) or "see timm.list_models()"
        raise ModelError(f"timm has no model {name!r}; close: {close}")
    net: nn.Module = timm.create_model(
        name, pretrained=pretrained, num_classes=len(config.targets), in_chans=3, drop_rate=config.dropout
    )
    return net


def _torchvision(name: str, config: ForeignConfig, *, pretrained: bool) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ModelError(f"torchvision has no classifier {name!r}; see torchvision.models.list_models()")
    net = models.get_model(name, weights="DEFAULT" if pretrained else None)
    last_name, last = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)][-1]
    head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(last.in_features, len(config.targets)))
    parent, _, attribute = last_name.rpartition(".")
    setattr(net.get_submodule(parent), attribute, head)
    return cast(nn.Module, net)
