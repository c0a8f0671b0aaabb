"""Each line of the study's security, tried as an attack."""

import re
import secrets
import statistics
import time

import pytest
from PIL import Image
from starlette.testclient import TestClient

from gifsplain.study import pictures
from gifsplain.study.store import clock, people
from gifsplain.study.web import guard
from gifsplain.study.web.serving import Serving

from .conftest import SECRET, Study, answer_all, pages

ANSWER = {"question": "confidence", "value": 3, "request": "ab" * 8, "opening": "cd" * 8}


def status(client: TestClient, path: str) -> int:
    return client.get(path, follow_redirects=False).status_code


def test_without_a_session_there_is_nothing(study: Study) -> None:
    client, page = study.client(), pages(study, "r1")[0]
    assert client.get("/", follow_redirects=False).headers["location"] == "/enter"
    for path in (f"/case/{page['key']}", f"/media/{page['key']}/0", "/help", "/admin/answers.csv"):
        assert status(client, path) == 401, path
    assert client.post(f"/case/{page['key']}/answer", json=ANSWER).status_code == 401
    for path in ("/docs", "/openapi.json", "/redoc", "/static/../app.py", "/static/", "/media/", "/.git/config"):
        assert status(client, path) in (404, 401), path


@pytest.mark.parametrize("token", ["x" * 43, "", "a" * 5000, "' OR 1=1 --", "\u0000" * 30, 7, None])
def test_wrong_invitations_are_refused(study: Study, token: object) -> None:
    answer = study.client().post("/enter", json={"token": token})
    assert answer.status_code in (403, 422) and "set-cookie" not in answer.headers


def test_guessing_invitations_is_slowed(study: Study) -> None:
    client = study.client()
    tries = [client.post("/enter", json={"token": secrets.token_urlsafe(32)}).status_code for _ in range(12)]
    assert tries == [403] * 10 + [429] * 2
    assert client.post("/enter", json={"token": study.tokens["r1"]}).status_code == 429


def test_limiter_forgets_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [0.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: moment[0])
    limiter = guard.Limiter(limit=2, seconds=10, clients=3)
    for _ in range(2):
        limiter.failed("a")
    assert limiter.blocked("a") and not limiter.blocked("b")
    moment[0] = 11
    assert not limiter.blocked("a")
    for client in "bcdefg":
        limiter.failed(client)
    assert len(limiter._failures) == 3


def test_expired_revoked_and_foreign_invitations(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    assert people.enter(study.store, study.tokens["r1"], "admin") is None
    assert people.enter(study.store, study.admin, "reader") is None
    monkeypatch.setattr(people, "now", lambda: clock.now() + 181 * people.DAY)
    assert people.enter(study.store, study.tokens["r1"], "reader") is None


def test_sessions_expire_and_end_with_revocation(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    client = study.reader()
    assert status(client, "/") == 200
    with monkeypatch.context() as patch:
        patch.setattr(people, "now", lambda: clock.now() + 13 * people.HOUR)
        assert status(client, "/") == 303
    assert status(client, "/") == 200
    people.revoke(study.store, 2)
    assert status(client, "/") == 303
    assert people.enter(study.store, study.tokens["r1"], "reader") is None


def test_leaving_ends_the_session_on_the_server(study: Study) -> None:
    client = study.reader()
    cookie = dict(client.cookies)
    assert client.post("/leave", json={}).status_code == 200
    client.cookies.update(cookie)
    assert status(client, "/") == 303


def test_cookies_are_closed_and_forged_ones_refused(study: Study) -> None:
    client = study.client()
    header = client.post("/enter", json={"token": study.tokens["r1"]}).headers["set-cookie"].lower()
    assert "httponly" in header and "samesite=strict" in header and "domain" not in header
    secret = people.enter(study.store, study.tokens["r2"], "reader") or ""
    for cookie in (
        secret,
        f"{secret}.",
        f"{secret}.{'0' * 64}",
        Serving("another secret").sign("reader", secret),
        "é.x",
    ):
        client.cookies.clear()
        answer = client.get("/", headers={"Cookie": f"gifsplain-reader={cookie}".encode()}, follow_redirects=False)
        assert answer.status_code == 303, cookie
    good = Serving(SECRET).sign("reader", secret)
    assert client.get("/", headers={"Cookie": f"gifsplain-reader={good}"}, follow_redirects=False).status_code == 200
    assert Serving("x" * 40, secure=True).cookie("reader").startswith("__Host-")


def test_readers_and_administrators_are_apart(study: Study) -> None:
    reader, admin, page = study.reader(), study.administrator(), pages(study, "r1")[0]
    assert status(reader, "/admin") == 303 and status(reader, "/admin/answers.csv") == 401
    for path, body in (
        ("/admin/lock", {"locked": True}),
        ("/admin/revoke", {"reader": 3}),
        ("/admin/renew", {"reader": 3}),
    ):
        assert reader.post(path, json=body).status_code == 401
    assert status(admin, f"/case/{page['key']}") == 401
    assert admin.post(f"/case/{page['key']}/answer", json=ANSWER).status_code == 401
    assert "gifsplain-reader" not in admin.cookies


def test_one_reader_cannot_see_or_write_anothers_pages(study: Study) -> None:
    other, page = study.reader("r2"), pages(study, "r1")[0]
    invented = "A" * 22
    for kind in ("/case/{}", "/media/{}/0"):
        mine, nobody = other.get(kind.format(page["key"])), other.get(kind.format(invented))
        assert mine.status_code == nobody.status_code == 404 and mine.content == nobody.content
        assert {k: v for k, v in mine.headers.items() if k != "date"} == {
            k: v for k, v in nobody.headers.items() if k != "date"
        }
    for part, body in (
        ("answer", ANSWER),
        ("comment", {"text": "x", "request": "ab" * 8}),
        ("view", {"kind": "visible", "opening": "ab" * 8}),
    ):
        assert other.post(f"/case/{page['key']}/{part}", json=body).status_code == 404


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"}, 403),
        ({"Sec-Fetch-Site": None, "Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": None, "Origin": "null"}, 403),
        ({"Sec-Fetch-Site": None, "Origin": "https://127.0.0.1"}, 403),
        ({"Sec-Fetch-Site": None, "Origin": "http://127.0.0.1.evil.example"}, 403),
        ({"Sec-Fetch-Site": None}, 403),
        ({"Sec-Fetch-Site": None, "Origin": "http://127.0.0.1"}, 200),
        ({"X-CSRF-Token": "guess"}, 403),
        ({"X-CSRF-Token": None}, 403),
        ({}, 200),
    ],
)
def test_cross_site_writes_are_refused(study: Study, headers: dict[str, str | None], code: int) -> None:
    client, page = study.reader(), pages(study, "r1")[0]
    for name, value in headers.items():
        if value is None:
            client.headers.pop(name, None)
        else:
            client.headers[name] = value
    assert client.post(f"/case/{page['key']}/answer", json=ANSWER).status_code == code


def test_another_sessions_token_does_not_count(study: Study) -> None:
    client, page = study.reader(), pages(study, "r1")[0]
    client.headers["X-CSRF-Token"] = study.reader().headers["X-CSRF-Token"]
    assert client.post(f"/case/{page['key']}/answer", json=ANSWER).status_code == 403


def test_other_methods_hosts_and_long_bodies_are_refused(study: Study) -> None:
    client, page = study.reader(), pages(study, "r1")[0]
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert client.request(method, "/").status_code == 405
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:80", ""):
        assert client.get("/", headers={"Host": host}).status_code == 400
    path = f"/case/{page['key']}/comment"
    assert client.post(path, json={"text": "x" * 20_000, "request": "ab" * 8}).status_code == 413
    assert client.post(path, json={"text": "x" * 3_000, "request": "ab" * 8}).status_code == 422

    def stream():
        yield b'{"text": "' + b"x" * 40_000 + b'", "request": "abababababababab"}'

    assert client.post(path, content=stream(), headers={"Content-Type": "application/json"}).status_code == 413


@pytest.mark.parametrize(
    "change",
    [
        {"value": "3"},
        {"value": 3.5},
        {"value": True},
        {"question": "x" * 50},
        {"request": "../../x"},
        {"opening": ""},
        {"more": 1},
    ],
)
def test_bodies_are_not_guessed(study: Study, change: dict[str, object]) -> None:
    client, page = study.reader(), pages(study, "r1")[0]
    assert client.post(f"/case/{page['key']}/answer", json=ANSWER | change).status_code == 422


def test_headers_are_strict_everywhere(study: Study) -> None:
    client, page = study.reader(), pages(study, "r1")[0]
    for path in ("/", f"/case/{page['key']}", f"/media/{page['key']}/0", "/static/case.js", "/nothing", "/enter"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert "server" not in headers
    for path in ("/", f"/case/{page['key']}", "/help", "/enter"):
        text = client.get(path).text
        assert (
            " style=" not in text
            and "onclick" not in text
            and "<style" not in text
            and "http" not in text.replace("http-equiv", "")
        )


def test_text_from_readers_and_configuration_is_escaped(study: Study) -> None:
    client, page = study.reader(), pages(study, "r1")[0]
    evil = '<script>alert(1)</script>" onfocus=x'
    assert client.post(f"/case/{page['key']}/comment", json={"text": evil, "request": "ab" * 8}).status_code == 200
    text = client.get(f"/case/{page['key']}").text
    assert evil not in text and "&lt;script&gt;" in text


def test_no_path_leads_out_of_the_study(study: Study) -> None:
    client, page = study.reader(), pages(study, "r1")[0]
    for number in ("4", "-1", "99", "x", "..", "%2e%2e%2fstudy.yaml", "0/../../secret"):
        assert status(client, f"/media/{page['key']}/{number}") in (404, 422), number
    for path in ("/static/../../config.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"):
        assert status(client, path) == 404, path
    with study.store.write() as session:
        session.connection().exec_driver_sql(
            "UPDATE media SET file = '../secret' WHERE id = (SELECT MIN(id) FROM media)"
        )
        session.connection().exec_driver_sql(
            "UPDATE presentation SET item_id = (SELECT MIN(item_id) FROM media) WHERE kind = 'training'"
        )
    assert status(client, f"/media/{page['key']}/0") == 404  # even a forged row names no file elsewhere


def test_nothing_in_a_page_tells_condition_key_or_truth(study: Study) -> None:
    client, found = study.reader(), pages(study, "r1")
    answer_all(client, found)
    for page in found:
        answer = client.get(f"/case/{page['key']}")
        words = set(re.findall(r"[a-z]+", answer.text.lower()))
        assert not words & {
            "traditional",
            "latentshift",
            "truth",
            "false",
            "true",
            "source",
            "repeat",
            "iou",
            "positive",
        }
        media = client.get(f"/media/{page['key']}/0")
        assert (
            "etag" not in media.headers
            and "last-modified" not in media.headers
            and "content-disposition" not in media.headers
        )
        assert len(media.content) % pictures.BLOCK == 0
    shapes = {}
    for page in found:
        text = client.get(f"/case/{page['key']}").text
        shapes.setdefault(page["condition"], set()).add((text.count("<"), page["truth"]))
    assert all(len({n for n, _ in shape}) <= 2 for shape in shapes.values())  # first and last page lack one button


def test_addresses_are_new_for_every_page_of_every_reader(study: Study) -> None:
    keys = [p["key"] for name in ("r1", "r2") for read in (1, 2) for p in pages(study, name, read)]
    assert len(set(keys)) == len(keys) and all(len(str(k)) == 22 for k in keys)


@pytest.mark.slow
def test_time_to_answer_does_not_tell_the_truth(study: Study) -> None:
    client, found = study.reader(), pages(study, "r1")
    answer_all(client, found)
    times: dict[object, list[float]] = {0: [], 1: []}
    for _ in range(30):
        for page in found:
            start = time.perf_counter()
            client.get(f"/media/{page['key']}/1")
            times[page["truth"]].append(time.perf_counter() - start)
    middle = [statistics.median(times[t]) for t in (0, 1)]
    spread = statistics.quantiles(times[0] + times[1], n=4)
    assert abs(middle[0] - middle[1]) < spread[2] - spread[0]  # smaller than the noise between single requests


def test_media_bear_no_names_times_or_metadata(study: Study) -> None:
    for path in (study.folder / "media").iterdir():
        assert len(path.name) == 32 and path.stat().st_mtime == 0
        with Image.open(path) as image:
            assert image.format == "PNG" and not image.info


def test_a_read_that_is_closed_closes_its_pictures(study: Study) -> None:
    client, found = study.reader(), pages(study, "r1")
    assert status(client, f"/media/{found[-1]['key']}/0") == 404  # training first
    answer_all(client, found)
    assert status(client, f"/media/{found[-1]['key']}/0") == 200
    assert client.post("/read/finish", json={"read": 1}).status_code == 200
    assert status(client, f"/media/{found[-1]['key']}/0") == 404
    assert "finished" in client.get(f"/case/{found[-1]['key']}").text
