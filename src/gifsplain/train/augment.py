"""Random changes that leave a radiograph plausible: small turns, shifts, zooms, exposure, blur, noise; no mirror."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gifsplain.types import Images

Affines = Float[Tensor, "b 2 3"]


@dataclass(frozen=True)
class AugmentConfig:
    """Largest changes; 0 switches one off. There is no flip: the heart stays on its side."""

    rotation: float = 10.0
    """Degrees either way."""
    zoom: float = 0.12
    """Relative, either way."""
    aspect: float = 0.06
    shift: float = 0.06
    """Share of the side, either way."""
    gamma: float = 0.35
    """Natural logarithm of the exponent, either way."""
    contrast: float = 0.25
    brightness: float = 0.1
    blur_chance: float = 0.25
    blur_pixels: float = 1.8
    """Largest standard deviation of the Gaussian."""
    noise_chance: float = 0.25
    noise: float = 0.04
    """Largest standard deviation, of full scale."""


NO_AUGMENTATION = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def augment(images: Images, config: AugmentConfig) -> Images:
    """Changed copies in [0, 1], drawn from torch's global generator."""
    return expose(warp(images, draw_affines(images.shape[0], config, images.device)), config)


def draw_affines(count: int, config: AugmentConfig, device: torch.device | str = "cpu") -> Affines:
    """Maps from output to input coordinates; their linear part has a positive determinant, so none mirrors."""
    angle = _either_way(count, config.rotation, device) * (math.pi / 180)
    zoom = 1 + _either_way(count, config.zoom, device)
    aspect = 1 + _either_way(count, config.aspect, device)
    sine, cosine = angle.sin() / zoom, angle.cos() / zoom
    shift = [2 * _either_way(count, config.shift, device) for _ in range(2)]
    rows = [torch.stack([cosine * aspect, -sine, shift[0]], 1), torch.stack([sine, cosine / aspect, shift[1]], 1)]
    return torch.stack(rows, 1)


def draw_crops(count: int, config: AugmentConfig, least_area: float, device: torch.device | str = "cpu") -> Affines:
    """As `draw_affines`, of a square part of what they show: between `least_area` and 1 of its area, at any place in it."""
    affines = draw_affines(count, config, device)
    sides = (least_area + (1 - least_area) * torch.rand(count, device=device)).sqrt()
    middles = torch.stack([_either_way(count, 1.0, device) * (1 - sides) for _ in range(2)], 1)
    linear, shift = affines[:, :, :2], affines[:, :, 2:]
    return torch.cat([linear * sides[:, None, None], shift + linear @ middles[:, :, None]], 2)


def warp(images: Images, affines: Affines, *, padding: str = "border", size: int | None = None) -> Images:
    """Images moved by `affines`; `padding` `border` repeats the edge, `zeros` is black (use it for masks).

    `size`: height and width of what comes out; without it those of the images.
    """
    height, width = (size, size) if size is not None else images.shape[2:]
    grid = F.affine_grid(affines, [*images.shape[:2], height, width], align_corners=False)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def expose(images: Images, config: AugmentConfig) -> Images:
    """Images with another exposure, sharpness and noise, in [0, 1]."""
    count, device = images.shape[0], images.device
    images = images.clamp(0, 1) ** _wide(_either_way(count, config.gamma, device).exp())
    images = (images - 0.5) * _wide(1 + _either_way(count, config.contrast, device)) + 0.5
    images = images + _wide(_either_way(count, config.brightness, device))
    if config.blur_chance and float(torch.rand(())) < config.blur_chance:
        images = blur(images, 0.3 + float(torch.rand(())) * max(0.0, config.blur_pixels - 0.3))
    if config.noise_chance:
        chosen = _wide((torch.rand(count, device=device) < config.noise_chance).float())
        level = _wide(torch.rand(count, device=device)) * config.noise
        images = images + chosen * level * torch.randn_like(images)
    return images.clamp(0, 1)


def blur(images: Images, sigma: float) -> Images:
    """Gaussian blur with a standard deviation in pixels; the edge is repeated."""
    radius = max(1, math.ceil(3 * sigma))
    places = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = (-(places**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).repeat(images.shape[1], 1)
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel[:, None, None, :], groups=images.shape[1])
    return F.conv2d(rows, kernel[:, None, :, None], groups=images.shape[1])


def _either_way(count: int, limit: float, device: torch.device | str) -> Float[Tensor, " b"]:
    return (torch.rand(count, device=device) * 2 - 1) * limit


def _wide(values: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1 1"]:
    return values[:, None, None, None]
