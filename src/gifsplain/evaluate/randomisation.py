"""`evaluate randomisation`: does a map depend on the weights? (Adebayo 2018; Cohen 2021, figures 5 and H.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.evaluate import cases, correlation, parts
from gifsplain.evaluate.config import Setup, refuse_repeated
from gifsplain.evaluate.layers import Layer, layers_in_order, randomised
from gifsplain.evaluate.maps import maps_of
from gifsplain.evaluate.store import claim
from gifsplain.explain.attribution import network_of
from gifsplain.models.protocols import Pair
from gifsplain.types import Images

KINDS = ("cascading", "independent", "smooth", "efficient")


@dataclass(frozen=True)
class RandomisationConfig:
    """Which variants, and how finely; the paper used 40 images."""

    setup: Setup
    kinds: tuple[str, ...] = KINDS
    steps: int = 10
    """Depths at which maps are drawn again, evenly spread over the layers, the output first."""
    samples: int = 4
    """Noisy copies over which the smooth variant averages every map before comparing."""
    noise: float = 0.05
    """Their standard deviation, in grey ranges."""
    frames: int = 7
    """Frames of a sweep here; the map of a sweep changes little with more."""

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise InputError(f"kinds must be among {', '.join(KINDS)}, got {', '.join(unknown)}")
        refuse_repeated("kinds", self.kinds)
        if not self.kinds or self.steps < 1:
            raise InputError(f"kinds and steps must be 1 or more, got {len(self.kinds)} and {self.steps}")


def run(config: RandomisationConfig, progress: parts.Progress | None = None) -> pd.DataFrame:
    """One row for each case, method, kind and depth, with `similarity`: Spearman of absolute maps.

    The efficient kind has `rise` instead: the relative rise of complexity.
    """
    setup, pairs = config.setup.opened()
    config = replace(config, setup=setup)
    pool = cases.load_cases(setup)
    units = [
        parts.Unit((name, target), case.key, (case, rank))
        for name, pair in pairs.items()
        for target in setup.targets or pair.targets
        if target in pair.targets
        for rank, case in enumerate(cases.draw(cases.shown(setup, pool, target), setup.limit, setup.seed))
    ]
    cases.refuse_none(setup, units)
    folder = setup.out / "randomisation"
    claim(folder, config, pairs.values(), setup.methods)

    def compute(group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
        return _rows(config, pairs[group[0].group[0]], group)

    return parts.run_parts(folder, units, compute, chunk=setup.batch, progress=progress).some()


def _rows(config: RandomisationConfig, pair: Pair, group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
    target = group[0].group[1]
    images = cases.load_pictures([unit.payload[0] for unit in group], pair.classifier.card)
    layers = layers_in_order(network_of(pair.classifier), lambda: pair.classifier.logits(images[:1].to(pair.device)))
    rows: list[list[parts.Row]] = [[] for _ in group]
    for method in config.setup.methods:
        asked = [index for index, unit in enumerate(group) if config.setup.reaches(method, unit.payload[1])]
        for kind, depth, values in _curve(config, pair, method, images[asked], target, layers=layers) if asked else ():
            for index, value in zip(asked, values, strict=True):
                unit = group[index]
                name = "rise" if kind == "efficient" else "similarity"
                rows[index].append(
                    {"classifier": unit.group[0], "target": target, "case": unit.case, "patient": unit.payload[0].patient,
                     "method": method, "kind": kind, "randomised": depth / len(layers),
                     "layer": layers[-depth].name if depth else "(none)", name: value}
                )  # fmt: skip
    return rows


def _curve(
    config: RandomisationConfig, pair: Pair, method: str, images: Images, target: str, *, layers: Sequence[Layer]
) -> list[tuple[str, int, list[float]]]:
    """Kind, number of layers from the output, and one number an image."""
    found: list[tuple[str, int, list[float]]] = []
    depths = depths_of(len(layers), config.steps)
    plain = _draw(config, pair, method, images, target)
    smooth = _draw(config, pair, method, images, target, smooth=True) if "smooth" in config.kinds else None
    for kind in config.kinds:
        for depth in [len(layers)] if kind == "efficient" else [0, *depths]:
            chosen = layers[-depth:] if depth else []
            places = range(len(layers) - len(chosen), len(layers))
            if kind == "independent" and depth:
                chosen, places = (
                    layers[-depth : len(layers) - depth + 1],
                    range(len(layers) - depth, len(layers) - depth + 1),
                )
            with randomised(chosen, [config.setup.seed * 100_003 + place for place in places]):
                after = _draw(config, pair, method, images, target, smooth=kind == "smooth")
            before = smooth if kind == "smooth" and smooth is not None else plain
            compare = correlation.complexity_rise if kind == "efficient" else correlation.spearman
            found.append((kind, depth, [compare(a, b) for a, b in zip(before.numpy(), after.numpy(), strict=True)]))
    return found


def depths_of(count: int, steps: int) -> list[int]:
    """Numbers of randomised layers, from 1 to all of them, at most `steps`."""
    return sorted({round(place) for place in np.linspace(1, count, min(steps, count)).tolist()})


def _draw(
    config: RandomisationConfig, pair: Pair, method: str, images: Images, target: str, *, smooth: bool = False
) -> Float[Tensor, "b h w"]:
    settings = replace(config.setup.settings, frames=config.frames)
    if not smooth:
        return maps_of(pair, method, images, target, settings)
    generator = torch.Generator().manual_seed(config.setup.seed)
    noisy = [
        (images + config.noise * torch.randn(images.shape[1:], generator=generator)).clamp(0, 1)
        for _ in range(config.samples)
    ]
    return torch.stack([maps_of(pair, method, copy, target, settings) for copy in noisy]).mean(dim=0)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over images for each classifier, target, method, kind and depth."""
    keys = ["classifier", "target", "method", "kind", "randomised"]
    either = rows.reindex(columns=["similarity", "rise"])
    value = either["similarity"].where(rows["kind"] != "efficient", either["rise"])
    table = rows[keys].assign(value=value).groupby(keys, sort=False)["value"]
    return table.agg(mean="mean", sd=lambda v: float(np.std(v)), n="count").reset_index()
