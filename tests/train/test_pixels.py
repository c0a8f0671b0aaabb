"""The cache of decoded images: never another image's pixels, no fault for ever, no death on a full disk."""

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gifsplain.errors import InputError
from gifsplain.models.protocols import ModelCard
from gifsplain.train import data, pixels, rows
from gifsplain.train.rows import DataConfig, SourceConfig

CARD = ModelCard(name="m", kind="autoencoder", size=8)


class Table:
    """As a torchxrayvision dataset: a table, and one grey for each name; only the number of rows is in `string()`."""

    def __init__(self, csv: pd.DataFrame, imgpath: Path, greys: dict[str, float]) -> None:
        self.csv, self.imgpath, self.greys = csv, str(imgpath), greys
        self.pathologies, self.labels = ["Mass"], np.zeros((len(csv), 1))

    def string(self) -> str:
        return f"Table num_samples={len(self.csv)}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"img": np.full((1, 8, 8), self.greys[self.csv["Image Index"].iloc[index]], dtype=np.float32)}


def table(folder: Path, names: str, ending: str = ".png", **columns: list[str]) -> Table:
    greys = {name + ending: 128.0 * place for place, name in enumerate("abcdef")}
    return Table(pd.DataFrame({"Image Index": [name + ending for name in names], **columns}), folder, greys)


def films(folder: Path, names: str = "abc") -> list[pixels.FileImage]:
    folder.mkdir(exist_ok=True)
    for grey, name in enumerate(names):
        drawn = np.full((8, 8), 50 * grey + 50, dtype=np.uint8)
        drawn[:, -1] = 255  # one grey alone is no image
        Image.fromarray(drawn).save(folder / f"{name}.png")
    return [pixels.FileImage(folder / f"{name}.png") for name in names]


def greys(found: pixels.Pixels) -> list[int]:
    return found[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("ending", [".png", ""], ids=["files", "names that are no files"])
def test_tables_of_one_length_do_not_share_pixels(tmp_path: Path, ending: str) -> None:
    """Before, the second of two tables with equally many rows got the first one's pixels for its own labels."""
    cache = tmp_path / "cache"
    first, second = (pixels.DatasetImage.all_of(table(tmp_path, names, ending)) for names in ("abc", "def"))
    one, _ = pixels.decoded(first, CARD, cache)
    other, _ = pixels.decoded(second, CARD, cache)
    assert greys(one) == [128, 143, 159] and greys(other) == [175, 191, 207]
    calls: list[int] = []
    again = pixels.DatasetImage.all_of(table(tmp_path, "abc", ending))
    pixels.decoded(again, CARD, cache, lambda done, _: calls.append(done))
    assert not calls


def test_a_file_that_the_table_names_is_decoded_again_when_it_changes(tmp_path: Path) -> None:
    films(tmp_path, "ab")
    before = [image.key for image in pixels.DatasetImage.all_of(table(tmp_path, "ab"))]
    os.utime(tmp_path / "b.png", (5, 5))
    after = [image.key for image in pixels.DatasetImage.all_of(table(tmp_path, "ab"))]
    assert before[0] == after[0] and before[1] != after[1]


def test_what_nothing_identifies_is_not_kept(tmp_path: Path) -> None:
    unknown = [pixels.DatasetImage(table(tmp_path, names), 0) for names in "ab"]
    for image, grey in zip(unknown, (128, 143), strict=True):
        found, problems = pixels.decoded([image], CARD, tmp_path / "cache")
        assert greys(found) == [grey] and not problems
    assert not (tmp_path / "cache").exists()
    again, bad = rows._first_of_each(
        rows.Table(
            ("a", "b"), tuple(unknown), *[np.zeros(2, dtype=np.str_)] * 2, np.zeros((2, 0)), np.ones(2),
            pd.DataFrame(index=range(2)), np.zeros(2, dtype=np.int64),
        )
    )  # fmt: skip
    assert again.tolist() == [0, 1] and not bad


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"patientid": ["p", "q"]}, ["p", "q"]),
        ({"Patient ID": ["7", "7"]}, ["7", "7"]),
        ({"patientid": ["p", "q"], "Patient ID": ["7", "7"]}, ["p", "q"]),
        ({}, ["a.png", "b.png"]),
    ],
)
def test_patients_of_a_torchxrayvision_dataset_are_those_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: dict[str, list[str]], expected: list[str]
) -> None:
    """`NIH_Google_Dataset` calls them `Patient ID`; before, each of its films was a patient of its own."""
    made = type(
        "Made", (Table,), {"__init__": lambda self: self.__dict__.update(vars(table(tmp_path, "ab", **columns)))}
    )
    known = SimpleNamespace(datasets=SimpleNamespace(Made=made, Dataset=Table))
    monkeypatch.setitem(__import__("sys").modules, "torchxrayvision", known)
    found, bad = rows.read_rows(DataConfig((SourceConfig("xrv:Made"),), targets=("Mass",)))
    assert not bad
    assert found.patients.tolist() == expected
    assert found.splits.tolist() == [rows.people.hashed_split(name, (0.1, 0.2)) for name in expected]


def test_an_image_that_could_not_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, one read error of a network drive stayed in the cache until the file changed."""
    made, cache, tried = films(tmp_path / "d"), tmp_path / "cache", list[str]()
    load, away = pixels.images.load_image, True

    def flaky(path: Path, **options: Any) -> Any:
        tried.append(path.name)
        if away and path.name == "b.png":
            raise OSError(errno.EIO, "Input/output error")
        return load(path, **options)

    monkeypatch.setattr(pixels.images, "load_image", flaky)
    found, problems = pixels.decoded(made, CARD, cache)
    assert greys(found) == [50, 0, 150] and problems == {1: "[Errno 5] Input/output error"}
    tried.clear()
    found, problems = pixels.decoded(made, CARD, cache)
    assert tried == ["b.png"] and greys(found) == [50, 0, 150] and list(problems) == [1]
    away = False
    tried.clear()
    found, problems = pixels.decoded(made, CARD, cache)
    assert tried == ["b.png"] and greys(found) == [50, 100, 150] and not problems
    tried.clear()
    found, problems = pixels.decoded(made, CARD, cache)
    assert not tried and greys(found) == [50, 100, 150] and not problems


@pytest.mark.parametrize("damage", ["cut off", "changed", "no .npz"])
def test_a_damaged_npz_file_is_refused_in_words(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=np.random.default_rng(0).integers(0, 255, (3, 16, 16), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    if damage == "cut off":
        content = content[: len(content) // 2]
    elif damage == "changed":
        content[len(content) // 2 :][:60] = content[len(content) // 2 : len(content) // 2 + 60] = b"\xff" * 60
    else:
        np.save(tmp_path / "x.npy", np.zeros((3, 16, 16), dtype=np.uint8))
        content = bytearray((tmp_path / "x.npy").read_bytes())
    path.write_bytes(content)
    (tmp_path / "x.csv").write_text("patient_id,split\np,train\nq,val\nr,val\n")
    with pytest.raises(InputError, match=r"x.npz must be an .npz with an array 'images'"):
        data.open_dataset(DataConfig((SourceConfig(str(tmp_path / "x.csv"), images=path),), size=16, cache=tmp_path))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system sets no room aside")
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, writing to the map ended the process with SIGBUS."""
    made, asked = films(tmp_path / "d"), list[tuple[int, int]]()

    def full(handle: int, offset: int, size: int) -> None:
        asked.append((offset, size))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        InputError, match=r"expected room for 3 decoded images \(1.92e-07 GB\).*No space left.*data.cache"
    ):
        pixels.decoded(made, CARD, tmp_path / "cache")
    assert asked == [(0, 128 + 3 * 64)]  # numpy's header and the pixels
    assert not list((tmp_path / "cache").iterdir())

    def cannot(handle: int, offset: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    assert greys(pixels.decoded(made, CARD, tmp_path / "cache")[0]) == [50, 100, 150]


def test_files_of_killed_processes_are_removed_after_a_day(tmp_path: Path) -> None:
    made, cache = films(tmp_path / "d"), tmp_path / "cache"
    cache.mkdir()
    old = {".0123abcd.0123456789ab.tmp.npy": False, ".hidden.tmp.npy": True, "mine.npy": True, ".0123.tmp": True}
    for name in old:
        (cache / name).write_bytes(b"x")
        os.utime(cache / name, (time.time() - 25 * 3600,) * 2)
    (cache / ".4567abcd.0123456789ab.tmp.npy").write_bytes(b"x")  # of a process that may be at work
    pixels.decoded(made, CARD, cache)
    assert {name: (cache / name).exists() for name in old} == old
    assert (cache / ".4567abcd.0123456789ab.tmp.npy").exists()
