"""A small study made once, copied for each test; a client that behaves like a browser of this server."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gifsplain.study import config, create, intake
from gifsplain.study.store import engine, people
from gifsplain.study.web.app import create_app
from gifsplain.study.web.serving import Serving

from . import drawn

SMALL = Path(__file__).parent / "small.yaml"
SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"
SAME = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class Study:
    """An open study with two readers; tokens are their invitations."""

    folder: Path
    store: engine.Store
    tokens: dict[str, str]
    admin: str

    def client(self) -> TestClient:
        """A browser without a session."""
        app = create_app(self.store, self.folder / "media", Serving(SECRET))
        return TestClient(app, base_url="http://127.0.0.1", headers=SAME)

    def reader(self, name: str = "r1") -> TestClient:
        """A browser in which that reader has entered."""
        client = self.client()
        assert client.post("/enter", json={"token": self.tokens[name]}).status_code == 200
        return with_csrf(client, "/")

    def administrator(self) -> TestClient:
        """A browser in which the administrator has entered."""
        client = self.client()
        assert client.post("/admin/enter", json={"token": self.admin}).status_code == 200
        return with_csrf(client, "/admin")


def with_csrf(client: TestClient, page: str) -> TestClient:
    """The client with the token that the page carries."""
    client.headers["X-CSRF-Token"] = client.get(page).text.partition('data-csrf="')[2].partition('"')[0]
    return client


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a small study and its administrator's invitation."""
    base = tmp_path_factory.mktemp("study")
    setup = config.load(SMALL)
    cases = drawn.cases_csv(base, setup, per_stratum=3, side=32)
    plan = create.Plan(base / "made", SMALL.read_text(encoding="utf-8"), seed=7)
    admin = create.create(plan, intake.read_cases(cases, setup))
    return plan.folder, admin.token


@pytest.fixture
def study(made: tuple[Path, str], tmp_path: Path) -> Iterator[Study]:
    """A fresh copy with readers r1 and r2."""
    folder = tmp_path / "study"
    shutil.copytree(made[0], folder)
    store = create.open_study(folder)
    invitations = people.add_readers(store, ["r1", "r2"])
    yield Study(folder, store, {i.name: i.token for i in invitations}, made[1])
    store.close()


def pages(study: Study, name: str, read: int = 1) -> list[dict[str, object]]:
    """That reader's pages from the database, in order."""
    with study.store.read() as session:
        rows = session.connection().exec_driver_sql(
            "SELECT p.id, p.key, p.kind, p.condition, p.item_id, i.truth, i.facts FROM presentation p JOIN item i ON i.id = p.item_id "
            f"JOIN person r ON r.id = p.person_id WHERE r.name = '{name}' AND p.read = {read} ORDER BY p.position"
        )
        return [dict(row._mapping) | {"facts": json.loads(row.facts)} for row in rows]


def answer_all(client: TestClient, found: list[dict[str, object]], value: int = 3) -> None:
    """Answer every question of these pages."""
    for i, page in enumerate(found):
        for question in ("confidence", "feature"):
            request = f"{i:08x}{abs(hash((page['key'], question))) & 0xFFFFFFFFFFFF:012x}"
            body = {"question": question, "value": value, "request": request, "opening": "ab" * 16}
            assert client.post(f"/case/{page['key']}/answer", json=body).status_code == 200
