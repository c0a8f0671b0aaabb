"""A user's own models: a `module:callable` that returns a wrapped model, or a `torch.export` program with a card."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gifsplain.errors import ModelError, WeightsError
from gifsplain.io.files import sha256_bytes
from gifsplain.models import builtin, wrap
from gifsplain.models.protocols import Autoencoder, Classifier
from gifsplain.types import ScoreMeaning


def from_callable(spec: str) -> Any:
    """What `module:callable` returns; the current folder is searched first.

    Raises:
        ModelError: When module or callable do not exist.
    """
    module_name, _, name = spec.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        made = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # the last two: an empty or relative name
        raise ModelError(
            f"expected module:callable, could not find {spec!r} ({error}); run where the module is"
        ) from error
    if not callable(made):
        raise ModelError(
            f"expected module:callable, {spec!r} is {type(made).__name__}; write a function that returns it"
        )
    return made()


def check_protocol(model: Any, kind: type, spec: str) -> Any:
    """`model` when it satisfies the protocol `kind`; an error that names what is missing otherwise."""
    if not isinstance(model, kind):
        missing = [
            n
            for n in ("card", "logits", "link", "scores", "encode", "decode")
            if n in vars(kind) and not hasattr(model, n)
        ]
        raise ModelError(f"{spec}: got {type(model).__name__}, which lacks {', '.join(missing)}; use models.wrap")
    return model


def exported_classifier(path: Path) -> Classifier:
    """A classifier saved by `torch.export.save`; its declaration is the JSON file of the same name beside it.

    The JSON holds `name`, `targets`, `size` and optionally `channels`, `value_range`, `output` and `meaning`
    (see `models.wrap.classifier`). The card's checksum is that of the two files one after the other.

    Raises:
        WeightsError: When one of the two files is missing or damaged.
        ModelError: When the declaration lacks a field or makes no sense.
    """
    beside = path.with_suffix(".json")
    for file in (path, beside):
        if not file.is_file():
            raise WeightsError(
                f"expected {file}; an exported classifier is a .pt2 program and a .json declaration beside it"
            )
    values = builtin.read_declaration(beside)
    lacking = {"name", "targets", "size"} - values.keys()
    if lacking:
        raise ModelError(f"{beside.name} lacks {', '.join(sorted(lacking))}; see models.wrap.classifier for the fields")
    try:
        program = torch.export.load(path).module()
    except Exception as error:  # damaged archives raise anything
        raise WeightsError(
            f"{path}: expected a program of torch.export.save, could not read it ({error}); export it again"
        ) from error
    return _declare(program, values, sha256_bytes(path.read_bytes() + beside.read_bytes()))


def _declare(program: torch.nn.Module, values: dict[str, Any], sha256: str) -> Classifier:
    """An exported program cannot be copied or switched to evaluation: it is one already."""
    shell, output = torch.nn.Identity(), values.get("output", "logits")
    made = wrap.classifier(
        shell,
        name=values["name"],
        targets=tuple(values["targets"]),
        size=_whole(values["size"]),
        channels=int(values.get("channels", 1)),
        value_range=tuple(values.get("value_range", (0.0, 1.0))),
        output=output,
        meaning=values.get("meaning", ScoreMeaning.PROBABILITY),
    )
    to_logits = wrap.LOGITS_FROM[output]
    return wrap.ImageClassifier(
        replace(made.card, sha256=sha256), lambda native: to_logits(program(native)), made.squash, made.repeat
    )


def _whole(value: Any) -> Any:
    """A whole number that JSON holds as 8.0 or "8"; anything else as it is, for the wrapper to refuse."""
    try:
        return int(value) if float(value).is_integer() else value
    except (TypeError, ValueError):
        return value


def classifier(spec: str) -> Classifier:
    """A classifier from `module:callable` or a path that ends in .pt2."""
    if spec.endswith(".pt2"):
        return exported_classifier(Path(spec))
    return check_protocol(from_callable(spec), Classifier, spec)  # type: ignore[no-any-return]


def autoencoder(spec: str) -> Autoencoder:
    """An autoencoder from `module:callable`."""
    return check_protocol(from_callable(spec), Autoencoder, spec)  # type: ignore[no-any-return]
