"""Every method by name: one literal table, used alike by the command line, batch, evaluation, study and explorer."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from gifsplain.errors import InputError
from gifsplain.explain import attribution, checks, record
from gifsplain.explain.attribution import MapMethod
from gifsplain.explain.direction_methods import DIRECTION_METHODS
from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.moves import DirectionFinder
from gifsplain.explain.policies import PublishedLatentShift
from gifsplain.explain.run import explain, target_index
from gifsplain.explain.settings import Settings
from gifsplain.models.prepare import to_images
from gifsplain.models.protocols import Pair
from gifsplain.types import Cost, Explanation, Map, Picture, Scores, Stop

Build = Callable[[Pair, Settings], tuple[Pair, DirectionFinder]]
"""A finder for a pair, and the pair that it works in (a style view, an identity autoencoder), mostly the same one."""


class Method(Protocol):
    """A way to explain; gives a sweep or only a map."""

    @property
    def summary(self) -> str: ...

    def explain(
        self, pair: Pair, pictures: Sequence[Picture], targets: Sequence[str], settings: Settings, cases: Sequence[str] | None
    ) -> list[Explanation]: ...


@dataclass(frozen=True)
class SweepMethod:
    """A direction finder behind the one search and sweep."""

    summary: str
    build: Build

    def explain(
        self, pair: Pair, pictures: Sequence[Picture], targets: Sequence[str], settings: Settings, cases: Sequence[str] | None
    ) -> list[Explanation]:
        """Case by case, then target by target."""
        own, finder = self.build(pair, settings)
        return explain(own, finder, pictures, targets, settings, cases=cases)


@dataclass(frozen=True)
class DrawnMap:
    """An attribution that only draws a map; explains with the single frame `image` at strength 0."""

    name: str
    summary: str
    draw: MapMethod

    def explain(
        self, pair: Pair, pictures: Sequence[Picture], targets: Sequence[str], settings: Settings, cases: Sequence[str] | None
    ) -> list[Explanation]:
        """Case by case, then target by target."""
        if not pictures or not targets:
            raise InputError(f"expected at least one picture and one target, got {len(pictures)} and {len(targets)}")
        names = list(cases) if cases is not None else [picture.provenance.name for picture in pictures]
        indices = [target_index(pair.classifier.card, target) for target in targets]
        results: list[Explanation] = []
        for start in range(0, len(pictures), settings.batch):
            part = slice(start, start + settings.batch)
            results += self._part(pair, pictures[part], names[part], indices, settings)
        return results

    def _part(
        self, pair: Pair, pictures: Sequence[Picture], names: Sequence[str], indices: Sequence[int], settings: Settings
    ) -> list[Explanation]:
        started = time.perf_counter()
        images = to_images(pictures, pair.autoencoder.card).to(pair.device)
        maps = {index: self.draw(pair, images, index).detach().cpu() for index in indices}
        with torch.no_grad():
            drawn = pair.autoencoder.decode(pair.autoencoder.encode(images)).clamp(0, 1)
            before, after = pair.classifier.scores(images).cpu(), pair.classifier.scores(drawn).cpu()
        seconds = (time.perf_counter() - started) / (len(pictures) * len(indices))
        return [
            self._result(pair, settings, names[i], pictures[i], (images[i].cpu(), drawn[i].cpu()), (before[i], after[i]),
                         index, maps[index][i], seconds)
            for i in range(len(pictures))
            for index in indices
        ]

    def _result(
        self, pair: Pair, settings: Settings, case: str, picture: Picture, images: tuple[torch.Tensor, torch.Tensor],
        scores: tuple[torch.Tensor, torch.Tensor], index: int, drawn_map: Map, seconds: float,
    ) -> Explanation:
        card = pair.classifier.card
        explanation = Explanation(
            case=case, method=self.name, target=card.targets[index], meaning=card.meaning, picture=picture,
            image=images[0], reconstruction=images[1], frames=images[0].unsqueeze(0), strengths=torch.zeros(1),
            strength_unit="none", frame_scores=scores[0][index : index + 1], targets=card.targets,
            target_scores=scores[0].unsqueeze(0),
            scores=Scores(float(scores[0][index]), float(scores[1][index]), float("nan")), counterfactual=0,
            stop_lower=Stop.NOT_SEARCHED, stop_higher=Stop.NOT_SEARCHED, map=drawn_map, map_name=self.name,
            composition="none", cost=Cost(1, 1, 2, 0, seconds), record=record.make(pair, settings, picture),
        )
        cards = {"classifier": card, "autoencoder": pair.autoencoder.card}
        return replace(explanation, checks=checks.run(explanation, cards))


def _latent_shift(pair: Pair, settings: Settings) -> tuple[Pair, DirectionFinder]:
    return pair, LatentShift() if settings.policy == "exact" else PublishedLatentShift()


_MAP_SUMMARIES: dict[str, str] = {
    "grad": "absolute input gradient (Simonyan et al. 2014)",
    "guided": "guided backpropagation (Springenberg et al. 2015)",
    "integrated": "integrated gradients from the native zero (Sundararajan et al. 2017)",
    "integrated-black": "integrated gradients from black",
    "iterative-delete": "iterative delete (Bordes et al. 2018)",
    "grad-cam": "Grad-CAM (Selvaraju et al. 2017)",
    "occlusion": "occlusion (Zeiler and Fergus 2014)",
    "smoothgrad": "SmoothGrad (Smilkov et al. 2017)",
    "random-map": "control: a random map",
    "centre-prior": "control: a blob in the middle",
}

METHODS: Mapping[str, Method] = {
    "latentshift": SweepMethod("Latent Shift (Cohen et al. 2021)", _latent_shift),
    **{name: SweepMethod(summary, build) for name, (summary, build) in DIRECTION_METHODS.items()},
    **{name: DrawnMap(name, _MAP_SUMMARIES.get(name, name), draw) for name, draw in attribution.MAPS.items()},
}


def explain_with(
    name: str,
    pair: Pair,
    pictures: Sequence[Picture],
    targets: Sequence[str],
    settings: Settings = Settings(),
    *,
    cases: Sequence[str] | None = None,
) -> list[Explanation]:
    """Explanations by the method called `name`, case by case, then target by target.

    Raises:
        InputError: When no method goes by that name.
    """
    if name not in METHODS:
        raise InputError(f"no method is called {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name].explain(pair, pictures, targets, settings, cases)
