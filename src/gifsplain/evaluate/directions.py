"""`evaluate directions`: share of held-out images that directions explain, for all finders and controls.

Directions are ranked on a selection split and frozen. A held-out image is explained when a move takes its score from
the reconstruction's side of 0.5 to the other, in the picture as drawn. Moves in W have the same length for all methods,
in root mean squares of the spread of the selection images' latents ("sigma"); as equal lengths are not equal changes, the
share is also given by the mean absolute change of the picture that it takes.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import InputError, require
from gifsplain.evaluate.movers import Codes, CoordinateMover, Mover, Moves, OwnMover, StepMover
from gifsplain.explain import attfind, directions, effects, eigenfind, fits
from gifsplain.explain.effects import Aim, Ranked, Table, decode_scores, measure_table, merge_aims, rank_greedily
from gifsplain.explain.run import target_index
from gifsplain.models.protocols import Pair
from gifsplain.models.styleex import StyleModel
from gifsplain.types import Images, Latents

BUDGETS = (0.01, 0.02, 0.03, 0.05)
"""Mean absolute changes of the picture, in full scales, at which shares are tabulated."""
CONTROLS = ("random", "pca")
COVER = 0.2
"""Change of the score by which AttFind's ranking counts an image as explained."""


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
    targets: tuple[str, ...] = ()
    """Empty: all that the classifier has."""
    attfind_images: int = 40
    """Selection images whose coordinates are all tried; 0 leaves AttFind out."""
    local: int = 0
    """Singular vectors of the decoder's Jacobian at each held-out image's own reconstruction; 0 leaves them out."""
    seed: int = 0
    batch: int = 128

    def __post_init__(self) -> None:
        lengths, counts = (self.strengths, self.shifts), (self.candidates, self.kept, self.batch)
        checks = {
            "lengths and shifts must be above 0 and rise, at least one of each": (all(map(_rise, lengths)), lengths),
            "rank_at must be above 0": (self.rank_at > 0, self.rank_at),
            "candidates, kept and batch must be 1 or more": (min(counts) >= 1, counts),
            "attfind_images must be 0 or more": (self.attfind_images >= 0, self.attfind_images),
            "local must be 0 or more": (self.local >= 0, self.local),
        }
        require(checks)

    def chosen(self, pair: Pair) -> tuple[str, ...]:
        """The targets that are measured, as the classifier spells them; one that it lacks is refused by name."""
        places = [target_index(pair.classifier.card, target) for target in self.targets]
        return tuple(dict.fromkeys(pair.targets[place] for place in places)) or pair.targets


def _rise(lengths: Sequence[float]) -> bool:
    return bool(lengths) and all(a < b for a, b in itertools.pairwise((0.0, *lengths)))


@dataclass(frozen=True)
class Cost:
    """What finding the directions took on the selection split."""

    method: str
    images: int
    forwards: int
    gradients: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Found:
    """A finder's measurements on the selection split, and how its candidates move held-out images."""

    method: str
    mover: Mover
    table: Table
    seconds: float
    rank: Callable[[Table, int], tuple[Ranked, ...]]
    """The moves kept for one target, signed to raise it."""
    label: Callable[[int], str] = str

    @property
    def cost(self) -> Cost:
        """What the whole table took."""
        return Cost(self.method, len(self.table.base), self.table.forwards, 0, self.seconds)


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


@dataclass(frozen=True)
class Measured:
    """Everything that one run measures."""

    tried: list[Tried]
    costs: list[Cost]
    found: list[Found]
    """Finders whose cost depends on the number of selection images: AttFind, EigenFind and its controls."""
    stage: "Stage"


def measure(
    pair: Pair, selection: Images, held: Images, plan: DirectionsPlan, done: Callable[[str], None] = lambda step: None
) -> Measured:
    """Fit every finder on `selection`, try its directions on `held`.

    Raises:
        InputError: When there are too few images to rank on.
    """
    if len(selection) < 8 or not len(held):
        raise InputError(f"expected 8 selection images and one held-out image, got {len(selection)} and {len(held)}")
    with torch.no_grad():
        chosen = torch.cat([pair.autoencoder.encode(part) for part in selection.split(plan.batch)])
        z = torch.cat([pair.autoencoder.encode(part) for part in held.split(plan.batch)])
    stage = Stage.of(pair, z, plan)
    tried: list[Tried] = []
    costs: list[Cost] = []
    found = []
    for item in _searched(pair, chosen, z, plan):
        found.append(item)
        costs.append(item.cost)
        for target in plan.chosen(pair):
            ranking = item.rank(item.table, pair.targets.index(target))
            tried += stage.try_moves(item.method, target, item.mover, ranking, item.label)
        done(item.method)
    for own in (*_single(pair, chosen, z, plan), *_local(pair, chosen, z, plan)):
        ranking = tuple(Ranked(k, 1, 0.0) for k in range(own.moves))
        tried += stage.try_moves(own.method, own.target, own.mover, ranking, own.label, sums=own.moves > 1)
        done(f"{own.method} {own.target}")
        costs += [own.cost] if own.cost else []
    return Measured(tried, costs, found, stage)


def common_spread(latents: Latents, w_dim: int) -> float:
    """Root mean square of the latents' standard deviations over axes: one sigma."""
    return float(latents.flatten(1)[:, :w_dim].std(0).square().mean().sqrt())


def _searched(pair: Pair, chosen: Latents, held: Latents, plan: DirectionsPlan) -> Iterator[Found]:
    """Methods that rank many candidates on the selection images."""
    settings = fits.FitSettings(candidates=plan.candidates, kept=plan.kept, seed=plan.seed, batch=plan.batch)
    sigma = common_spread(chosen, _w_dim(pair, chosen))

    def best(table: Table, target: int) -> tuple[Ranked, ...]:
        return table.rank_both(target, plan.kept, threshold=pair.classifier.card.meaning.middle)

    for name, units in fits.candidate_directions(pair, chosen, settings).items():
        started = time.perf_counter()
        table = measure_table(pair, chosen, units * sigma * plan.rank_at, plan.batch)
        mover = StepMover(pair, held, units * sigma, plan.strengths)
        yield Found(name, mover, table, time.perf_counter() - started, best)
    if isinstance(pair.autoencoder, StyleModel) and plan.attfind_images:
        yield _attfind(pair, pair.autoencoder, chosen, held, plan)


def _attfind(pair: Pair, model: StyleModel, chosen: Latents, held: Latents, plan: DirectionsPlan) -> Found:
    started = time.perf_counter()
    with torch.no_grad():
        styles, own = model.styles(chosen), model.styles(held)
    extremes = attfind.Extremes.of(styles, sum(model.searched))
    some = styles[: plan.attfind_images]
    table = attfind.style_table(model, pair.classifier, some, extremes, shift=plan.shifts[0], batch=2 * plan.batch)

    def greedy(measured: Table, target: int) -> tuple[Ranked, ...]:
        raising, lowering = (
            rank_greedily(measured.effects(aim).gains, COVER, 2 * plan.kept)
            for aim in attfind.aims(target, pair.classifier.card.meaning.middle)
        )
        return merge_aims(raising, lowering, plan.kept)

    mover = CoordinateMover(model, own, extremes, plan.shifts)
    seconds = time.perf_counter() - started
    return Found("attfind", mover, table, seconds, greedy, lambda j: attfind.coordinate_name(model, j))


@dataclass(frozen=True, eq=False)
class _Unranked:
    """Moves of one target that need no ranking on the selection images."""

    method: str
    target: str
    mover: Mover
    label: Callable[[int], str]
    moves: int = 1
    cost: Cost | None = None


def _single(pair: Pair, chosen: Latents, held: Latents, plan: DirectionsPlan) -> Iterator[_Unranked]:
    """Methods with one direction a target, learnt on the selection images; and each held-out image's own gradient."""
    settings = fits.FitSettings(candidates=plan.candidates, kept=plan.kept, seed=plan.seed, batch=plan.batch)
    w_dim = _w_dim(pair, chosen)
    sigma = common_spread(chosen, w_dim)
    started = time.perf_counter()
    targets = plan.chosen(pair)
    learnt = fits.target_directions(pair, chosen, settings, targets=targets)
    seconds = (time.perf_counter() - started) / max(1, len(learnt))
    for name, by_target in learnt.items():
        gradients = len(chosen) * len(by_target) if name == "mean-gradient" else 0
        cost: Cost | None = Cost(name, len(chosen), len(chosen), gradients, seconds)
        word = name.replace("-", " ")
        for target, known in by_target.items():
            steps = known.steps / known.steps.flatten(1).norm().clamp_min(torch.finfo(known.steps.dtype).tiny) * sigma
            yield _Unranked(
                name, target, StepMover(pair, held, steps, plan.strengths), lambda _, word=word: word, 1, cost
            )
            cost = None
    for target in targets:
        slopes = directions.score_gradients(pair, held, pair.targets.index(target)).flatten(1)
        slopes[:, w_dim:] = 0
        units = (slopes / slopes.norm(dim=1, keepdim=True).clamp_min(1e-12) * sigma).reshape(held.shape)
        mover = OwnMover(pair, held, units[:, None], plan.strengths)
        yield _Unranked("gradient", target, mover, lambda _: "own gradient")


def _local(pair: Pair, chosen: Latents, held: Latents, plan: DirectionsPlan) -> Iterator[_Unranked]:
    """Singular vectors of the decoder's Jacobian at each held-out reconstruction, by what they do there."""
    if not plan.local:
        return
    started, sigma, rounds = time.perf_counter(), common_spread(chosen, _w_dim(pair, chosen)), 3
    own = [eigenfind.jacobian_directions(pair.autoencoder, z, plan.local, rounds=rounds, seed=plan.seed) for z in held]
    steps = torch.stack(own) * sigma
    forwards = len(held) * (1 + 2 * plan.local)
    with torch.no_grad():
        tables = [measure_table(pair, held[i : i + 1], steps[i] * plan.rank_at, plan.batch) for i in range(len(held))]
    slopes = torch.cat([table.moved[:, :, 1] - table.moved[:, :, 0] for table in tables])  # n k t
    gradients = len(held) * plan.local * (3 * rounds + 2)
    cost: Cost | None = Cost("eigenfind-local", len(held), forwards, gradients, time.perf_counter() - started)
    for target in plan.chosen(pair):
        slope = slopes[:, :, pair.targets.index(target)]
        order = slope.abs().argsort(1, descending=True)[:, : plan.kept]
        own_steps = torch.stack([steps[i, order[i]] for i in range(len(held))])
        signs = slope.gather(1, order).sign().reshape(*order.shape, *[1] * (held.ndim - 1))
        mover = OwnMover(pair, held, own_steps * signs, plan.strengths)
        yield _Unranked("eigenfind-local", target, mover, lambda k: f"own eigenvector {k}", order.shape[1], cost)
        cost = None


def _w_dim(pair: Pair, latents: Latents) -> int:
    return pair.autoencoder.w_dim if isinstance(pair.autoencoder, StyleModel) else latents.flatten(1).shape[1]


@dataclass(frozen=True, eq=False)
class Stage:
    """Held-out images as the pair draws them, and what is measured on them."""

    pair: Pair
    drawn: Images
    """Reconstructions."""
    scores: Float[Tensor, "n t"]
    batch: int
    seen: dict[tuple[Mover, int, int, int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Scores and changes at all lengths, by mover, target, image, candidate and sign: a move is drawn once."""

    @classmethod
    def of(cls, pair: Pair, latents: Latents, plan: DirectionsPlan) -> "Stage":
        """Of encoded held-out images."""
        with torch.no_grad():
            drawn = torch.cat([pair.autoencoder.decode(part).clamp(0, 1) for part in latents.split(plan.batch)])
            return cls(pair, drawn, decode_scores(pair, latents, plan.batch), plan.batch)

    def wrong(self, target: str, raises: bool) -> tuple[Aim, list[int]]:
        """The aim, and the images whose reconstruction is on its wrong side."""
        aim = Aim(self.pair.targets.index(target), raises, self.pair.classifier.card.meaning.middle)
        return aim, torch.nonzero(~aim.reached(self.scores[:, aim.target]))[:, 0].tolist()

    @torch.no_grad()
    def compare(self, mover: Mover, image: int, codes: Codes, target: int) -> tuple[Tensor, Tensor]:
        """Scores of the target, and mean changes of the picture: `k l` each."""
        flat = codes.flatten(0, 1)
        frames = torch.cat([mover.draw(part).clamp(0, 1) for part in flat.split(self.batch)])
        scores = torch.cat([self.pair.classifier.scores(part) for part in frames.split(self.batch)])
        scores = effects.require_numbers(self.pair.classifier.card, scores)[:, target]
        change = (frames - self.drawn[image]).abs().mean((1, 2, 3))
        size = codes.shape[:2]
        return scores.reshape(size).T, change.reshape(size).T

    def alone(self, mover: Mover, image: int, moves: Moves, aim: Aim) -> tuple[Tensor, Tensor]:
        """Scores and changes of each move alone; what was drawn before is remembered."""
        keys = [(mover, aim.target, image, *move) for move in moves]
        new = tuple(move for key, move in zip(keys, moves, strict=True) if key not in self.seen)
        if new:
            rows = zip(*self.compare(mover, image, mover.alone(image, new), aim.target), strict=True)
            self.seen.update({(mover, aim.target, image, *move): row for move, row in zip(new, rows, strict=True)})
        scores, change = zip(*(self.seen[key] for key in keys), strict=True)
        return torch.stack(scores), torch.stack(change)

    def try_moves(
        self, method: str, target: str, mover: Mover, ranking: Sequence[Ranked], label: Callable[[int], str],
        *, sums: bool = True,
    ) -> list[Tried]:  # fmt: skip
        """Each ranked move alone, and moves added up in each image's own order, at every length, for both aims."""
        if not ranking:
            return [self._unmoved(method, target, mover, raises) for raises in (True, False)]
        rows = []
        labels = tuple(label(item.index) for item in ranking)
        for raises in (True, False):
            aim, images = self.wrong(target, raises)
            moves = signed(ranking, raises)
            single, added = [], []
            for image in images:
                scores, change = self.alone(mover, image, moves, aim)
                single.append(torch.stack([aim.reached(scores).float(), change], -1))
                if sums:
                    order = scores[:, scores.shape[1] // 2].argsort(descending=raises)
                    codes = mover.together(image, tuple(moves[j] for j in order.tolist()))
                    scores, change = self.compare(mover, image, codes, aim.target)
                    added.append(torch.stack([aim.reached(scores).float(), change], -1))
            shape = (0, len(moves), len(mover.lengths), 2)
            cube = torch.stack(single) if single else torch.zeros(shape)
            total = torch.stack(added) if added else torch.zeros(len(images), 0, len(mover.lengths), 2)
            rows.append(
                Tried(method, target, raises, torch.tensor(images, dtype=torch.long), mover.lengths, labels,
                      cube[..., 0], cube[..., 1], total)
            )  # fmt: skip
        return rows

    def _unmoved(self, method: str, target: str, mover: Mover, raises: bool) -> Tried:
        """What a finder explains that ranked no direction: nothing, alone or added up."""
        images = torch.tensor(self.wrong(target, raises)[1], dtype=torch.long)
        none = torch.zeros(len(images), 1, len(mover.lengths))
        far = torch.full_like(none, math.inf)
        return Tried(method, target, raises, images, mover.lengths, ("none",), none, far, torch.stack([none, far], -1))


def signed(ranking: Sequence[Ranked], raises: bool) -> Moves:
    """The ranked moves with the signs that raise, or lower, the score."""
    return tuple((item.index, item.sign if raises else -item.sign) for item in ranking)


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
