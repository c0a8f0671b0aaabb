"""Effects of moves on a population: measure, rank, cover, select (Lang et al. 2021; Atad et al. 2022).

Scores are those of pictures as drawn (clamped to [0, 1]); the baseline is always the reconstruction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gifsplain.errors import ModelError
from gifsplain.models.protocols import ModelCard, Pair
from gifsplain.types import Latents

Gains = Float[Tensor, "n m 2"]
"""Change towards the aim for each image, move, and sign (minus, plus)."""
SIGNS = (-1, 1)


@dataclass(frozen=True)
class Aim:
    """Which output is to cross `threshold`, and which way."""

    target: int
    raises: bool = True
    threshold: float = 0.5
    """Where a prediction turns: `card.meaning.middle` of the classifier, 0 for logits."""

    def gain(self, before: Tensor, after: Tensor) -> Tensor:
        """Change in the wanted direction."""
        return after - before if self.raises else before - after

    def reached(self, scores: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
        """Where the score lies on the wanted side."""
        return scores > self.threshold if self.raises else scores <= self.threshold


@dataclass(frozen=True)
class Ranked:
    """One move of a ranking: which, with which sign, and its mean gain when it was chosen."""

    index: int
    sign: int
    gain: float


@dataclass(frozen=True)
class Effects:
    """Scores before and after every move, of the images that are not yet on the wanted side."""

    images: Int[Tensor, " n"]
    """Their places in the population."""
    base: Float[Tensor, " n"]
    moved: Gains
    aim: Aim
    forwards: int
    """Images that passed decoder and classifier: N + 2 K n."""

    @property
    def gains(self) -> Gains:
        """Change towards the aim."""
        return self.aim.gain(self.base[:, None, None], self.moved)

    @property
    def flips(self) -> Bool[Tensor, "n m 2"]:
        """Which moves take which image across the threshold."""
        return self.aim.reached(self.moved)


def require_numbers(
    card: ModelCard, values: Float[Tensor, "n t"], wanted: Sequence[int] | None = None
) -> Float[Tensor, "n t"]:
    """`values`, scores or logits of pictures, of which every one of the wanted heads, or of all trained ones, is a number.

    Raises:
        ModelError: When one is not: comparisons with it would silently say no, and means be lost.
    """
    trained = (
        [j for j, target in enumerate(card.targets) if target not in card.untrained] if wanted is None else [*wanted]
    )
    wrong = values[:, trained].isfinite().logical_not().any(0)
    if bool(wrong.any()):
        names = ", ".join(card.targets[j] for j, lost in zip(trained, wrong.tolist(), strict=True) if lost)
        raise ModelError(
            f"{card.name} gives no finite number for {names} on a picture that the autoencoder draws; check the weights, "
            "and the value range and the untrained heads that its card declares"
        )
    return values


def decode_scores(pair: Pair, latents: Latents, batch: int = 128) -> Float[Tensor, "n t"]:
    """Scores of all targets on the pictures drawn from `latents`."""
    parts = [pair.classifier.scores(pair.autoencoder.decode(part).clamp(0, 1)) for part in latents.split(batch)]
    return require_numbers(pair.classifier.card, torch.cat(parts))


def displaced(latents: Latents, steps: Float[Tensor, "m ..."]) -> Latents:
    """Every latent minus and plus every step: `(n m 2) ...`."""
    both = torch.stack([-steps, steps], dim=1)
    return (latents[:, None, None] + both[None]).flatten(0, 2)


@torch.no_grad()
def measure_moves(pair: Pair, latents: Latents, steps: Float[Tensor, "m ..."], aim: Aim, batch: int = 128) -> Effects:
    """Scores after `-step` and `+step`, for the images that are not on the wanted side yet."""
    base = decode_scores(pair, latents, batch)[:, aim.target]
    images = torch.nonzero(~aim.reached(base))[:, 0]
    rows = [decode_scores(pair, displaced(latents[i : i + 1], steps), batch)[:, aim.target] for i in images]
    moved = torch.stack(rows).reshape(len(images), len(steps), 2) if rows else base.new_zeros(0, len(steps), 2)
    return Effects(images, base[images], moved, aim, len(latents) + moved.numel())


def consistent(gains: Gains) -> Float[Tensor, "m 2"]:
    """Mean gains; 0 for a move whose both signs help on average: it does not point anywhere (Atad et al. 2022)."""
    mean = gains.mean(0)
    return mean * (mean > 0).all(1, keepdim=True).logical_not()


def rank(gains: Gains, count: int = 8) -> tuple[Ranked, ...]:
    """The moves of largest mean gain over all images, each with its better sign; ranked once."""
    if not len(gains):
        return ()
    mean = consistent(gains)
    best, side = mean.max(1)
    order = best.argsort(descending=True)[:count]
    return tuple(Ranked(int(j), SIGNS[int(side[j])], float(best[j])) for j in order if best[j] > 0)


def rank_greedily(gains: Gains, threshold: float, count: int = 8) -> tuple[Ranked, ...]:
    """Each round the move of largest mean gain on images that no chosen move has moved by `threshold` yet.

    AttFind's ranking (Lang et al. 2021, algorithm 1): it is estimated again on the images that are left.
    """
    chosen: list[Ranked] = []
    left = torch.ones(len(gains), dtype=torch.bool, device=gains.device)
    open_moves = torch.ones(gains.shape[1], dtype=torch.bool, device=gains.device)
    while len(chosen) < count and bool(left.any()):
        mean = consistent(gains[left]) * open_moves[:, None]
        if float(mean.max()) <= 0:
            break
        index, side = divmod(int(mean.argmax()), 2)
        chosen.append(Ranked(index, SIGNS[side], float(mean[index, side])))
        open_moves[index] = False
        left &= gains[:, index, side] <= threshold
    return tuple(chosen)


def rank_accumulating(gains: Gains, threshold: float, count: int = 8) -> tuple[Ranked, ...]:
    """As `rank_greedily`, but an image leaves when the positive gains of all chosen moves add up to `threshold`.

    The form of the public notebook of Lang et al. (2021); `gains` are logits there.
    """
    positive = gains.clamp_min(0).clone()
    total = torch.zeros(len(gains), device=gains.device)
    chosen: list[Ranked] = []
    while len(chosen) < count and bool((total < threshold).any()):
        mean = positive[total < threshold].mean(0)
        if float(mean.max()) <= 0:
            break
        index, side = divmod(int(mean.argmax()), 2)
        chosen.append(Ranked(index, SIGNS[side], float(mean[index, side])))
        total = total + positive[:, index, side]
        positive[:, index, side] = 0
    return tuple(chosen)


def merge_aims(raising: Sequence[Ranked], lowering: Sequence[Ranked], count: int = 8) -> tuple[Ranked, ...]:
    """Both rankings as one, signed to raise: a move that also lowers with the other sign counts with both gains.

    A move that raises and lowers with the same sign is there once, with the sign of larger gain: it cannot act against
    itself when ranked moves are added up.
    """
    total: dict[tuple[int, int], float] = {}
    for item in raising:
        total[item.index, item.sign] = total.get((item.index, item.sign), 0.0) + item.gain
    for item in lowering:
        total[item.index, -item.sign] = total.get((item.index, -item.sign), 0.0) + item.gain
    best: dict[int, Ranked] = {}
    for (index, sign), gain in total.items():
        if index not in best or gain > best[index].gain:
            best[index] = Ranked(index, sign, gain)
    return tuple(sorted(best.values(), key=lambda item: -item.gain)[:count])


@dataclass(frozen=True)
class Cover:
    """Which images each ranked move explains first; no image counts twice."""

    ranking: tuple[Ranked, ...]
    images: tuple[tuple[int, ...], ...]
    """For each ranked move the rows of the effects that it flips and no better one did."""
    total: int

    @property
    def share(self) -> float:
        """Explained images by all images that were to be moved; nan without any."""
        return sum(map(len, self.images)) / self.total if self.total else float("nan")


def cover(flips: Bool[Tensor, "n m 2"], ranking: Sequence[Ranked]) -> Cover:
    """Go through the ranking; each move takes the images that it flips and that are left."""
    left = torch.ones(len(flips), dtype=torch.bool, device=flips.device)
    taken: list[tuple[int, ...]] = []
    for item in ranking:
        now = flips[:, item.index, SIGNS.index(item.sign)] & left
        taken.append(tuple(torch.nonzero(now)[:, 0].tolist()))
        left &= ~now
    return Cover(tuple(ranking), tuple(taken), len(flips))


def independent(gains: Float[Tensor, "m 2"], ranking: Sequence[Ranked], count: int) -> tuple[Ranked, ...]:
    """The ranked moves in the order of their own gain on one image, best first."""
    own = [Ranked(r.index, r.sign, float(gains[r.index, SIGNS.index(r.sign)])) for r in ranking]
    return tuple(sorted(own, key=lambda item: -item.gain)[:count])


def subset(
    ordered: Sequence[Ranked], start: float, aim: Aim, score: Callable[[Sequence[Ranked]], float]
) -> tuple[tuple[Ranked, ...], float]:
    """Add up moves in the given order, leaving out those that do not help, until the aim is reached.

    Args:
        ordered: Moves by their own gain on this image, best first.
        start: Score of the reconstruction.
        aim: What is to be reached.
        score: Score of the image with all given moves applied together; called once a move at most.

    Returns:
        The moves kept and the score with them.
    """
    kept: tuple[Ranked, ...] = ()
    now = start
    for item in ordered:
        if bool(aim.reached(torch.tensor(now))):
            break
        tried = score((*kept, item))
        if aim.gain(torch.tensor(now), torch.tensor(tried)) > 0:
            kept, now = (*kept, item), tried
    return kept, now


@dataclass(frozen=True)
class Table:
    """Scores of all targets before and after every move of every image: serves both aims of all targets."""

    base: Float[Tensor, "n t"]
    moved: Float[Tensor, "n m 2 t"]
    forwards: int
    """N (1 + 2 M)."""

    def effects(self, aim: Aim) -> Effects:
        """The part that concerns one aim: images that are not on its wanted side yet."""
        images = torch.nonzero(~aim.reached(self.base[:, aim.target]))[:, 0]
        return Effects(images, self.base[images, aim.target], self.moved[images, :, :, aim.target], aim, self.forwards)

    def first(self, images: int) -> "Table":
        """The part that a smaller population would have given."""
        count = min(images, len(self.base))
        return Table(self.base[:count], self.moved[:count], count * (1 + 2 * self.moved.shape[1]))

    def rank_both(self, target: int, count: int, *, threshold: float = 0.5) -> tuple[Ranked, ...]:
        """Ranking for raising and ranking for lowering, merged; signed to raise."""
        aims = (Aim(target, raises, threshold) for raises in (True, False))
        raising, lowering = (rank(self.effects(aim).gains, self.moved.shape[1]) for aim in aims)
        return merge_aims(raising, lowering, count)


@torch.no_grad()
def measure_table(pair: Pair, latents: Latents, steps: Float[Tensor, "m ..."], batch: int = 128) -> Table:
    """Scores of all targets after `-step` and `+step` of every image."""
    base = decode_scores(pair, latents, batch)
    rows = [decode_scores(pair, displaced(latents[i : i + 1], steps), batch) for i in range(len(latents))]
    moved = torch.stack(rows).reshape(len(latents), len(steps), 2, -1)
    return Table(base, moved, len(latents) * (1 + 2 * len(steps)))
