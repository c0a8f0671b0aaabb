"""The two pairs that every benchmark uses, and pictures for them."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gifsplain.io.examples import chest_radiograph
from gifsplain.io.images import load_image
from gifsplain.models import fold, wrap
from gifsplain.models.load import load_models
from gifsplain.models.protocols import Pair
from gifsplain.types import Picture


def built_in(*, optimise: bool = True) -> Pair:
    """The pair that ships with the package."""
    return load_models(optimise=optimise)


def torchxrayvision(*, optimise: bool = True) -> Pair:
    """ResNetAE-101 and DenseNet-121 by torchxrayvision's own classes with random weights: the time per evaluation is
    that of the published pair."""
    import torchxrayvision as xrv

    torch.manual_seed(0)
    classifier = wrap.classifier(
        torch.nn.Sequential(
            xrv.models.DenseNet(weights=None).features, torch.nn.ReLU(), Pool(), torch.nn.Linear(1024, 18)
        ),
        name="densenet121-random",
        targets=tuple(xrv.datasets.default_pathologies),
        size=224,
        value_range=(-1024.0, 1024.0),
    )
    autoencoder = wrap.autoencoder(
        xrv.autoencoders.ResNetAE101(), name="resnetae101-random", size=224, value_range=(-1024.0, 1024.0)
    )
    if not optimise:
        for net in (classifier.net, autoencoder.net):
            if net is not None:
                fold.unfold(net)
    return wrap.pair(classifier, autoencoder)


class Pool(torch.nn.Module):
    """Mean over places."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


PAIRS = {"built-in": built_in, "torchxrayvision": torchxrayvision}


def pictures(count: int) -> list[Picture]:
    """The radiograph of pydicom-data and `count - 1` shifted ones of it."""
    first = load_image(chest_radiograph())
    return [Picture(first.pixels.roll(37 * k, -1), first.provenance) for k in range(count)]


def small_files(folder: Path, count: int, side: int = 64) -> None:
    """`count` different small PNG files of noise with a blob."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = generator.integers(40, 120, (side, side))
        x, y = generator.integers(0, max(1, side - 16), 2)
        pixels[y : y + 16, x : x + 16] += 100
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:06d}.png")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that goes away."""
    return tempfile.TemporaryDirectory(prefix="gifsplain-bench-")
