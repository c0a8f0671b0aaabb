"""A frozen classifier as a measure of likeness: its feature maps and logits of two images."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gifsplain.errors import ConfigurationError
from gifsplain.models import builtin, trained
from gifsplain.models.networks import Classifier
from gifsplain.types import Images


@dataclass(frozen=True)
class FeatureConfig:
    """Which classifier looks, with which layers, and at how many images of a batch."""

    classifier: str = ""
    """Folder of a finished classifier training, or `cxr` for the built-in one."""
    layers: tuple[int, ...] = (3, 5, 10)
    """Places in the body; the last one is always added."""
    images: int = 0
    """Only the first so many images of a batch, to save time; 0: all."""


@dataclass(frozen=True)
class Seen:
    """What the classifier made of a batch."""

    maps: tuple[Float[Tensor, "b d i j"], ...]
    logits: Float[Tensor, "b t"]


class Features(nn.Module):
    """A built-in classifier, frozen and always in evaluation mode."""

    def __init__(self, classifier: Classifier, config: FeatureConfig) -> None:
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.layers, self.limit = config.layers, config.images

    def forward(self, images: Images) -> Seen:
        """Maps of the chosen layers, fine to coarse, and calibrated logits."""
        bodies = self.classifier.bodies
        maps, streams = [], [images * 2 - 1] * len(bodies)
        for i, layers in enumerate(zip(*bodies, strict=True)):
            streams = [layer(stream) for layer, stream in zip(layers, streams, strict=True)]
            if i in self.layers:
                maps.append(torch.cat(streams, 1))
        current = torch.cat(streams, 1)
        raw = self.classifier.head(current.mean((2, 3)))
        return Seen((*maps, current), self.classifier.calibrate_logits(raw.float()))

    def compare(self, drawn: Images, images: Images) -> tuple[Seen, Seen]:
        """Drawn images with gradient, true images without."""
        limit = self.limit or images.shape[0]
        with torch.no_grad():
            theirs = self(images[:limit])
        return self(drawn[:limit]), theirs


def open_features(config: FeatureConfig) -> Features:
    """The classifier that `config` names."""
    if not config.classifier:
        raise ConfigurationError("features.classifier is empty; name the folder of a trained classifier, or cxr")
    if config.classifier == "cxr":
        net = builtin.cxr_classifier().net
    else:
        net, _ = trained.load_classifier_net(Path(config.classifier))
    if not isinstance(net, Classifier):
        raise ConfigurationError(f"{config.classifier}: features need a built-in backbone, got {type(net).__name__}")
    return Features(net, config)
