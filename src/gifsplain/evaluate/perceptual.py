"""Perceptual distance of two images through the layers of a given classifier."""

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.explain.attribution import network_of
from gifsplain.models.protocols import Classifier


def distance(classifier: Classifier, a: Float[Tensor, "c h w"], b: Float[Tensor, "c h w"]) -> float:
    """Mean squared difference of channel-normalised activations over layers that keep places (after Zhang 2018).

    The layers' weights are all 1: no human judgements of radiographs are at hand to learn others from. 0 for equal
    images.
    """
    seen: list[Tensor] = []

    def note(_: object, __: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
            unit = torch.nn.functional.normalize(output.detach(), dim=1)
            seen.append((unit[0] - unit[1]).square().sum(dim=0).mean())

    hooks = [module.register_forward_hook(note) for module in network_of(classifier).modules()]
    try:
        with torch.no_grad():
            classifier.logits(torch.stack([a, b]))
    finally:
        for hook in hooks:
            hook.remove()
    return float(torch.stack(seen).mean()) if seen else float("nan")
