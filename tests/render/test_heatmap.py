"""Maps as colours: known pixels, window, boxes and outlines."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from gifsplain.errors import InputError
from gifsplain.render import heatmap
from gifsplain.render.heatmap import Box, Window

from . import fakes


def test_overlay_leaves_the_image_where_the_map_is_zero_and_colours_its_peak():
    image = torch.full((1, 4, 4), 0.5)
    map = torch.zeros(4, 4)
    map[1, 2] = 2.0
    drawn = heatmap.draw_overlay(image, map, Window(0, 2), opacity=0.75)
    peak = np.array(colormaps["inferno"](1.0)[:3]) * 255
    assert drawn[0, 0].tolist() == [128, 128, 128]
    assert drawn[1, 2] == pytest.approx(0.25 * 128 + 0.75 * peak, abs=1)


def test_map_alone_uses_the_scale_from_end_to_end():
    drawn = heatmap.draw_map(torch.tensor([[0.0, 1.0, 5.0, -3.0, float("nan")]]), Window(0, 1))
    ends = [np.rint(np.array(colormaps["inferno"](v)[:3]) * 255).astype(int).tolist() for v in (0.0, 1.0)]
    assert drawn[0].tolist() == [ends[0], ends[1], ends[1], ends[0], ends[0]]


def test_colour_scale_grows_in_lightness():
    drawn = heatmap.draw_map(torch.linspace(0, 1, 256)[None], Window(0, 1))[0] / 255.0
    light = np.where(drawn <= 0.04045, drawn / 12.92, ((drawn + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) > -1e-4).all() and light[-1] > 0.8


def test_window_ignores_one_stray_pixel_and_serves_maps_of_zeros():
    map = torch.ones(100, 100)
    map[0, 0] = 50
    assert Window.of(map).high == pytest.approx(1.0)
    assert Window.of(torch.zeros(3, 3)) == Window(0.0, 1.0)
    single = torch.zeros(200, 200)
    single[4, 4] = 0.3
    assert Window.of(single).high == pytest.approx(0.3)


def test_window_without_width_is_refused():
    with pytest.raises(InputError, match="low end is below"):
        Window(1, 1)


def test_map_of_another_size_is_refused():
    with pytest.raises(InputError, match="map of the image's size"):
        heatmap.draw_overlay(torch.zeros(1, 4, 4), torch.zeros(5, 5), Window(0, 1))


def test_box_lies_where_it_is_given():
    drawn = heatmap.outline(np.zeros((40, 40, 3), np.uint8), boxes=[Box(5, 2, 15, 10)], size=(20, 20))
    marked = np.argwhere((drawn == heatmap.YELLOW).all(-1))
    assert marked.min(0).tolist() == [4, 10] and marked.max(0).tolist() == [19, 29]
    assert drawn[12, 20].tolist() == [0, 0, 0]


def test_outline_is_the_border_of_the_mask():
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    drawn = heatmap.outline(np.zeros((9, 9, 3), np.uint8), mask=mask, size=(9, 9))
    marked = (drawn == heatmap.YELLOW).all(-1)
    assert marked.sum() == 16 and not marked[3:6, 3:6].any() and marked[2, 2]


def test_pictures_state_their_window():
    explanation = fakes.explanation()
    one, two = heatmap.map_picture(explanation), heatmap.map_picture(explanation, Window(0, 9.87))
    assert one.size == (448, 448 + round(15 * 3.4)) and one.tobytes() != two.tobytes()
    overlay = heatmap.overlay_picture(explanation, boxes=[Box(3, 3, 20, 20)])
    assert np.asarray(overlay)[21, 60].tolist() == list(heatmap.YELLOW)
