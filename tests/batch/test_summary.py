"""The summary page: escaped, complete without rows, and in a real Chromium legible in the dark and on a phone."""

from pathlib import Path

import pandas as pd
import pytest

from gifsplain.batch import summary

CHROMIUM = Path("/usr/bin/chromium")
EVIL = '<img src=x onerror=alert(1)>"'


def rows(count: int = 3) -> pd.DataFrame:
    """Rows as a run has them, with names that nobody would choose."""
    scores = {f"score_{kind}": 0.5 for kind in ("input", "reconstruction", "counterfactual")}
    fixed = {"target": EVIL, "checks_failed": 1, "checks_warned": 0, "stop_lower": "reached", "stop_higher": "reached"}
    cases = [f"{EVIL} a rather long name of a case {k}" for k in range(count)]
    return pd.DataFrame([{"case": case, **fixed, **scores, "check_gap": "fail", "media": EVIL} for case in cases])


def errors() -> pd.DataFrame:
    return pd.DataFrame([{"case": EVIL, "target": "Mass", "error": "InputError", "reason": "too small " * 20}])


def test_names_cannot_become_markup():
    page = summary.summary_html(EVIL, rows(), errors())
    assert "<img" not in page and page.count("&lt;img") > 8


def test_a_run_without_results_has_a_page():
    page = summary.summary_html("run", rows().head(0), errors())
    assert "0 explanations of 0 cases; 1 failures." in page and "None." in page


def contrast(first: list[int], second: list[int]) -> float:
    """Ratio of WCAG 2.2 of two colours."""

    def luminance(colour: list[int]) -> float:
        parts = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_legible_on_a_phone_in_both_schemes(tmp_path, scheme):
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    path = tmp_path / "summary.html"
    path.write_text(summary.summary_html("run", rows(), errors()), encoding="utf-8")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        page.goto(path.as_uri())
        colour = "(getComputedStyle(document.querySelector('{}')).{}.match(/\\d+/g)).slice(0, 3).map(Number)"
        link, ground = (
            page.evaluate(colour.format("a", "color")),
            page.evaluate(colour.format("body", "backgroundColor")),
        )
        wide = page.evaluate("document.documentElement.scrollWidth")
        browser.close()
    ground = [255, 255, 255] if scheme == "light" else ground  # transparent over white
    assert contrast(link, ground) >= 4.5 and wide <= 390
