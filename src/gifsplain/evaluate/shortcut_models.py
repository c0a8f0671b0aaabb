"""Models for the shortcut benchmark: a classifier that trains in a minute, an autoencoder that can draw the mark."""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gifsplain.io.files import atomic_path
from gifsplain.types import Images


class MarkClassifier(nn.Module):
    """Four strided convolutions with a linear head on the mean; positions are kept by two coordinate channels."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        sizes = (3, width, 2 * width, 4 * width, 4 * width)
        self.body = nn.Sequential(
            *(
                layer
                for before, after in pairwise(sizes)
                for layer in (nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            )
        )
        self.head = nn.Linear(sizes[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logit of the one target."""
        x = F.avg_pool2d(x.mean(dim=1, keepdim=True), 2) if x.shape[-1] > 64 else x.mean(dim=1, keepdim=True)
        b, _, h, w = x.shape
        y = torch.linspace(-1, 1, h).to(x).view(1, 1, h, 1).expand(b, 1, h, w)
        z = torch.linspace(-1, 1, w).to(x).view(1, 1, 1, w).expand(b, 1, h, w)
        logits: Tensor = self.head(self.body(torch.cat([x - 0.5, y, z], dim=1)).mean(dim=(2, 3)))
        return logits


def train_classifier(
    images: Images, labels: Float[Tensor, " n"], *, epochs: int = 8, seed: int = 0, batch: int = 32
) -> MarkClassifier:
    """A classifier of `labels` (0 or 1): Adam, one cycle of the learning rate, no augmentation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = MarkClassifier()
        optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-3)
        steps = epochs * -(-len(images) // batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        for _ in range(epochs):
            for index in torch.randperm(len(images)).split(batch):
                if len(index) < 2:  # batch normalisation needs more than one image
                    schedule.step()
                    continue
                loss = F.binary_cross_entropy_with_logits(net(images[index])[:, 0], labels[index])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return net.eval()


class LinearAutoencoder(nn.Module):
    """Principal components: a latent of whitened coordinates."""

    def __init__(self, mean: Float[Tensor, "c h w"], axes: Float[Tensor, "d k"], spread: Float[Tensor, " k"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes)
        self.register_buffer("spread", spread)

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates with standard deviation 1 over the images of the fit."""
        return ((x - self.get_buffer("mean")).flatten(1) @ self.get_buffer("axes")) / self.get_buffer("spread")

    def decode(self, z: Tensor) -> Tensor:
        """The image with these coordinates."""
        flat = (z * self.get_buffer("spread")) @ self.get_buffer("axes").T
        return flat.view(-1, *self.get_buffer("mean").shape) + self.get_buffer("mean")


def fit_linear_autoencoder(images: Images, components: int, *, seed: int = 0) -> LinearAutoencoder:
    """The first principal components of the images."""
    mean = images.mean(dim=0)
    flat = (images - mean).flatten(1)
    count = min(components, min(flat.shape) - 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, values, axes = torch.pca_lowrank(flat, q=count, center=False, niter=3)
    return LinearAutoencoder(mean, axes.contiguous(), (values / len(images) ** 0.5).clamp(min=1e-6))


def cached_classifier(
    path: Path, images: Images, labels: Float[Tensor, " n"], *, epochs: int, seed: int
) -> MarkClassifier:
    """The classifier in `path`, trained and stored there first if need be."""
    net = MarkClassifier()
    if not path.exists():
        trained = train_classifier(images, labels, epochs=epochs, seed=seed)
        with atomic_path(path) as temporary:
            save_file({key: value.contiguous() for key, value in trained.state_dict().items()}, str(temporary))
    net.load_state_dict(load_file(str(path)))
    return net.eval()
