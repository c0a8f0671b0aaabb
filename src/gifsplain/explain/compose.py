"""From decoded images to the frames that are shown and scored: the reconstruction, or the input plus what changed."""

from enum import StrEnum

from gifsplain.types import Images


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
