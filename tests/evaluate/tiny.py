"""Small networks for the tests of the baselines and of the evaluation: 16 pixels, three targets."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gifsplain.models import wrap
from gifsplain.models.protocols import Pair

TARGETS = ("Mass", "Effusion", "Nodule")
SIZE = 16


class TinyClassifier(nn.Module):
    """In-place ReLUs as module and as function, as in a DenseNet."""

    def __init__(self, *, targets: int = len(TARGETS)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, 2, 1)
        self.act = nn.ReLU(inplace=True)
        self.body = nn.Conv2d(6, 8, 3, 1, 1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, targets)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.body(self.act(self.stem(x))))
        return self.head(F.relu(x, inplace=True).mean((2, 3)))


class TinyAutoencoder(nn.Module):
    """Linear: pooling down, nearest up, plus one learnt filter."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(1, 1, 3, padding=1)

    def encode(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(z, scale_factor=2) + 0.1 * self.mix(F.interpolate(z, scale_factor=2))


def tiny_pair(seed: int = 0, value_range: tuple[float, float] = (-4.0, 4.0)) -> Pair:
    """A random classifier that reacts strongly, and an autoencoder."""
    torch.manual_seed(seed)
    net = TinyClassifier()
    with torch.no_grad():
        net.head.weight.mul_(6)
    model = wrap.classifier(net, name="tiny", targets=TARGETS, size=SIZE, value_range=value_range)
    return wrap.pair(model, wrap.autoencoder(TinyAutoencoder(), name="tiny-ae", size=SIZE))


def tiny_images(count: int = 3, seed: int = 1) -> Tensor:
    """Random images in [0, 1]."""
    return torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
