"""What a study asks and shows: a YAML file, checked into frozen values."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from gifsplain.errors import ConfigurationError

KEY = re.compile(r"[a-z][a-z0-9_-]{0,39}")
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """One question word for word, with the words at both ends of its scale."""

    key: str
    text: str
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class Source:
    """Where a batch run keeps a panel: the method's name and the file in the explanation directory."""

    method: str
    file: str


@dataclass(frozen=True)
class Panel:
    """One picture of a condition, with a short answer to "what is this?"."""

    key: str
    title: str
    about: str
    kind: Literal["image", "animation"] = "image"
    source: Source | None = None


@dataclass(frozen=True)
class Condition:
    """Panels that are seen together; readers see `label`, the analysis uses `key`."""

    key: str
    label: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Cases:
    """Which cases are drawn."""

    targets: tuple[str, ...]
    per_target: int = 40
    false_positives: float = 0.5
    operating_point: float = 0.5
    split: str = "test"
    training: int = 6
    repeats: int = 12


@dataclass(frozen=True)
class Order:
    """How cases and conditions are ordered over the reads."""

    counterbalance: Literal["case", "reader"] = "case"
    washout_days: float = 28.0
    lock: Literal["never", "case", "read"] = "read"


@dataclass(frozen=True)
class Config:
    """A whole study; `default()` is the paper's."""

    title: str
    instructions: str
    questions: tuple[Question, ...]
    conditions: tuple[Condition, ...]
    cases: Cases
    order: Order
    points: int = 5
    session_hours: float = 12.0
    invitation_days: float = 180.0

    def condition(self, key: str) -> Condition:
        """The condition of that key."""
        return next(c for c in self.conditions if c.key == key)


def default_text() -> str:
    """The YAML of the paper's design."""
    return resources.files("gifsplain.study").joinpath("default.yaml").read_text(encoding="utf-8")


def default() -> Config:
    """The paper's design."""
    return parse(default_text())


def load(path: Path) -> Config:
    """The configuration in a YAML file."""
    if not path.is_file():
        raise ConfigurationError(
            f"expected a study configuration, found none at {path}; start from `study init`'s study.yaml"
        )
    return parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> Config:
    """The configuration in a YAML text; every mistake names its place."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"expected YAML, got: {error}; correct the study configuration") from error
    top = _mapping(raw, "study")
    questions = tuple(_build(Question, q, f"questions[{i}]") for i, q in enumerate(_list(top, "questions")))
    conditions = tuple(_condition(c, f"conditions[{i}]") for i, c in enumerate(_list(top, "conditions")))
    cases = _mapping(top.get("cases"), "cases")
    targets = tuple(str(t) for t in _list(cases, "targets"))
    built = {
        "questions": questions,
        "conditions": conditions,
        "cases": _build(Cases, {**cases, "targets": targets}, "cases"),
        "order": _build(Order, _mapping(top.get("order", {}), "order"), "order"),
    }
    return _checked(_build(Config, {**top, **built}, "study"))


def _condition(raw: Any, place: str) -> Condition:
    values = _mapping(raw, place)
    panels = []
    for i, panel in enumerate(_list(values, "panels", place)):
        inner = dict(_mapping(panel, f"{place}.panels[{i}]"))
        if inner.get("source") is not None:
            inner["source"] = _build(
                Source, _mapping(inner["source"], f"{place}.panels[{i}].source"), f"{place}.panels[{i}].source"
            )
        panels.append(_build(Panel, inner, f"{place}.panels[{i}]"))
    return _build(Condition, {**values, "panels": tuple(panels)}, place)


def _mapping(raw: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"expected names and values under {place}, got {type(raw).__name__}; see study.yaml")
    return {str(k): v for k, v in raw.items()}


def _list(raw: Mapping[str, Any], name: str, place: str = "study") -> list[Any]:
    value = raw.get(name)
    if not isinstance(value, list) or not value:
        raise ConfigurationError(
            f"expected a list with at least one entry at {place}.{name}, got {value!r}; see study.yaml"
        )
    return value


def _build(kind: type[T], raw: Any, place: str) -> T:
    values = dict(_mapping(raw, place))
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    missing = [n for n, f in known.items() if n not in values and f.default is MISSING]
    if unknown or missing:
        raise ConfigurationError(
            f"expected {', '.join(known)} at {place}, got unknown {unknown} and no {missing}; correct study.yaml"
        )
    for name, value in values.items():
        values[name] = _scalar(known[name].type, value, f"{place}.{name}")
    return kind(**values)


def _scalar(kind: Any, value: Any, place: str) -> Any:
    good = {
        int: isinstance(value, int) and not isinstance(value, bool),
        str: isinstance(value, str),
        float: isinstance(value, int | float) and not isinstance(value, bool),
    }
    choices = getattr(kind, "__args__", ()) if getattr(kind, "__origin__", None) is Literal else ()
    if not good.get(kind, True) or (choices and value not in choices):
        expected = f"one of {', '.join(choices)}" if choices else kind.__name__
        raise ConfigurationError(f"expected {expected} at {place}, got {value!r}; correct study.yaml")
    return float(value) if kind is float else value


def _checked(config: Config) -> Config:
    for place, keys in (
        ("questions", [q.key for q in config.questions]),
        ("conditions", [c.key for c in config.conditions]),
        *((f"conditions.{c.key}.panels", [p.key for p in c.panels]) for c in config.conditions),
    ):
        bad = [k for k in keys if not KEY.fullmatch(k)]
        if bad or len(set(keys)) < len(keys):
            raise ConfigurationError(
                f"expected distinct keys of small letters, digits, - and _ at {place}, got {keys}; rename them"
            )
    c = config.cases
    limits = {
        "points from 2 to 9 (they are keys on the keyboard)": 2 <= config.points <= 9,
        "cases.per_target of at least 1": c.per_target >= 1,
        "cases.false_positives from 0 to 1": 0 <= c.false_positives <= 1,
        "cases.training and cases.repeats not below 0": c.training >= 0 and c.repeats >= 0,
        "order.washout_days not below 0": config.order.washout_days >= 0,
        "session_hours and invitation_days above 0": config.session_hours > 0 and config.invitation_days > 0,
        "distinct cases.targets": len(set(c.targets)) == len(c.targets),
        "no question named like a column": not {q.key for q in config.questions} & RESERVED,
    }
    wrong = [text for text, good in limits.items() if not good]
    if wrong:
        raise ConfigurationError(f"expected {'; '.join(wrong)}, got something else; correct study.yaml")
    return config


RESERVED = {"reader", "read", "case", "target", "truth", "condition", "iou", "seconds", "repeat"}
