"""What lowering a target shall draw: an outline drawn in where it is a matter of width, else what healthy films show there."""

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.models import deform
from gifsplain.models.networks import LAYERS, Autoencoder
from gifsplain.train import losses
from gifsplain.train.edits import stretching
from gifsplain.types import Images

NARROW = 0.85
"""Width that a narrowing leaves; only the direction of its change is looked at."""
TRIAL = 1e-2
"""Length of the trial that tells how much the code draws, relative to the length of the latent."""


def narrowing(count: int, masks: Float[Tensor, "k s s"]) -> Float[Tensor, "n 2 s s"]:
    """Where each pixel is taken from when what lies in the boxes is made narrower, in pixels (x, y).

    For the last ones of `count` images, whose boxes are the `masks`; 0 for the others.
    """
    across = stretching(masks, masks.new_full((len(masks),), NARROW))
    fields = torch.stack([across, torch.zeros_like(across)], 1)
    return torch.cat([fields.new_zeros(count - len(masks), *fields.shape[1:]), fields])


def unlike_narrowing(
    net: Autoencoder,
    latents: Float[Tensor, "b c h w"],
    gradient: Float[Tensor, "b c h w"],
    drawn: Images,
    narrowings: Float[Tensor, "b 2 s s"],
    *,
    sides: bool = False,
) -> losses.Scalar:
    """How little what a step against the gradient draws looks like a narrowing, in mean over the images that have one.

    1 - cosine over the pixels, both changes to first order; 0 at best. Of what the code draws only the size counts.
    `sides`: a third of that, and two thirds of the same of the worse side of the middle alone: one side that comes in is no
    half of a narrowing, and a shift, which is right on one side and wrong on the other, costs more than no change.
    """
    chosen = narrowings.flatten(1).any(1)
    drawn, narrowings = drawn[chosen], narrowings[chosen]
    seen, hidden = _drawn_change(net, latents[chosen], gradient[chosen], drawn)
    wanted = deform.change_first_order(drawn, narrowings)
    unlikeness = losses.unlike(seen, wanted, hidden)
    if sides:
        halves = [losses.unlike(seen * part, wanted * part, hidden / 2) for part in side_weights(narrowings)]
        unlikeness = (unlikeness + 2 * torch.maximum(*halves)) / 3
    return unlikeness.mean()


def unlike_change(
    net: Autoencoder,
    latents: Float[Tensor, "b c h w"],
    gradient: Float[Tensor, "b c h w"],
    drawn: Images,
    wanted: Float[Tensor, "b 1 s s"],
) -> losses.Scalar:
    """How little what a step against the gradient draws looks like the wanted change, in mean over the images that have one.

    As `unlike_narrowing`, without sides; 0 when none has one.
    """
    chosen = wanted.flatten(1).any(1)
    if not chosen.any():
        return gradient.sum() * 0
    seen, hidden = _drawn_change(net, latents[chosen], gradient[chosen], drawn[chosen])
    return losses.unlike(seen, wanted[chosen].expand_as(seen), hidden).mean()


def _drawn_change(
    net: Autoencoder, latents: Float[Tensor, "b c h w"], gradient: Float[Tensor, "b c h w"], drawn: Images
) -> tuple[Images, Float[Tensor, " b"]]:
    """What shading and deformation draw in a step against the gradient, to first order; the code's squared length."""
    moves = -(net.frame.shift(gradient) if net.frame is not None else gradient)
    code, shading, velocity = moves.split([net.config.bottleneck[0], *LAYERS], dim=1)
    seen = deform.warped_change(drawn, velocity) + deform.upsample(shading, drawn.shape[-2:])
    return seen, code.square().flatten(1).sum(1) * _code_energy(net, latents, code.detach())


def side_weights(narrowings: Float[Tensor, "b 2 s s"]) -> tuple[Float[Tensor, "b 1 s s"], Float[Tensor, "b 1 s s"]]:
    """Roots of the share of each pixel that counts to the left and to the right of the middle; what stays counts half."""
    direction = narrowings[:, :1].sign()
    return ((1 - direction) / 2).sqrt(), ((1 + direction) / 2).sqrt()


@torch.no_grad()
def _code_energy(
    net: Autoencoder, latents: Float[Tensor, "b c h w"], code: Float[Tensor, "b k h w"]
) -> Float[Tensor, " b"]:
    """Squared length of the change that a small move of the code draws, for each unit of the move's squared length."""
    moves = torch.cat([code, code.new_zeros(len(code), sum(LAYERS), *code.shape[2:])], 1)
    step = net.frame.unshift(moves) if net.frame is not None else moves
    lengths = step.flatten(1).norm(dim=1).clamp_min(1e-20)
    step = step * (TRIAL * latents.flatten(1).norm(dim=1) / lengths).view(-1, 1, 1, 1)
    with torch.autocast(latents.device.type, enabled=False):
        change = net.decode(latents + step) - net.decode(latents)
    moved = net.frame.shift(step) if net.frame is not None else step
    energy: Tensor = change.square().flatten(1).sum(1) / moved.square().flatten(1).sum(1).clamp_min(1e-20)
    return energy
