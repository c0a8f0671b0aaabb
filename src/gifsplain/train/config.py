"""Frozen configurations: read from YAML, checked field by field, saved beside the weights that they made."""

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import yaml

from gifsplain.errors import ConfigurationError
from gifsplain.io import files
from gifsplain.train import ranges

T = TypeVar("T")
EARLIER: Mapping[str, Mapping[str, Any]] = {"ClassifierTraining": {"operating_point": "counted"}}
"""By configuration: what settings that were added later did before, where that is not their default."""
Precision = Literal["32-true", "bf16-mixed"]


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How a training runs: devices, repeatability, what is written and when it stops early."""

    seed: int = 0
    deterministic: bool = False
    """Refuse operations whose result may differ between two runs on the same device."""
    accelerator: str = "auto"
    """`auto`, `cpu`, `cuda` or any other name that lightning Fabric knows."""
    devices: int = 1
    nodes: int = 1
    precision: Precision = "32-true"
    """`bf16-mixed` is faster where the device computes bfloat16 in hardware; elsewhere the training takes `32-true` and says so."""
    checkpoint_minutes: float = 3.0
    """Longest time that a kill can cost; 0 writes a checkpoint after every step."""
    log_every: int = 10
    """Steps between two lines of `history.jsonl` and two points in TensorBoard."""
    monitor: str = ""
    """Metric that chooses `best.ckpt`; highest is best, unless its name ends in `_error` or `loss`. Empty: none."""
    patience: int = 0
    """Evaluations in a row without a better monitored metric before the training ends; 0: never."""


def from_dict(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """An instance of the dataclass `cls`; unknown keys, wrong types and numbers out of `ranges` are refused by name.

    Keys that are left out keep the defaults of `cls`, also inside a part of which only some keys are given.
    """
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    unknown = [key for key in values if key not in names]
    if unknown:
        place = f" under {where!r}" if where else ""
        raise ConfigurationError(f"unknown keys {unknown}{place}; {cls.__name__} knows {names}")
    prefix = f"{where}." if where else ""
    defaults = _part_defaults(cls)
    full = {key: _over(defaults.get(key), value) for key, value in values.items()}
    found = {key: _convert(hints[key], value, f"{prefix}{key}") for key, value in full.items()}
    ranges.check(cls.__name__, found, prefix)
    missing = [name for name in _required(cls) if name not in found]
    if missing:
        place = f" under {where!r}" if where else ""
        raise ConfigurationError(f"{cls.__name__}{place} is incomplete: give {', '.join(map(repr, missing))}")
    return cls(**found)


def _required(cls: type[Any]) -> list[str]:
    """Fields without a default."""
    absent = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(cls) if f.init and f.default is absent and f.default_factory is absent]


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain YAML and JSON values; `from_dict` reads it back unchanged."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def verify(config: Any) -> None:
    """Check a configuration that was built in Python as one that is read from a file: types and ranges.

    Raises:
        ConfigurationError: Naming the setting, what it must be and what it is.
    """
    _require_equal(config, from_dict(type(config), to_dict(config)), "")


def _require_equal(ours: Any, read: Any, name: str) -> None:
    if type(ours) is type(read) and dataclasses.is_dataclass(read):
        for field in dataclasses.fields(read):
            place = f"{name}.{field.name}" if name else field.name
            _require_equal(getattr(ours, field.name), getattr(read, field.name), place)
        return
    if isinstance(ours, tuple) and isinstance(read, tuple) and len(ours) == len(read):
        for i, (one, other) in enumerate(zip(ours, read, strict=True)):
            _require_equal(one, other, f"{name}[{i}]")
        return
    if isinstance(read, Mapping):
        same = _plain(ours) == _plain(read)
    else:
        same = ours == read and (type(ours) is type(read) or isinstance(read, float | Path))
    if not same:
        raise ConfigurationError(f"{name} must be written {read!r} in Python, got {ours!r}")


def load(cls: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """The configuration in a YAML file, changed by `overrides` such as `loop.seed=3`."""
    return from_dict(cls, override(read_yaml(path), overrides))


def kept(cls: type[T], values: Mapping[str, Any]) -> T:
    """The configuration that a training's folder or card keeps; what versions before this one did not say is what they did."""
    return from_dict(cls, _as_it_was(cls, values))


def load_kept(cls: type[T], path: Path) -> T:
    """What `kept` describes, from a folder's file."""
    return kept(cls, read_yaml(path))


def _as_it_was(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {**EARLIER.get(cls.__name__, {}), **values}
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint) and isinstance(whole.get(name), Mapping):
            whole[name] = _as_it_was(typing.cast(type[Any], hint), whole[name])
    return whole


def save(config: Any, path: Path) -> None:
    """Write the configuration as YAML, all fields, through a temporary name."""
    files.write_text(path, to_yaml(config))


def to_yaml(config: Any) -> str:
    """The text of a configuration's file, all fields."""
    text: str = yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)
    return text


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"cannot read the configuration {path}: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} must hold `key: value` lines, got a {type(values).__name__}")
    return values


def override(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `values` with each `a.b=value` set; the value is read as YAML (`[1, 2]`, `true`, `0.1`, `text`)."""
    result: dict[str, Any] = _copy(values)
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            raise ConfigurationError(f"expected KEY=VALUE such as loop.seed=3, got {item!r}")
        *parents, last = key.strip().split(".")
        place = result
        for parent in parents:
            inner = place.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigurationError(f"{item!r}: {parent!r} holds a value, not keys of its own")
            place = inner
        place[last] = _yaml(item, text)
    return result


def _yaml(item: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or error  # the whole would fill five lines
        raise ConfigurationError(
            f"{item!r}: expected a value in YAML such as 3, text or [a, b], got {text!r} ({reason}); close its brackets and "
            "quotes, or quote the whole"
        ) from error


def mapping(values: Mapping[str, Any], key: str, where: str = "") -> dict[str, Any]:
    """What stands under `key`, `where` in full; nothing is an empty mapping, and what has no keys of its own is refused."""
    found = values.get(key)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        _refuse(where or key, "keys and values", found)
    return dict(found)


def require_same(old: Any, new: Any, folder: Path, *, free: Sequence[str] = ()) -> None:
    """Refuse to resume with another configuration than the folder's, except for the dotted keys in `free`."""
    ours, theirs = _flat(to_dict(new)), _flat(to_dict(old))
    other = [key for key in {**theirs, **ours} if ours.get(key) != theirs.get(key) and key not in free]
    if other:
        listing = ", ".join(f"{key}: {theirs.get(key)!r} there, {ours.get(key)!r} now" for key in other)
        raise ConfigurationError(f"{folder} was trained with another configuration ({listing}); use another folder")


def _part_defaults(cls: type[Any]) -> dict[str, dict[str, Any]]:
    """Default values of the fields that are configurations themselves."""
    defaults = {}
    for field in dataclasses.fields(cls):
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if dataclasses.is_dataclass(made) and not isinstance(made, type):
            defaults[field.name] = to_dict(made)
    return defaults


def _over(default: Mapping[str, Any] | None, value: Any) -> Any:
    return {**default, **value} if default is not None and isinstance(value, Mapping) else value


def _copy(values: Any) -> Any:
    return {key: _copy(value) for key, value in values.items()} if isinstance(values, Mapping) else values


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is Literal:
        return value if value in arguments else _refuse(where, f"one of {list(arguments)}", value)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            _refuse(where, "keys and values", value)
        return {str(key): _convert(arguments[1], inner, f"{where}.{key}") for key, inner in value.items()}
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            _refuse(where, "keys and values", value)
        return from_dict(typing.cast(type[Any], hint), value, where=where)
    return _convert_plain(hint, value, where)


def _convert_union(choices: Sequence[Any], value: Any, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    kinds = [choice for choice in choices if choice is not type(None)]
    for kind in kinds[:-1]:
        try:
            return _convert(kind, value, where)
        except ConfigurationError:
            continue
    return _convert(kinds[-1], value, where)


def _convert_tuple(arguments: Sequence[Any], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        _refuse(where, "a list", value)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(arguments[0], inner, f"{where}[{i}]") for i, inner in enumerate(value))
    if len(arguments) != len(value):
        _refuse(where, f"a list of {len(arguments)}", value)
    return tuple(
        _convert(kind, inner, f"{where}[{i}]") for i, (kind, inner) in enumerate(zip(arguments, value, strict=True))
    )


def _convert_plain(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        names = [item.value for item in hint]
        return hint(value) if value in names else _refuse(where, f"one of {names}", value)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            _refuse(where, "a number", value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    return _refuse(where, getattr(hint, "__name__", str(hint)), value)


def _refuse(where: str, expected: str, value: Any) -> typing.NoReturn:
    raise ConfigurationError(f"{where} must be {expected}, got {value!r} ({type(value).__name__})")
