"""What is on disk: a folder bound to one configuration, parts that are there whole or not at all."""

import fcntl
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gifsplain.batch import plan
from gifsplain.batch.job import Configuration
from gifsplain.batch.plan import Item, Key, Part, Shard
from gifsplain.batch.rows import Failure, Row
from gifsplain.errors import ConfigurationError, GifsplainError, InputError
from gifsplain.io import run_folder
from gifsplain.io.files import atomic_path, sha256_file, write_text_once
from gifsplain.io.manifest import Case

_TYPES = {str: pa.string(), float: pa.float64(), int: pa.int64()}


def schema_of(kind: type) -> pa.Schema:
    """Columns of a row class: the same in every part, also in an empty one."""
    return pa.schema([(field.name, _TYPES[field.type]) for field in fields(kind)])  # type: ignore[index]


@dataclass(frozen=True)
class Finished:
    """The file that a row or a failure is of; a failure's content is empty, for it may have had none."""

    path_hash: str
    content: str = ""
    bytes: int = 0
    modified_ns: int = 0


class Store:
    """One run folder, opened for writing by any number of processes."""

    def __init__(self, folder: Path, configuration: Configuration) -> None:
        self.folder = folder
        self.configuration = configuration

    def open(self, *, resume: bool) -> None:
        """Make the folder, or go on in it; any number of processes may do so at once.

        The configuration comes first, so a kill in between leaves a folder that can be used.

        Raises:
            ConfigurationError: When it holds results of another configuration, or results at all without `resume`.
        """
        path = self.folder / run_folder.CONFIGURATION
        if not path.exists():
            if any((self.folder / run_folder.RESULTS).glob("part-*.parquet")):
                raise ConfigurationError(f"expected {path}, found results without it; choose another folder")
            write_text_once(path, self.configuration.text())
        self.check()  # another process may have been first, with other values
        for name in (run_folder.RESULTS, run_folder.ERRORS):
            (self.folder / name).mkdir(exist_ok=True)
        if not resume and run_folder.committed_parts(self.folder):
            raise ConfigurationError(
                f"{self.folder} holds results already; go on with --resume or choose another folder"
            )

    def check(self) -> None:
        """Refuse a folder of another configuration, naming what differs."""
        there, here = run_folder.read_configuration(self.folder), self.configuration.values
        if there == here:
            return
        different = sorted(_differences(there, here))
        raise ConfigurationError(
            f"{self.folder} was made with other values of {', '.join(different)}; results of two configurations are "
            "not mixed: choose another folder, or give the values of its configuration.json"
        )

    def done(self, *, failures: bool = True) -> dict[Key, Finished]:
        """Everything that has a row, and where `failures` count what has failed; a row outweighs a failure before it."""
        rows: dict[Key, Finished] = {}
        failed: dict[Key, Finished] = {}
        for path in run_folder.committed_parts(self.folder):
            for row in _read(path, ["sha256", "bytes", "modified_ns"]):
                file = Finished(row["path_hash"], row["sha256"], row["bytes"], row["modified_ns"])
                rows[row["case"], row["target"]] = file
            beside = self.folder / run_folder.ERRORS / path.name
            for row in _read(beside) if failures and beside.is_file() else []:
                failed[row["case"], row["target"]] = Finished(row["path_hash"])
        return failed | rows

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


def _read(path: Path, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of a part: whose they are, and `columns`."""
    rows: list[dict[str, Any]] = run_folder.read_part(path, ["case", "path_hash", "target", *columns]).to_pylist()
    return rows


def refuse_missing(items: Sequence[Item], done: Collection[Key]) -> None:
    """Refuse to call a run finished that lacks some of its items.

    Raises:
        GifsplainError: Says how many are missing and names the first.
    """
    wanted = [key for item in items for key in item.keys]
    missing = [key for key in wanted if key not in done]
    if missing:
        raise GifsplainError(
            f"expected a row or a failure for each of {len(wanted)} explanations, got none for {len(missing)} of them "
            f"(first {', '.join(missing[0])}); go on with --resume"
        )


def refuse_other_files(items: Sequence[Item], done: Mapping[Key, Finished]) -> None:
    """Refuse cases whose files are not those that their finished rows are of.

    A path that is spelt in another way, or a file that was moved, is the same file while its content is. Files are
    read again only where their path, or their size or time of change differ.

    Raises:
        InputError: Names the cases whose file has changed, or whose name stands for another file.
    """
    faults: dict[str, list[str]] = {}
    for item in items:
        found = {done[key] for key in item.keys if key in done}
        if found and (fault := _fault(item.case, found)):
            faults.setdefault(fault, []).append(item.case.name)
    for fault in (_CHANGED, _OTHER, _UNTOLD):
        if fault in faults:
            raise InputError(fault.format(_first(faults[fault])))


_CHANGED = "expected the files that the finished rows are of, got other content for {}; use a new folder"
_OTHER = (
    "expected each case to be the file that its finished rows are of, got other files for {}; give them names of their own "
    "in the column `case` of the manifest, or use a new folder"
)
_UNTOLD = (
    "expected the paths at which these cases failed, got others for {}; try them again with --retry-failed, or, where the "
    "names stand for other files, use a new folder"
)


def _fault(case: Case, found: Collection[Finished]) -> str:
    """What speaks against a case's file being that of its rows and failures; empty where nothing does."""
    hashes = plan.path_hashes(case)
    for file in found:
        if file.path_hash in hashes:
            if not _unchanged(case.path, file):
                return _CHANGED
        elif not file.content:
            return _UNTOLD
        elif not _is_copy(case.path, file):
            return _OTHER
    return ""


def refuse_renamed(items: Sequence[Item], done: Mapping[Key, Finished]) -> None:
    """Refuse files whose finished rows go by other names; they would be explained twice.

    Raises:
        InputError: Names the first of them.
    """
    names = {item.case.name for item in items}
    there = {(file.path_hash, target): case for (case, target), file in done.items() if case not in names}
    if not there:
        return
    renamed = {
        f"{item.case.name} (there {there[where, target]})"
        for item in items
        for where in plan.path_hashes(item.case)
        for target in item.targets
        if (item.case.name, target) not in done and (where, target) in there
    }
    if renamed:
        raise InputError(
            f"expected the names that the finished rows have, got others for {_first(sorted(renamed))}; give the names of "
            "the rows in the column `case` of the manifest, or use a new folder"
        )


def _unchanged(path: Path, file: Finished) -> bool:
    """Whether a file at its old place is what it was; a failure, or a file that is gone, leaves nothing to compare."""
    if not file.content or not path.is_file():
        return True
    stat = path.stat()
    return (stat.st_size, stat.st_mtime_ns) == (file.bytes, file.modified_ns) or sha256_file(path) == file.content


def _is_copy(path: Path, file: Finished) -> bool:
    """Whether a file at another place has the same content; size and time of change are no proof there."""
    return path.is_file() and path.stat().st_size == file.bytes and sha256_file(path) == file.content


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])} ({len(names)} in all)"
