"""Iterative optimisation: of the latent code (Joshi et al. 2018, xGEMs), and of the pixels as the adversarial control.

The path of the optimisation is the move: negative strengths follow the path that lowers the score, positive strengths
the one that raises it.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gifsplain.explain.compose import Composition, compose
from gifsplain.explain.moves import PathMove, Proposal
from gifsplain.models.protocols import ModelCard, Pair
from gifsplain.models.styleex import in_w
from gifsplain.types import Images, Latents

UNIT = "optimisation steps"


@dataclass(frozen=True)
class LatentOptimisation:
    """Minimise `weight * |x - D(z)| + BCE(classifier(D(z)), wanted side)` over z by Adam from E(x), for both sides.

    Joshi et al. (2018), eq. 2, with the manifold given by the autoencoder; the learning rate is relative to the
    latent's root mean square, so that it suits every model.
    """

    name: str = "latent-optimisation"
    steps: int = 40
    rate: float = 0.05
    """Of Adam, in root mean squares of the latent."""
    weight: float = 1.0
    """Of the mean absolute distance to the image, in full scales."""

    def find(self, pair: Pair, images: Images, latents: Latents, target: int, composition: Composition) -> Proposal:
        """Two paths for each image; `2 steps` gradients an image."""
        start = latents.detach()
        with torch.no_grad():
            decoded = pair.autoencoder.decode(start)
            scores = pair.classifier.scores(compose(composition, decoded, images, decoded).clamp(0, 1))
        task = _Task(pair, images, decoded, target, composition)
        paths = [self._descend(task, start, raises) for raises in (False, True)]
        moves = tuple((PathMove(paths[0][:, i], paths[1][:, i], self.name, UNIT),) for i in range(len(images)))
        return Proposal(moves, decoded, scores, gradients=2 * self.steps)

    def _descend(self, task: "_Task", start: Latents, raises: bool) -> Float[Tensor, "m b ..."]:
        """Displacements after each step, the first 0."""
        scale = start.flatten(1).square().mean(1).sqrt().clamp_min(1e-12).reshape(-1, *[1] * (start.ndim - 1))
        shift = torch.zeros_like(start).requires_grad_(True)
        optimiser = torch.optim.Adam([shift], lr=self.rate)
        path = [torch.zeros_like(start)]
        for _ in range(self.steps):
            optimiser.zero_grad()
            loss = task.loss(start + shift * scale, raises, self.weight)
            shift.grad = in_w(task.pair.autoencoder, *torch.autograd.grad(loss, shift))
            optimiser.step()
            path.append((shift * scale).detach().clone())
        return torch.stack(path)


@dataclass(frozen=True, eq=False)
class _Task:
    pair: Pair
    images: Images
    decoded: Images
    target: int
    composition: Composition

    def loss(self, latents: Latents, raises: bool, weight: float) -> Float[Tensor, ""]:
        """Summed over images, so that images do not share their gradients."""
        frames = compose(self.composition, self.pair.autoencoder.decode(latents), self.images, self.decoded)
        logits = self.pair.classifier.logits(frames)[:, self.target]
        missed = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(raises)), reduction="none")
        distance = (frames - self.images).abs().mean((1, 2, 3))
        return (missed + weight * distance).sum()


@dataclass(frozen=True, eq=False)
class PixelIdentity:
    """Pixels as their own latents: what a counterfactual is without a model of images."""

    card: ModelCard

    def encode(self, images: Images) -> Latents:
        """The images."""
        return images

    def decode(self, latents: Latents) -> Images:
        """The latents."""
        return latents


def pixel_pair(pair: Pair) -> Pair:
    """The classifier with pixels in place of latents (Wachter et al. 2018): an adversarial control."""
    card = pair.classifier.card
    pixels = ModelCard(name="pixels", kind="autoencoder", size=card.size, channels=card.channels)
    return replace(pair, autoencoder=PixelIdentity(pixels))
