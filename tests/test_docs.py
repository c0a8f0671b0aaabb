"""The pages' Python runs as printed, and the command-line page says what the commands say."""

import re
from pathlib import Path

import pytest

from gifsplain.cli.reference import reference

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.slow  # ten seconds a page
@pytest.mark.parametrize("page", ["own-classifier.md", "tutorial.md"])
def test_every_block_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len(blocks) >= 4
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    explanation = names["explanation"]
    assert explanation.has_sweep  # type: ignore[attr-defined]


def test_the_command_line_page_is_up_to_date() -> None:
    assert (DOCS / "command-line.md").read_text(encoding="utf-8") == reference()


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        assert page.relative_to(DOCS).as_posix() in navigation
