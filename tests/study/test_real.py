"""Slow: a real server killed while it saves, 50 readers at once, and the same code on PostgreSQL."""

import secrets
import statistics
import sys
import threading
import time
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import select

from gifsplain.study import config, create, intake, launch
from gifsplain.study.store import answers, people, progress
from gifsplain.study.store.records import Answer, Audit, Person, Presentation

from . import drawn, real
from .conftest import SMALL, Study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def keys_of(study: Study, name: str, kind: str = "") -> list[str]:
    """Keys of that reader's first read in order."""
    with study.store.read() as session:
        query = (
            select(Presentation)
            .join(Person, Person.id == Presentation.person_id)
            .where(Person.name == name, Presentation.read == 1)
        )
        return [p.key for p in session.exec(query.order_by(Presentation.position)) if not kind or p.kind == kind]


def test_a_killed_server_loses_nothing_that_it_acknowledged(study: Study) -> None:
    invitations = people.add_readers(study.store, [f"k{i}" for i in range(6)])
    keys = {i.name: keys_of(study, i.name, "training") for i in invitations}
    acknowledged: dict[str, tuple[str, str, int]] = {}
    attempted: set[str] = set()
    stop = threading.Event()
    server = real.Server(study.folder)

    def read(invitation: people.Invitation) -> None:
        with closing(real.Client(server.port)) as client:
            answer_on(client, invitation)

    def answer_on(client: real.Client, invitation: people.Invitation) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            key, question = keys[invitation.name][n % 2], ("confidence", "feature")[n // 2 % 2]
            request, value = secrets.token_hex(16), 1 + n % 5
            attempted.add(request)
            while not stop.is_set():  # like the page: the same request again until there is an answer
                try:
                    if not client.cookie:
                        client.enter(invitation.token)
                    body = {"question": question, "value": value, "request": request, "opening": "ab" * 8}
                    if client.post(f"/case/{key}/answer", body)[0] == 200:
                        acknowledged[request] = (key, question, value)
                        break
                except (ConnectionError, AssertionError):
                    time.sleep(0.05)

    threads = [threading.Thread(target=read, args=(i,)) for i in invitations]
    with server:
        for thread in threads:
            thread.start()
        for _ in range(3):
            before, end = len(acknowledged), time.monotonic() + real.PATIENCE
            while len(acknowledged) < before + 40 and time.monotonic() < end:
                time.sleep(0.01)
            server.kill()
            server.start()
        stop.set()
        for thread in threads:
            thread.join()
    assert len(acknowledged) >= 120
    with study.store.read() as session:
        log = session.exec(select(Audit).where(Audit.action.in_(("answer", "change"))).order_by(Audit.id)).all()
        ids = {p.id: p.key for p in session.exec(select(Presentation))}
        now = {(ids[a.presentation_id], a.question): a.value for a in session.exec(select(Answer))}
        assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    written = [entry.request for entry in log]
    assert set(acknowledged) <= set(written)  # nothing acknowledged is lost
    assert len(written) == len(set(written)) and set(written) <= attempted  # nothing is doubled or invented
    last = {(ids[entry.presentation_id], entry.question): int(entry.after) for entry in log}
    assert last == now  # the log explains every answer
    sys.stdout.write(f"\n{len(acknowledged)} answers acknowledged over 3 SIGKILLs, {len(written)} written\n")


def test_fifty_readers_at_once(study: Study) -> None:
    invitations = people.add_readers(study.store, [f"n{i}" for i in range(50)])
    keys = {i.name: keys_of(study, i.name) for i in invitations}
    clients: list[real.Client] = []
    given: list[tuple[str, str, int]] = []

    def read(number: int, invitation: people.Invitation) -> None:
        with closing(real.Client(server.port)) as client:
            clients.append(client)
            client.enter(invitation.token)
            given.extend(real.read_cases(client, keys[invitation.name], 1 + number % 5))

    with real.Server(study.folder) as server:
        before = server.cpu_seconds()
        seconds = real.at_once([threading.Thread(target=read, args=(n, i)) for n, i in enumerate(invitations)])
        processor = server.cpu_seconds() - before
    assert len(given) == 50 * 2 * len(keys["n0"])  # every thread finished
    with study.store.read() as session:
        ids = {p.id: p.key for p in session.exec(select(Presentation))}
        found = sorted((ids[a.presentation_id], a.question, a.value) for a in session.exec(select(Answer)))
        log = session.exec(select(Audit.id).where(Audit.action.in_(("answer", "change")))).all()
    assert found == sorted(given) and len(log) == len(given)  # none lost, none doubled
    times = sorted(t for c in clients for _, t in c.times)
    saves = sorted(t for c in clients for name, t in c.times if name.endswith("answer"))
    figures = {
        "requests": len(times), "seconds": round(seconds, 1), "requests_per_second": round(len(times) / seconds, 1),
        "p50_ms": round(1000 * statistics.median(times)), "p99_ms": round(1000 * times[int(0.99 * len(times))]),
        "answer_p50_ms": round(1000 * statistics.median(saves)), "answer_p99_ms": round(1000 * saves[int(0.99 * len(saves))]),
        "server_cpu_ms_per_request": round(1000 * processor / len(times), 2),
    }  # fmt: skip
    sys.stdout.write(f"\n50 readers at once: {figures}\n")


@pytest.fixture(scope="module")
def url():
    programs = real.postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra postgres)")
    with real.postgresql(programs) as found:
        yield found


def test_the_same_study_on_postgresql(url: str, tmp_path: Path) -> None:
    setup = config.load(SMALL)
    cases = drawn.cases_csv(tmp_path, setup, per_stratum=3, side=16)
    plan = create.Plan(tmp_path / "study", SMALL.read_text(), seed=7, database=url)
    admin = create.create(plan, intake.read_cases(cases, setup))
    store = create.open_study(plan.folder)
    invitations = people.add_readers(store, [f"p{i}" for i in range(8)])
    assert people.enter(store, admin.token, "admin")
    study = Study(plan.folder, store, {i.name: i.token for i in invitations}, admin.token)
    given: list[tuple[str, str, int]] = []

    def read(number: int, invitation: people.Invitation) -> None:
        with closing(real.Client(server.port)) as client:
            client.enter(invitation.token)
            given.extend(real.read_cases(client, keys_of(study, invitation.name), 1 + number % 5))

    with real.Server(plan.folder) as server:
        real.at_once([threading.Thread(target=read, args=(n, i)) for n, i in enumerate(invitations)])
    assert len(given) == 8 * 2 * len(keys_of(study, "p0"))
    with store.read() as session:
        assert len(session.exec(select(Answer)).all()) == len(given)
    for statement in ("DELETE FROM audit", "UPDATE viewing SET at = 0", "TRUNCATE audit", "DELETE FROM answer"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), store.write() as session:
            session.connection().exec_driver_sql(statement)
    table = progress.table(store)
    launch.backup(plan.folder, tmp_path / "copy.zip", media=False)
    with zipfile.ZipFile(tmp_path / "copy.zip") as archive:
        archive.extractall(tmp_path / "copy")
    copy = create.open_study(tmp_path / "copy")
    assert progress.table(copy).rows.equals(table.rows)
    copy.close()
    doubled_once(store, keys_of(study, "p0")[0])
    store.close()


def doubled_once(store: object, key: str) -> None:
    """The same request from many threads at once is written once."""
    with store.read() as session:  # type: ignore[attr-defined]
        person = session.exec(select(Presentation).where(Presentation.key == key)).one().person_id
    outcomes: list[answers.Outcome] = []
    write = answers.Write(person, key, secrets.token_hex(16), "p")
    real.at_once(
        [
            threading.Thread(target=lambda: outcomes.append(answers.answer(store, write, "confidence", 1)))
            for _ in range(8)
        ]
    )  # type: ignore[arg-type]
    assert sorted(outcomes) == [answers.Outcome.REPEATED] * 7 + [answers.Outcome.SAVED]
