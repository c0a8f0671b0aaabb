"""Attributions that only draw a map, in the same call and result shape as a sweep."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import ModelError
from gifsplain.explain import checks, record
from gifsplain.explain.attribution import MapMethod
from gifsplain.explain.run import case_names, require_scores, target_index
from gifsplain.explain.settings import Settings
from gifsplain.models.budget import in_parts
from gifsplain.models.prepare import to_images
from gifsplain.models.protocols import Pair
from gifsplain.types import Cost, Explanation, Images, Latents, Map, Picture, Scores, Stop

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Seen:
    """A part of the pictures as the models saw them, on the CPU."""

    images: Images
    latents: Latents
    drawn: Images
    before: Float[Tensor, "b t"]
    after: Float[Tensor, "b t"]


@dataclass(frozen=True)
class DrawnMap:
    """A map method; explains with the single frame `image` at strength 0."""

    name: str
    summary: str
    draw: MapMethod

    def explain(
        self,
        pair: Pair,
        pictures: Sequence[Picture],
        targets: Sequence[str],
        settings: Settings,
        cases: Sequence[str] | None,
    ) -> list[Explanation]:
        """Case by case, then target by target; always in float32, which the record says."""
        names = case_names(pictures, targets, cases)
        if settings.precision != "float32":
            log.warning("%s draws its map in float32; precision %s is for sweeps", self.name, settings.precision)
            settings = replace(settings, precision="float32")
        indices = [target_index(pair.classifier.card, target) for target in targets]

        def work(part: slice) -> list[Explanation]:
            return self._part(pair, pictures[part], names[part], indices, settings)

        parts = in_parts(work, len(pictures), pair.budget, settings.batch)
        return [one for part in parts for one in part]

    def _part(
        self, pair: Pair, pictures: Sequence[Picture], names: Sequence[str], indices: Sequence[int], settings: Settings
    ) -> list[Explanation]:
        started = time.perf_counter()
        images = to_images(pictures, pair.autoencoder.card).to(pair.device)
        maps = {index: self.draw(pair, images, index).detach().cpu() for index in indices}
        seen = _look(pair, images)
        cost = Cost(1, 1, 2, 0, (time.perf_counter() - started) / (len(pictures) * len(indices)))
        return [
            self._result(pair, settings, seen, i, index, maps[index][i], case=names[i], picture=pictures[i], cost=cost)
            for i in range(len(pictures))
            for index in indices
        ]

    def _result(
        self,
        pair: Pair,
        settings: Settings,
        seen: _Seen,
        row: int,
        target: int,
        drawn_map: Map,
        *,
        case: str,
        picture: Picture,
        cost: Cost,
    ) -> Explanation:
        card = pair.classifier.card
        require_scores(pair, seen.before[row], seen.after[row], target, case)
        if not bool(drawn_map.isfinite().all()):
            raise ModelError(
                f"{case}: {self.name} draws a map with values that are no numbers for {card.targets[target]}; "
                f"the gradient of {card.name} is not finite there"
            )
        explanation = Explanation(
            case=case,
            method=self.name,
            target=card.targets[target],
            meaning=card.meaning,
            picture=picture,
            image=seen.images[row],
            reconstruction=seen.drawn[row],
            frames=seen.images[row : row + 1],
            strengths=torch.zeros(1),
            strength_unit="none",
            frame_scores=seen.before[row, target : target + 1],
            targets=card.targets,
            target_scores=seen.before[row : row + 1],
            scores=Scores(float(seen.before[row, target]), float(seen.after[row, target]), float("nan")),
            counterfactual=0,
            stop_lower=Stop.NOT_SEARCHED,
            stop_higher=Stop.NOT_SEARCHED,
            map=drawn_map,
            map_name=self.name,
            composition="none",
            cost=cost,
            record=record.make(pair, settings, picture, latent=seen.latents[row]),
        )
        cards = {"classifier": card, "autoencoder": pair.autoencoder.card}
        return replace(explanation, checks=checks.run(explanation, cards))


@torch.no_grad()
def _look(pair: Pair, images: Images) -> _Seen:
    latents = pair.autoencoder.encode(images)
    drawn = pair.autoencoder.decode(latents).clamp(0, 1)
    before, after = pair.classifier.scores(images), pair.classifier.scores(drawn)
    return _Seen(images.cpu(), latents.cpu(), drawn.cpu(), before.cpu(), after.cpu())
