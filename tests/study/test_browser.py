"""Slow: two readers in a real headless Chromium take a study from init to report; every page is checked with axe."""

import io
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from gifsplain.cli import groups
from gifsplain.study import config, create
from gifsplain.study.store.records import Answer, Audit, Presentation

from . import drawn, real
from .conftest import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """Source of axe-core from npm, or None where it cannot be had."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        return None
    done = subprocess.run(["npm", "pack", "axe-core@4"], cwd=folder, capture_output=True, check=False, timeout=300)
    if done.returncode:
        return None
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return io.TextIOWrapper(member, encoding="utf-8").read()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def new_page(browser: Any, **options: Any) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 800}, **options).new_page()
    page.set_default_timeout(120_000)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    return page


def until(page: Any, expression: str) -> None:
    """Wait until the expression is true; the page's own policy forbids the evaluation that playwright's wait needs."""
    end = time.monotonic() + 120
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


def check(page: Any, axe: str | None, shots: Path, name: str) -> None:
    """No error, no sideways scrolling, no finding of axe; a screenshot is kept."""
    page.screenshot(path=str(shots / f"{name}.png"))
    assert page.problems == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    if axe:
        page.evaluate(axe)
        found = page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
        )
        assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found["violations"]] == [], name


def run(*arguments: object, capsys: pytest.CaptureFixture[str]) -> str:
    from gifsplain.cli import app

    assert groups.run(app, [str(a) for a in arguments]) == 0
    return capsys.readouterr().out


def by_keys(page: Any, values: tuple[int, int]) -> None:
    first = page.locator("fieldset[data-question=confidence]")
    if first.locator("input:checked").count():  # otherwise the page itself has marked the first question
        first.locator("input:checked").focus()
    for value in values:
        page.keyboard.press(str(value))
    page.wait_for_selector("#saved[data-kind=good]")


def by_mouse(page: Any, values: tuple[int, int]) -> None:
    for question, value in zip(("confidence", "feature"), values, strict=True):
        page.locator(f"fieldset[data-question={question}] label").nth(value - 1).click()
    page.wait_for_selector("#saved[data-kind=good]")


def read_all(page: Any, url: str, answer: Any, number: int) -> dict[str, tuple[int, int]]:
    """Click through a read from Begin to Finish; key of each page -> answers."""
    given = {}
    page.goto(url + "/")
    page.click("a.primary")
    while True:
        page.wait_for_selector("fieldset")
        page.wait_for_load_state("load")  # keys pressed before the page's script runs are lost
        key = page.evaluate("document.body.dataset.case")
        given[key] = (1 + (len(given) + number) % 5, 1 + (2 * len(given)) % 5)
        answer(page, given[key])
        last = page.evaluate("document.body.dataset.next === ''")
        if answer is by_keys:
            page.keyboard.press("Enter")
        else:
            page.click("#next")
        page.wait_for_url(url + "/" if last else lambda there, key=key: "/case/" in there and not there.endswith(key))
        if last:
            return given


def finish(page: Any, read: int) -> None:
    page.click(f"[data-finish='{read}']")
    page.click("dialog button.primary")
    page.locator(".state.done").nth(read - 1).wait_for()


def test_from_init_to_report(browser: Any, axe: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SMALL.read_text().replace("per_target: 4, training: 2", "per_target: 2, training: 1")
    (tmp_path / "study.yaml").write_text(text)
    cases = drawn.cases_csv(tmp_path, config.parse(text), per_stratum=2, side=224)
    folder, shots = tmp_path / "study", tmp_path / "shots"
    shots.mkdir()
    out = run(
        "study", "init", folder, "--cases", cases, "--config", tmp_path / "study.yaml", "--seed", 3, capsys=capsys
    )
    admin = out.strip().rsplit("#", 1)[1]
    server = real.Server(folder)
    lines = run("study", "add-readers", folder, "ann", "ben", "--address", server.url, capsys=capsys)
    links = dict(line.split("\t") for line in lines.strip().splitlines())
    given: dict[str, dict[str, tuple[int, int]]] = {"ann": {}, "ben": {}}
    with server:
        pages, players = {}, []
        for number, (name, answer) in enumerate((("ann", by_keys), ("ben", by_mouse))):
            page = pages[name] = new_page(browser)
            page.goto(links[name])
            page.wait_for_url(server.url + "/")
            assert "#" not in page.url and links[name].partition("#")[2] not in page.content()
            if name == "ann":
                look_at_pages(page, axe, shots, server.url)
            else:  # his first case has the other explanation
                page.click("a.primary")
            page.wait_for_selector("fieldset")
            look_at_missing_pictures(page, shots / name)
            players.append(page.locator(".player").count())
            for read in (1, 2):
                given[name] |= read_all(page, server.url, answer, number)
                if (name, read) == ("ben", 1):  # goes on at another machine
                    page.context.close()
                    page = pages[name] = new_page(browser)
                    page.goto(links[name])
                    page.wait_for_url(server.url + "/")
                finish(page, read)
        assert sorted(players) == [0, 1]
        check(pages["ben"], axe, shots, "list-finished")
        closed = next(iter(given["ann"]))
        pages["ann"].goto(f"{server.url}/case/{closed}")
        assert "finished" in pages["ann"].inner_text("h1")
        look_at_administration(browser, axe, shots, server.url, admin)
    verify(folder, given)
    status = run("study", "status", folder, capsys=capsys)
    assert "ann: read 1: 6 of 6 finished, read 2: 5 of 5 finished" in status
    run("study", "analyse", folder, "--out", tmp_path / "analysis", "--draws", 100, capsys=capsys)
    results = json.loads((tmp_path / "analysis" / "results.json").read_text())
    overall = [c for c in results["comparisons"] if c["target"] == "all" and c["question"] == "confidence"]
    assert {c["truth"]: c["n"] for c in overall} == {1: 4, 0: 4} and overall[0]["conditions"] == [
        "traditional",
        "latentshift",
    ]
    assert results["study"]["repeats"] == 4
    run("study", "export", folder, "--out", tmp_path / "export", capsys=capsys)
    assert "BEGIN DATA:" in (tmp_path / "export" / "confidence.imrmc").read_text()
    report = new_page(browser)
    report.goto((tmp_path / "analysis" / "report.html").as_uri())
    check(report, axe, shots, "report")


def look_at_pages(page: Any, axe: str | None, shots: Path, url: str) -> None:
    """Every kind of page in both themes, at both sizes; keys, the animation, and an answer given while offline."""
    check(page, axe, shots, "list")
    page.goto(url + "/help")
    check(page, axe, shots, "help")
    page.goto(url + "/")
    page.click("a.primary")
    page.wait_for_selector("fieldset")
    until(page, "[...document.images].every((i) => i.complete)")
    check(page, axe, shots, "case")
    box = page.locator("#next").bounding_box()
    assert box["y"] + box["height"] <= 800  # all of the case fits 1280 x 800
    page.click("#theme")
    check(page, axe, shots, "case-light")
    page.click("#theme")
    page.context.set_offline(True)
    page.keyboard.press("5")
    page.wait_for_selector("#saved[data-kind=bad]")
    page.context.set_offline(False)
    page.wait_for_selector("#saved[data-kind=good]")
    page.problems.clear()  # the browser reports the lost connection
    page.keyboard.press("c")
    page.keyboard.type("124 is not an answer here")
    page.keyboard.press("Escape")
    page.wait_for_selector("#saved[data-kind=good]")
    page.reload()
    assert page.input_value("#comment") == "124 is not an answer here"
    assert page.locator("fieldset[data-question=confidence] input:checked").get_attribute("value") == "5"
    assert page.locator("fieldset[data-question=feature] input:checked").count() == 0
    page.set_viewport_size({"width": 820, "height": 1180})
    check(page, axe, shots, "case-tablet")
    page.set_viewport_size({"width": 390, "height": 844})
    check(page, axe, shots, "case-phone")
    page.set_viewport_size({"width": 1280, "height": 800})


def look_at_missing_pictures(page: Any, shots: Path) -> None:
    """A case whose pictures do not come, one at a time, takes no answer and says why."""
    for number in range(page.locator(".panels figure").count()):
        page.context.route(f"**/media/*/{number}", lambda route: route.abort())
        page.reload()
        until(page, "document.getElementById('missing').textContent.includes('could not be loaded')")
        for key in (" ", ".", "2"):
            page.keyboard.press(key)
        page.screenshot(path=str(shots / f"missing-{number}.png"))
        assert page.locator("fieldset[data-question=feature] input:checked").count() == 0
        assert page.locator("#saved").inner_text() == ""
        assert all("ERR_FAILED" in problem for problem in page.problems)
        page.problems.clear()
        page.context.unroute_all()
    page.reload()
    assert page.locator("#missing").inner_text() == ""


def look_at_administration(browser: Any, axe: str | None, shots: Path, url: str, admin: str) -> None:
    page = new_page(browser)
    page.goto(url + "/admin/enter")
    check(page, axe, shots, "enter")
    page.fill("#token", "x" * 30)
    page.click("button[type=submit]")
    until(page, "document.getElementById('message').textContent !== ''")
    page.problems.clear()  # the refusal is logged as 403
    page.fill("#token", admin)
    page.click("button[type=submit]")
    page.wait_for_url(url + "/admin")
    check(page, axe, shots, "admin")
    page.click("[data-renew]")
    until(page, "document.getElementById('message').textContent.includes('/enter#')")


def verify(folder: Path, given: dict[str, dict[str, tuple[int, int]]]) -> None:
    """The database holds what was clicked, with time in view."""
    store = create.open_study(folder)
    with store.read() as session:
        ids = {p.id: p.key for p in session.exec(select(Presentation))}
        found = {(ids[a.presentation_id], a.question): a.value for a in session.exec(select(Answer))}
        assert session.exec(select(Audit).where(Audit.action == "comment")).all()[-1].after.startswith("124")
    from gifsplain.study.store import progress

    seconds = progress.table(store).rows["seconds"]
    store.close()
    expected = {
        (k, q): v
        for own in given.values()
        for k, values in own.items()
        for q, v in zip(("confidence", "feature"), values, strict=True)
    }
    assert found == expected
    assert seconds.notna().all() and (seconds > 0).all()
