"""The database: durable, append-only, migrated in steps, copied while in use."""

import sqlite3
import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel, select

from gifsplain.errors import ConfigurationError, InputError
from gifsplain.study import create, design, launch
from gifsplain.study.store import answers, backup, clock, engine, people, progress, settings
from gifsplain.study.store.records import Answer, Audit, Person

from .conftest import Study, pages


def write(study: Study, page: dict[str, object], request: str, reader: str = "r1") -> answers.Write:
    with study.store.read() as session:
        person = session.exec(select(Person).where(Person.name == reader)).one()
    return answers.Write(person.id or 0, str(page["key"]), request, "p")


def test_answers_are_saved_changed_and_audited(study: Study) -> None:
    page = pages(study, "r1")[0]
    assert answers.answer(study.store, write(study, page, "a" * 16), "confidence", 4) is answers.Outcome.SAVED
    assert answers.answer(study.store, write(study, page, "b" * 16), "confidence", 2) is answers.Outcome.SAVED
    assert answers.answer(study.store, write(study, page, "a" * 16), "confidence", 4) is answers.Outcome.REPEATED
    with study.store.read() as session:
        assert [a.value for a in session.exec(select(Answer))] == [2]
        log = [
            (a.action, a.before, a.after)
            for a in session.exec(select(Audit).where(Audit.presentation_id == page["id"]))
        ]
    assert log == [("answer", "", "4"), ("change", "4", "2")]


@pytest.mark.parametrize(("question", "value"), [("confidence", 0), ("confidence", 6), ("mood", 3)])
def test_wrong_answers_change_nothing(study: Study, question: str, value: int) -> None:
    page = pages(study, "r1")[0]
    assert answers.answer(study.store, write(study, page, "a" * 16), question, value) is answers.Outcome.WRONG
    with study.store.read() as session:
        assert session.exec(select(Answer)).all() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET after = '5'", "DELETE FROM audit", "UPDATE viewing SET at = 0", "DELETE FROM viewing", "DELETE FROM answer",
        "INSERT OR REPLACE INTO audit (id, at, action, question, before, after) VALUES (1, 0, 'forged', '', '', '')",
    ],
)  # fmt: skip
def test_triggers_keep_the_log(study: Study, statement: str) -> None:
    answers.answer(study.store, write(study, pages(study, "r1")[0], "a" * 16), "confidence", 4)
    with pytest.raises(sa.exc.IntegrityError, match="append-only|never deleted"), study.store.write() as session:
        session.connection().exec_driver_sql(statement)
    with study.store.read() as session:
        assert session.exec(select(Audit).where(Audit.action == "answer")).one().after == "4"


def test_training_comes_first_and_reads_wait_for_each_other(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pages(study, "r1"), pages(study, "r1", read=2)
    main = next(p for p in first if p["kind"] == "main")
    n = 0

    def put(page: dict[str, object], question: str) -> answers.Outcome:
        nonlocal n
        n += 1
        return answers.answer(study.store, write(study, page, f"{n:016x}"), question, 3)

    assert put(main, "confidence") is answers.Outcome.LOCKED
    for page in first:
        assert [put(page, q) for q in ("confidence", "feature")] == [answers.Outcome.SAVED] * 2
    assert put(second[0], "confidence") is answers.Outcome.LOCKED
    person = write(study, main, "").person_id
    assert answers.finish_read(study.store, person, 2) is answers.Outcome.LOCKED
    assert answers.finish_read(study.store, person, 1) is answers.Outcome.SAVED
    assert answers.finish_read(study.store, person, 1) is answers.Outcome.REPEATED
    assert answers.finish_read(study.store, person, 7) is answers.Outcome.UNKNOWN
    assert put(main, "confidence") is answers.Outcome.LOCKED
    with study.store.read() as session:
        text = launch.text(study.folder / "study.yaml").replace("washout_days: 0", "washout_days: 28")
    with study.store.write() as session:
        session.connection().execute(sa.text("UPDATE setting SET value = :v WHERE key = 'config'"), {"v": text})
    assert put(second[0], "confidence") is answers.Outcome.LOCKED
    later = clock.now() + 28 * design.DAY + 1000
    monkeypatch.setattr(answers, "now", lambda: later)
    assert put(second[0], "confidence") is answers.Outcome.SAVED


def test_an_unfinished_read_cannot_be_closed(study: Study) -> None:
    person = write(study, pages(study, "r1")[0], "").person_id
    assert answers.finish_read(study.store, person, 1) is answers.Outcome.WRONG


def test_the_administrators_lock_stops_writes(study: Study) -> None:
    page = pages(study, "r1")[0]
    settings.lock(study.store, True)
    assert answers.answer(study.store, write(study, page, "a" * 16), "confidence", 4) is answers.Outcome.LOCKED
    settings.lock(study.store, False)
    assert answers.answer(study.store, write(study, page, "a" * 16), "confidence", 4) is answers.Outcome.SAVED


def test_the_long_table_has_iou_time_and_no_training(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [1_000_000]
    monkeypatch.setattr(answers, "now", lambda: moment[0])
    monkeypatch.setattr(people, "now", lambda: moment[0])
    found = pages(study, "r1")
    for i, page in enumerate(found):
        answers.viewed(study.store, write(study, page, ""), "visible")
        moment[0] += 5000
        for k, question in enumerate(("confidence", "feature")):
            answers.answer(study.store, write(study, page, f"{i:08x}{k:08x}"), question, 1 + (i + k) % 5)
    table = progress.table(study.store)
    assert len(table.rows) == sum(p["kind"] != "training" for p in found)
    assert (table.rows["seconds"] == 5.0).all()
    assert table.rows["iou"].notna().equals(table.rows["truth"] == 1)
    assert table.rows["repeat"].sum() == sum(p["kind"] == "repeat" for p in found)
    assert set(table.rows["case"]).isdisjoint({f"source-{i}" for i in range(99)})  # pseudonyms only


def test_migrations_step_by_step_and_schema_is_the_models(tmp_path: Path) -> None:
    store = engine.open_store(f"sqlite:///{tmp_path / 'full.sqlite'}", create=True)
    inspector = sa.inspect(store.engine)
    for table in SQLModel.metadata.sorted_tables:
        if table.name in backup.STUDY_TABLES:
            columns = {
                c["name"]: bool(c["nullable"]) and not c["primary_key"] for c in inspector.get_columns(table.name)
            }
            assert columns == {c.name: bool(c.nullable) for c in table.columns}, table.name
    store.close()
    old = engine.Store(engine._sqlite(f"sqlite:///{tmp_path / 'old.sqlite'}", create=True))
    assert engine.migrate(old, create=True, upto=1) == 1
    with old.write() as session:
        session.add(people.audit(None, "before"))
    assert engine.migrate(old) == 2 and engine.migrate(old) == 2
    with old.read() as session:
        assert session.exec(select(Audit)).one().action == "before"
        names = (
            session.connection().exec_driver_sql("SELECT number, name FROM schema_version ORDER BY number").fetchall()
        )
    assert [tuple(n) for n in names] == [(1, "tables"), (2, "append_only")]
    with pytest.raises(sa.exc.IntegrityError, match="append-only"), old.write() as session:
        session.connection().exec_driver_sql("DELETE FROM audit")
    old.close()


def test_newer_empty_and_absent_databases_are_refused(study: Study, tmp_path: Path) -> None:
    with study.store.write() as session:
        session.connection().exec_driver_sql("INSERT INTO schema_version VALUES (99, 'future', 0)")
    with pytest.raises(ConfigurationError, match="got 99 from a newer gifsplain"):
        create.open_study(study.folder)
    with pytest.raises(InputError, match="found none at"):
        engine.open_store(f"sqlite:///{tmp_path / 'no.sqlite'}")
    sqlite3.connect(tmp_path / "empty.sqlite").close()
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(InputError, match="got an empty one"):
        engine.open_store(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    with pytest.raises(ConfigurationError, match="sqlite or postgresql, got mysql"):
        engine.open_store("mysql://x/y")


def test_sqlite_is_durable(study: Study) -> None:
    with study.store.read() as session:
        run = session.connection().exec_driver_sql
        assert run("PRAGMA journal_mode").scalar() == "wal"
        assert run("PRAGMA synchronous").scalar() == 2  # FULL
        assert run("PRAGMA foreign_keys").scalar() == 1


def test_backup_unpacks_to_a_working_study(study: Study, tmp_path: Path) -> None:
    answers.answer(study.store, write(study, pages(study, "r1")[0], "a" * 16), "confidence", 4)
    out = launch.backup(study.folder, tmp_path / "backup.zip", media=True)
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None and "key.csv" not in archive.namelist() and "secret" not in archive.namelist()
        archive.extractall(tmp_path / "again")
    copy = create.open_study(tmp_path / "again")
    with copy.read() as session:
        assert [a.value for a in session.exec(select(Answer))] == [4]
    with pytest.raises(sa.exc.IntegrityError, match="append-only"), copy.write() as session:
        session.connection().exec_driver_sql("DELETE FROM audit")
    copy.close()
    assert len(list((tmp_path / "again" / "media").iterdir())) == len(list((study.folder / "media").iterdir()))
    with pytest.raises(InputError, match="which exists"):
        launch.backup(study.folder, out, media=False)


def test_readers_are_added_once_and_links_renewed(study: Study) -> None:
    with pytest.raises(InputError, match=r"\['r1'\] again"):
        people.add_readers(study.store, ["r3", "r1"])
    with study.store.read() as session:
        assert len(progress.overview(session)) == 2  # r3 was not added either
    with pytest.raises(InputError, match="distinct printable names"):
        people.add_readers(study.store, ["x", "x"])
    new = people.renew(study.store, "r1")
    assert people.enter(study.store, study.tokens["r1"], "reader") is None
    assert people.enter(study.store, new.token, "reader")
    with pytest.raises(InputError, match="expected a known reader, got 'nobody'"):
        people.renew(study.store, "nobody")


def test_secrets_are_not_in_the_database(study: Study) -> None:
    session_secret = people.enter(study.store, study.tokens["r1"], "reader")
    assert session_secret
    study.store.close()
    stored = b"".join(p.read_bytes() for p in study.folder.glob("study.sqlite*"))
    assert study.tokens["r1"].encode() not in stored and session_secret.encode() not in stored


def test_a_case_is_locked_when_its_reader_goes_on(study: Study) -> None:
    text = (study.folder / "study.yaml").read_text().replace("lock: read", "lock: case")
    with study.store.write() as session:
        session.connection().execute(sa.text("UPDATE setting SET value = :v WHERE key = 'config'"), {"v": text})
    page = pages(study, "r1")[0]
    assert answers.answer(study.store, write(study, page, "a" * 16), "confidence", 4) is answers.Outcome.SAVED
    assert (
        answers.finish_case(study.store, write(study, page, "b" * 16)) is answers.Outcome.SAVED
    )  # one answer is missing
    assert answers.answer(study.store, write(study, page, "c" * 16), "feature", 4) is answers.Outcome.SAVED
    assert answers.finish_case(study.store, write(study, page, "d" * 16)) is answers.Outcome.SAVED
    assert answers.answer(study.store, write(study, page, "e" * 16), "feature", 1) is answers.Outcome.LOCKED
    assert answers.comment(study.store, write(study, page, "f" * 16), "late") is answers.Outcome.LOCKED
    with study.store.read() as session:
        assert sorted(a.value for a in session.exec(select(Answer))) == [4, 4]
