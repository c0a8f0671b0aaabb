"""One resumable loop for all experiments: every case's rows are one small file, put in place by a rename."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gifsplain.errors import ConfigurationError, GifsplainError, InputError
from gifsplain.evaluate.config import digest, plain
from gifsplain.explain import record
from gifsplain.io.files import safe_name, sha256_bytes, write_text

Row = dict[str, Any]
Progress = Callable[[int, int], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unit:
    """The smallest piece of work that is committed: usually one classifier, target and case."""

    group: tuple[str, ...]
    """Units of one group may be computed together."""
    case: str
    payload: Any = None

    @property
    def name(self) -> str:
        """File name of its part, unique for group and case."""
        text = "/".join((*self.group, self.case))
        return f"{safe_name(text, 60)}-{sha256_bytes(text.encode())[:10]}.json"


@dataclass(frozen=True)
class Failure:
    """A unit that raised, and why."""

    group: tuple[str, ...]
    case: str
    error: str


@dataclass(frozen=True)
class Parts:
    """All rows of an experiment, and what could not be computed."""

    frame: pd.DataFrame
    failures: tuple[Failure, ...] = ()

    def some(self) -> pd.DataFrame:
        """The rows of an experiment that says nothing without any.

        Raises:
            InputError: When there is none, with the first reason.
        """
        if self.frame.empty:
            reason = f"; the first failed: {self.failures[0].error}" if self.failures else ""
            raise InputError(f"expected a result of one case at least, got none{reason}")
        return self.frame


def claim(folder: Path, config: object, models: Sequence[str] = (), fits: Sequence[str] = ()) -> None:
    """Make `folder` belong to `config`, or check that it does already.

    `config.json` also lists the versions of gifsplain and torch that worked on it: going on with others is said in the log,
    not refused.

    Args:
        folder: Made when missing.
        config: Any frozen dataclass.
        models: Identities of the models, so that new weights do not continue old results; empty for one that cannot be
            told from another (`models.identity`).
        fits: Checksums of the fits that directions come from (`store.fits_of`).

    Raises:
        ConfigurationError: When the folder was begun with something else, or nothing tells whether it was.
    """
    described = {"config": plain(config), "models": list(models)} | ({"fits": list(fits)} if fits else {})
    described["hash"] = digest(list(described.values()))
    path, now = folder / "config.json", {name: record.versions()[name] for name in ("gifsplain", "torch")}
    if not path.exists():
        write_text(path, _json({**described, "versions": [now]}))
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("hash") != described["hash"]:
        differing = _differences(found.get("config", {}), described["config"])
        fits_differ = "the fits of directions" if "fits" in found else "it does not say of which fits, so they may"
        weights = "the models' weights" if found.get("models") != list(models) else fits_differ
        raise ConfigurationError(
            f"{folder} holds results of another configuration ({differing or weights} differ); choose another --output or "
            "remove it"
        )
    if not all(models):
        raise ConfigurationError(
            f"{folder} holds results, and a model without checksum and network cannot be told from the one that made them; "
            "choose another --output or remove it, or wrap the model's nn.Module with models.wrap"
        )
    before = found.get("versions", [dict.fromkeys(now, "unknown")])
    if now not in before:
        _log.warning("%s holds results of %s; it goes on with %s", folder, _words(before[-1]), _words(now))
        write_text(path, _json({**found, "versions": [*before, now]}))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True)


def _words(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _differences(old: Any, new: Any, place: str = "") -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        found = [_differences(old.get(k), new.get(k), f"{place}.{k}" if place else k) for k in sorted({*old, *new})]
        return ", ".join(text for text in found if text)
    return place if old != new else ""


def run_parts(
    folder: Path,
    units: Sequence[Unit],
    compute: Callable[[Sequence[Unit]], list[list[Row]]],
    *,
    chunk: int = 8,
    progress: Progress | None = None,
) -> Parts:
    """Rows of all units; those whose part exists are read, the rest are computed in chunks of one group.

    A chunk that fails is tried again unit by unit, so that one bad image costs one row; failures are not stored and are
    tried again at the next run.
    """
    parts = folder / "parts"
    missing = [unit for unit in units if not (parts / unit.name).exists()]
    done, failures = len(units) - len(missing), []
    for group in _chunks(missing, chunk):
        failures += _commit(parts, group, compute)
        done += len(group)
        if progress:
            progress(done, len(units))
    _note_failures(folder / "failed.csv", failures)
    rows = [row for unit in units if (parts / unit.name).exists() for row in _read(parts / unit.name)]
    return Parts(pd.DataFrame(rows), tuple(failures))


def _chunks(units: Sequence[Unit], size: int) -> Iterator[list[Unit]]:
    groups: dict[tuple[str, ...], list[Unit]] = {}
    for unit in units:
        groups.setdefault(unit.group, []).append(unit)
    for members in groups.values():
        for start in range(0, len(members), size):
            yield members[start : start + size]


def _commit(parts: Path, group: Sequence[Unit], compute: Callable[[Sequence[Unit]], list[list[Row]]]) -> list[Failure]:
    try:
        for unit, rows in zip(group, compute(group), strict=True):
            write_text(parts / unit.name, json.dumps(rows))
        return []
    except GifsplainError as error:
        if len(group) > 1:
            return [failure for unit in group for failure in _commit(parts, [unit], compute)]
        _log.warning("%s %s: %s", "/".join(group[0].group), group[0].case, error)
        return [Failure(group[0].group, group[0].case, str(error))]


def _note_failures(path: Path, failures: Sequence[Failure]) -> None:
    """The list of the last run's failures; none where all went well."""
    path.unlink(missing_ok=True)
    if failures:
        rows = [{"group": "/".join(f.group), "case": f.case, "error": f.error} for f in failures]
        write_text(path, pd.DataFrame(rows).to_csv(index=False))


def _read(path: Path) -> list[Row]:
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    return rows
