"""Pairs of training images mixed with each other, and whatever belongs to them likewise."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Mixture(NamedTuple):
    """Each row mixed with another one, the larger part its own (Zhang et al. 2018)."""

    share: float
    """Of the row's own, half to 1."""
    other: Int[Tensor, " b"]

    def of(self, values: Tensor) -> Tensor:
        """Values of the mixtures; what is unknown (NaN) in one of the two is unknown in the mixture."""
        return self.share * values + (1 - self.share) * values[self.other]

    def of_logits(self, logits: Tensor) -> Tensor:
        """Logits whose scores are the mixtures of the scores."""
        return self.of(logits.sigmoid()).logit(eps=1e-6)


def draw_mixture(count: int, alpha: float, device: torch.device | str = "cpu") -> Mixture:
    """Partners at random, one share for all from the beta distribution with both parameters `alpha`."""
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    return Mixture(max(share, 1 - share), torch.randperm(count, device=device))
