"""The report: self-contained text; and in a real Chromium: no request, slider, keys, motion, phone."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gifsplain.render import report, svg
from gifsplain.render.direction_pages import DirectionPage, page_html
from gifsplain.types import Stop

from . import fakes

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def test_page_names_nothing_outside_itself():
    page = report.report_html(fakes.explanation(n=3), flow_png=b"png")
    addresses = re.findall(r"""(?:src|href|action)=["']([^"']*)""", page)
    assert addresses and all(one.startswith("data:") for one in addresses)
    assert "http://" not in page and "https://" not in page and "url(" not in page
    assert "default-src 'none'" in page and "Not for diagnosis" in page


def test_text_of_others_cannot_become_markup():
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    explanation = fakes.explanation(n=3, target=evil, case=evil)
    page = report.report_html(replace(explanation, record={evil: {evil: evil}, "settings": {"drop": 0.3}}))
    assert page.count("<script") == 2 and "<img src=x" not in page


def test_page_shows_checks_scores_and_provenance():
    page = report.report_html(fakes.explanation(n=3))
    for part in ("Autoencoder gap", "2 of 4 checks passed", "1841 × 1955 pixels", "ab" * 32, "cxr-ae", "What else"):
        assert part in page
    assert "&lt;b&gt;anywhere&lt;/b&gt;" in page


def test_a_search_that_found_nothing_is_told_from_a_map():
    drawn = fakes.map_only()
    searched = replace(drawn, stop_lower=Stop.PIXEL_LIMIT, stop_higher=Stop.TURNED)
    for one, words in ((drawn, "Which pixels the score of"), (searched, "No allowed change of this image was found")):
        found = [sub for sub in re.findall(r'<p class="sub">(.*?)</p>', report.report_html(one)) if words in sub]
        assert len(found) == 1


def test_data_of_the_page_is_strict_json():
    explanation = fakes.explanation(n=3)
    page = report.report_html(replace(explanation, frame_scores=explanation.frame_scores * float("nan")))
    text = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]
    data = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert data["scores"] == [None] * 3 and len(data["frames"]) == 3 and data["points"] == [None] * 3


def test_a_name_written_right_to_left_leaves_its_sentence_alone():
    for one in (fakes.explanation(n=3), fakes.map_only()):
        page = report.report_html(replace(one, target="\u202eesaM"))
        assert "score of <bdi>\u202eesaM</bdi> " in page


@pytest.mark.parametrize(
    ("ends", "texts"),
    [
        ((-1000, 0), "−1000 −800 −600 −400 −200 0"),
        ((-0.6, 0.6), "−0.5 0 0.5"),
        ((-3e-5, 0), "−3e−05 −2e−05 −1e−05 0"),
    ],
)
def test_ticks_are_round_numbers(ends, texts):
    found = [svg._tick(value) for value in svg._ticks(*ends)]
    assert [text for text in texts.split() if text not in found] == []


def test_large_frames_are_made_smaller_in_the_page_only():
    assert report._page_size(2048, 1024) == (1024, 512)
    assert report._page_size(224, 224) == (224, 224)


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Open a report from disk; what it asked for or complained of is collected."""
    contexts = []

    def open_page(explanation, *, motion="reduce", width=1280, height=900):
        path = tmp_path / "report.html"
        path.write_text(report.report_html(explanation), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion=motion)
        contexts.append(context)
        page = context.new_page()
        trouble: list[str] = []
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "request",
            lambda request: trouble.append(request.url) if request.url[:5] not in ("file:", "data:") else None,
        )
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        return page, trouble

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.slow
def test_slider_and_keys_show_frames(visit):
    explanation = fakes.explanation(fakes.radiograph(224), n=11)
    page, trouble = visit(explanation)

    def state():
        return int(page.locator("#slider").input_value()), page.locator("#score").inner_text()

    def grey(x, y):
        return page.evaluate(f"document.getElementById('screen').getContext('2d').getImageData({x},{y},1,1).data[0]")

    scores = [f"{score:.2f}" for score in explanation.frame_scores.tolist()]
    assert state() == (explanation.baseline, scores[explanation.baseline])
    for key, index in [
        ("Home", 0),
        ("ArrowRight", 1),
        ("End", 10),
        ("ArrowLeft", 9),
        ("b", explanation.baseline),
        ("c", 0),
    ]:
        page.keyboard.press(key)
        assert state() == (index, scores[index])
    y, x = 89, 71  # where the shadow fades
    for index in (0, 10):
        page.locator("#slider").fill(str(index))
        assert state()[0] == index
        assert abs(grey(x, y) - float(explanation.frames[index, 0, y, x]) * 255) <= 1
    before = grey(x, y)
    page.keyboard.press("m")
    assert grey(x, y) != before
    page.keyboard.press("m")
    page.keyboard.press("d")
    assert page.locator("#which").inner_text().startswith("difference")
    page.locator("svg.curve .hit").nth(4).click()
    assert state()[0] == 4
    assert trouble == []


@pytest.mark.slow
def test_small_strengths_have_labels_of_their_own(visit):
    explanation = fakes.explanation(n=9)
    page, trouble = visit(replace(explanation, strengths=explanation.strengths / 1000))
    seen = []
    page.keyboard.press("Home")
    for _ in range(9):
        seen.append(page.locator("#shift").inner_text())
        assert seen[-1] in page.locator("#slider").get_attribute("aria-valuetext")
        assert page.locator("#screen").get_attribute("aria-label").endswith(seen[-1])
        page.keyboard.press("ArrowRight")
    assert len(set(seen)) == 9 and seen.count("strength 0") == 1 and trouble == []


@pytest.mark.slow
def test_a_sweep_without_strength_0_is_measured_from_it(visit):
    explanation = fakes.without_zero()
    page, trouble = visit(explanation)
    left = float(page.evaluate("parseFloat(document.getElementById('mark-baseline').style.left)"))
    assert left == pytest.approx(100 * explanation.baseline_score, abs=0.1)
    page.keyboard.press("d")
    y, x = 26, 20  # where the shadow fades
    red = page.evaluate(f"document.getElementById('screen').getContext('2d').getImageData({x},{y},1,1).data[0]")
    nearest = explanation.frames[explanation.baseline]
    change = 255 * float((nearest - explanation.start)[0, y, x])
    assert change < -5 and red == pytest.approx(max(0, 40 + 4 * change), abs=4)
    mark = page.evaluate("document.querySelector('svg .input').getBBox().x")
    assert mark > max(place[0] for place in svg.points(explanation))
    assert trouble == []


@pytest.mark.slow
def test_a_frame_without_a_score_is_marked_nowhere_on_the_curve(visit):
    explanation = fakes.explanation(n=5)
    scores = explanation.frame_scores.clone()
    scores[0] = float("nan")
    page, trouble = visit(replace(explanation, frame_scores=scores))
    assert page.locator("#now").is_visible()
    page.keyboard.press("Home")
    assert not page.locator("#now").is_visible() and page.locator("#score").inner_text() == "no score"
    page.keyboard.press("ArrowRight")
    assert page.locator("#now").is_visible() and trouble == []


@pytest.mark.slow
def test_a_damaged_report_says_so(browser, tmp_path):
    text = report.report_html(fakes.explanation(n=3))
    place = text.index("base64,", text.index('"frames"')) + len("base64,")
    (tmp_path / "report.html").write_text(text[:place] + "AAAA" + text[place + 4 :], encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_function("document.getElementById('which').textContent.includes('damaged')")
    assert not page.locator("#now").is_visible()
    page.close()


@pytest.mark.slow
def test_plays_by_itself_only_where_motion_is_welcome(visit):
    explanation = fakes.explanation(n=7)
    page, _ = visit(explanation, motion="reduce")
    page.wait_for_timeout(400)
    assert page.locator("#play").get_attribute("aria-label") == "Play"
    assert int(page.locator("#slider").input_value()) == explanation.baseline
    page.locator("#play").click()
    page.wait_for_function(f"document.getElementById('slider').value != '{explanation.baseline}'")
    page, trouble = visit(explanation, motion="no-preference")
    assert page.locator("#play").get_attribute("aria-label") == "Pause"
    page.keyboard.press(" ")
    assert page.locator("#play").get_attribute("aria-label") == "Play"
    assert trouble == []


@pytest.mark.slow
def test_fits_a_phone(visit):
    page, trouble = visit(fakes.explanation(n=5, target="Enlarged Cardiomediastinum"), width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#play").bounding_box()["height"] >= 44
    assert trouble == []


@pytest.mark.slow
def test_paper_and_phones_hold_everything(visit):
    page, trouble = visit(fakes.explanation(n=3, target="x" * 90, case="y" * 200), width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("details .tables").bounding_box() is None or not page.locator("details .tables").is_visible()
    page.emulate_media(media="print")
    assert page.locator("details .tables").is_visible() and trouble == []


@pytest.mark.slow
@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_pages_of_directions_move_only_where_motion_is_welcome(browser, tmp_path, motion):
    example = fakes.explanation(fakes.phantom(32), n=3, target="x" * 80)
    path = tmp_path / "page.html"
    found = DirectionPage("attfind", example.target, "style 12", 0, (example,))
    path.write_text(page_html(found), encoding="utf-8")
    page = browser.new_page(viewport={"width": 390, "height": 844}, reduced_motion=motion)
    page.goto(path.as_uri())
    assert page.locator("img[src^='data:image/gif']").is_visible() == (motion != "reduce")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


@pytest.mark.slow
def test_map_alone_needs_no_slider(visit):
    page, trouble = visit(fakes.map_only())
    assert page.locator("#slider").count() == 0 and page.locator("#map-on").is_checked()
    page.keyboard.press("m")
    assert not page.locator("#map-on").is_checked()
    page.keyboard.press("ArrowRight")
    assert trouble == []
