"""From decoded images to the frames that are shown and scored: the reconstruction, or the input plus what changed."""

from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.models.prepare import centre_crop
from gifsplain.models.resample import resize
from gifsplain.types import Explanation, Images


class Composition(StrEnum):
    """How a frame is made (DESIGN 4.4)."""

    RECONSTRUCTION = "reconstruction"
    """The decoded image, as in the paper; carries the autoencoder's own error."""
    RESIDUAL = "residual"
    """`x + (D(z_alpha) - D(z))`: equals the input at strength 0."""


def compose(composition: Composition, decoded: Images, image: Images, reconstruction: Images) -> Images:
    """Frames from `decoded` (`k c h w`), for one image and its reconstruction (`1 c h w`, or `k c h w` pairwise).

    Not clamped, so that gradients pass; clamp to [0, 1] before a frame is scored for the record or shown.
    """
    if composition is Composition.RECONSTRUCTION:
        return decoded
    return image + (decoded - reconstruction)


def native_frame(explanation: Explanation, index: int) -> Float[Tensor, "c h w"]:
    """One frame at the original's own size: the original plus what changed, inside the square that the models saw.

    Raises:
        InputError: When the composition is not residual: a decoded image has no detail beyond the model's size.
    """
    if explanation.composition != Composition.RESIDUAL:
        raise InputError(
            f"native size needs composition 'residual', got {explanation.composition!r}; explain with --compose residual"
        )
    original = explanation.picture.pixels
    crop = centre_crop(original.shape[-2], original.shape[-1])
    change = explanation.frames[index] - explanation.baseline_frame
    if original.shape[0] == 1:
        change = change.mean(dim=0, keepdim=True)
    frame = original.clone()
    square = frame[:, crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    square += resize(change, (crop.side, crop.side), border=0.0)
    return frame.clamp_(0, 1)


def native_frames(explanation: Explanation) -> Float[Tensor, "n c h w"]:
    """All frames at the original's own size (`native_frame` for each); float32, so mind the memory."""
    return torch.stack([native_frame(explanation, index) for index in range(explanation.frames.shape[0])])
