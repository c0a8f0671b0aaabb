"""A copy of the study that was consistent at one moment: a ZIP that unpacks to a study folder."""

import sqlite3
import tempfile
import zipfile
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import SQLModel

from gifsplain.errors import InputError
from gifsplain.study import pictures
from gifsplain.study.store.engine import Store, open_store


def backup(store: Store, folder: Path, out: Path, *, media: bool = True) -> Path:
    """Write `out` (a ZIP with study.sqlite, study.yaml and the media) while the server runs; returns it.

    SQLite is copied by its online backup; PostgreSQL row by row from one snapshot into SQLite. The copy is opened and
    checked before it is kept.
    """
    if out.exists():
        raise InputError(f"expected a new file, got {out}, which exists; choose another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".backup-") as temporary:
        database = Path(temporary) / "study.sqlite"
        copy_database(store, database)
        archive = Path(temporary) / "backup.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
            file.write(database, "study.sqlite")
            file.write(folder / "study.yaml", "study.yaml")
            for picture in pictures.files(folder / "media") if media else ():
                # the files' own times are 1970, which a ZIP cannot hold
                file.writestr(zipfile.ZipInfo(f"media/{picture.name}"), picture.read_bytes())
        archive.chmod(0o600)
        archive.replace(out)
    return out


def copy_database(store: Store, target: Path) -> None:
    """A consistent copy as one SQLite file without a journal beside it."""
    if store.dialect == "sqlite":
        with sqlite3.connect(target) as copy:
            source = store.engine.raw_connection()
            try:
                source.driver_connection.backup(copy)  # type: ignore[union-attr]
            finally:
                source.close()
        copy.close()
    else:
        _copy_rows(store, target)
    connection = sqlite3.connect(target)
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
        verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        connection.close()
    if verdict != "ok":
        raise InputError(f"expected a sound copy of the database, got {verdict!r}; check the disk and try again")


def _copy_rows(store: Store, target: Path) -> None:
    copy = open_store(f"sqlite:///{target}", create=True)
    try:
        with (
            store.engine.execution_options(isolation_level="REPEATABLE READ").connect() as source,
            copy.write() as session,
        ):
            for table in SQLModel.metadata.sorted_tables:
                if table.name in STUDY_TABLES:
                    rows = [dict(row) for row in source.execute(sa.select(table)).mappings()]
                    if rows:
                        session.connection().execute(table.insert(), rows)
    finally:
        copy.close()


STUDY_TABLES = frozenset(
    {"setting", "item", "media", "person", "login", "presentation", "finished", "answer", "audit", "viewing"}
)
