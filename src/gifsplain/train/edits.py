"""Edited radiographs with known labels: hearts made narrower or wider, boxed findings put into or taken out of a film.

They tell a classifier what its labels mean (counterfactual augmentation): the width of the heart, the content of an
expert's box. Each kind of edit is made with both outcomes, so that having been edited does not by itself decide the label; their
shares differ from those of films as they are, and pasted health fits its border better than a pasted finding, which has
fewer givers.
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
"""Standard deviation in pixels with which an exchanged box fades into the film, from twice that outside its edge on."""
CONTRAST = (0.5, 2.0)
"""Least and largest factor by which the contrast of what is pasted is changed."""
FAR, NEAR = ((0.68, 0.82), (1.3, 1.6)), ((0.8, 1.05), (0.95, 1.2))
"""Factors by which the middle is stretched: those that change the label (positive to negative, negative to positive) and
those that leave it (of a negative, of a positive). What fills its box changes less, as the stretch fades towards the chest
wall: 1.3 and 1.6 make it 1.2 and 1.4 times as wide."""
REACH = 1.25
"""Half widths of the box, or of what it becomes where that is more, at which a change of width has faded to 1/e."""


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
    parts: Int[Tensor, " b"]
    """Boxes are exchanged between images of the same part: other sources are blurred, framed or exposed otherwise."""


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
    source = stretching(masks, factors).to(images)
    ahead = (torch.arange(side, device=images.device, dtype=images.dtype) + 0.5) * (2 / side) - 1
    grid = torch.stack([ahead[None, None, :] + source * (2 / side), ahead[None, :, None].expand_as(source)], -1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def stretching(masks: Float[Tensor, "b s s"], factors: Float[Tensor, " b"]) -> Float[Tensor, "b s s"]:
    """How many pixels to the right of its own place `rescaled` takes each pixel from; all 0 without a box."""
    places = torch.arange(masks.shape[-1], device=masks.device, dtype=masks.dtype)
    weights = masks / masks.sum((1, 2), keepdim=True).clamp_min(1e-6)
    middles, halves = [], []
    for axis in (1, 2):  # a box is uniform: half its side is sqrt(3) standard deviations
        shares = weights.sum(axis)
        middle = (shares * places).sum(1, keepdim=True)
        middles.append(middle)
        halves.append((3 * (shares * (places - middle).square()).sum(1, keepdim=True)).sqrt().clamp_min(1.0))
    across, down = places - middles[0], places - middles[1]
    fade = _fade(across / (halves[0] * factors[:, None].clamp_min(1)))[:, None, :]
    fade = fade * _fade(down / halves[1])[:, :, None]
    return (1 / factors - 1)[:, None, None] * across[:, None, :] * fade


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
    like = batch.parts == batch.parts[row]
    like[row] = False
    target = _any(boxed[like].any(0))
    if target is None:
        return batch
    source, healthy = _any(boxed[:, target] & like), (batch.labels[:, target] == 0) & like
    if source is None or not healthy.any():
        return batch
    label = float(batch.labels[row, target])
    changes = float(torch.rand(())) < 0.5  # else, for comparison, a finding is added to one, or health to health
    if boxed[row, target] and changes:
        return _pasted(batch, row, healthy, batch.masks[row, target], target, present=False)
    if label != 0.0 and not boxed[row, target]:  # unknown, or present at an unknown place
        return batch
    present = changes or label == 1.0
    givers = torch.arange(len(healthy), device=healthy.device) == source if present else healthy
    return _pasted(batch, row, givers, batch.masks[source, target], target, present=present)


def _pasted(
    batch: Batch, row: int, givers: Bool[Tensor, " b"], place: Float[Tensor, "s s"], target: int, *, present: bool
) -> Batch:
    """What lies at `place` in one of the givers goes into the image `row`, with a soft border outside the box.

    The giver is the one that fits best along the border, once brightness and contrast there agree.
    """
    ours = batch.images[row]
    theirs, soft, misfit = fitted(ours, batch.images[givers], place)
    image = (ours + (theirs[misfit.argmin()] - ours) * soft).clamp(0, 1)
    mask = torch.maximum(place, batch.masks[row, target]) if present else torch.zeros_like(place)
    return _replaced(batch, row, image, target, float(present), mask, keep=False)


def fitted(
    image: Float[Tensor, "c s s"], givers: Images, place: Float[Tensor, "s s"]
) -> tuple[Images, Float[Tensor, "1 s s"], Float[Tensor, " g"]]:
    """The givers with their brightness and contrast along the border of `place` made those of the image.

    With the share of each pixel that they shall fill, which fades outside `place`, and how badly each fits along the border.
    """
    soft = soft_border(place[None])
    made, ring = matched(givers, image[None], soft)
    return made, soft[0], ((made - image).square() * ring).sum((1, 2, 3))


def soft_border(places: Float[Tensor, "b s s"]) -> Float[Tensor, "b 1 s s"]:
    """The share of each pixel that a pasted box shall fill: 1 inside, fading outside, 0 from five `FEATHER` on."""
    margin = round(2 * FEATHER)
    return blur(F.max_pool2d(places[:, None], 2 * margin + 1, stride=1, padding=margin), FEATHER)


def matched(
    givers: Float[Tensor, "g c s s"], images: Float[Tensor, "#g c s s"], soft: Float[Tensor, "#g 1 s s"]
) -> tuple[Float[Tensor, "g c s s"], Float[Tensor, "#g 1 s s"]]:
    """The givers with their brightness and contrast where `soft` is neither 0 nor 1 made those of the images.

    With how much each pixel counted in that; 1 in sum.
    """
    ring = soft * (1 - soft)
    ring = ring / ring.sum((1, 2, 3), keepdim=True).clamp_min(1e-6)
    middles, wanted = _mean(givers, ring), _mean(images, ring)
    spreads = _mean((givers - middles).square(), ring).sqrt().clamp_min(1e-3)
    factors = (_mean((images - wanted).square(), ring).sqrt() / spreads).clamp(*CONTRAST)
    return wanted + (givers - middles) * factors, ring


def _mean(values: Float[Tensor, "b c s s"], ring: Float[Tensor, "#b 1 s s"]) -> Float[Tensor, "b 1 1 1"]:
    return (values * ring).sum((1, 2, 3), keepdim=True) / values.shape[1]


def _replaced(batch: Batch, row: int, image: Tensor, target: int, label: float, mask: Tensor, *, keep: bool) -> Batch:
    """`keep`: the other labels still hold; else they are unknown now."""
    images, labels, masks, edited = (tensor.clone() for tensor in batch[:4])
    images[row], edited[row] = image, True
    if not keep:
        labels[row], masks[row] = float("nan"), 0.0
    labels[row, target], masks[row, target] = label, mask
    return Batch(images, labels, masks, edited, batch.parts)


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
