"""A pair without weights whose targets are grey levels of places: quick, smooth, and a change can be seen."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.models import wrap
from gifsplain.models.protocols import Pair
from gifsplain.types import Explanation, Picture, Provenance, ScoreMeaning

TARGETS = ("Mass", "Effusion", "Lung Opacity", "Nodule")


class Places(nn.Module):
    """One target a place: bright there means yes. The convolution is there for methods that need a layer."""

    def __init__(self, size: int, sharpness: float) -> None:
        super().__init__()
        self.look = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.constant_(self.look.weight, 1 / 9)
        y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
        spots = [(0.58, 0.28), (0.8, 0.75), (0.35, 0.3), (0.55, 0.8)]
        blobs = torch.stack([torch.exp(-((y - a) ** 2 + (x - b) ** 2) / 0.006) for a, b in spots])
        self.register_buffer("blobs", blobs / blobs.sum((1, 2), keepdim=True))
        self.sharpness = sharpness

    def forward(self, images: Tensor) -> Tensor:
        seen = self.look(images)
        return self.sharpness * (torch.einsum("bchw,thw->bt", seen, self.blobs) - 0.5)


class Pooled(nn.Module):
    """Every fourth pixel's mean, and a smooth way back."""

    def encode(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, 4)

    def decode(self, latents: Tensor) -> Tensor:
        return F.interpolate(latents, scale_factor=4, mode="bicubic", align_corners=False)


def pair(size: int = 32, sharpness: float = 7.0, name: str = "tiny") -> Pair:
    """Both models at `size` pixels."""
    classifier = wrap.classifier(
        Places(size, sharpness), name=name, targets=TARGETS, size=size, meaning=ScoreMeaning.CALIBRATED
    )
    return wrap.pair(classifier, wrap.autoencoder(Pooled(), name="pooled", size=size))


def explanation(size: int = 16) -> Explanation:
    """One real sweep of a phantom."""
    pixels = torch.linspace(0.2, 0.9, size).expand(1, size, size).contiguous()
    picture = Picture(pixels, Provenance("phantom", "ab" * 32, "NPY", (size, size), 8))
    return explain_with("latentshift", pair(size), [picture], ["Mass"], Settings(frames=5))[0]
