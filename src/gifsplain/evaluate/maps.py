"""Maps by method name for images that are at model size already."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.evaluate.cases import as_pictures
from gifsplain.explain import attribution
from gifsplain.explain.methods import explain_with
from gifsplain.explain.run import target_index
from gifsplain.explain.settings import Settings
from gifsplain.models.protocols import Pair
from gifsplain.types import Images


def maps_of(
    pair: Pair, method: str, images: Images, target: str, settings: Settings, *, names: Sequence[str] = ()
) -> Float[Tensor, "b h w"]:
    """Non-negative maps of one method; attributions are drawn without the autoencoder's detour."""
    if method in attribution.MAPS:
        index = target_index(pair.classifier.card, target)
        return attribution.MAPS[method](pair, images.to(pair.device), index).cpu()
    called = list(names) or [f"image {number}" for number in range(images.shape[0])]
    found = explain_with(method, pair, as_pictures(images, called), [target], settings, cases=called)
    return torch.stack([explanation.map for explanation in found])
