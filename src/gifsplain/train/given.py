"""From what a command line gives to a training's configuration: file first, then options, then `--set`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gifsplain.errors import ConfigurationError
from gifsplain.models.networks import resnet_autoencoder_config
from gifsplain.train import config as configuration

T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """Options shared by the training commands; empty means: as in the file, or the default."""

    data: Sequence[str] = ()
    config: Path | None = None
    images: Path | None = None
    where: Sequence[str] = ()
    targets: Sequence[str] = ()
    size: int | None = None
    overrides: Sequence[str] = ()


def settings(cls: type[T], given: Given, extra: Mapping[str, Any] | None = None) -> T:
    """The configuration of `cls`; `extra` holds values of a command's own options."""
    values = configuration.read_yaml(given.config) if given.config else {}
    merged = _merged(_merged(values, {"data": _rows(values, given, "data")}), extra or {})
    return _checked(cls, configuration.override(merged, given.overrides), "data")


def experiment(cls: type[T], given: Given, chosen: Mapping[str, Any]) -> T:
    """The configuration of an experiment whose trainings share the key `training`; unset choices are None."""
    values = configuration.read_yaml(given.config) if given.config else {}
    training = configuration.mapping(values, "training")
    rows = _rows(training, given, "training.data")
    size = {"model": {"size": given.size}} if given.size else {}
    training = _merged(training, {"data": rows, **size})
    extra = {key: str(value) if isinstance(value, Path) else value for key, value in chosen.items() if value}
    if "bottlenecks" in extra:
        extra["bottlenecks"] = [list(parse_bottleneck(text)) for text in extra["bottlenecks"]]
    merged = _merged({**values, "training": training}, extra)
    return _checked(cls, configuration.override(merged, given.overrides), "training.data")


def _rows(values: Mapping[str, Any], given: Given, place: str) -> dict[str, Any]:
    rows = configuration.mapping(values, "data", place)
    if not given.data and (given.where or given.images):
        option, field = ("--where", "where") if given.where else ("--images", "images")
        raise ConfigurationError(
            f"{option} goes with data that the command line names, and it names none; name a manifest there, or write "
            f"`{field}` to each of {place}.sources in the file"
        )
    if given.data:
        source = {"where": list(given.where)} | ({"images": str(given.images)} if given.images else {})
        rows["sources"] = [{"manifest": manifest, **source} for manifest in given.data]
    if given.targets:
        rows["targets"] = list(given.targets)
    return rows | ({"size": given.size} if given.size else {})


def _checked(cls: type[T], merged: Mapping[str, Any], place: str) -> T:
    rows, keys = merged, place.split(".")
    for depth, key in enumerate(keys, 1):
        rows = configuration.mapping(rows, key, ".".join(keys[:depth]))
    if not rows.get("sources"):
        raise ConfigurationError(
            f"no data: name a manifest (CSV), a folder or xrv:CLASS, or a --config with {place}.sources"
        )
    return configuration.from_dict(cls, merged)


def autoencoder_model(size: int | None, depth: int | None, bottleneck: str | None, width: int | None) -> dict[str, Any]:
    """The key `model` for the options of `train autoencoder`; empty when none was given."""
    shape = {} if bottleneck is None else {"bottleneck": list(parse_bottleneck(bottleneck))}
    if depth is None:
        model = shape | ({"size": size} if size else {})
    else:
        wanted = parse_bottleneck(bottleneck) if bottleneck else (512, 3, 3)
        model = resnet_autoencoder_config(depth, wanted, size=size or 224, width=width or 64).to_dict()
    return {"model": model} if model else {}


def parse_bottleneck(text: str) -> tuple[int, int, int]:
    """`512x3x3` or `512,3,3` to channels, height, width."""
    parts = text.replace("x", ",").split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ConfigurationError(f"a bottleneck is CHANNELSxHEIGHTxWIDTH such as 512x3x3, got {text!r}")
    channels, height, width = (int(part) for part in parts)
    return channels, height, width


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """`second` over `first`, key by key."""
    result = dict(first)
    for key, value in second.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return result
