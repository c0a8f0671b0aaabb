"""What is known of some films of a batch: where a classifier should find what, and what lowering it should draw."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gifsplain.types import Images


class Evidence(NamedTuple):
    """Where the classifier should find each of some targets."""

    latents: Float[Tensor, "k c h w"]
    targets: Int[Tensor, " k"]
    regions: Float[Tensor, "k h w"]
    """1 in the places of the latent's grid that a box of the target covers, 0 elsewhere."""
    narrowing: Float[Tensor, "k 2 s s"] | None = None
    """Where each pixel is taken from when the target is made narrower, in pixels (x, y); for the last ones only, else 0."""
    healing: Float[Tensor, "k 1 s s"] | None = None
    """Change to what healthy films show in the box; 0 where none is asked."""


class Films(NamedTuple):
    """What is known of a batch of films as they are."""

    images: Images
    labels: Float[Tensor, "b t"]
    masks: Float[Tensor, "b t s s"] | None
    parts: Int[Tensor, " b"]
    """Source of each."""


class Wide(NamedTuple):
    """The target that is a matter of width, and where it lies in images without a box of it."""

    target: int
    usual: Float[Tensor, "b s s"]


def single(evidence: Evidence) -> Evidence:
    """In single precision at least: Fabric halves whatever enters a module in mixed precision."""

    def widened(numbers: Tensor) -> Tensor:
        return numbers.to(torch.promote_types(numbers.dtype, torch.float32))

    narrowing = None if evidence.narrowing is None else widened(evidence.narrowing)
    healed = None if evidence.healing is None else widened(evidence.healing)
    return Evidence(widened(evidence.latents), evidence.targets, widened(evidence.regions), narrowing, healed)
