"""The static gallery: complete, relative, escaped, replaced only where it is ours."""

import re
from dataclasses import replace

import pytest

from gifsplain.errors import InputError
from gifsplain.explorer import gallery
from gifsplain.render.directory import write_explanation

from . import tiny

FORMATS = ("gif", "overlay", "json")


@pytest.fixture
def run(tmp_path):
    base = tiny.explanation()
    for case, target in (("a/1", "Mass"), ("a 1", "Mass"), ("<b>", "Lung Opacity")):
        write_explanation(replace(base, case=case, target=target), tmp_path / "run" / target, formats=FORMATS)
    return tmp_path / "run"


def test_every_link_leads_to_a_file_inside(run, tmp_path):
    index = gallery.write_gallery(run, tmp_path / "out", title="<Run> & co")
    pages = sorted(tmp_path.glob("out/*.html"))
    assert len(pages) == 3  # two of the cases share one folder name and so one was written over
    for page in pages:
        text = page.read_text()
        assert "<b>" not in re.sub(r"<b>(Mass|Lung Opacity)</b>", "", text) and "&lt;Run&gt;" in text
        for link in re.findall(r'(?:src|srcset|href)="([^"#]+)', text):
            assert link == "data:," or (page.parent / link).is_file(), link
    assert index.read_text().count('class="card"') == 2


def test_a_case_called_index_keeps_its_page(tmp_path):
    for case in ("index", "other"):
        write_explanation(replace(tiny.explanation(), case=case), tmp_path / "run" / case, formats=("json",))
    index = gallery.write_gallery(tmp_path / "run", tmp_path / "out").read_text()
    pages = re.findall(r'href="([^"#]+\.html)#', index)
    titles = [re.search("<h1>(.*?)</h1>", (tmp_path / "out" / page).read_text())[1] for page in pages]
    assert sorted(titles) == ["index", "other"]


def test_second_gallery_replaces_the_first_but_nothing_else(run, tmp_path):
    gallery.write_gallery(run, tmp_path / "out")
    gallery.write_gallery(run, tmp_path / "out", title="Second")
    assert "Second" in (tmp_path / "out" / "index.html").read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="found something else"):
        gallery.write_gallery(run, tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out", "run"]


def test_nothing_to_show_is_an_error(tmp_path):
    with pytest.raises(InputError, match="found none"):
        gallery.write_gallery(tmp_path, tmp_path / "out")
