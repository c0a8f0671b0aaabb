"""Figures of a model card against scikit-learn and planted cases; contact sheets hold what they say."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from gifsplain.errors import InputError
from gifsplain.evaluate import model_figures, sheets
from gifsplain.evaluate.config import Setup

World = Callable[..., Setup]


def rows(count: int = 120, *, telling: float = 3.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    positive = rng.random(count) < 0.4
    score = 1 / (1 + np.exp(-(1.5 * positive + rng.normal(size=count))))
    source = np.where(np.arange(count) % 2 == 0, "here", "there")
    features = rng.normal(size=(count, 5)) + telling * (source == "here")[:, None]
    return pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(count)],
            "patient": [f"p{i // 2 if telling else i}" for i in range(count)],
            "labelled": True,
            "measured": True,
            "error": rng.random(count) * 0.02,
            "similarity": 0.9,
            "features": list(features.tolist()),
            "positive:Mass": positive,
            "score:Mass": score,
            "logit:Mass": rng.normal(size=count),
            "drawn:Mass": score * 0.5,
            "source": source,
            "view": rng.choice(["PA", "AP"], count),
            "sex": rng.choice(["F", "M"], count),
            "age": [*rng.integers(10, 90, count - 1), None],
        }
    )


def test_auc_by_group_is_scikit_learns() -> None:
    table = rows()
    found = model_figures.discrimination(table).set_index(["group", "of"])
    assert found.at[("all", "image"), "auc"] == pytest.approx(
        roc_auc_score(table["positive:Mass"], table["score:Mass"])
    )
    assert found.at[("all", "reconstruction"), "auc"] == pytest.approx(found.at[("all", "image"), "auc"])
    women = table[table["sex"] == "F"]
    area = roc_auc_score(women["positive:Mass"], women["score:Mass"])
    assert found.at[("sex F", "image"), "auc"] == pytest.approx(area)
    assert found.at[("sex F", "image"), "low"] < area < found.at[("sex F", "image"), "high"]
    ages = [found.at[(f"age {band}", "image"), "n"] for band in ("< 40", "40-59", ">= 60")]
    assert sum(ages) == len(table) - 1  # the one without an age is in no band
    few = table.assign(**{"positive:Mass": [True, True, *[False] * (len(table) - 2)]})
    assert np.isnan(model_figures.discrimination(few)["auc"].iloc[0])


def test_operating_point_and_drop() -> None:
    table = rows()
    point = model_figures.operating_point(table).iloc[0]
    positive = table[table["positive:Mass"]]
    assert point["sensitivity"] == pytest.approx((positive["score:Mass"] > 0.5).mean())
    assert point["drop"] == pytest.approx(0.5 * positive["score:Mass"].mean())


def test_source_probe_finds_a_planted_source_and_only_that() -> None:
    found = model_figures.source_probe(rows()).set_index("from")
    assert found.at["pooled features", "balanced_accuracy"] > 0.95
    assert found.at["logits", "balanced_accuracy"] < 0.65
    assert found.at["logits", "chance"] == 0.5
    blind = model_figures.source_probe(rows(telling=0)).set_index("from")
    assert blind.at["pooled features", "balanced_accuracy"] < 0.65
    assert model_figures.source_probe(rows(), least=61).empty


def test_peak_change_is_the_mean_of_the_worst_square() -> None:
    change = torch.zeros(1, 32, 32)
    change[0, 10:18, 5:13] = 0.2
    change[0, 30, 30] = 0.9
    assert model_figures.peak_change(change) == pytest.approx(0.2)


def test_reconstruction_and_reach_by_group() -> None:
    table = rows()
    found = model_figures.reconstruction(table).set_index("group")
    assert found.at["source here", "mae"] == pytest.approx(table[table["source"] == "here"]["error"].mean())
    assert found.at["every source", "images"] == len(table)
    explained = pd.DataFrame(
        {
            "method": ["one", "one", "one", "two"],
            "target": ["A", "A", "B", "A"],
            "reached": [True, True, False, True],
            "peak": [0.2, 0.01, 0.3, 0.3],
            **{key: [0.9, 0.8, 0.7, 0.6] for key in ("score", "reconstruction", "counterfactual")},
        }
    )
    reached = model_figures.reach(explained, "one").set_index("target")
    assert list(reached["reached_and_visible"]) == [0.5, 0.0, pytest.approx(1 / 3)]
    assert list(model_figures.reach(explained, "two")["n"]) == [1, 1]
    assert model_figures.methods_of(explained) == ["one", "two"]


def test_auto_is_the_line_or_the_steps_where_only_they_reach() -> None:
    line = [(True, 0.1), (False, 0.2), (False, 0.3)]
    steps = [(True, 0.01), (True, 0.02), (False, 0.03)]
    table = pd.DataFrame(
        [
            {"case": case, "target": "A", "method": method, "reached": reached, "peak": peak, "seconds": seconds}
            for method, made, seconds in (("latentshift", line, 1.0), ("latentshift-steps", steps, 2.0))
            for case, (reached, peak) in zip("abc", made, strict=True)
        ]
    )
    found = model_figures.with_auto(table.sample(frac=1, random_state=0))
    auto = found[found["method"] == "auto"].set_index("case").sort_index()
    assert [tuple(row) for row in auto[["reached", "peak", "seconds"]].to_numpy()] == [
        (True, 0.1, 1.0), (True, 0.02, 3.0), (False, 0.3, 3.0)
    ]  # fmt: skip
    assert len(model_figures.with_auto(table[:4])) == 4  # not the same cases by both
    assert not len(model_figures.with_auto(table[:0]))


def test_sheets_show_marked_cases_first(world: World) -> None:
    setup = world(split="test", targets=("Mass",))
    paths = sheets.run(sheets.SheetsConfig(setup, images=3, rows=2))
    assert [path.name for path in paths] == ["one-Mass-1.png", "one-Mass-2.png"]
    first = np.asarray(Image.open(paths[0]))
    height = first.shape[0] // 2
    assert first.shape[1] == 5 * (height - sheets.TITLE)
    assert (first == (255, 220, 0)).all(axis=2).any()  # an expert's mark
    setup.box_file.write_text("path,label,x,y,w,h\n")
    setup.manifest.write_text(setup.manifest.read_text().replace("Mass", "Heart"))
    with pytest.raises(InputError, match="no case of the targets"):
        sheets.run(sheets.SheetsConfig(setup))
