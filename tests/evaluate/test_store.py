"""Shared results: computed once, equal when read back, kept apart by all that decides them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from gifsplain.errors import InputError
from gifsplain.evaluate import cases, store
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.counterfactual import CounterfactualConfig
from gifsplain.evaluate.experiments import perform
from gifsplain.evaluate.localisation import OverlapConfig
from gifsplain.evaluate.store import Store
from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.models import wrap
from gifsplain.models.protocols import Pair

from .tiny import SIZE, TARGETS, TinyAutoencoder, TinyClassifier, tiny_images, tiny_pair

SETTINGS = Settings(frames=4, drop=0.1)
NAMES = ("a", "b", "c")


def known_pair(seed: int = 0) -> Pair:
    torch.manual_seed(seed)
    model = wrap.classifier(TinyClassifier(), name="tiny", targets=TARGETS, size=SIZE)
    drawer = wrap.autoencoder(TinyAutoencoder(), name="tiny-ae", size=SIZE)
    known = replace(model, card=replace(model.card, sha256=f"c{seed}"))
    return Pair(known, replace(drawer, card=replace(drawer.card, sha256="a")))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []

    def explain(*args: object, **options: object) -> object:
        calls.append(len(args[2]))  # type: ignore[arg-type]
        return explain_with(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "explain_with", explain)
    return calls


def test_a_sweep_is_computed_once_and_read_back_equal(tmp_path: Path, counted: list[int]) -> None:
    pair, images, kept = known_pair(), tiny_images(), Store(tmp_path)
    kept.sweeps(pair, "latentshift", images[:1], "Mass", SETTINGS, names=NAMES[:1])
    first = kept.sweeps(pair, "latentshift", images, "Mass", SETTINGS, names=NAMES)
    again = kept.sweeps(pair, "latentshift", images, "Mass", SETTINGS, names=NAMES)
    assert counted == [1, 2]
    for a, b in zip(first, again, strict=True):
        for name in ("image", "frames", "strengths", "frame_scores", "target_scores", "map", "reconstruction"):
            assert torch.equal(getattr(a, name), getattr(b, name))
        for name in ("case", "target", "targets", "scores", "stop", "counterfactual", "cost", "meaning", "has_sweep"):
            assert getattr(a, name) == getattr(b, name)
    maps = kept.maps(pair, "latentshift", images, "Mass", SETTINGS, names=NAMES)
    assert counted == [1, 2] and torch.equal(maps[2].map, first[2].map) and maps[2].seconds > 0


def test_whatever_decides_a_result_keeps_it_apart(tmp_path: Path) -> None:
    pair, image, kept = known_pair(), tiny_images(1)[0], Store(tmp_path)
    paths = {
        kept.path(pair, "latentshift", image, "Mass", SETTINGS),
        kept.path(pair, "latentshift", image, "Effusion", SETTINGS),
        kept.path(pair, "latentshift", image, "Mass", replace(SETTINGS, drop=0.2)),
        kept.path(pair, "latentshift", image + 1e-6, "Mass", SETTINGS),
        kept.path(known_pair(1), "latentshift", image, "Mass", SETTINGS),
        kept.path(pair, "grad", image, "Mass", SETTINGS),
    }
    assert len(paths) == 6
    assert kept.path(pair, "latentshift", image, "Mass", replace(SETTINGS, batch=3)) in paths
    assert kept.path(pair, "grad", image, "Mass", replace(SETTINGS, drop=0.2)) in paths


def test_models_without_a_checksum_are_computed_every_time(tmp_path: Path, counted: list[int]) -> None:
    for _ in range(2):
        Store(tmp_path).sweeps(tiny_pair(), "latentshift", tiny_images(), "Mass", SETTINGS, names=NAMES)
    assert counted == [3, 3] and not list(tmp_path.iterdir())


def test_experiments_share_sweeps(
    world: Callable[..., Setup], counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = world(targets=("Mass",), split="test")
    monkeypatch.setattr("gifsplain.evaluate.config.load_models", lambda *_, **__: known_pair())
    perform("overlap", OverlapConfig(setup, threshold_split="test"))
    assert sum(counted) == 3
    found = perform("counterfactual", CounterfactualConfig(setup, steps=2))
    assert sum(counted) == 3 and set(found.rows["method"]) == {"grad", "latentshift", "random-map"}


def test_costly_methods_see_the_first_cases_of_the_same_draw(world: Callable[..., Setup]) -> None:
    setup = world(targets=("Mass",), split="test", method_limits={"grad": 2})
    rows = perform("overlap", OverlapConfig(setup, threshold_split="test")).rows
    assert rows.groupby("method")["case"].nunique().to_dict() == {
        "grad": 2, "latentshift": 3, "random-map": 3, "box-prior": 3,
    }  # fmt: skip
    assert set(rows.loc[rows["method"] == "grad", "case"]) < set(rows["case"])
    with pytest.raises(InputError, match="method_limits names guided"):
        world(method_limits={"guided": 2})


def test_a_smaller_draw_is_the_beginning_of_a_larger(world: Callable[..., Setup]) -> None:
    pool = cases.load_cases(world())
    assert cases.draw(pool, 3, 0) == cases.draw(pool, 9, 0)[:3]
    assert cases.draw(pool, 3, 0) != cases.draw(pool, 3, 1)


def test_all_splits_and_conditions(world: Callable[..., Setup]) -> None:
    setup = world(split="all", where=("view=PA", "patient_id=val-p0"))
    assert {case.key for case in cases.load_cases(setup)} == {"val-0.png", "val-1.png"}
    assert len(cases.load_cases(world(split="all"))) == 36
    with pytest.raises(InputError, match="where takes column=value"):
        cases.load_cases(world(where=("nothing=1",)))
    table = pd.read_csv(setup.manifest)
    assert set(table["split"]) == {"train", "val", "test"}


def test_a_sweep_that_leaves_strength_zero_out_keeps_its_start(tmp_path: Path) -> None:
    pair, images, kept = known_pair(), tiny_images(1), Store(tmp_path)
    published = Settings(policy="paper-2021")
    (made,) = kept.sweeps(pair, "latentshift", images, "Mass", published, names=NAMES[:1])
    (read,) = kept.sweeps(pair, "latentshift", images, "Mass", published, names=NAMES[:1])
    assert made.start is not None and read.start is not None
    torch.testing.assert_close(read.baseline_frame, made.baseline_frame, rtol=0, atol=0)
    torch.testing.assert_close(read.baseline_scores, made.baseline_scores, rtol=0, atol=0)


def test_sweeps_of_another_fit_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, image, kept = known_pair(), tiny_images(1)[0], Store(tmp_path)

    def path(method: str, sha256: str) -> Path:
        monkeypatch.setattr(store.fits, "load", lambda pair: store.fits.Fit({}, sha256=sha256))
        return kept.path(pair, method, image, "Mass", SETTINGS)

    for method in ("eigenfind", "attfind-subset", "random"):
        assert path(method, "one") == path(method, "one") != path(method, "two")
    assert path("latentshift", "one") == path("latentshift", "two")
