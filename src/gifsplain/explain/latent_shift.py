"""Latent Shift: the direction is the gradient of the prediction with respect to the latent (Cohen et al. 2021, eq. 1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.explain.compose import Composition, compose
from gifsplain.explain.moves import LinearMove, Proposal
from gifsplain.models.protocols import Pair
from gifsplain.models.styleex import in_w
from gifsplain.types import Images, Latents

UNIT = "root mean square of the latent"


@dataclass(frozen=True)
class LatentShift:
    """One move for each image: straight along the gradient of the target's logit.

    The logit's gradient is parallel to the score's wherever the score is a smooth function of that logit, and does not
    vanish or jump where a calibrated score is flat or has a kink (DESIGN 4.2). Strength 1 is a latent distance of one
    root mean square of the image's latent, so strengths are comparable between models; `raw_unit` converts to the
    paper's lambda.
    """

    name: str = "latentshift"

    def find(self, pair: Pair, images: Images, latents: Latents, target: int, composition: Composition) -> Proposal:
        """One gradient through classifier and decoder for the whole batch."""
        z = latents.detach().requires_grad_(True)
        decoded = pair.autoencoder.decode(z)
        logits = pair.classifier.logits(compose(composition, decoded, images, decoded.detach()))
        (gradients,) = torch.autograd.grad(logits[:, target].sum(), z)
        gradients, logits = in_w(pair.autoencoder, gradients), logits.detach()
        scale = score_slope(pair, logits, target)
        moves = tuple(
            (gradient_move(latent, gradient, float(slope), self.name),)
            for latent, gradient, slope in zip(latents.detach(), gradients, scale, strict=True)
        )
        return Proposal(moves, decoded.detach(), pair.classifier.link(logits), gradients=1)


def score_slope(pair: Pair, logits: Float[Tensor, "b t"], target: int) -> Float[Tensor, " b"]:
    """Derivative of the target's score by its logit: the factor between the logit's gradient and eq. 1's."""
    with torch.enable_grad():
        free = logits.detach().requires_grad_(True)
        (slopes,) = torch.autograd.grad(pair.classifier.link(free)[:, target].sum(), free)
    return slopes[:, target]


def gradient_move(latent: Float[Tensor, "..."], gradient: Float[Tensor, "..."], slope: float, name: str) -> LinearMove:
    """A normalised move along `gradient`; its direction is zero where the gradient is zero or not finite.

    Args:
        latent: Sets the unit of strength.
        gradient: Of the logit.
        slope: Derivative of the score by the logit, for the paper's lambda.
        name: Of the method.
    """
    norm = float(gradient.double().norm())
    unit = float(latent.double().square().mean().sqrt())
    if not (0 < norm < float("inf")) or unit == 0:
        return LinearMove(torch.zeros_like(latent), name, UNIT, slope=0.0)
    raw = unit / (norm * abs(slope)) if slope != 0 else None
    return LinearMove(gradient * (unit / norm), name, UNIT, slope=norm * unit, raw_unit=raw)
