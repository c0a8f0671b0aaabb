"""`evaluate directions`: share of held-out images that directions explain, for all finders and controls.

Directions are ranked on a selection split and frozen. A held-out image is explained when a move takes its score from
the reconstruction's side of 0.5 to the other, in the picture as drawn. Moves in W have the same length for all methods,
in root mean squares of the spread of encoded latents ("sigma"); as equal lengths are not equal changes, the share
is also given by the mean absolute change of the picture that it takes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.explain import attfind, directions, fits
from gifsplain.explain.effects import Aim, Ranked, Table, decode_scores, measure_table, merge_aims, rank_greedily
from gifsplain.models.protocols import Pair
from gifsplain.models.styleex import StyleModel
from gifsplain.types import Images, Latents

BUDGETS = (0.01, 0.02, 0.03, 0.05)
"""Mean absolute changes of the picture, in full scales, at which shares are tabulated."""
CONTROLS = ("random", "pca")


@dataclass(frozen=True)
class DirectionsPlan:
    """What is measured, and how hard is tried."""

    strengths: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
    """Lengths of moves in W, in sigma."""
    shifts: tuple[float, ...] = (1.0, 2.5, 5.0, 10.0)
    """AttFind's lengths: multiples of the way to the population's extreme."""
    rank_at: float = 3.0
    """Length at which candidates are measured on the selection split."""
    candidates: int = 20
    kept: int = 8
    attfind_images: int = 40
    """Selection images whose coordinates are all tried; 0 leaves AttFind out."""
    seed: int = 0
    batch: int = 128


@dataclass(frozen=True)
class Cost:
    """What finding the directions took on the selection split."""

    method: str
    images: int
    forwards: int
    gradients: int
    seconds: float


@dataclass(frozen=True)
class Tried:
    """One method's moves for one target, at every length, on every held-out image that is on the wrong side."""

    method: str
    target: str
    raises: bool
    images: Tensor
    """Places among the held-out images."""
    lengths: tuple[float, ...]
    labels: tuple[str, ...]
    flipped: Float[Tensor, "n k l"]
    change: Float[Tensor, "n k l"]
    """Mean absolute change of the picture."""
    sums: Float[Tensor, "n s l 2"]
    """Flipped, and change, when the first 1, 2 ... moves act together (subset selection); s 0: not tried."""


Move = Callable[[Latents, float], Latents]
"""Latents and a length (negative lowers) to latents that the model decodes."""


def measure(
    pair: Pair, selection: Images, held: Images, plan: DirectionsPlan, done: Callable[[str], None] = lambda step: None
) -> tuple[list[Tried], list[Cost]]:
    """Fit every finder on `selection`, try its directions on `held`.

    Raises:
        InputError: When there are too few images to rank on.
    """
    if len(selection) < 8 or not len(held):
        raise InputError(f"expected 8 selection images and one held-out image, got {len(selection)} and {len(held)}")
    with torch.no_grad():
        chosen = torch.cat([pair.autoencoder.encode(part) for part in selection.split(plan.batch)])
        z = torch.cat([pair.autoencoder.encode(part) for part in held.split(plan.batch)])
    stage = _Stage(pair, z, plan)
    tried: list[Tried] = []
    costs: list[Cost] = []
    for name, steps_by_target, cost in _fitted(pair, chosen, plan):
        costs.append(cost)
        for target, (steps, labels) in steps_by_target.items():
            tried += stage.try_steps(name, target, steps, labels)
        done(name)
    tried += [row for target in pair.targets for row in stage.try_gradients(target)]
    done("gradient")
    if isinstance(pair.autoencoder, StyleModel) and plan.attfind_images:
        found, cost = _fit_attfind(pair, pair.autoencoder, chosen, plan)
        costs.append(cost)
        for target, (ranking, extremes) in found.items():
            tried += stage.try_coordinates(pair.autoencoder, target, ranking, extremes)
        done("attfind")
    return tried, costs


def common_spread(latents: Latents, w_dim: int) -> float:
    """Root mean square of the latents' standard deviations over axes: one sigma."""
    return float(latents.flatten(1)[:, :w_dim].std(0).square().mean().sqrt())


Steps = dict[str, tuple[Float[Tensor, "k ..."], tuple[str, ...]]]


def _fitted(pair: Pair, latents: Latents, plan: DirectionsPlan) -> list[tuple[str, Steps, Cost]]:
    """Unit steps (one sigma long, signed to raise) of every linear method by target, and what they cost."""
    settings = fits.FitSettings(candidates=plan.candidates, kept=plan.kept, seed=plan.seed, batch=plan.batch)
    sigma = common_spread(latents, _w_dim(pair, latents))
    found = []
    for name, units in fits.candidate_directions(pair, latents, settings).items():
        started = time.perf_counter()
        table = measure_table(pair, latents, units * sigma * plan.rank_at, plan.batch)
        steps: Steps = {}
        for j, target in enumerate(pair.targets):
            ranking = table.rank_both(j, plan.kept)
            if ranking:
                signed = torch.stack([units[r.index] * r.sign * sigma for r in ranking])
                steps[target] = (signed, tuple(str(r.index) for r in ranking))
        found.append((name, steps, Cost(name, len(latents), table.forwards, 0, time.perf_counter() - started)))
    started = time.perf_counter()
    single = fits.target_directions(pair, latents, settings)
    seconds = (time.perf_counter() - started) / max(1, len(single))
    for name, by_target in single.items():
        unit = {t: (d.steps / d.steps.flatten(1).norm() * sigma, d.labels) for t, d in by_target.items()}
        gradients = len(latents) * len(unit) if name == "mean-gradient" else 0
        found.append((name, unit, Cost(name, len(latents), len(latents), gradients, seconds)))
    return found


def _w_dim(pair: Pair, latents: Latents) -> int:
    return pair.autoencoder.w_dim if isinstance(pair.autoencoder, StyleModel) else latents.flatten(1).shape[1]


Coordinates = dict[str, tuple[tuple[Ranked, ...], attfind.Extremes]]


def _fit_attfind(pair: Pair, model: StyleModel, latents: Latents, plan: DirectionsPlan) -> tuple[Coordinates, Cost]:
    started = time.perf_counter()
    with torch.no_grad():
        styles = model.styles(latents)
    extremes = attfind.Extremes.of(styles, sum(model.searched))
    some = styles[: plan.attfind_images]
    table = attfind.style_table(model, pair.classifier, some, extremes, shift=plan.shifts[0], batch=2 * plan.batch)
    found: Coordinates = {}
    for j, target in enumerate(pair.targets):
        found[target] = (_greedy(table, j, plan.kept), extremes)
    return found, Cost("attfind", len(some), table.forwards, 0, time.perf_counter() - started)


def _greedy(table: Table, target: int, count: int) -> tuple[Ranked, ...]:
    """AttFind's greedy ranking for both aims, merged."""
    threshold = 0.2
    raising, lowering = (rank_greedily(table.effects(aim).gains, threshold, 2 * count) for aim in attfind.aims(target))
    return merge_aims(raising, lowering, count)


@dataclass(frozen=True)
class _Stage:
    """Held-out latents and the pair that draws them."""

    pair: Pair
    latents: Latents
    plan: DirectionsPlan

    def start(self, target: str, raises: bool) -> tuple[Aim, Tensor]:
        """The aim, and the images whose reconstruction is on its wrong side."""
        aim = Aim(self.pair.targets.index(target), raises)
        base = decode_scores(self.pair, self.latents, self.plan.batch)[:, aim.target]
        return aim, torch.nonzero(~aim.reached(base))[:, 0]

    @torch.no_grad()
    def try_steps(
        self, method: str, target: str, steps: Float[Tensor, "k ..."], labels: tuple[str, ...]
    ) -> list[Tried]:
        """Each step alone, and the steps added up in each image's own order, at every length, for both aims."""
        rows = []
        for raises in (True, False):
            aim, images = self.start(target, raises)
            way = 1.0 if raises else -1.0
            alone = [self._draw(i, self._stretched(i, way * steps), aim) for i in images]
            sums = [self._sums(i, steps * way, self._own_order(alone[n], aim), aim) for n, i in enumerate(images)]
            rows.append(
                self._pack(
                    method, target, aim, images, lengths=self.plan.strengths, labels=labels, alone=alone, sums=sums
                )
            )
        return rows

    def _own_order(self, drawn: list[tuple[Tensor, Tensor]], aim: Aim) -> Tensor:
        """Moves by their gain on this image at the middle length."""
        scores = drawn[len(drawn) // 2][0]
        return scores.argsort(descending=aim.raises)

    def _sums(self, i: Tensor, steps: Tensor, order: Tensor, aim: Aim) -> list[tuple[Tensor, Tensor]]:
        """The first 1 ... k moves together, their sum as long as one move, at every length."""
        total = steps[order].cumsum(0)
        size = steps[0].norm()
        total = total * (size / total.flatten(1).norm(dim=1)).reshape(-1, *[1] * (steps.ndim - 1))
        return self._draw(i, self._stretched(i, total), aim)

    def _stretched(self, i: Tensor, steps: Float[Tensor, "k ..."]) -> Float[Tensor, "l k ..."]:
        """Latent `i` moved along every step at every length."""
        lengths = torch.tensor(self.plan.strengths).to(steps).reshape(-1, *[1] * steps.ndim)
        return self.latents[i] + lengths * steps

    def try_gradients(self, target: str) -> list[Tried]:
        """Each image's own gradient in W: Latent Shift at fixed lengths."""
        aim = Aim(self.pair.targets.index(target))
        w_dim = _w_dim(self.pair, self.latents)
        sigma = common_spread(self.latents, w_dim)
        slopes = directions.score_gradients(self.pair, self.latents, aim.target).flatten(1)
        slopes[:, w_dim:] = 0
        units = (slopes / slopes.norm(dim=1, keepdim=True).clamp_min(1e-12) * sigma).reshape(self.latents.shape)
        rows = []
        for raises in (True, False):
            own, images = self.start(target, raises)
            way = 1.0 if raises else -1.0
            with torch.no_grad():
                alone = [self._draw(i, self._stretched(i, way * units[i][None]), own) for i in images]
            rows.append(
                self._pack(
                    "gradient",
                    target,
                    own,
                    images,
                    lengths=self.plan.strengths,
                    labels=("own gradient",),
                    alone=alone,
                    sums=[],
                )
            )
        return rows

    @torch.no_grad()
    def try_coordinates(
        self, model: StyleModel, target: str, ranking: tuple[Ranked, ...], extremes: attfind.Extremes
    ) -> list[Tried]:
        """Each coordinate alone towards its extreme, and coordinates added up in each image's own order."""
        if not ranking:
            return []
        rows = []
        for raises in (True, False):
            aim, images = self.start(target, raises)
            way = 1 if raises else -1
            moves = tuple((r.index, r.sign * way) for r in ranking)
            alone, sums = [], []
            for i in images:
                style = model.styles(self.latents[i : i + 1])[0]
                base = model.decode_styles(style[None]).clamp(0, 1)
                edits = [attfind.apply_coordinates(style, extremes, (m,), s) for s in self.plan.shifts for m in moves]
                singles = self._draw_styles(model, base, edits, aim)
                order = self._own_order(singles, aim).tolist()
                chains = [tuple(moves[j] for j in order[: n + 1]) for n in range(len(order))]
                sets = [attfind.apply_coordinates(style, extremes, c, s) for s in self.plan.shifts for c in chains]
                alone.append(singles)
                sums.append(self._draw_styles(model, base, sets, aim))
            labels = tuple(attfind.coordinate_name(model, r.index) for r in ranking)
            rows.append(
                self._pack(
                    "attfind", target, aim, images, lengths=self.plan.shifts, labels=labels, alone=alone, sums=sums
                )
            )
        return rows

    def _draw(self, i: Tensor, latents: Float[Tensor, "l k ..."], aim: Aim) -> list[tuple[Tensor, Tensor]]:
        """For each length the scores of the target, and the change of the picture, at `k` latents of image `i`."""
        drawn = self.pair.autoencoder.decode(torch.cat([self.latents[i][None], latents.flatten(0, 1)])).clamp(0, 1)
        return self._compare(drawn[:1], drawn[1:], aim, len(latents))

    def _draw_styles(
        self, model: StyleModel, base: Images, styles: list[Tensor], aim: Aim
    ) -> list[tuple[Tensor, Tensor]]:
        frames = model.decode_styles(torch.stack(styles)).clamp(0, 1)
        return self._compare(base, frames, aim, len(self.plan.shifts))

    def _compare(self, base: Images, frames: Images, aim: Aim, parts: int) -> list[tuple[Tensor, Tensor]]:
        scores = self.pair.classifier.scores(frames)[:, aim.target]
        change = (frames - base).abs().mean((1, 2, 3))
        return list(zip(scores.chunk(parts), change.chunk(parts), strict=True))

    def _pack(
        self, method: str, target: str, aim: Aim, images: Tensor, *, lengths: tuple[float, ...], labels: tuple[str, ...],
        alone: list[list[tuple[Tensor, Tensor]]], sums: list[list[tuple[Tensor, Tensor]]],
    ) -> Tried:  # fmt: skip
        def cube(rows: list[list[tuple[Tensor, Tensor]]]) -> Tensor:
            if not rows:
                return torch.zeros(len(images), 0, len(lengths), 2)
            return torch.stack(
                [
                    torch.stack([torch.stack([aim.reached(scores).float(), change], 1) for scores, change in row], 1)
                    for row in rows
                ]
            )

        single = cube(alone) if alone else torch.zeros(0, len(labels), len(lengths), 2)
        return Tried(method, target, aim.raises, images, lengths, labels, single[..., 0], single[..., 1], cube(sums))


def case_rows(tried: list[Tried], budgets: tuple[float, ...] = BUDGETS) -> pd.DataFrame:
    """One row a method, selection, target, held-out image and length or budget: explained, and by how much change.

    `best`: the first move of the ranking; `independent`: any of the ranked moves; `subset`: ranked moves added up.
    """
    rows = []
    for item in tried:
        choices = {"best": (item.flipped[:, :1], item.change[:, :1]), "independent": (item.flipped, item.change)}
        if item.sums.shape[1]:
            choices["subset"] = (item.sums[..., 0], item.sums[..., 1])
        for selection, (flipped, change) in choices.items():
            for n, image in enumerate(item.images.tolist()):
                common = {"method": item.method, "selection": selection, "target": item.target, "raises": item.raises,
                          "image": image}  # fmt: skip
                rows += [common | entry for entry in _of_image(flipped[n], change[n], item.lengths, budgets)]
    return pd.DataFrame(rows)


def _of_image(
    flipped: Float[Tensor, "k l"], change: Float[Tensor, "k l"], lengths: tuple[float, ...], budgets: tuple[float, ...]
) -> list[dict[str, object]]:
    """At each length: explained by any move, and the change of the first that explains (else of the first)."""
    found: list[dict[str, object]] = []
    for column, length in enumerate(lengths):
        hits = torch.nonzero(flipped[:, column])[:, 0]
        which = int(hits[0]) if len(hits) else 0
        found.append(
            {"by": "length", "at": length, "explained": bool(len(hits)), "change": float(change[which, column])}
        )
    needed = change[flipped > 0]
    least = float(needed.min()) if len(needed) else float("inf")
    found += [{"by": "budget", "at": b, "explained": least <= b, "change": least} for b in budgets]
    return found
