"""The explorer and the gallery in a real Chromium."""

import base64
import io
import threading
from pathlib import Path

import pytest
import uvicorn
from PIL import Image

from gifsplain.explorer import gallery
from gifsplain.explorer.app import create_app
from gifsplain.explorer.service import Explorer
from gifsplain.io.examples import chest_radiograph
from gifsplain.render.directory import write_explanation

from . import tiny

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address():
    def load(first, second):
        return tiny.pair(64, 7.0 if first == "tiny-a" else 4.0, first)

    app = create_app(Explorer(classifiers=["tiny-a", "tiny-b"], autoencoders=["pooled"], load=load))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(20)


def opened(browser, address, trouble, inside=None):
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    known = (inside or address, "data:", "blob:")
    page.on("request", lambda request: trouble.extend([request.url] * (not request.url.startswith(known))))
    page.goto(address)
    return page


def canvas(page, pane=1):
    """What the pane's canvas shows, without its size on the screen."""
    uri = page.evaluate(f"document.querySelectorAll('.pane canvas.picture')[{pane - 1}].toDataURL()")
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("L")


def wait(page):
    page.wait_for_selector("#explain:not([disabled])")
    page.wait_for_selector("body:not(.busy)")


def test_from_a_file_to_a_comparison(browser, address):
    trouble: list[str] = []
    page = opened(browser, address, trouble)
    page.wait_for_selector("html[data-ready=yes]")
    page.set_input_files("#file", str(chest_radiograph()))
    page.wait_for_selector(".scores button[aria-checked=true]")
    wait(page)
    assert "1841 × 1955" in page.inner_text("#facts") and page.locator(".scores button").count() == 4
    page.click(".scores button[data-target='Lung Opacity']")
    page.click("#explain")
    wait(page)
    assert page.inner_text(".pane .target") == "Lung Opacity" and page.inner_text("#status") == ""

    # The slider changes the frame at once and asks the server for nothing.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    first = canvas(page)
    page.locator("#strength").fill("0")
    lowest, low_score = canvas(page), float(page.inner_text(".pane .score"))
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    page.locator("#strength").fill(page.locator("#strength").get_attribute("max"))
    assert lowest.tobytes() != first.tobytes() and float(page.inner_text(".pane .score")) > low_score
    page.locator("#window").fill("90")
    narrow = canvas(page)
    assert narrow.getextrema()[0] == 0 and narrow.getextrema()[1] == 255
    page.click("#reset-window")
    page.check("#map-on")
    assert page.evaluate("getComputedStyle(document.querySelector('.cover')).opacity") == "0.75"
    assert asked == []

    page.select_option("#method", "grad")
    page.click("#beside")
    wait(page)
    page.select_option("#classifier", "tiny-b")
    wait(page)
    page.select_option("#method", "latentshift")
    page.click("#beside")
    wait(page)
    assert page.locator(".pane").count() == 3
    tops = page.evaluate("[...document.querySelectorAll('.pane')].map((one) => one.scrollHeight - one.clientHeight)")
    assert max(tops) <= 1  # no pane is cut by the next row
    page.locator("#strength").fill("0")
    assert page.locator(".pane .which").all_inner_texts()[1] == "map only"

    page.check("#native")
    page.wait_for_function("document.querySelector('canvas.picture').width === 1841")
    page.click("#zoom-one")
    assert page.evaluate("Math.round(document.querySelector('.sheet').getBoundingClientRect().width)") == 1841
    with page.expect_download() as started:
        page.click(".pane .links a:has-text('GIF')")
    assert Path(started.value.path()).read_bytes().startswith(b"GIF89a")
    page.click(".pane .close")
    assert page.locator(".pane").count() == 2
    assert trouble == []


def test_nothing_of_another_image_is_taken_for_this_one(browser, address, tmp_path):
    trouble: list[str] = []
    page = opened(browser, address, trouble)
    page.wait_for_selector("html[data-ready=yes]")
    page.set_input_files("#file", str(chest_radiograph()))
    wait(page)
    page.click("#explain")
    wait(page)
    assert not page.is_checked("#map-on")
    page.select_option("#method", "grad")
    page.click("#beside")
    wait(page)
    assert page.is_checked("#map-on")  # a pane that has nothing but a map shows it
    Image.linear_gradient("L").save(tmp_path / "second.png")
    page.route("**/scores?*", lambda route: route.abort())
    page.set_input_files("#file", str(tmp_path / "second.png"))
    page.wait_for_selector("#status.bad")
    assert "second" in page.inner_text("#facts") and page.locator(".scores button").count() == 0
    assert page.locator("#explain").is_disabled() and page.locator("#beside").is_disabled()
    assert page.locator(".pane .numbers div:first-child").all_inner_texts() == ["case\nRG1_UNCI"] * 2
    page.unroute_all()
    page.set_input_files("#file", str(tmp_path / "second.png"))
    wait(page)
    page.click("#beside")
    wait(page)
    assert page.locator(".pane .numbers div:first-child dd").all_inner_texts()[2] == "second"
    assert all("ERR_FAILED" in one for one in trouble)


def test_the_keyboard_keeps_its_place(browser, address):
    page = opened(browser, address, [])
    page.wait_for_selector("html[data-ready=yes]")
    page.set_input_files("#file", str(chest_radiograph()))
    wait(page)
    for name in ("explain", "beside"):
        page.focus(f"#{name}")
        page.keyboard.press("Enter")
        page.wait_for_selector("body.busy")
        wait(page)
        assert page.evaluate("document.activeElement.id") == name
    for left in ("close", "main"):
        page.focus(".pane .close")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.className") == left


def test_a_bad_file_is_told_in_the_page(browser, address, tmp_path):
    trouble: list[str] = []
    page = opened(browser, address, trouble)
    page.wait_for_selector("html[data-ready=yes]")
    (tmp_path / "bad.png").write_bytes(b"no image")
    page.set_input_files("#file", str(tmp_path / "bad.png"))
    page.wait_for_selector("#status.bad")
    assert "expected PNG" in page.inner_text("#status") and page.locator("#explain").is_disabled()
    assert all("400" in one for one in trouble)  # Chromium notes every answer that is no success


def test_gallery_works_from_disk(browser, tmp_path):
    write_explanation(tiny.explanation(), tmp_path / "run", formats=("gif", "overlay", "report", "json"))
    index = gallery.write_gallery(tmp_path / "run", tmp_path / "out")
    trouble: list[str] = []
    page = opened(browser, index.as_uri(), trouble, inside=index.parent.as_uri())
    assert page.inner_text("#count") == "1 of 1"
    page.fill("#find", "nothing like it")
    assert page.inner_text("#count") == "0 of 1" and page.locator("#none").is_visible()
    page.fill("#find", "mass")
    page.click(".card")
    assert page.inner_text("h1") == "phantom"
    page.wait_for_function("[...document.querySelectorAll('figure:not(.film) img')].every((one) => one.naturalWidth)")
    page.click("text=Full report")
    page.wait_for_selector("html[data-ready=yes]")
    assert trouble == []
