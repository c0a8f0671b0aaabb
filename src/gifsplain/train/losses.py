"""What trainings minimise: pure functions from tensors to a scalar, 0 best."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gifsplain.types import Images

Scalar = Float[Tensor, ""]


def elastic(reconstructions: Images, images: Images, *, squared: float = 1.0, absolute: float = 1.0) -> Scalar:
    """Weighted sum of mean squared and mean absolute difference (Cohen et al. 2021, section 4.1: both 1)."""
    return squared * F.mse_loss(reconstructions, images) + absolute * F.l1_loss(reconstructions, images)


def edges(reconstructions: Images, images: Images, *, scales: int = 1) -> Scalar:
    """Mean absolute difference of the steps between neighbouring pixels, added up over both axes and over `scales`.

    Each scale halves the images by averaging 2 x 2 pixels. Keeps edges sharp.
    """
    change = reconstructions - images
    total = change.new_zeros(())
    for scale in range(scales):
        change = F.avg_pool2d(change, 2) if scale else change
        total = total + change.diff(dim=-1).abs().mean() + change.diff(dim=-2).abs().mean()
    return total


def perceptual(ours: Sequence[Float[Tensor, "b d i j"]], theirs: Sequence[Float[Tensor, "b d i j"]]) -> Scalar:
    """Mean absolute difference of feature maps, each layer in units of the reference's mean absolute value."""
    terms = [
        F.l1_loss(a.float(), b.float()) / (b.float().abs().mean() + 1e-6) for a, b in zip(ours, theirs, strict=True)
    ]
    return torch.stack(terms).mean()


def masked_bce(
    logits: Float[Tensor, "b t"],
    labels: Float[Tensor, "b t"],
    positive_weights: Float[Tensor, " t"] | None = None,
    *,
    smoothing: float = 0.0,
) -> Scalar:
    """Binary cross-entropy, averaged over the labels that are known.

    A nan label adds nothing to the value nor to the gradient; without any known label the value is 0. `smoothing` s
    makes labels s and 1 - s; `positive_weights` multiply the cost of positives.
    """
    known = ~labels.isnan()
    targets = torch.where(known, labels, 0.0) * (1 - 2 * smoothing) + smoothing
    costs = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=positive_weights, reduction="none")
    return torch.where(known, costs, 0.0).sum() / known.sum().clamp(min=1)


def positive_weights(labels: Float[np.ndarray, "n t"], power: float) -> Float[Tensor, " t"]:
    """(negatives / positives) ** power for each target over its known labels: 0 no balance, 1 full balance.

    1 for a target that lacks positives or negatives.
    """
    positives, negatives = (labels == 1).sum(0), (labels == 0).sum(0)
    usable = (positives > 0) & (negatives > 0)
    ratio = np.where(usable, negatives / np.maximum(positives, 1), 1.0)
    return torch.from_numpy(ratio**power).float()


def inside_boxes(
    activations: Float[Tensor, "b t i j"], boxes: Float[Tensor, "b t i j"], *, least: float = 0.05
) -> Scalar:
    """Cross-entropy between where a class activation map is high and where the expert's box is.

    The map's softmax over places is compared with the box, which sums to 1. Image and target pairs whose box covers
    less than `least` places in sum are left out; 0 when none is left.
    """
    places = boxes.flatten(2)
    chosen = places.sum(2) > least
    if not chosen.any():
        return activations.sum() * 0
    wanted = places[chosen] / places[chosen].sum(1, keepdim=True)
    return -(wanted * activations.flatten(2)[chosen].log_softmax(1)).sum(1).mean()


def energy_inside(energy: Float[Tensor, "b i j"], regions: Float[Tensor, "b i j"], *, evenness: float = 0.25) -> Scalar:
    """How little of a non-negative `energy` lies inside the regions, and how unevenly it fills them.

    Minus the logarithm of the share inside, plus `evenness` times the cross-entropy between the region, which sums to 1,
    and the energy's shares.
    """
    shares = energy.flatten(1) / energy.flatten(1).sum(1, keepdim=True).clamp_min(1e-20) + 1e-8
    places = regions.flatten(1)
    wanted = places / places.sum(1, keepdim=True).clamp_min(1e-8)
    inside = (shares * places).sum(1).clamp_min(1e-8)
    return (-inside.log() - evenness * (wanted * shares.log()).sum(1)).mean()


def unlike(ours: Images, wanted: Images, hidden: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 - cosine between two changes of each image; 0 where they are the same up to size.

    `hidden` is the squared length of a part of ours that is at a right angle to both. 1 where either is nothing.
    """
    lengths = (ours.square().flatten(1).sum(1) + hidden + 1e-20).sqrt() * wanted.flatten(1).norm(dim=1)
    unlikeness: Tensor = 1 - (ours * wanted).flatten(1).sum(1) / lengths.clamp_min(1e-12)
    return unlikeness


def proportionate(falls: Float[Tensor, " b"], wanted: Float[Tensor, " b"]) -> Scalar:
    """Mean of how far `falls` lie below `wanted`, or above twice that; 0 where each is one to two times the wanted one."""
    return (F.relu(wanted - falls) + F.relu(falls - 2 * wanted)).mean()


def smoothness(near: Images, reconstructions: Images, step: float) -> Scalar:
    """Mean squared change of the decoded image for a latent step of size `step`, per squared unit of latent."""
    return (near - reconstructions).square().mean() / step**2


def decorrelation(latents: Float[Tensor, "b ..."]) -> Scalar:
    """Mean squared correlation between different numbers of the latent within the batch: 0 when all are unrelated."""
    flat = latents.flatten(1).float()
    standard = (flat - flat.mean(0)) / (flat.std(0, unbiased=False) + 1e-4)
    correlations = standard.T @ standard / flat.shape[0]
    others = correlations - torch.diag(correlations.diagonal())
    return others.square().sum() / max(1, flat.shape[1] * (flat.shape[1] - 1))


def same_scores(
    ours: Float[Tensor, "b t"], theirs: Float[Tensor, "b t"], chosen: Bool[Tensor, " b"] | None = None
) -> Scalar:
    """Binary cross-entropy of the logits `ours` against the probabilities of `theirs`, less its least value.

    Mean over what is known of `theirs` (not nan) in the `chosen` rows; 0 where there is nothing. Without `chosen` all rows
    count, and all of `theirs` must be known.
    """
    known = ~theirs.isnan()
    theirs = theirs if chosen is None else theirs.nan_to_num()  # or nan would reach the gradient of what does not count
    wanted = theirs.sigmoid()
    costs = F.binary_cross_entropy_with_logits(ours, wanted, reduction="none")
    costs = costs - F.binary_cross_entropy_with_logits(theirs, wanted, reduction="none")
    if chosen is None:
        return costs.mean()
    counted = known & chosen[:, None]
    return (costs * counted).sum() / counted.sum().clamp(min=1)


def nt_xent(codes: Float[Tensor, "v d"], temperature: float, films: Int[Tensor, " n"] | None = None) -> Scalar:
    """How badly each view's code tells its partner from all other views of the batch (Chen et al. 2020, eq. 1, in mean).

    Views `i` and `i + v / 2` are of one image. Similarity is the cosine; 0 where the partner is all that is like it. `films`
    numbers the images: where one is there twice, its other views are not told apart from it.
    """
    similar, partners = _similarities(codes, films)
    return F.cross_entropy(similar / temperature, partners)


def partners_found(codes: Float[Tensor, "v d"], films: Int[Tensor, " n"] | None = None) -> Scalar:
    """Share of views whose most similar other view, among those of `nt_xent`, is their partner; chance is 1 / (v - 1)."""
    similar, partners = _similarities(codes, films)
    return (similar.argmax(1) == partners).float().mean()


def _similarities(
    codes: Float[Tensor, "v d"], films: Int[Tensor, " n"] | None
) -> tuple[Float[Tensor, "v v"], Int[Tensor, " v"]]:
    """Cosines, minus infinity between views of one image that are no partners; and the number of each view's partner."""
    unit = F.normalize(codes, dim=1)
    count = len(codes)
    partners = torch.arange(count, device=codes.device).roll(count // 2)
    shown = (torch.arange(count // 2, device=codes.device) if films is None else films).repeat(2)
    same = shown[:, None] == shown
    same[torch.arange(count, device=codes.device), partners] = False
    return (unit @ unit.T).masked_fill(same, -torch.inf), partners
