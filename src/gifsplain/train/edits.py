"""Edited radiographs with known labels: hearts made narrower or wider, boxed findings put into or taken out of a film.

They tell a classifier what its labels mean (counterfactual augmentation): the width of the heart, the content of an
expert's box. Each kind of edit is made with both outcomes, so that having been edited does not by itself decide the label; their
shares differ from those of films as they are, and a boxed film keeps its finding only unedited.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gifsplain.errors import ConfigurationError
from gifsplain.train.augment import blur
from gifsplain.types import Images

FEATHER = 5.0
"""Standard deviation in pixels with which an exchanged box fades into the film; the edge of a box is half and half."""
FAR, NEAR = ((0.68, 0.82), (1.3, 1.6)), ((0.8, 1.05), (0.95, 1.2))
"""Factors by which the middle is stretched: those that change the label (positive to negative, negative to positive) and
those that leave it (of a negative, of a positive). What fills its box changes less, as the stretch fades towards the chest
wall: 0.68 makes it 0.70 times as wide, 1.3 and 1.6 make it 1.1 and 1.2 times; what fills three quarters 1.2 and 1.3 times."""
REACH = 1.25
"""Half widths of the box at which a change of width has faded to 1/e."""


@dataclass(frozen=True)
class EditsConfig:
    """Which edits a training makes; all need expert boxes."""

    widened: str = ""
    """Target that is a matter of width (Cardiomegaly): its boxes are made narrower or wider."""
    widened_share: float = 0.0
    """Share of each batch."""
    exchanged_share: float = 0.0
    """Share of each batch in which another film's pixels fill the box of any other target."""


class Batch(NamedTuple):
    """Images with labels and the boxes of each target; `edited` ones are not what their labels' source described."""

    images: Images
    labels: Float[Tensor, "b t"]
    masks: Float[Tensor, "b t s s"]
    edited: Bool[Tensor, " b"]


def edit(batch: Batch, usual: Float[Tensor, "b s s"] | None, config: EditsConfig, target: int | None) -> Batch:
    """The batch with some images edited, drawn from torch's global generator.

    `usual`: where the widened target lies in images without a box of it. `target`: its number.
    """
    count = batch.images.shape[0]
    if target is not None and usual is not None:
        for row in _draw(count, config.widened_share):
            batch = _rewidened(batch, row, usual[row], target)
    for row in _draw(count, config.exchanged_share):
        batch = _exchanged(batch, row, target)
    return batch


def rescaled(images: Images, masks: Float[Tensor, "b s s"], factors: Float[Tensor, " b"]) -> Images:
    """What lies in the boxes is stretched `factors` times around the box's middle, less towards its sides and beyond."""
    side = images.shape[-1]
    places = torch.arange(side, device=images.device, dtype=images.dtype)
    weights = masks / masks.sum((1, 2), keepdim=True).clamp_min(1e-6)
    middles, halves = [], []
    for axis in (1, 2):  # a box is uniform: half its side is sqrt(3) standard deviations
        shares = weights.sum(axis)
        middle = (shares * places).sum(1, keepdim=True)
        middles.append(middle)
        halves.append((3 * (shares * (places - middle).square()).sum(1, keepdim=True)).sqrt().clamp_min(1.0))
    across, down = places - middles[0], places - middles[1]
    fade = _fade(across / halves[0])[:, None, :] * _fade(down / halves[1])[:, :, None]
    source = (1 / factors - 1)[:, None, None] * across[:, None, :] * fade
    ahead = (places + 0.5) * (2 / side) - 1
    grid = torch.stack([ahead[None, None, :] + source * (2 / side), ahead[None, :, None].expand_as(source)], -1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _fade(shares: Tensor) -> Tensor:
    """1 inside, 0 outside; steep enough to spare the chest wall, shallow enough that no film folds over itself."""
    return (-((shares / REACH) ** 4)).exp()


def _rewidened(batch: Batch, row: int, usual: Float[Tensor, "s s"], target: int) -> Batch:
    label = float(batch.labels[row, target])
    boxed = bool(batch.masks[row, target].any())
    if label not in (0.0, 1.0) or (label == 1.0 and not boxed):
        return batch
    positive = label == 1.0
    turned = float(torch.rand(())) < 0.5
    low, high = FAR[0 if positive else 1] if turned else NEAR[1 if positive else 0]
    factor = torch.tensor([low + (high - low) * float(torch.rand(()))], device=batch.images.device)
    place = batch.masks[row, target] if boxed else usual
    image = rescaled(batch.images[row : row + 1], place[None], factor)[0]
    now = positive != turned
    mask = place if now else torch.zeros_like(place)
    return _replaced(batch, row, image, target, float(now), mask, keep=True)


def _exchanged(batch: Batch, row: int, skipped: int | None) -> Batch:
    """A box of some image of the batch is filled with, or pasted into, the image at `row`."""
    boxed = batch.masks.flatten(2).sum(2) > 0
    if skipped is not None:
        boxed[:, skipped] = False
    target = _any(boxed.any(0))
    if target is None:
        return batch
    source = _any(boxed[:, target])
    healthy = _any((batch.labels[:, target] == 0) & (torch.arange(len(boxed), device=boxed.device) != row))
    if source is None or healthy is None:
        return batch
    place = batch.masks[source, target]
    if boxed[row, target]:  # the finding goes
        return _pasted(batch, row, healthy, batch.masks[row, target], target, present=False)
    if batch.labels[row, target] != 0:
        return batch
    present = float(torch.rand(())) < 0.5  # the finding comes, or, for comparison, nothing does
    return _pasted(batch, row, source if present else healthy, place, target, present=present)


def _pasted(batch: Batch, row: int, other: int, place: Float[Tensor, "s s"], target: int, *, present: bool) -> Batch:
    soft = blur(place[None, None], FEATHER)[0]
    ring = soft * (1 - soft)
    ours, theirs = batch.images[row], batch.images[other]
    theirs = theirs + ((ours - theirs).mean(0) * ring).sum() / ring.sum().clamp_min(1e-6)
    image = (ours + (theirs - ours) * soft).clamp(0, 1)
    mask = place if present else torch.zeros_like(place)
    return _replaced(batch, row, image, target, float(present), mask, keep=False)


def _replaced(batch: Batch, row: int, image: Tensor, target: int, label: float, mask: Tensor, *, keep: bool) -> Batch:
    """`keep`: the other labels still hold; else they are unknown now."""
    images, labels, masks, edited = (tensor.clone() for tensor in batch)
    images[row], edited[row] = image, True
    if not keep:
        labels[row], masks[row] = float("nan"), 0.0
    labels[row, target], masks[row, target] = label, mask
    return Batch(images, labels, masks, edited)


def _draw(count: int, share: float) -> list[int]:
    chosen: list[int] = torch.randperm(count)[: round(share * count)].tolist()
    return chosen


def _any(fits: Bool[Tensor, " n"]) -> int | None:
    places: Int[Tensor, " k"] = fits.nonzero().flatten()
    return int(places[int(torch.randint(len(places), ()))]) if len(places) else None


def check_edits(config: EditsConfig, targets: tuple[str, ...], *, boxes: bool) -> None:
    """Refuse edits that cannot be made."""
    if (config.widened_share or config.exchanged_share) and not boxes:
        raise ConfigurationError("edits need boxes")
    if config.widened_share and config.widened not in targets:
        raise ConfigurationError(f"edits.widened must be one of {targets}, got {config.widened!r}")
