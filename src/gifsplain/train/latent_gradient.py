"""The gradient of a logit with respect to the latent, for terms about it that a classifier is trained with.

What such a term v(g) asks of the classifier's weights w is d/dw of the gradient g along dv/dg, that is of the derivative of the
logit along one direction of the latent. Forward-mode differentiation gives that derivative, and one backward pass what is
asked (reverse over forward: Pearlmutter 1994). Differentiating g itself (reverse over reverse) gives the same and takes
longer: depthwise convolutions have no fast second derivative. The second pass is always in single precision; statistics of
the network must not change between the two.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from gifsplain.models import trained
from gifsplain.models.networks import Autoencoder as FramedAutoencoder
from gifsplain.models.protocols import Autoencoder
from gifsplain.types import Images


def latent_gradient(
    autoencoder: Autoencoder,
    model: trained.ClassifierNet,
    latents: Float[Tensor, "k c h w"],
    targets: Int[Tensor, " k"],
) -> tuple[Float[Tensor, "k c h w"], Images]:
    """Gradient of each image's chosen logit, which hands its own gradient on to the weights; and what is drawn of the latents.

    The model is looked at as it is in evaluation: fixed statistics, no dropout.
    """

    def logits(drawn: Images) -> Float[Tensor, " k"]:
        with _evaluated(model):
            return model.raw_logits(drawn).float().gather(1, targets[:, None])[:, 0]

    def slopes(directions: Tensor) -> Tensor:
        """Sum of the chosen logits' derivatives along the directions."""
        with forward_ad.dual_level():
            with torch.no_grad():
                moving = decode_first_order(autoencoder, forward_ad.make_dual(latents, directions))
            slope: Tensor = forward_ad.unpack_dual(logits(moving)).tangent.sum()
        return slope

    _load_formulas()
    free = latents.detach().requires_grad_(True)
    drawn = decode_first_order(autoencoder, free)
    (gradient,) = torch.autograd.grad(logits(drawn).sum(), free)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    followed: Tensor = _Followed.apply(slopes, gradient, *weights)
    return followed, drawn.detach()


class _Followed(torch.autograd.Function):
    """A gradient as it is; what is asked of it goes to the weights through the slopes along it."""

    @staticmethod
    def forward(ctx: Any, slopes: Callable[[Tensor], Tensor], gradient: Tensor, *weights: Tensor) -> Tensor:
        ctx.slopes = slopes
        ctx.save_for_backward(*weights)
        return gradient.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, asked: Tensor) -> tuple[Tensor | None, ...]:
        weights = ctx.saved_tensors
        with torch.enable_grad(), torch.autocast(asked.device.type, enabled=False):
            grads = torch.autograd.grad(ctx.slopes(asked.detach()), weights, allow_unused=True)
        return None, None, *grads


@cache
def _load_formulas() -> None:
    """Torch loads its formulas at the first dual number, through a part of its own that it calls deprecated."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.filterwarnings("ignore", message=".*torch.jit.script")
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """The model in evaluation, each part afterwards as it was."""
    before = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def decode_first_order(autoencoder: Autoencoder, latents: Tensor) -> Images:
    """What is drawn, with a gradient that is defined at rest."""
    net = own_network(autoencoder)
    return net.decode_first_order(latents) if net is not None else autoencoder.decode(latents)


def own_network(autoencoder: Autoencoder) -> FramedAutoencoder | None:
    """The network behind an autoencoder where it is one of this package's."""
    net = getattr(autoencoder, "net", None)
    return net if isinstance(net, FramedAutoencoder) else None
