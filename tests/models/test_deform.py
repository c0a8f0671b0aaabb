"""Shading and deformation against transport known in closed form, and their laws."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from gifsplain.models import deform

SIZE = 64


def _film(count: int = 1) -> torch.Tensor:
    """Smooth images, so that bilinear sampling is nearly exact."""
    coarse = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return deform.upsample(coarse, (SIZE, SIZE))


def _velocity(seed: int, size: float) -> torch.Tensor:
    return size * torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_no_velocity_moves_nothing_and_own_means_change_nothing() -> None:
    film = _film(2)
    torch.testing.assert_close(deform.warp(film, torch.zeros(2, 2, 4, 4)), film, atol=1e-5, rtol=0)
    torch.testing.assert_close(deform.shade(film, deform.cell_means(film, (4, 4))), film, atol=1e-6, rtol=0)


def test_a_constant_velocity_shifts_the_middle() -> None:
    film = _film()
    velocity = torch.zeros(1, 2, 4, 4)
    velocity[:, 0], velocity[:, 1] = 3.0, -2.0
    middle = slice(26, 38)
    moved = deform.warp(film, velocity)[..., middle, middle]
    torch.testing.assert_close(moved, film[..., 24:36, 29:41], atol=2e-3, rtol=0)


@given(seed=st.integers(0, 1000), size=st.floats(0.5, 5))
def test_flow_never_folds_and_is_undone_by_its_opposite(seed: int, size: float) -> None:
    """Neighbouring cells, 16 pixels apart, differ by up to 5 pixels in standard deviation."""
    velocity = _velocity(seed, size)
    ahead = deform.flow(velocity, (SIZE, SIZE))
    x, y = ahead[0]
    dxx, dxy = torch.gradient(x, dim=(1, 0))
    dyx, dyy = torch.gradient(y, dim=(1, 0))
    assert ((1 + dxx) * (1 + dyy) - dxy * dyx).min() > 0  # orientation is kept everywhere
    film = _film()
    back = deform.warp(deform.warp(film, velocity), -velocity)
    assert (back - film).abs().mean() < 0.02 * (1 + size / 3)


def test_flow_follows_the_velocity_as_many_small_steps_do() -> None:
    """Against Euler's method with 512 steps, each sampling the velocity where the path has come to."""
    velocity = _velocity(3, 4.0)
    fine = deform._faded(velocity)
    points = deform._places(SIZE, SIZE, velocity)
    path = points.clone()
    for _ in range(512):
        pixels = torch.nn.functional.grid_sample(fine, path, padding_mode="border", align_corners=False)
        path = path + deform._in_squares(pixels, SIZE, SIZE) / 512
    slow = ((path - points) * SIZE / 2).permute(0, 3, 1, 2)
    torch.testing.assert_close(deform.flow(velocity, (SIZE, SIZE)), slow, atol=0.5, rtol=0.05)


def test_edges_stay_where_they_are() -> None:
    flow = deform.flow(_velocity(1, 8.0), (SIZE, SIZE))
    border = torch.cat([flow[..., 0, :], flow[..., -1, :], flow[..., :, 0], flow[..., :, -1]], -1)
    assert border.abs().max() < 0.25 * flow.abs().max()


def test_shading_sets_the_mean_of_a_cell_and_spares_far_ones() -> None:
    film = _film()
    shading = deform.cell_means(film, (4, 4))
    shading[0, 0, 1, 1] += 0.2
    change = deform.cell_means(deform.shade(film, shading) - film, (4, 4))[0, 0]
    assert 0.1 < change[1, 1] < 0.2 and change.argmax() == 5
    assert change[3, 3].abs() < 1e-3
