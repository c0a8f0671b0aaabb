"""What is on disk: a folder bound to one configuration, parts that are there whole or not at all."""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gifsplain.batch.job import Configuration
from gifsplain.batch.plan import Item, Key, Part, Shard
from gifsplain.batch.rows import Failure, Row
from gifsplain.errors import ConfigurationError, GifsplainError, InputError
from gifsplain.io import run_folder
from gifsplain.io.files import atomic_path, sha256_file, write_text

_TYPES = {str: pa.string(), float: pa.float64(), int: pa.int64()}


def schema_of(kind: type) -> pa.Schema:
    """Columns of a row class: the same in every part, also in an empty one."""
    return pa.schema([(field.name, _TYPES[field.type]) for field in fields(kind)])  # type: ignore[index]


class Store:
    """One run folder, opened for writing by any number of processes."""

    def __init__(self, folder: Path, configuration: Configuration) -> None:
        self.folder = folder
        self.configuration = configuration

    def open(self, *, resume: bool) -> None:
        """Make the folder, or go on in it.

        Raises:
            ConfigurationError: When it holds results of another configuration, or results at all without `resume`.
        """
        path = self.folder / run_folder.CONFIGURATION
        if not path.exists():
            if (self.folder / run_folder.RESULTS).exists():
                raise ConfigurationError(f"expected {path}, found results without it; choose another folder")
            for name in (run_folder.RESULTS, run_folder.ERRORS):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            write_text(path, self.configuration.text())
            return
        self.check(path)
        if not resume and run_folder.committed_parts(self.folder):
            raise ConfigurationError(
                f"{self.folder} holds results already; go on with --resume or choose another folder"
            )

    def check(self, path: Path) -> None:
        """Refuse a folder of another configuration, naming what differs."""
        there, here = json.loads(path.read_text(encoding="utf-8")), self.configuration.values
        if there == here:
            return
        different = sorted(_differences(there, here))
        raise ConfigurationError(
            f"{self.folder} was made with other values of {', '.join(different)}; results of two configurations are "
            "not mixed: choose another folder, or give the values of its configuration.json"
        )

    def done(self) -> dict[Key, tuple[str, int, int]]:
        """Keys of everything committed, failures included, with content hash, size and time of change of the file."""
        keys: dict[Key, tuple[str, int, int]] = {}
        for path in run_folder.committed_parts(self.folder):
            wanted = ["case", "path_hash", "target", "sha256", "bytes", "modified_ns"]
            for row in pq.read_table(path, columns=wanted).to_pylist():
                key = (row["case"], row["path_hash"], row["target"])
                keys[key] = (row["sha256"], row["bytes"], row["modified_ns"])
            beside = self.folder / run_folder.ERRORS / path.name
            if beside.is_file():
                for row in pq.read_table(beside, columns=wanted[:3]).to_pylist():
                    keys[(row["case"], row["path_hash"], row["target"])] = ("", 0, 0)
        return keys

    def refuse_missing(self, items: Sequence[Item]) -> None:
        """Refuse to call a run finished whose folder lacks some of its items.

        Raises:
            GifsplainError: Says how many are missing and names the first.
        """
        done = self.done()
        missing = [key for item in items for key in item.keys if key not in done]
        if missing:
            wanted = sum(len(item.keys) for item in items)
            raise GifsplainError(
                f"expected a row or a failure for each of {wanted} explanations, got none for {len(missing)} of them "
                f"(first {missing[0][0]}, {missing[0][-1]}); go on with --resume"
            )

    def commit(self, part: Part, rows: Sequence[Row], failures: Sequence[Failure]) -> None:
        """Write a finished part: failures first, then results, whose appearance makes the part count."""
        if failures:
            self._write(run_folder.ERRORS, part.name, Failure, failures)
        self._write(run_folder.RESULTS, part.name, Row, rows)

    def _write(self, folder: str, name: str, kind: type, rows: Sequence[Any]) -> None:
        table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema_of(kind))
        with atomic_path(self.folder / folder / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary)

    @contextmanager
    def claim(self, shard: Shard) -> Iterator[None]:
        """Hold this shard's place; two processes may not do the same work.

        Raises:
            ConfigurationError: When the place is taken, or the folder is being worked on in another number of shards.
        """
        folder = self.folder / run_folder.LOG
        folder.mkdir(parents=True, exist_ok=True)
        mine = folder / f"shard-{shard.index}-of-{shard.count}.lock"
        with ExitStack() as stack:
            stream = stack.enter_context(mine.open("a"))
            if not _lock(stream.fileno()):
                raise ConfigurationError(f"{self.folder} is being worked on by another process ({mine.name})")
            for other in folder.glob("shard-*-of-*.lock"):
                count = int(re.findall(r"-of-(\d+)", other.name)[0])
                if count != shard.count and _held(other):
                    raise ConfigurationError(
                        f"{self.folder} is being worked on in {count} shards, not in {shard.count}; wait"
                    )
            yield


def _lock(handle: int) -> bool:
    """Take a lock that ends with the process, however it ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held(path: Path) -> bool:
    handle = os.open(path, os.O_RDWR)
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Names of the values that differ, with dots between levels."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in there.keys() | here.keys():
            yield from _differences(there.get(key), here.get(key), f"{name}.{key}" if name else str(key))
    elif there != here:
        yield name


def refuse_changed(items: Sequence[Item], done: dict[Key, tuple[str, int, int]]) -> None:
    """Refuse files whose content is no longer what their finished rows are of.

    Only files whose size or time of change differ are read again.

    Raises:
        InputError: Names the changed cases.
    """
    changed = []
    for item in items:
        rows = [done[key] for key in item.keys if key in done and done[key][0]]
        if not rows or not item.case.path.is_file():
            continue
        content, size, modified = rows[0]
        stat = item.case.path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (size, modified) and sha256_file(item.case.path) != content:
            changed.append(item.case.name)
    if changed:
        raise InputError(
            f"expected the files that the finished rows are of, got other content for {', '.join(changed[:5])}"
            f" ({len(changed)} in all); use a new folder"
        )
