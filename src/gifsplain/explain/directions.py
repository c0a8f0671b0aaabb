"""Simple latent directions, controls for every other: principal, random, mean gradient, label flip."""

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.models.protocols import Pair
from gifsplain.types import Latents


def principal_directions(latents: Float[Tensor, "n ..."], count: int = 20) -> Float[Tensor, "k ..."]:
    """Orthonormal principal directions of encoded latents, largest variance first; at most n - 1."""
    flat = latents.flatten(1)
    centred = (flat - flat.mean(0)).double()
    rows: Tensor = torch.linalg.svd(centred, full_matrices=False)[2][: min(count, len(latents) - 1)]
    return rows.to(latents.dtype).reshape(-1, *latents.shape[1:])


def random_directions(shape: tuple[int, ...], count: int = 20, seed: int = 0) -> Float[Tensor, "k ..."]:
    """Random orthonormal directions: what any direction achieves. The same for the same seed on every machine."""
    size = torch.Size(shape).numel()
    drawn = torch.randn(size, min(count, size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(drawn)[0]
    return basis.T.float().reshape(-1, *shape)


def score_gradients(pair: Pair, latents: Latents, target: int, batch: int = 32) -> Float[Tensor, "n ..."]:
    """Gradient of the target's logit by each latent: Latent Shift's direction."""
    parts = []
    for part in latents.split(batch):
        free = part.detach().requires_grad_(True)
        logits = pair.classifier.logits(pair.autoencoder.decode(free))[:, target]
        parts.append(torch.autograd.grad(logits.sum(), free)[0])
    return torch.cat(parts)


def mean_gradient(pair: Pair, latents: Latents, target: int) -> Float[Tensor, "..."]:
    """The one unit direction that raises the logit most on average over `latents`, each counting alike.

    Zero where no latent has a gradient.
    """
    gradients = score_gradients(pair, latents, target)
    tiny = torch.finfo(gradients.dtype).tiny
    norms = gradients.flatten(1).norm(dim=1).clamp_min(tiny)
    mean: Tensor = (gradients / norms.reshape(-1, *[1] * (gradients.ndim - 1))).mean(0)
    unit: Tensor = mean / mean.norm().clamp_min(tiny)
    return unit


def label_direction(width: int, w_dim: int, target: int) -> Float[Tensor, " e"]:
    """The condition's own axis of a conditioned generator; its latent ends with `2 p - 1`."""
    direction = torch.zeros(width)
    direction[w_dim + target] = 1.0
    return direction


def spreads(latents: Float[Tensor, "n ..."], directions: Float[Tensor, "k ..."]) -> Float[Tensor, " k"]:
    """Standard deviation of the latents along each unit direction: strength 1 of a population move."""
    return (latents.flatten(1) @ directions.flatten(1).T).std(0)


def only_w(directions: Float[Tensor, "k ..."], width: int) -> Float[Tensor, "k e"]:
    """Directions of W as directions of `[w ; condition]`: zero on the condition."""
    return torch.nn.functional.pad(directions, (0, width - directions.shape[1]))
