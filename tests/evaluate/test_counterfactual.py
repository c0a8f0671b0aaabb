"""`evaluate counterfactual` where nothing was found, and which way the score was to go."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from gifsplain.errors import InputError
from gifsplain.evaluate import alignment, cases, config, counterfactual, marks, shortcut, tables
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.counterfactual import CounterfactualConfig
from gifsplain.evaluate.experiments import perform
from gifsplain.evaluate.model_figures import ModelFiguresConfig
from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.models import wrap
from gifsplain.models.protocols import Pair
from gifsplain.types import Explanation, ScoreMeaning, Stop

from .tiny import SIZE, TARGETS, TinyAutoencoder, tiny_images, tiny_pair

World = Callable[..., Setup]
NEEDS_A_CHANGE = ["l1", "ssim", "changed", "other_targets", "perceptual", "cout", "oracle_agrees"]


class Constant(nn.Module):
    """Says 0.88 (a logit of 2) of every image."""

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x.mean((1, 2, 3))[:, None] + torch.full((1, len(TARGETS)), 2.0)


def constant_pair() -> Pair:
    model = wrap.classifier(Constant(), name="constant", targets=TARGETS, size=SIZE)
    return wrap.pair(model, wrap.autoencoder(TinyAutoencoder(), name="tiny-ae", size=SIZE))


def explained(pair: Pair, settings: Settings, count: int = 3) -> list[Explanation]:
    pictures = cases.as_pictures(tiny_images(count), [str(n) for n in range(count)])
    return explain_with("latentshift", pair, pictures, ["Mass"], settings)


def test_logits_flip_at_zero(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    pair = tiny_pair()
    net = pair.classifier.net
    scored = wrap.classifier(
        net, name="logits", targets=TARGETS, size=SIZE, value_range=(-4.0, 4.0), meaning=ScoreMeaning.LOGIT
    )
    pair = replace(pair, classifier=scored)
    one = explained(pair, Settings(drop=0.2, rise=0.0), count=1)[0]
    for before, after, flipped in ((0.3, -0.1, 1.0), (0.3, 0.1, 0.0), (-0.2, -0.4, float("nan"))):
        path = torch.full_like(one.frame_scores, before)
        path[one.counterfactual] = after
        row = counterfactual.counterfactual_measures(replace(one, frame_scores=path), 0.2, 0.005)
        assert row["flipped"] == pytest.approx(flipped, nan_ok=True)
    monkeypatch.setattr(config, "load_models", lambda name, autoencoder, *, resize=False: pair)
    with pytest.raises(InputError, match="expected scores that are probabilities, logits gives logits"):
        perform("models", ModelFiguresConfig(world(targets=("Mass",), classifiers=("one",))))


def test_a_method_that_finds_nothing_is_not_the_nearest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = {"one": constant_pair(), "two": tiny_pair(5)}
    monkeypatch.setattr(config, "load_models", lambda name, autoencoder, *, resize=False: pairs[name])
    setup = world(targets=("Mass",), methods=("latentshift",), classifiers=("one", "two"))
    result = perform("counterfactual", CounterfactualConfig(setup, "two", "two", steps=4))
    rows = result.rows.set_index("classifier")
    assert (rows.loc["one", "stop"] == "zero_gradient").all()
    assert rows.loc["one", NEEDS_A_CHANGE].isna().all(axis=None)
    assert (rows.loc["one", ["valid", "oracle_change"]] == 0).all(axis=None)
    assert rows.loc["two", ["l1", "cout"]].notna().all(axis=None)
    summary = result.summary.set_index("classifier")
    assert summary.loc["one", "n"] == summary.loc["one", "valid_n"] == 3
    assert summary.loc["one", "cout_n"] == summary.loc["one", "l1_n"] == 0
    assert summary.loc["two", "cout_n"] == 3


def test_means_say_over_how_many_results_they_were_taken() -> None:
    rows = pd.DataFrame(
        {"classifier": "one", "method": "latentshift", "target": "Mass", "case": list("abc"), "patient": list("abc"),
         "valid": [1.0, 0.0, 0.0], "l1": [0.2, 0.4, np.nan], "flipped": np.nan}
    )  # fmt: skip
    summary = counterfactual.summarise(rows)
    (found,) = summary.to_dict("records")
    assert (found["l1"], found["l1_n"], found["valid_n"]) == (pytest.approx(0.3), 2, 3)
    shown = tables.counterfactual(summary).set_index("measure")["one / latentshift"]
    assert shown[["n", "valid", "l1", "flipped"]].tolist() == ["3", "0.333", "0.300 (2)", "–"]


@pytest.mark.parametrize(
    ("settings", "falls"),
    [(Settings(frames=5, drop=0.1), True), (Settings(frames=5, drop=0.0), False),
     (Settings(frames=5, strengths=(0.0, 0.5)), False), (Settings(frames=5, strengths=(-0.5, 0.5)), True)],
)  # fmt: skip
def test_the_wanted_change_is_a_fall_unless_only_a_rise_was_searched(settings: Settings, falls: bool) -> None:
    for one in explained(tiny_pair(), settings):
        assert counterfactual.wants_fall(one) == falls


def test_a_fall_that_was_searched_and_not_found_is_still_the_wanted_change() -> None:
    """As `Explanation.stop` decides it: only a score without room for a fall leaves the rise."""
    (one,) = explained(tiny_pair(), Settings(frames=5, drop=0.0), count=1)
    assert one.counterfactual > one.baseline
    for stop, falls in ((Stop.PIXEL_LIMIT, True), (Stop.TURNED, True), (Stop.SCORE_BOUND, False)):
        tried = replace(one, stop_lower=stop)
        assert counterfactual.wants_fall(tried) == falls == (tried.stop is tried.stop_lower)


def test_alignment_and_shortcut_measure_from_strength_0_where_the_sweep_leaves_it_out(tmp_path: Path) -> None:
    """As everything else does: the schedule of 2021 has no frame there, and its nearest one has changed already."""
    pair, images, settings = tiny_pair(), tiny_images(2), Settings(policy="paper-2021")
    found = explain_with("latentshift", pair, cases.as_pictures(images, ["a", "b"]), [TARGETS[0]], settings)
    assert all(one.start is not None for one in found)
    assert any(abs(float(one.frame_scores[one.baseline]) - one.baseline_score) > 1e-3 for one in found)
    for one in found:
        rows = alignment._reactions(one, {"tiny": pair}, {})
        assert [row["target"] for row in rows] == list(TARGETS)
        for row, start in zip(rows, one.baseline_scores.tolist(), strict=True):
            assert row["before"] == pytest.approx(start, abs=1e-5) and len(row["path"]) == len(one.frames)
            assert row["base_before"] == one.baseline_score
        assert rows[0]["relative"] == pytest.approx(1, abs=1e-2)
    world = shortcut._World(
        shortcut.ShortcutConfig(Setup(tmp_path / "m.csv", tmp_path), TARGETS[0]), marks.Mark(size=0.3), {},
        shortcut._Data([], images, np.array([True, False])),
    )  # fmt: skip
    _, drawn = shortcut._sweeps(world, pair, "latentshift", settings, plain=images, planted=images)
    for row, one in zip(drawn, found, strict=True):
        assert row["lowered"] == pytest.approx(one.baseline_score - float(one.frame_scores[0]), abs=1e-5)
        first, last = (float(marks.presence(f[None], world.mark)) for f in (one.baseline_frame, one.frames[0]))
        assert row["removed_grey"] == pytest.approx(first - last, abs=1e-5)
