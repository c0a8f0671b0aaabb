"""Losses of StyleEx (Atad et al. 2022; Lang et al. 2021; Karras et al. 2020): tensors in, a scalar out."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Scalar = Float[Tensor, ""]


def discriminator_loss(real: Float[Tensor, " b"], fake: Float[Tensor, " b"]) -> Scalar:
    """Non-saturating logistic loss: 2 log 2 where the discriminator knows nothing."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def adversarial_loss(fake: Float[Tensor, " b"]) -> Scalar:
    """Log 2 where the discriminator cannot tell, 0 where it is sure that fakes are real."""
    return F.softplus(-fake.float()).mean()


def bernoulli_divergence(logits: Float[Tensor, "b t"], reference: Float[Tensor, "b t"]) -> Scalar:
    """Mean KL(reference || logits) of independent Bernoulli outputs, in nats; 0 where the scores agree."""
    p = torch.sigmoid(reference)
    return (F.binary_cross_entropy_with_logits(logits, p) - F.binary_cross_entropy_with_logits(reference, p)).float()


def gradient_penalty(scores: Float[Tensor, " b"], images: Float[Tensor, "b c h w"]) -> Scalar:
    """R1 without its weight: mean squared norm of the discriminator's gradient at real images scaled to [-1, 1]."""
    (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return (slope / 2).square().sum((1, 2, 3)).mean()


def path_lengths(images: Float[Tensor, "b c h w"], codes: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Norm of the Jacobian by w along a random image direction, of images scaled to [-1, 1] (Karras et al. 2020, eq. 4)."""
    noise = 2 * torch.randn_like(images) / (images.shape[2] * images.shape[3]) ** 0.5
    (slope,) = torch.autograd.grad((images * noise).sum(), codes, create_graph=True)
    return slope.square().sum(1).sqrt()
