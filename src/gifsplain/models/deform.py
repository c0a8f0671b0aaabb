"""Shading and deformation of a drawn image by smooth fields on a coarse grid (deforming autoencoders, Shu et al. 2018).

Both leave the image alone where the fields say nothing, so what the networks drew stays on the manifold: a heart becomes
narrower by moving its borders, an effusion clears by darkening, and neither breaks into the decoder's cells.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gifsplain.types import Images

SQUARINGS = 5
"""A velocity is followed in 2 ** SQUARINGS steps."""
MARGIN = 6.0
"""A deformation fades over so many points of the integration grid towards the edge of the image."""
FINE = 4
"""Points of the integration grid per point of the velocity's grid, along each axis."""

Grid = Float[Tensor, "b c h w"]
Velocity = Float[Tensor, "b 2 h w"]


def shade(images: Images, shading: Grid) -> Images:
    """Images whose grey means over the cells of the grid become (nearly) `shading`; the change is a bicubic surface."""
    grey = images.mean(1, keepdim=True)
    return images + upsample(shading - cell_means(grey, shading.shape[-2:]), images.shape[-2:])


def cell_means(images: Images, grid: torch.Size | tuple[int, int]) -> Grid:
    """Mean of each cell: the coarse part of the images that `shade` replaces."""
    means: Tensor = F.adaptive_avg_pool2d(images, (grid[0], grid[1]))
    return means


def warp(images: Images, velocity: Velocity) -> Images:
    """Images sampled along a stationary velocity in pixels (x, y), so that what they show moves against it: smooth and invertible as long as neighbouring cells differ by less than about a cell.

    The value at a place is taken from where the flow leads from that place; outside, the edge is repeated.
    """
    height, width = images.shape[-2:]
    grid = _places(height, width, images) + _in_squares(flow(velocity, (height, width)), height, width)
    moved: Tensor = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved


def warp_first_order(images: Images, velocity: Velocity) -> Images:
    """`warp` to first order in the velocity, by central differences: it can be differentiated twice.

    Bilinear sampling has a kink at rest, so the derivative of `warp` itself is there one of the two one-sided differences.
    """
    return images + warped_change(images, velocity)


def warped_change(images: Images, velocity: Velocity) -> Images:
    """What `warp_first_order` adds to the images; exact for small velocities, which a difference of images is not."""
    return change_first_order(images, upsample(_faded(velocity), images.shape[-2:]))


def change_first_order(images: Images, displacement: Float[Tensor, "b 2 h w"]) -> Images:
    """Change of images that are sampled at a displacement in pixels (x, y), to first order in it."""
    x, y = displacement.split(1, dim=1)
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    moved: Tensor = across * x + down * y
    return moved


def flow(velocity: Velocity, size: tuple[int, int]) -> Float[Tensor, "b 2 i j"]:
    """Displacement in pixels after unit time, by scaling and squaring (Arsigny et al. 2006)."""
    moved = _faded(velocity) / 2**SQUARINGS
    height, width = moved.shape[-2:]
    places = _places(height, width, moved)
    steps = moved.new_tensor([width / size[1], height / size[0]]).view(1, 2, 1, 1)
    for _ in range(SQUARINGS):
        grid = places + _in_squares(moved * steps, height, width)
        moved = moved + F.grid_sample(moved, grid, padding_mode="border", align_corners=False)
    return upsample(moved, size)


def upsample(fields: Grid, size: torch.Size | tuple[int, int]) -> Float[Tensor, "b c i j"]:
    """Bicubic, cell centres aligned."""
    return F.interpolate(fields, (size[0], size[1]), mode="bicubic", align_corners=False)


def _faded(velocity: Velocity) -> Velocity:
    """On the integration grid, falling to 0 at the edge so that nothing is pulled in from outside."""
    height, width = (FINE * side for side in velocity.shape[-2:])
    fades = [_fade(side, velocity) for side in (height, width)]
    return upsample(velocity, (height, width)) * fades[0][:, None] * fades[1][None, :]


def _fade(side: int, like: Tensor) -> Float[Tensor, " s"]:
    places = torch.arange(side, device=like.device, dtype=like.dtype) + 0.5
    return (torch.minimum(places, side - places) / min(MARGIN, side / 4)).clamp(max=1)


def _places(height: int, width: int, like: Tensor) -> Float[Tensor, "1 h w 2"]:
    """Centres of the pixels in the coordinates of `grid_sample`."""
    y, x = (
        (torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) * (2 / side) - 1 for side in (height, width)
    )
    return torch.stack([x[None, :].expand(height, -1), y[:, None].expand(-1, width)], -1)[None]


def _in_squares(pixels: Float[Tensor, "b 2 h w"], height: int, width: int) -> Float[Tensor, "b h w 2"]:
    """Displacements in the coordinates of `grid_sample`, where the image is 2 wide and high."""
    scale = pixels.new_tensor([2 / width, 2 / height]).view(1, 2, 1, 1)
    return (pixels * scale).permute(0, 2, 3, 1)
