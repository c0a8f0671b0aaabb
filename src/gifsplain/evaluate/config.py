"""What every experiment shares: which images, models and methods, and where the results go."""

import dataclasses
import hashlib
import json
import types
import typing
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from gifsplain.errors import ConfigurationError, InputError, TargetError
from gifsplain.explain.methods import refuse_unknown
from gifsplain.explain.run import target_index
from gifsplain.explain.settings import Settings
from gifsplain.models.load import load_models
from gifsplain.models.protocols import Pair

PAPER_METHODS = ("grad", "guided", "integrated", "iterative-delete", "latentshift")
CONTROLS = ("random-map", "centre-prior")


@dataclass(frozen=True)
class Setup:
    """Frozen input of an experiment; its hash decides whether a half-finished folder may be continued."""

    manifest: Path
    """CSV with the columns path, patient_id, labels (separated by |) and split; paths are relative to it."""
    out: Path
    boxes: Path | None = None
    """CSV with path, label, x, y, w, h in pixels of the stored image; by default boxes.csv beside the manifest."""
    masks: Path | None = None
    """CSV with path, mask_path, kind; by default masks.csv beside the manifest."""
    classifiers: tuple[str, ...] = ("cxr",)
    autoencoder: str = "cxr"
    resize: bool = False
    methods: tuple[str, ...] = (*PAPER_METHODS, *CONTROLS)
    targets: tuple[str, ...] = ()
    """Empty: every target of the classifier for which there are cases."""
    split: str = "val"
    """`all` takes every row, for cases that no model saw."""
    sources: tuple[str, ...] = ()
    """Values of the manifest's source column; empty takes all."""
    where: tuple[str, ...] = ()
    """Further conditions on the manifest's columns, as `column=value`."""
    limit: int = 80
    """Most cases for each target, drawn by seed; the paper used 80."""
    method_limits: dict[str, int] = field(default_factory=dict)
    """Fewer cases for costly methods: the first ones of the same draw."""
    seed: int = 0
    batch: int = 8
    settings: Settings = field(default_factory=Settings)
    store: Path | None = None
    """Where maps and sweeps that several experiments need are kept; by default OUT/store."""

    def __post_init__(self) -> None:
        if self.limit < 1 or self.batch < 1:
            raise InputError(f"limit and batch must be 1 or more, got {self.limit} and {self.batch}")
        if unknown := sorted(set(self.method_limits) - set(self.methods)):
            raise InputError(f"method_limits names {', '.join(unknown)}, which methods does not")
        if not self.classifiers or not self.methods:
            raise InputError("at least one classifier and one method are needed, got none")
        refuse_unknown(*self.methods)
        refuse_repeated("classifiers", self.classifiers)
        refuse_repeated("methods", self.methods)

    @property
    def box_file(self) -> Path:
        """Where the boxes are."""
        return self.boxes or self.manifest.parent / "boxes.csv"

    @property
    def mask_file(self) -> Path:
        """Where the masks are."""
        return self.masks or self.manifest.parent / "masks.csv"

    def reaches(self, method: str, rank: int) -> bool:
        """Whether the method is asked about the case at this place of the draw."""
        return rank < self.method_limits.get(method, self.limit)

    @property
    def store_folder(self) -> Path:
        """Where shared results are."""
        return self.store or self.out / "store"

    def load(self, classifier: str) -> Pair:
        """One of the classifiers with the autoencoder."""
        return load_models(classifier, self.autoencoder, resize=self.resize)

    def opened(self) -> tuple["Setup", dict[str, Pair]]:
        """The pairs by classifier, and this with targets as the classifiers spell them, upper or lower case.

        One of several classifiers may lack a target that another has.

        Raises:
            TargetError: When no classifier has one of them, or its head was never trained.
        """
        pairs, names = {name: self.load(name) for name in self.classifiers}, list[str]()
        for target in self.targets:
            found, errors = [], []
            for pair in pairs.values():
                try:
                    found.append(pair.targets[target_index(pair.classifier.card, target)])
                except TargetError as error:
                    errors.append(error)
            if not found:
                raise errors[0]
            names += found
        return dataclasses.replace(self, targets=tuple(dict.fromkeys(names))), pairs


def refuse_repeated(what: str, names: Sequence[str]) -> None:
    """Refuse names that stand twice: their rows would count twice.

    Raises:
        InputError: Names them.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{what} must differ, got {', '.join(twice)} twice")


def plain(value: Any) -> Any:
    """Dataclasses, paths and enums as JSON values; folders of results are left out: they decide no number."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in ("out", "store")
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def digest(value: Any) -> str:
    """Short checksum of a configuration."""
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()[:16]


def build(kind: type[Any], values: Any, place: str = "") -> Any:
    """A frozen configuration from plain values of a YAML file; unknown keys are refused by name.

    Raises:
        ConfigurationError: For an unknown key, a missing one, or a value of the wrong kind.
    """
    if not isinstance(values, dict):
        raise ConfigurationError(f"{place or kind.__name__} must be a mapping, got {values!r}")
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigurationError(
            f"{place or kind.__name__} has no {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    try:
        return kind(**{key: _value(hints[key], value, f"{place}.{key}".strip(".")) for key, value in values.items()})
    except TypeError as error:
        raise ConfigurationError(f"{place or kind.__name__}: {error}") from error


def _value(hint: Any, value: Any, place: str) -> Any:
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if typing.get_origin(hint) in (types.UnionType, typing.Union) and len(options) == 1:
        return None if value is None else _value(options[0], value, place)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else build(hint, value, place)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigurationError(f"{place} must be a list, got {value!r}")
        return tuple(value)
    if isinstance(hint, type) and issubclass(hint, Path | Enum):
        return hint(value)
    return _plain_value(hint, value, place)


def _plain_value(hint: Any, value: Any, place: str) -> Any:
    """`value` where it is of the kind that `hint` names; a whole number is a number, yes and no are none."""
    kinds: dict[Any, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}
    if hint in kinds and (not isinstance(value, kinds[hint]) or (hint is not bool and isinstance(value, bool))):
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        raise ConfigurationError(f"{place} must be {names[hint]}, got {value!r}")
    return value
