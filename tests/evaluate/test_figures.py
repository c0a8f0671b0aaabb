"""Names in figures are drawn as they are written."""

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from gifsplain.evaluate import figures
from gifsplain.evaluate.experiments import png

NAME = r"cost $\badformula$ of x"


def test_a_name_with_dollar_signs_is_no_formula() -> None:
    row = {
        "classifier": NAME,
        "target": NAME,
        "method": "latentshift",
        "n": 3,
        "iou": 0.2,
        "iou_low": 0.1,
        "iou_high": 0.3,
    }
    with pytest.raises(ValueError, match="badformula"):  # what a formula of that name would be
        figures.overlap(pd.DataFrame([row])).savefig("/dev/null", format="png")
    figure = figures.overlap(pd.DataFrame([row]))
    assert png(figure)
    assert not [t for t in figure.findobj(Text) if NAME in t.get_text() and t.get_parse_math()]


def test_ticks_of_a_logarithmic_axis_stay_formulas() -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 1000], [1, 2])
    axes.set_xscale("log")
    figures.literal(figure)
    assert all(label.get_parse_math() for label in axes.get_xticklabels())
    assert not any(label.get_parse_math() for label in axes.get_yticklabels())
