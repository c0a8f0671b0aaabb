"""Atomic writes, checksums and safe names."""

import hashlib
import os
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifsplain.errors import InputError
from gifsplain.io import files


def test_atomic_path_moves_only_when_the_block_ends_well(tmp_path):
    target = tmp_path / "a" / "b.json"
    with files.atomic_path(target) as temporary:
        temporary.write_text("one")
        assert temporary.parent == target.parent
        assert temporary.suffix == ".json"
        assert not target.exists()
    assert target.read_text() == "one"
    with pytest.raises(RuntimeError, match="stop"):
        _write_and_stop(target)
    assert target.read_text() == "one"
    assert [entry.name for entry in target.parent.iterdir()] == ["b.json"]


def test_atomic_path_takes_a_folder(tmp_path):
    with files.atomic_path(tmp_path / "case") as temporary:
        temporary.mkdir()
        (temporary / "x").write_text("1")
    assert (tmp_path / "case" / "x").read_text() == "1"
    with pytest.raises(RuntimeError, match="stop"):
        _write_and_stop(tmp_path / "other", folder=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["case"]


def test_atomic_path_without_a_written_file_leaves_the_old_one(tmp_path):
    target = tmp_path / "x.txt"
    files.write_text(target, "old\n")
    with pytest.raises(FileNotFoundError, match="tmp"), files.atomic_path(target):
        pass
    assert target.read_text() == "old\n"


def test_names_of_many_files_with_one_stem_take_no_time():
    """Numbers are counted on, not searched anew: by squares, these would be 800 million look-ups."""
    started = time.process_time()
    names = files.unique_names(["view1_frontal"] * 40_000)
    assert names[:2] == ["view1_frontal", "view1_frontal-2"] and names[-1] == "view1_frontal-40000"
    assert len(set(names)) == 40_000 and time.process_time() - started < 10


@pytest.mark.parametrize("links", [True, False])
def test_the_first_text_stays(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(files.Path, "hardlink_to", lambda self, target: _not_permitted())
    target = tmp_path / "a" / "x.json"
    files.write_text_once(target, "one\n")
    assert target.read_bytes() == b"one\n"
    if links:
        files.write_text_once(target, "two\n")
        assert target.read_bytes() == b"one\n"
    assert [entry.name for entry in target.parent.iterdir()] == ["x.json"]


def _not_permitted():
    raise PermissionError("no hard links here")


@given(st.binary(max_size=3000))
def test_checksums_agree(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("sums") / "x"
    files.write_bytes(path, content)
    assert files.sha256_file(path) == files.sha256_bytes(content) == hashlib.sha256(path.read_bytes()).hexdigest()


@given(st.text())
def test_safe_name_is_a_name_everywhere_and_stable(text):
    name = files.safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,80}", name)
    assert files.safe_name(name).strip("_") == name.strip("_")
    assert not name.endswith(".")
    assert name.upper() not in {"CON", "NUL", "COM1"}


@given(st.lists(st.sampled_from(["a", "A", "a-2", "a/", "b", "../..", "", "a-3"]), max_size=12))
def test_unique_names_differ_and_the_first_keeps_its_name(texts):
    names = files.unique_names(texts)
    assert len({name.lower() for name in names}) == len(texts) == len(names)
    assert all(name not in {".", ".."} and "/" not in name for name in names)
    seen = set()
    for text, name in zip(texts, names, strict=True):
        plain = files.safe_name(text)
        assert name == plain if plain.lower() not in seen else name.startswith(f"{plain}-")
        seen.add(plain.lower())


def _write_and_stop(path, folder=False):
    with files.atomic_path(path) as temporary:
        if folder:
            temporary.mkdir()
        else:
            temporary.write_text("two")
        raise RuntimeError("stop")


def test_long_names_of_wide_letters_can_be_written(tmp_path):
    path = tmp_path / ("山" * 80 + ".json")
    files.write_text(path, "x")
    assert path.read_text() == "x"


def test_places_that_take_no_file_are_seen_before(tmp_path, monkeypatch):
    files.require_writable(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"expected a folder to write to, .*file is a file; choose another"):
        files.require_writable(tmp_path / "file" / "x")
    monkeypatch.setattr(os, "access", lambda *given: False)  # tests may run as root, who may write everywhere
    with pytest.raises(InputError, match="is a folder that may not be written"):
        files.require_writable(tmp_path / "new")
