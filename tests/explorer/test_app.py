"""The explorer's server in process: what it gives, and what it refuses (each refusal tried as an attack)."""

import io
import json
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from gifsplain.explorer.app import create_app
from gifsplain.explorer.service import Explorer
from gifsplain.explorer.shelf import Shelf

from . import tiny


def png(side=40, mode="L"):
    y, x = np.mgrid[0:side, 0:side]
    grey = (120 + 60 * np.sin(x / 6) + 40 * np.cos(y / 5)).astype(np.uint8)
    picture = (
        Image.fromarray(grey) if mode == "L" else Image.merge("RGB", [Image.fromarray(grey // k) for k in (1, 2, 3)])
    )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def client():
    explorer = Explorer(classifiers=["tiny"], autoencoders=["pooled"], load=lambda first, second: tiny.pair())
    app = create_app(explorer, upload_limit=200_000)
    return TestClient(app, base_url="http://127.0.0.1:8088", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def picture(client):
    return client.post("/api/pictures", content=png(), headers={"x-name": quote("röntgen 1.png")}).json()


def wish(kept, **more):
    base = {"picture": kept["id"], "target": "Mass", "classifier": "tiny", "autoencoder": "pooled", "frames": 7}
    return base | more


@pytest.fixture(scope="module")
def explained(client, picture):
    reply = client.post("/api/explanations", json=wish(picture))
    assert reply.status_code == 201, reply.text
    return reply.json()


def refusal(reply, code):
    assert reply.status_code == code, reply.content[:300]
    assert set(reply.json()) == {"error"} and set(reply.json()["error"]) == {"kind", "message"}
    return reply.json()["error"]["message"]


def test_page_and_its_parts_come_with_a_strict_policy(client):
    for path in ("/", "/static/app.js", "/static/viewer.js", "/static/api.js", "/static/style.css", "/api/options"):
        reply = client.get(path)
        assert reply.status_code == 200
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert reply.headers["x-content-type-options"] == "nosniff"


def test_page_holds_no_inline_script_or_style(client):
    page = client.get("/").text
    assert "style=" not in page and "<style" not in page and " on" + "click" not in page
    assert page.count("<script") == 1 and 'src="/static/app.js"' in page


def test_upload_says_what_it_is(client, picture):
    assert picture["name"] == "röntgen 1" and picture["format"] == "PNG" and picture["width"] == 40
    with Image.open(io.BytesIO(client.get(f"/api/pictures/{picture['id']}/preview.png").content)) as shown:
        assert shown.size == (40, 40)


def test_scores_of_all_targets(client, picture):
    found = client.get(f"/api/pictures/{picture['id']}/scores?classifier=tiny&autoencoder=pooled").json()
    assert found["meaning"] == "calibrated probability"
    assert [row["target"] for row in found["scores"]] == list(tiny.TARGETS)
    assert all(0 < row["score"] < 1 for row in found["scores"])


def test_explanation_and_its_pictures(client, explained):
    assert len(explained["strengths"]) == 7 and explained["case"] == "röntgen 1"
    path = f"/api/explanations/{explained['id']}"
    with Image.open(io.BytesIO(client.get(f"{path}/sheet.png").content)) as sheet:
        assert sheet.size == (explained["sheet"]["columns"] * 32, 32 * -(-7 // explained["sheet"]["columns"]))
    with Image.open(io.BytesIO(client.get(f"{path}/map.png").content)) as cover:
        assert cover.mode == "RGBA" and cover.size == (32, 32)
    assert explained["native"]["possible"]
    with Image.open(io.BytesIO(client.get(f"{path}/native/0.jpg").content)) as native:
        assert native.size == (40, 40)
    assert client.get(path).json() == explained


def test_every_frame_has_a_label_of_its_own(explained):
    labels = explained["labels"]
    assert len(set(labels)) == 7 and labels[explained["baseline"]] == "0"


def test_equal_wishes_are_computed_once(client, picture, explained):
    assert client.post("/api/explanations", json=wish(picture)).json()["id"] == explained["id"]
    other = client.post("/api/explanations", json=wish(picture, method="grad")).json()
    assert other["id"] != explained["id"] and len(other["strengths"]) == 1 and other["native"]["possible"]


@pytest.mark.parametrize(("kind", "start"), [("gif", b"GIF89a"), ("report", b"<!doctype html>"), ("json", b"{")])
def test_downloads_are_attachments(client, explained, kind, start):
    reply = client.get(f"/api/explanations/{explained['id']}/download/{kind}")
    assert reply.content.startswith(start)
    assert reply.headers["content-disposition"].startswith('attachment; filename="rontgen_1-Mass-latentshift-')


def test_map_only_has_no_animation_to_download(client, picture):
    made = client.post("/api/explanations", json=wish(picture, method="grad")).json()
    assert "gif" not in made["downloads"]
    assert "only draws a map" in refusal(client.get(f"/api/explanations/{made['id']}/download/gif"), 400)


# Attacks


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8088", "localhost.evil.example", "", "a]b"])
def test_another_name_for_this_machine_is_refused(client, host):
    assert "expected to be called" in refusal(client.get("/api/options", headers={"host": host}), 403)


@pytest.mark.parametrize("host", ["localhost:8088", "127.0.0.1:1", "[::1]:8088"])
def test_loopback_names_are_taken(client, host):
    assert client.get("/api/options", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
    ],
)
def test_writes_from_other_pages_are_refused(client, headers):
    assert "this page" in refusal(client.post("/api/pictures/example", headers=headers), 403)


def test_other_sites_cannot_make_it_compute(client, picture):
    path = f"/api/pictures/{picture['id']}/scores?classifier=tiny&autoencoder=pooled"
    assert refusal(client.get(path, headers={"sec-fetch-site": "cross-site"}), 403)


def test_too_large_an_upload_is_cut_off(client):
    assert "at most 200,000 bytes" in refusal(client.post("/api/pictures", content=b"\x00" * 300_000), 413)


@pytest.mark.parametrize("content", [b"", b"hello", png()[:200], b"\x89PNG\r\n\x1a\n" + b"\x00" * 99, b"PK\x03\x04"])
def test_a_bad_file_is_an_answer_not_a_fault(client, content):
    assert refusal(client.post("/api/pictures", content=content), 400)


def test_colour_is_refused_and_greyed_on_request(client):
    assert "colour" in refusal(client.post("/api/pictures", content=png(mode="RGB")), 400)
    assert client.post("/api/pictures?colour=grey", content=png(mode="RGB")).status_code == 201
    assert refusal(client.post("/api/pictures?colour=keep", content=png(mode="RGB")), 400)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..\\..\\x.png", "/etc/passwd", "a\x00\r\nb.png", ".", "%2e%2e%2f"]
)
def test_a_name_is_only_shown(client, name):
    shown = client.post("/api/pictures", content=png(), headers={"x-name": quote(name)}).json()["name"]
    assert "/" not in shown and "\\" not in shown and "\n" not in shown and shown.strip(".")


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2ftypes.py", "/api/none"]
)
def test_no_path_leads_out(client, path):
    assert refusal(client.get(path), 404)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"classifier": "os:system"}, 400, "offered classifiers"),
        ({"autoencoder": "diffusers:/etc"}, 400, "offered autoencoders"),
        ({"method": "__class__"}, 400, "no method is called '__class__'"),
        ({"composition": "none"}, 400, "composition must be"),
        ({"target": "Nothing"}, 400, "no target"),
        ({"picture": "guess"}, 404, "still kept"),
        ({"frames": 10_000}, 422, "frames"),
        ({"drop": 7}, 422, "drop"),
        ({"file": "/etc/passwd"}, 422, "file"),
    ],
)
def test_wishes_that_cannot_be_met(client, picture, change, code, words):
    assert words in refusal(client.post("/api/explanations", json=wish(picture, **change)), code)


def test_what_is_not_there_says_so(client, explained):
    assert refusal(client.get("/api/explanations/guess"), 404)
    assert refusal(client.get(f"/api/explanations/{explained['id']}/native/99.jpg"), 404)
    assert refusal(client.get(f"/api/explanations/{explained['id']}/download/exe"), 404)
    assert refusal(client.put("/api/options"), 405)


def test_a_fault_of_ours_tells_no_secrets():
    def broken(first, second):
        raise RuntimeError("secret path /home/me")

    app = create_app(Explorer(classifiers=["tiny"], autoencoders=["pooled"], load=broken))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        kept = client.post("/api/pictures", content=png()).json()
        reply = client.get(f"/api/pictures/{kept['id']}/scores?classifier=tiny&autoencoder=pooled")
        assert "secret" not in refusal(reply, 500)


def test_shelf_forgets_the_oldest():
    shelf: Shelf[int] = Shelf("thing", 2)
    first, second = shelf.put(1), shelf.put(2)
    assert shelf.get(first) == 1
    third = shelf.put(3)
    assert second not in shelf and shelf.get(first) == 1 and shelf.get(third) == 3
    assert len({shelf.put(k) for k in range(50)}) == 50


def test_options_offer_what_is_here(client):
    found = client.get("/api/options").json()
    assert found["classifiers"][0]["name"] == "tiny" and "latentshift" in json.dumps(found["methods"])
    assert found["methods"][0]["name"] == "auto"
