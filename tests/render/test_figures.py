"""Curve, panel and flow."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import shift

from gifsplain.errors import InputError
from gifsplain.render import figures, flow, svg
from gifsplain.types import ScoreMeaning

from . import fakes


def texts(figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text")))


def test_curve_holds_the_frames_and_the_three_scores():
    explanation = fakes.explanation(n=11)
    figure = figures.curve_figure(explanation)
    line = figure.axes[0].get_lines()[2]
    assert np.allclose(line.get_ydata(), explanation.frame_scores) and np.allclose(
        line.get_xdata(), explanation.strengths
    )
    words = texts(figure)
    for part in ("input 0.75", "reconstruction 0.71", "counterfactual 0.14", "wanted drop to 0.45", "operating point"):
        assert part in words
    assert figures.encode_figure(figure)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "target", ["Enlarged Cardiomediastinum", "A name that no room is long enough for " * 4, "患者 א"]
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_no_name_pushes_the_other_words_out_of_the_picture(target):
    explanation = fakes.explanation(fakes.phantom(64), n=5, target=target)
    for figure in (figures.curve_figure(explanation), flow.flow_figure(explanation, flow.FlowMethod.ILK)):
        figures.encode_figure(figure)  # lays it out
        axes = figure.axes[0]
        for text in filter(lambda one: one.get_text(), (axes.title, axes.yaxis.label)):
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    assert axes.title.get_text().endswith("synthetic, research use")


def test_wanted_change_is_drawn_only_where_the_search_had_one():
    explanation = fakes.explanation()
    assert [name for name, _ in svg.wanted(explanation)] == ["drop", "rise"]
    published = replace(explanation, record={"settings": {"drop": 0.3, "rise": 0.05, "policy": "paper-2021"}})
    assert svg.wanted(published) == [] and svg.wanted(fakes.map_only()) == []
    assert svg.wanted(replace(explanation, record={})) == []
    deep = replace(explanation, record={"settings": {"drop": 0.9, "rise": 0.0, "floor": 0.01, "ceiling": 0.99}})
    assert svg.wanted(deep) == [("drop", 0.01)]  # the search goes to the floor instead, and no rise was wanted


def test_points_of_the_page_lie_on_the_axes():
    explanation = fakes.explanation(n=5)
    places = svg.points(explanation)
    heights = [place[1] for place in places]
    assert heights == sorted(heights, reverse=True)  # rising scores climb the page
    axes = svg.Axes.of(explanation)
    assert axes.y(0.0) == 238 and axes.y(1.0) == 10


@pytest.mark.parametrize("meaning", list(ScoreMeaning))
def test_page_curve_is_well_formed(meaning):
    from xml.etree import ElementTree

    text = svg.curve(fakes.explanation(meaning=meaning, target='<b>"A&B"</b>'))
    root = ElementTree.fromstring(f"<div>{text}</div>")
    assert root[0].attrib["aria-label"] == 'Score of <b>"A&B"</b> over strength'
    assert len(root[0].findall("circle[@class='hit']")) == 21


def test_panel_has_a_column_a_method_and_a_row_a_classifier():
    given = [replace(fakes.explanation(), method=name) for name in ("latentshift", "grad")]
    rows = figures.panel_of({"XRV-all": given, "JF": given[:1]}, boxes=[figures.Box(3, 3, 20, 20)])
    figure = figures.panel_figure(rows, title="Cardiomegaly")
    assert len(figure.axes) == 6
    words = texts(figure)
    assert all(part in words for part in ("image", "latentshift", "grad", "XRV-all", "JF", "Cardiomegaly"))
    with Image.open(io.BytesIO(figures.encode_figure(figure))) as picture:
        yellow = (np.abs(np.asarray(picture.convert("RGB")).astype(int) - figures.YELLOW).sum(-1) < 60).sum()
    assert yellow > 300  # the boxes


def test_panel_without_rows_is_refused():
    with pytest.raises(InputError, match="at least one row"):
        figures.panel_figure([])


@pytest.mark.parametrize("method", list(flow.FlowMethod))
def test_flow_finds_a_known_shift(method):
    random = np.random.default_rng(0)
    from scipy.ndimage import gaussian_filter

    first = gaussian_filter(random.random((64, 64)), 3)
    first = (first - first.min()) / (first.max() - first.min()) * 0.2 + 0.4
    second = shift(first, (1.5, -1.0), mode="nearest")
    found = flow.optical_flow(
        *(torch.tensor(picture, dtype=torch.float32)[None] for picture in (first, second)), method
    )
    inner = found[:, 12:-12, 12:-12].mean(axis=(1, 2))
    assert inner == pytest.approx([1.5, -1.0], abs=0.3)


def test_no_change_no_flow():
    picture = fakes.phantom(32)
    assert not flow.optical_flow(picture, picture).any()


def test_flow_figure_serves_small_and_large_frames():
    for size in (32, 300):
        figure = flow.flow_figure(fakes.explanation(fakes.phantom(size), n=3), flow.FlowMethod.ILK)
        assert "synthetic, research use" in texts(figure)
        assert figures.encode_figure(figure)[:4] == b"\x89PNG"
