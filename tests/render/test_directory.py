"""The folder of an explanation: complete, replaced in one step, nothing left behind."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from threads import failures_of_three

from gifsplain.errors import InputError
from gifsplain.render import directory
from gifsplain.render.notebook import notebook_html
from gifsplain.render.record import read_record

from . import fakes


@pytest.fixture
def explanation():
    return fakes.explanation(fakes.phantom(32), n=3)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_all_standard_files_are_written(tmp_path, explanation):
    made = directory.write_explanation(replace(explanation, target="Lung Opacity / left"), tmp_path)
    assert made == tmp_path / "RG1_UNCI" / "Lung_Opacity_left"
    assert names(made) == [
        "animation.gif", "animation.mp4", "curve.png", "explanation.json", "flow.png", "image.png", "map.png", "overlay.png",
        "report.html",
    ]  # fmt: skip
    assert names(made.parent) == ["Lung_Opacity_left"] and read_record(made).target == "Lung Opacity / left"


@pytest.mark.parametrize("target", [r"$\bad{$", "Lung\nOpacity", '<img src=x onerror=alert(1)>"', " "])
def test_any_name_of_a_target_can_be_drawn(tmp_path, explanation, target):
    wanted = ("gif", "curve", "flow", "overlay", "report", "json")
    made = directory.write_explanation(replace(explanation, target=target), tmp_path, formats=wanted)
    assert len(names(made)) == 6 and read_record(made).target == target


def test_a_map_has_no_animation(tmp_path):
    made = directory.write_explanation(fakes.map_only(fakes.phantom(32)), tmp_path, arrays=True)
    assert names(made) == ["arrays.npz", "explanation.json", "image.png", "map.png", "overlay.png", "report.html"]
    with pytest.raises(InputError, match=r"only draws a map; what was asked for \(curve, gif\) needs"):
        directory.write_explanation(fakes.map_only(fakes.phantom(32)), tmp_path / "none", formats=("gif", "curve"))
    assert not (tmp_path / "none").exists()


def test_extra_formats_on_request(tmp_path, explanation):
    made = directory.write_explanation(explanation, tmp_path, formats=("webp", "apng", "json"))
    assert names(made) == ["animation.png", "animation.webp", "explanation.json"]


def test_second_write_replaces_ours_and_keeps_what_is_not(tmp_path, explanation):
    made = directory.write_explanation(explanation, tmp_path, formats=("json", "map"))
    (made / "notes.txt").write_text("mine")
    again = directory.write_explanation(replace(explanation, method="other"), tmp_path, formats=("json",))
    assert again == made and names(made) == ["explanation.json", "notes.txt"]
    assert read_record(made).method == "other" and names(made.parent) == ["Mass"]


def test_a_failure_leaves_the_old_folder_alone(tmp_path, explanation):
    made = directory.write_explanation(explanation, tmp_path, formats=("json", "map"))
    with pytest.raises(InputError, match="plain JSON"):
        directory.write_explanation(replace(explanation, record={"x": object()}), tmp_path, formats=("map", "json"))
    assert names(made) == ["explanation.json", "map.png"] and names(made.parent) == ["Mass"]


def test_a_file_in_the_way_is_refused(tmp_path, explanation):
    (tmp_path / "RG1_UNCI").mkdir()
    (tmp_path / "RG1_UNCI" / "Mass").write_text("mine")
    with pytest.raises(InputError, match="file or a link"):
        directory.write_explanation(explanation, tmp_path, formats=("json",))
    assert (tmp_path / "RG1_UNCI" / "Mass").read_text() == "mine" and names(tmp_path / "RG1_UNCI") == ["Mass"]


def test_unknown_format_is_refused(tmp_path, explanation):
    with pytest.raises(InputError, match="got avi"):
        directory.write_explanation(explanation, tmp_path, formats=("avi",))


def test_native_animation_has_the_size_of_the_original(tmp_path, explanation):
    from PIL import Image

    big = fakes.phantom(500)[:, :, :460]
    picture = replace(explanation.picture, pixels=big)
    made = directory.write_explanation(
        replace(explanation, picture=picture), tmp_path, formats=("gif", "report"), native=True
    )
    with Image.open(made / "animation.gif") as film:
        assert film.size[0] == 460 and film.size[1] > 500


def test_notebook_view_escapes_and_needs_no_script(explanation):
    text = notebook_html(replace(explanation, case="<script>alert(1)</script>"))
    assert "<script" not in text and "&lt;script&gt;" in text and "data:image/gif" in text
    assert "data:image/gif" not in notebook_html(fakes.map_only(fakes.phantom(32)))


def test_several_writers_of_one_place_lose_nobodys_files(tmp_path, explanation):
    final = directory.write_explanation(explanation, tmp_path, formats=("json",))
    (final / "mine.txt").write_text("x")

    def write():
        for _ in range(40):
            directory.write_explanation(explanation, tmp_path, formats=("json",))

    assert failures_of_three(write) == []
    assert {path.name for path in final.iterdir()} == {"explanation.json", "mine.txt"}
    assert [path.name for path in final.parent.iterdir()] == [final.name]


def test_many_exchanges_of_one_place_fail_for_nobody(tmp_path):
    final = tmp_path / "out"
    final.mkdir()
    (final / "mine.txt").write_text("x")

    def exchange():
        for _ in range(400):
            made = Path(tempfile.mkdtemp(dir=tmp_path)) / "made"
            made.mkdir()
            (made / "explanation.json").write_text("x")
            directory._swap(made, final)

    assert failures_of_three(exchange) == []
    assert {path.name for path in final.iterdir()} == {"explanation.json", "mine.txt"}


def test_a_move_that_fails_brings_the_old_folder_back(tmp_path, explanation, monkeypatch):
    final = directory.write_explanation(explanation, tmp_path, formats=("json",))
    (final / "mine.txt").write_text("x")
    move = Path.replace

    def fail(path, target):
        if path.name == "new":
            raise OSError(5, "Input/output error")
        return move(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Input/output error"):
        directory.write_explanation(explanation, tmp_path, formats=("json", "arrays"))
    assert {path.name for path in final.iterdir()} == {"explanation.json", "mine.txt"}


def test_a_link_that_leads_nowhere_is_refused(tmp_path, explanation):
    final = directory.explanation_folder(explanation.case, explanation.target, tmp_path)
    final.parent.mkdir(parents=True)
    final.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="found a file or a link; move it away"):
        directory.write_explanation(explanation, tmp_path, formats=("json",))
