"""Pixels equal what the models see elsewhere; batches show every row once an epoch over all processes."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gifsplain.errors import InputError
from gifsplain.io.images import load_image
from gifsplain.models.prepare import to_image
from gifsplain.models.protocols import ModelCard
from gifsplain.train import boxes, data, pixels
from gifsplain.train.rows import DataConfig, SourceConfig, Table

from . import phantoms


def test_pixels_equal_what_every_other_command_sees(tmp_path: Path) -> None:
    path = phantoms.write(tmp_path, count=4)
    dataset = data.open_dataset(DataConfig((SourceConfig(str(path)),), size=16, cache=tmp_path / "cache"))
    card = ModelCard(name="m", kind="autoencoder", size=16)
    for i in range(4):
        expected = to_image(load_image(tmp_path / f"{i:03d}.png"), card)
        assert (dataset.images(np.asarray([i]))[0] - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_cache_is_used_until_a_file_changes(tmp_path: Path) -> None:
    path = phantoms.write(tmp_path, count=3)
    config = DataConfig((SourceConfig(str(path)),), size=16, cache=tmp_path / "cache")
    seen: list[tuple[int, int]] = []
    once = [(1, 3), (2, 3), (3, 3)]
    data.open_dataset(config, lambda *place: seen.append(place))
    assert seen == once
    data.open_dataset(config, lambda *place: seen.append(place))
    assert seen == once
    phantoms.draw(np.random.default_rng(5), big=True, spot=True, size=22).save(tmp_path / "001.png")
    data.open_dataset(config, lambda *place: seen.append(place))
    assert seen == 2 * once


def test_torchxrayvision_range_becomes_unit_range() -> None:
    grey = np.linspace(-1024, 1024, 16, dtype=np.float32).reshape(1, 4, 4)

    class Fake:
        imgpath = "x"

        def __getitem__(self, index: int) -> dict[str, np.ndarray]:
            return {"img": grey}

        def string(self) -> str:
            return "Fake"

    picture = pixels.DatasetImage(Fake(), 0).load()
    torch.testing.assert_close(picture.pixels, torch.linspace(0, 1, 16).reshape(1, 4, 4))


@given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 3), st.integers(0, 5))
def test_each_epoch_shows_each_row_once_over_all_processes(count: int, batch: int, world: int, seed: int) -> None:
    rows = np.arange(100, 100 + count)
    shown = [
        data.batch_indices(rows, step, batch_size=batch, seed=seed, rank=rank, world=world)
        for step in range(2 * count)
        for rank in range(world)
    ]
    order = np.concatenate(shown)[: 2 * count]
    assert sorted(order[:count]) == sorted(order[count:]) == rows.tolist()


def test_order_changes_between_epochs_and_seeds_but_not_between_calls() -> None:
    rows = np.arange(50)
    first = data.batch_indices(rows, 0, batch_size=50, seed=0)
    np.testing.assert_array_equal(first, data.batch_indices(rows, 0, batch_size=50, seed=0))
    assert not np.array_equal(first, data.batch_indices(rows, 1, batch_size=50, seed=0))
    assert not np.array_equal(first, data.batch_indices(rows, 0, batch_size=50, seed=1))


def test_weights_decide_how_often_a_row_is_drawn() -> None:
    rows = np.asarray([7, 8, 9])
    drawn = np.concatenate(
        [data.batch_indices(rows, s, batch_size=10, seed=0, weights=np.asarray([3.0, 1.0, 0.0])) for s in range(300)]
    )
    shares = [(drawn == row).mean() for row in rows]
    assert shares[2] == 0 and abs(shares[0] - 0.75) < 0.03


def test_split_without_rows_is_refused(tmp_path: Path) -> None:
    path = phantoms.write(tmp_path, count=2)
    dataset = data.open_dataset(DataConfig((SourceConfig(str(path)),), size=16, cache=tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"no row is in split 'val'; splits are \['train'\]"):
        dataset.rows("val")


def test_boxes_follow_the_centre_crop(tmp_path: Path) -> None:
    """The left half of a 40 x 20 image's central square is the left half of what the model sees."""
    facts = pd.DataFrame({"path": ["a.png", ""], "width": ["40", ""], "height": ["20", ""]})
    splits, zeros = np.asarray(["val"] * 2), np.zeros(2, dtype=np.int64)
    table = Table(("a", "b"), (), np.asarray(["p", "q"]), splits, np.zeros((2, 1)), np.ones(2), facts, zeros)
    (tmp_path / "boxes.csv").write_text("path,label,x,y,w,h\na.png,Infiltration,10,0,10,20\nz.png,Mass,0,0,1,1\n")
    dataset = SimpleNamespace(table=table)
    config = DataConfig((), targets=("Lung Opacity",), unions={"Lung Opacity": ("Infiltration",)})
    found = boxes.read_boxes(tmp_path / "boxes.csv", dataset, config)  # type: ignore[arg-type]
    masks = boxes.draw(found, np.asarray([0, 1]), 1, 8)
    expected = torch.zeros(8, 8)
    expected[:, :4] = 1
    assert torch.equal(masks[0, 0], expected) and not masks[1].any()


def test_boxes_are_read_as_text_and_wrong_ones_are_named(tmp_path: Path) -> None:
    facts = pd.DataFrame({"path": ["001"], "width": ["40"], "height": ["40"]})  # no number, whatever it looks like
    val, zeros = np.asarray(["val"]), np.zeros(1, dtype=np.int64)
    dataset = SimpleNamespace(
        table=Table(("a",), (), np.asarray(["p"]), val, np.zeros((1, 1)), np.ones(1), facts, zeros)
    )
    config, file = DataConfig((), targets=("Mass",)), tmp_path / "boxes.csv"
    file.write_text("path,label,x,y,w,h\n001,Mass,10,0,10,20\n")
    assert boxes.read_boxes(file, dataset, config) == {0: [(0, 0.25, 0.0, 0.5, 0.5)]}  # type: ignore[arg-type]
    file.write_text("path,label,x,y,w,h\n001,Mass,10,zero,10,20\n")
    with pytest.raises(InputError, match=r"boxes.csv, row 2: expected a number in y, got 'zero'"):
        boxes.read_boxes(file, dataset, config)  # type: ignore[arg-type]
    file.write_text("path,label,x,y,w,h\n002,Mass,10,0,10,20\n001,mass,10,0,10,20\n")
    with pytest.raises(InputError, match="none of 2 boxes is of a row's path and a target, such as '001' and 'Mass'"):
        boxes.read_boxes(file, dataset, config)  # type: ignore[arg-type]


def sized(**columns: list[str]) -> SimpleNamespace:
    """A dataset of rows in val, called `row 0` and so on, with these facts."""
    facts = pd.DataFrame(columns)
    count = len(facts)
    splits, zeros = np.asarray(["val"] * count), np.zeros(count, dtype=np.int64)
    names = tuple(f"row {i}" for i in range(count))
    return SimpleNamespace(table=Table(names, (), splits, splits, np.zeros((count, 1)), np.ones(count), facts, zeros))


def test_a_box_whose_path_is_of_several_rows_is_refused(tmp_path: Path) -> None:
    """Before, it went to the film of the last source."""
    config, file = DataConfig((), targets=("Mass",)), tmp_path / "boxes.csv"
    dataset = sized(path=["1.png", "2.png", "1.png"], width=["40"] * 3, height=["40"] * 3)
    file.write_text("path,label,x,y,w,h\n2.png,Mass,10,0,10,20\n1.png,Other,10,0,10,20\n")
    assert list(boxes.read_boxes(file, dataset, config)) == [1]  # type: ignore[arg-type]
    file.write_text("path,label,x,y,w,h\n2.png,Mass,10,0,10,20\n1.png,Mass,10,0,10,20\n")
    with pytest.raises(
        InputError, match=r"paths of one row each, got '1.png' of 2 rows, such as row 0 and row 2; make"
    ):
        boxes.read_boxes(file, dataset, config)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("width", "message"),
    [
        ("", "row 0: expected a number in width, got ''"),
        ("wide", "row 0: expected a number in width, got 'wide'"),
        ("32.5", "row 0: expected height and width in whole pixels, got '40.0' and '32.5'"),
        ("0", "row 0: expected height and width in whole pixels"),
    ],
)
def test_sizes_of_films_with_boxes_are_whole_numbers(tmp_path: Path, width: str, message: str) -> None:
    config, file = DataConfig((), targets=("Mass",)), tmp_path / "boxes.csv"
    file.write_text("path,label,x,y,w,h\n1.png,Mass,10,0,10,20\n")
    fine = sized(path=["1.png"], width=["40.0"], height=["40"])
    assert boxes.read_boxes(file, fine, config) == {0: [(0, 0.25, 0.0, 0.5, 0.5)]}  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        boxes.read_boxes(file, sized(path=["1.png"], width=[width], height=["40.0"]), config)  # type: ignore[arg-type]
