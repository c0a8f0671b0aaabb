"""Files, folders, patterns and CSV manifests become cases; one bad file does not stop the others."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gifsplain.errors import DicomError, InputError
from gifsplain.io.manifest import find_cases, load_all, read_manifest
from gifsplain.types import Picture

from .dicom_maker import file_bytes, radiograph


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.arange(16).reshape(4, 4) + value).astype(np.uint8)).save(path, "PNG")
    return path


@pytest.fixture
def scans(tmp_path):
    for name in ("b.png", "a.PNG", "sub/a.png", ".hidden/c.png", ".d.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "1.2.840.77").write_bytes(file_bytes(radiograph(np.arange(16).reshape(4, 4))))
    (tmp_path / "DICOMDIR").write_bytes(file_bytes(radiograph(np.arange(16).reshape(4, 4))))
    return tmp_path


def test_a_folder_gives_its_images_in_order_with_unique_names(scans):
    cases = find_cases(scans)
    assert [case.path.relative_to(scans).as_posix() for case in cases] == ["1.2.840.77", "a.PNG", "b.png", "sub/a.png"]
    assert [case.name for case in cases] == ["1.2.840.77", "a", "b", "sub_a"]


def test_patterns_files_and_folders_together(scans):
    cases = find_cases([str(scans / "**" / "*.png"), scans / "b.png", scans / "sub"])
    assert [case.path.relative_to(scans).as_posix() for case in cases] == ["b.png", "sub/a.png"]
    assert len({case.name for case in cases}) == 2


def test_a_single_file_keeps_its_name(scans):
    (case,) = find_cases(scans / "b.png")
    assert (case.name, case.path) == ("b", scans / "b.png")


@pytest.mark.parametrize("item", ["none*.png", "empty"])
def test_nothing_found_is_an_error(tmp_path, item):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected images, found none in"):
        find_cases(str(tmp_path / item))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_manifest_is_relative_to_its_folder(tmp_path, separator):
    save(tmp_path / "x" / "one.png")
    rows = [
        ["path", "case", "patient_id", "labels", "split", "target", "age"],
        ["x/one.png", "Case A", "p1", "Mass|Effusion", "test", "Mass", "61"],
        ["x/two.png", "", "", "", "", "", ""],
    ]
    path = tmp_path / "list.csv"
    path.write_text("\ufeff" + "\n".join(separator.join(row) for row in rows) + "\n", encoding="utf-8")
    first, second = read_manifest(path)
    assert (first.name, first.patient, first.split) == ("Case_A", "p1", "test")
    assert (first.labels, first.targets, first.extra) == (("Mass", "Effusion"), ("Mass",), {"age": "61"})
    assert first.path == tmp_path / "x" / "one.png"
    assert (second.name, second.labels, second.targets) == ("two", (), ())


def test_files_of_one_name_are_told_apart_by_folders_whatever_the_order(tmp_path):
    rows = ["p1/s1/view.png", "p2/s1/view.png", "p2/s2/view.png", "p3/other.png", "../far/view.png"]
    (tmp_path / "lists").mkdir()
    names = []
    for order in (rows, rows[::-1], [*rows, "p4/s1/view.png"]):
        path = tmp_path / "lists" / "list.csv"
        path.write_text("\n".join(["path", *order]) + "\n")
        names.append({case.path: case.name for case in find_cases(path)})
    assert list(names[0].values()) == ["p1_s1_view", "p2_s1_view", "p2_s2_view", "other", "far_view"]
    assert names[0] == names[1] and names[0].items() <= names[2].items()


def test_names_by_folders_give_way_to_given_ones_and_stay_short(tmp_path):
    deep = "/".join(["a" * 30, "b" * 30, "c" * 30])
    lines = ["path,case", f"{deep}/view.png,", "/elsewhere/view.png,", "p1/view.png,mine", "p1/x.png,", "p1/x.png,"]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    names = [case.name for case in read_manifest(tmp_path / "list.csv")]
    assert names == [f"{'b' * 30}_{'c' * 30}_view", "elsewhere_view", "mine", "x", "x-2"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "a column named path, got an empty file"),
        ("file\nx.png\n", "a column named path, got file"),
        ("path,path\nx,y\n", "path twice"),
        ("path\n", "at least one row"),
        ("path,case\n,a\nx.png,b\n", "row 2: no path"),
        ("path,case\nx.png\n", "row 2: fewer fields"),
        ("path\nx.png,1\n", "row 2: more fields"),
        ("path,case\nx.png,a\ny.png,a\n", "row 3: case 'a' was already used in row 2"),
        ('path\n"x.png\n', "a damaged one"),
        ("path,case\n" + ",a\n" * 12, "and 2 more"),
    ],
)
def test_bad_manifests_name_their_rows(tmp_path, text, match):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=match):
        find_cases(path)


def test_a_manifest_in_another_encoding(tmp_path):
    (tmp_path / "list.csv").write_bytes("path\nB\xfcro.png\n".encode("latin-1"))
    with pytest.raises(InputError, match="in UTF-8"):
        read_manifest(tmp_path / "list.csv")
    with pytest.raises(InputError, match="readable manifest"):
        read_manifest(tmp_path / "none.csv")


def test_one_bad_file_does_not_stop_the_others(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.dcm").write_bytes(file_bytes(radiograph(np.arange(16).reshape(4, 4)))[:-9])
    Image.new("L", (4, 4)).save(tmp_path / "d.png")
    save(tmp_path / "e.png")
    results = {case.name: result for case, result in load_all(find_cases(tmp_path))}
    assert [name for name, result in results.items() if isinstance(result, Picture)] == ["a", "e"]
    assert isinstance(results["c"], DicomError)
    assert "empty" in str(results["b"])
    assert "same value" in str(results["d"])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a/x.png", "b/x.png", "x", "../x.png"]), st.text("aA/ü.- ", max_size=4)),
        min_size=1,
        max_size=8,
    )
)
def test_case_names_are_always_unique_and_safe(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("m") / "list.csv"
    seen = set()
    lines = ["path,case"]
    for place, name in rows:
        if name.strip() and name.strip() in seen:
            continue
        seen.add(name.strip())
        lines.append(f"{place},{name}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = [case.name for case in read_manifest(path)]
    assert len({name.lower() for name in names}) == len(names) == len(lines) - 1
    assert all("/" not in name and name not in ("", ".", "..") for name in names)


def test_a_file_that_may_not_be_looked_at_is_no_image(tmp_path, monkeypatch):
    """As root everything may be looked at, so the refusal is made up."""
    save(tmp_path / "a.png")
    (tmp_path / "link").write_bytes(b"")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    assert [case.name for case in find_cases(tmp_path)] == ["a"]
