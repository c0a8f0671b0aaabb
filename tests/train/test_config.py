"""Configurations: YAML there and back, every mistake named."""

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifsplain.errors import ConfigurationError
from gifsplain.train import classifier, config
from gifsplain.train.classifier import ClassifierTraining
from gifsplain.train.config import LoopConfig

EXAMPLES = Path(__file__).parents[2] / "examples"


class Side(StrEnum):
    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True)
class Inner:
    place: Side = Side.LEFT
    names: tuple[str, ...] = ()
    size: tuple[int, int] = (3, 3)
    mode: Literal["fast", "slow"] = "fast"


@dataclass(frozen=True)
class Outer:
    path: Path
    rate: float = 1e-3
    count: int | None = None
    weights: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    loop: LoopConfig = field(default_factory=LoopConfig)


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
outers = st.builds(
    Outer,
    path=st.just(Path("/data/x y")),
    rate=st.floats(allow_nan=False),
    count=st.none() | st.integers(),
    weights=st.dictionaries(names, st.floats(allow_nan=False), max_size=3),
    inner=st.builds(
        Inner,
        place=st.sampled_from(Side),
        names=st.lists(names, max_size=3).map(tuple),
        size=st.tuples(st.integers(), st.integers()),
    ),
    loop=st.builds(LoopConfig, seed=st.integers(0, 99), deterministic=st.booleans()),
)


@given(outers)
def test_yaml_round_trip(tmp_path_factory: pytest.TempPathFactory, value: Outer) -> None:
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    config.save(value, path)
    assert config.load(Outer, path) == value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "x", "rat": 1}, r"unknown keys \['rat'\]; Outer knows \['path', 'rate'"),
        ({"path": "x", "inner": {"nmes": []}}, r"unknown keys \['nmes'\] under 'inner'"),
        ({"path": "x", "rate": "fast"}, "rate must be a number, got 'fast'"),
        ({"path": "x", "count": 1.5}, r"count must be int, got 1.5 \(float\)"),
        ({"path": "x", "inner": {"mode": "other"}}, r"inner.mode must be one of \['fast', 'slow'\], got 'other'"),
        ({"path": "x", "inner": {"place": "up"}}, r"inner.place must be one of \['left', 'right'\], got 'up'"),
        ({"path": "x", "inner": {"names": "a"}}, "inner.names must be a list, got 'a'"),
        ({"path": "x", "inner": {"names": ["a", 2]}}, r"inner.names\[1\] must be str, got 2"),
        ({"path": "x", "inner": {"size": [1]}}, "inner.size must be a list of 2"),
        ({"path": "x", "loop": {"deterministic": 1}}, "loop.deterministic must be bool, got 1"),
        ({"rate": 1.0}, "Outer is incomplete: give 'path'"),
    ],
)
def test_mistakes_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config.from_dict(Outer, values)


def test_yaml_number_without_dot_is_read_as_number(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("path: x\nrate: 1e-4\n")  # YAML 1.1 reads 1e-4 as text
    assert config.load(Outer, path).rate == 1e-4


def test_overrides_reach_nested_keys_and_leave_the_given_mapping_alone() -> None:
    values = {"path": "x", "inner": {"mode": "fast"}}
    changed = config.override(values, ["inner.mode=slow", "loop.seed=3", "inner.names=[a, b]"])
    result = config.from_dict(Outer, changed)
    assert (result.inner, result.loop.seed) == (Inner(names=("a", "b"), mode="slow"), 3)
    assert values == {"path": "x", "inner": {"mode": "fast"}}
    with pytest.raises(ConfigurationError, match="expected KEY=VALUE"):
        config.override(values, ["loop.seed"])
    with pytest.raises(ConfigurationError, match="'path' holds a value"):
        config.override(values, ["path.x=1"])


def test_files_that_are_no_configuration_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with pytest.raises(ConfigurationError, match="cannot read the configuration"):
        config.read_yaml(path)
    path.write_text("- 1\n- 2\n")
    with pytest.raises(ConfigurationError, match="must hold `key: value` lines, got a list"):
        config.read_yaml(path)
    path.write_text("")
    assert config.read_yaml(path) == {}


def test_resuming_with_another_configuration_is_refused(tmp_path: Path) -> None:
    old = Outer(path=Path("x"))
    new = config.from_dict(Outer, {"path": "x", "rate": 0.1, "loop": {"checkpoint_minutes": 9}})
    with pytest.raises(ConfigurationError, match=r"another configuration \(rate: 0.001 there, 0.1 now\)"):
        config.require_same(old, new, tmp_path, free=("loop.checkpoint_minutes",))
    config.require_same(old, old, tmp_path)


def test_part_that_is_given_in_part_keeps_its_own_defaults() -> None:
    @dataclass(frozen=True)
    class Special:
        loop: LoopConfig = field(default_factory=lambda: LoopConfig(monitor="val/auc", patience=5))

    made = config.from_dict(Special, {"loop": {"seed": 3}})
    assert made.loop == LoopConfig(seed=3, monitor="val/auc", patience=5)


def test_every_step_of_the_built_in_models_is_a_configuration_on_earlier_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make models`: each file reads as its training's configuration and names folders only that are there by then."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import make_models

    there: set[str] = set()

    for command, name, folder, overrides in make_models.STEPS:
        values = make_models.read(name, Path("DATA"), Path("OUT"), overrides)
        made = config.from_dict(make_models.TRAININGS[command][0], values)
        if isinstance(made, ClassifierTraining):
            classifier.check(made)
        used = {part.split("/")[1] for part in re.findall(r"OUT/[\w-]+", json.dumps(config.to_dict(made)))}
        assert used <= there, (name, used - there)
        there.add(folder)
    assert set(make_models.SHIPPED) <= there
