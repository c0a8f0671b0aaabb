"""Configurations: YAML there and back, every mistake named."""

import dataclasses
import json
import math
import re
import typing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifsplain.errors import ConfigurationError
from gifsplain.explain.settings import Settings
from gifsplain.models.stylegan import StyleConfig
from gifsplain.train import classifier, config, ranges
from gifsplain.train.autoencoder import AutoencoderTraining
from gifsplain.train.bottleneck import BottleneckExperiment
from gifsplain.train.classifier import ClassifierTraining
from gifsplain.train.config import LoopConfig
from gifsplain.train.crossfit import CrossFit
from gifsplain.train.pretraining import Pretraining
from gifsplain.train.small_classifier import SmallTraining
from gifsplain.train.styleex import StyleExConfig

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


ROOTS = (
    AutoencoderTraining,
    BottleneckExperiment,
    ClassifierTraining,
    CrossFit,
    Pretraining,
    SmallTraining,
    StyleExConfig,
)


def parts_of(hint: Any) -> set[type[Any]]:
    """Configurations that a type holds, itself included; `Settings` are an explanation's, not a training's."""
    inner = {found for part in typing.get_args(hint) for found in parts_of(part)}
    if not dataclasses.is_dataclass(hint) or hint is Settings:
        return inner
    kinds = typing.get_type_hints(hint).values()
    return inner | {typing.cast(type[Any], hint)} | {found for kind in kinds for found in parts_of(kind)}


PARTS = sorted({found for root in ROOTS for found in parts_of(root)}, key=lambda cls: cls.__name__)


def filled(hint: Any, number: float) -> Any:
    """A value of a type in which each number is `number`; None where there are none."""
    kinds = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        values = [filled(kind, number) for kind in kinds if kind is not Ellipsis]
        return None if None in values else values
    if typing.get_origin(hint) is dict:
        value = filled(kinds[1], number)
        return None if value is None else {"a": value}
    return number if hint is float or (hint is int and isinstance(number, int)) else None


@pytest.mark.parametrize("cls", [cls for cls in PARTS if cls is not StyleConfig], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("number", [-7, math.nan])
def test_no_setting_takes_any_number(cls: type[Any], number: float) -> None:
    """-7 and nan make sense nowhere: a setting that is added without a range fails here. `StyleConfig` has its own checks."""
    wrong = {name: filled(hint, number) for name, hint in typing.get_type_hints(cls).items()}
    for name, value in wrong.items():
        if value is not None:
            with pytest.raises(ConfigurationError, match=rf"{name}.* must (be|lie)"):
                config.from_dict(cls, {name: value})


def test_ranges_are_of_settings_that_there_are() -> None:
    known = {(cls.__name__, name) for cls in PARTS for name in typing.get_type_hints(cls)}
    assert {(cls, name) for cls, names in ranges.RANGES.items() for name in names} <= known


@pytest.mark.parametrize("cls", PARTS, ids=lambda cls: cls.__name__)
def test_defaults_are_in_range(cls: type[Any]) -> None:
    places: dict[str, Any] = {"data": {"sources": []}, "training": {"data": {"sources": []}}, "explained": ["a"]}
    places |= {"boxes": "b", "folds": 2, "films": "f", "manifest": "m", "sources": []}
    required = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    made = config.from_dict(cls, {name: places[name] for name in required})
    assert config.from_dict(cls, config.to_dict(made)) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_size=0", "batch_size must be 1 or more, got 0"),
        ("data.size=0", "data.size must be 1 or more, got 0"),
        ("loop.log_every=0", "loop.log_every must be 1 or more, got 0"),
        ("loop.seed=-1", "loop.seed must be 0 or more, got -1"),
        ("loop.devices=0", "loop.devices must be 1 or more, or -1 for all there are, got 0"),
        ("loop.patience=-3", "loop.patience must be 0 or more, got -3"),
        ("rate=-1", "rate must be above 0, and finite, got -1.0"),
        ("rate=0", "rate must be above 0"),
        ("epochs=.inf", "epochs must be above 0, and finite, got inf"),
        ("epochs=nan", "epochs must be above 0, and finite, got nan"),
        ("epochs=0", "epochs must be above 0, and finite, got 0.0"),
        ("evaluate_epochs=-1", "evaluate_epochs must be 0 or more, and finite, got -1.0"),
        ("average=2", "average must be 0 or more, and below 1, got 2.0"),
        ("average=1", "average must be 0 or more, and below 1"),
        ("edits.widened_share=1.5", "edits.widened_share must be from 0 to 1, got 1.5"),
        (
            "data.fractions=[0.7, 0.7]",
            r"data.fractions must be 0 or more each, and together at most 1, got \[0.7, 0.7\]",
        ),
        ("data.sources=[{manifest: a, weight: -1}]", r"data.sources\[0\].weight must be 0 or more"),
    ],
)
def test_numbers_out_of_range_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config.from_dict(ClassifierTraining, config.override({"data": {"sources": []}}, [text]))


def test_odd_numbers_that_make_sense_are_taken() -> None:
    odd = ["epochs=0.1", "average=0", "evaluate_epochs=0", "loop.patience=0", "loop.devices=-1", "loop.monitor=''"]
    more = ["data.fractions=[0.9, 0.1]", "clip=0", "warmup=0", "spread=.inf", "loop.checkpoint_minutes=.inf"]
    made = config.from_dict(ClassifierTraining, config.override({"data": {"sources": []}}, odd + more))
    assert (made.epochs, made.average, made.loop.devices, made.data.fractions) == (0.1, 0, -1, (0.9, 0.1))


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


@pytest.mark.parametrize("text", ["inner.names=[a,b", "path='x", "path={a: ]}", "path=a: b: c", "path=@x"])
def test_values_that_are_no_yaml_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"{text!r}: expected a value in YAML")):
        config.override({}, [text])


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
