"""Our Spearman, pointing game, area precision and energy against Quantus on a tiny network: a development check.

Quantus is no dependency: run this with PYTHONPATH=src in an environment of its own that also has Captum. Prints one line a measure with the largest absolute difference.
"""

import json

import numpy as np
import quantus
import torch
from quantus.functions.similarity_func import correlation_spearman
from torch import nn

from gifsplain.evaluate import correlation, overlap
from gifsplain.evaluate.layers import layers_in_order, randomised
from gifsplain.explain import attribution
from gifsplain.models import wrap
from gifsplain.models.protocols import Pair

SIZE, COUNT = 16, 6


def make() -> tuple[nn.Module, Pair, torch.Tensor]:
    """A random network of three layers and images with a bright square."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3)
    ).eval()
    model = wrap.classifier(net, name="tiny", targets=("a", "b", "c"), size=SIZE)
    images = torch.rand(COUNT, 1, SIZE, SIZE) * 0.3
    for k, image in enumerate(images):
        image[0, 2 + k : 7 + k, 3 + k : 9 + k] += 0.6
    return net, Pair(model, model), images  # type: ignore[arg-type]  # no autoencoder is asked here


def main() -> None:
    """Compare measure by measure."""
    net, pair, images = make()
    maps = attribution.gradient(pair, images, 1).numpy()
    masks = images[:, 0].numpy() > 0.6
    x, y, s = images.numpy(), np.ones(COUNT, dtype=int), masks[:, None]
    quiet = {"disable_warnings": True, "display_progressbar": False, "abs": False, "normalise": False}

    def ask(metric: object) -> np.ndarray:
        found = metric(model=net, x_batch=x, y_batch=y, a_batch=maps[:, None], s_batch=s)  # type: ignore[operator]
        return np.asarray(found, dtype=float)

    ours = {
        "pointing game (hit)": (
            [overlap.hit(m, k) for m, k in zip(maps, masks, strict=True)], ask(quantus.PointingGame(**quiet))),
        "relevance rank accuracy (precision at area)": (
            [overlap.precision_at_area(m, k) for m, k in zip(maps, masks, strict=True)],
            ask(quantus.RelevanceRankAccuracy(**quiet))),
        "relevance mass accuracy (energy)": (
            [overlap.energy_in(m, k) for m, k in zip(maps, masks, strict=True)],
            ask(quantus.RelevanceMassAccuracy(**quiet))),
    }  # fmt: skip
    own = attribution.network_of(pair.classifier)  # wrapped networks may be folded copies
    layers = layers_in_order(own, lambda: own(images))
    with randomised(layers[-2:], [1, 2]):
        after = attribution.gradient(pair, images, 1).numpy()
    ours["Spearman after two random layers"] = (
        [correlation.spearman(a, b) for a, b in zip(maps, after, strict=True)],
        np.array([correlation_spearman(a.ravel(), b.ravel()) for a, b in zip(maps, after, strict=True)]),
    )
    ours["complexity rise (efficient test), histogram entropy of 100 bins"] = (
        [correlation.complexity_rise(a, b) for a, b in zip(maps, after, strict=True)],
        np.array([_rise(a, b) for a, b in zip(maps, after, strict=True)]),
    )
    for name, (mine, theirs) in ours.items():
        difference = float(np.abs(np.asarray(mine) - theirs).max())
        print(json.dumps({"measure": name, "ours": np.round(mine, 6).tolist(), "largest_difference": difference}))


def _rise(before: np.ndarray, after: np.ndarray) -> float:
    first, second = (quantus.complexity_func.discrete_entropy(m.ravel(), None) for m in (before, after))
    return float((second - first) / first)


if __name__ == "__main__":
    main()
