"""AttFind: single coordinates of style space whose change moves the score (Lang et al. 2021, section 4).

Exact and batched: all one-coordinate edits of a layer pass together, from the activations before that layer on.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.explain.effects import SIGNS, Aim, Effects, Table, require_numbers
from gifsplain.models.protocols import Classifier
from gifsplain.models.styleex import StyleModel
from gifsplain.models.stylegan import State

Styles = Float[Tensor, "n s"]


@dataclass(frozen=True)
class Extremes:
    """Least and largest value of every searched style coordinate in a population: where AttFind moves it to."""

    low: Float[Tensor, " c"]
    high: Float[Tensor, " c"]

    @classmethod
    def of(cls, styles: Styles, searched: int) -> "Extremes":
        """Of a population of styles; image layers, behind the first `searched`, are left out."""
        return cls(styles[:, :searched].min(0).values, styles[:, :searched].max(0).values)

    def towards(self, style: Float[Tensor, " s"], shift: float = 1.0) -> Float[Tensor, "c 2"]:
        """Displacement of each coordinate to its least (first) and largest value, times `shift`."""
        own = style[: len(self.low)]
        return shift * torch.stack([self.low - own, self.high - own], dim=1)


@torch.no_grad()
def style_table(
    model: StyleModel,
    classifier: Classifier,
    styles: Styles,
    extremes: Extremes,
    *,
    shift: float = 1.0,
    batch: int = 256,
    reuse: bool = True,
    done: Callable[[int], None] = lambda images: None,
) -> Table:
    """Scores of all targets before and after moving each coordinate of each image to both extremes.

    Args:
        model: Decodes styles.
        classifier: Scores pictures.
        styles: Of the population's images.
        extremes: Where to move coordinates to.
        shift: 1 stops at the extreme, 2.5 (Atad et al. 2022) goes that much further than the way there.
        batch: Edits that pass together.
        reuse: Start each edit at the layer that it changes; without, from the constant: same result, more time.
        done: Told the number of images finished.

    Returns:
        A table of `n` images, S moves, minus and plus; N (1 + 2 S) forwards.
    """
    base, moved = [], []
    for i in range(len(styles)):
        style = styles[i : i + 1]
        states = model.states(style)
        base.append(require_numbers(classifier.card, classifier.scores(model.decode_styles(style).clamp(0, 1))))
        steps, rows, first = extremes.towards(style[0], shift), [], 0
        for layer, length in enumerate(model.searched):
            start = (layer, states[layer]) if reuse else (0, states[0])
            edits = _edits(style, steps[first : first + length], first)
            rows.append(_scores(model, classifier, edits, start, batch))
            first += length
        moved.append(torch.cat(rows))
        done(i + 1)
    count = sum(model.searched)
    table = torch.stack(moved).reshape(len(styles), count, 2, -1)
    return Table(torch.cat(base), table, len(styles) * (1 + 2 * count))


def _edits(style: Styles, steps: Float[Tensor, "c 2"], first: int) -> Styles:
    """One row an edit: coordinate `first + j` by `steps[j, sign]`, signs next to each other."""
    rows = style.repeat(steps.numel(), 1)
    index = torch.arange(len(rows), device=rows.device)
    rows[index, first + index // 2] += steps.flatten()
    return rows


def _scores(
    model: StyleModel, classifier: Classifier, rows: Styles, start: tuple[int, State], batch: int
) -> Float[Tensor, "r t"]:
    layer, state = start
    found = []
    for part in rows.split(batch):
        maps = state.maps.expand(len(part), -1, -1, -1)
        picture = None if state.picture is None else state.picture.expand(len(part), -1, -1, -1)
        drawn = model.decode_styles(part, layer, State(maps, picture))
        found.append(classifier.scores(drawn.clamp(0, 1)))
    return require_numbers(classifier.card, torch.cat(found))


def screened_coordinates(
    model: StyleModel, classifier: Classifier, styles: Styles, extremes: Extremes, *, target: int, count: int
) -> Float[Tensor, "n m"]:
    """For each image the `count` coordinates of largest gradient times way: one backward instead of 2 S forwards.

    An approximation; report its recall against `style_table` before relying on it.
    """
    free = styles.detach().requires_grad_(True)
    (slopes,) = torch.autograd.grad(classifier.logits(model.decode_styles(free))[:, target].sum(), free)
    ways = torch.stack([extremes.towards(style) for style in styles]).abs().amax(2)
    return (slopes[:, : ways.shape[1]].abs() * ways).topk(count, dim=1).indices


def stable_images(effects: Effects, threshold: float, most: int = 750) -> Effects:
    """Without images that more than `most` edits move by `threshold`: these react to anything (Lang et al. 2021)."""
    calm = (effects.gains.amax(2) > threshold).sum(1) <= most
    return Effects(effects.images[calm], effects.base[calm], effects.moved[calm], effects.aim, effects.forwards)


def apply_coordinates(
    style: Float[Tensor, " s"], extremes: Extremes, moves: tuple[tuple[int, int], ...], shift: float = 1.0
) -> Float[Tensor, " s"]:
    """A style with several coordinates moved: pairs of coordinate and sign."""
    result = style.clone()
    steps = extremes.towards(style, shift)
    for coordinate, sign in moves:
        result[coordinate] = style[coordinate] + steps[coordinate, SIGNS.index(sign)]
    return result


def coordinate_name(model: StyleModel, coordinate: int) -> str:
    """`layer 3 channel 17`: convolutions counted from 0 at 4 pixels."""
    for layer, length in enumerate(model.searched):
        if coordinate < length:
            return f"layer {layer} channel {coordinate}"
        coordinate -= length
    raise IndexError(coordinate)


def aims(target: int, threshold: float = 0.5) -> tuple[Aim, Aim]:
    """Raise the target across the threshold, lower it."""
    return Aim(target, True, threshold), Aim(target, False, threshold)
