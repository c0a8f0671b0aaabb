"""Rows: bad ones are named, patients stay in one split, labels mean what the manifest says."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifsplain.errors import InputError
from gifsplain.train import data, patients, rows
from gifsplain.train.rows import DataConfig, SourceConfig

from . import phantoms


def config(manifest: Path, **options: object) -> DataConfig:
    return DataConfig((SourceConfig(str(manifest)),), size=16, cache=manifest.parent / "cache", **options)  # type: ignore[arg-type]


def manifest(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name in "abc":
        phantoms.draw(rng, big=True, spot=False, size=20).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    path = folder / "manifest.csv"
    path.write_text(text)
    return path


BAD = """path,patient_id,split,Mass
a.png,p1,train,1
missing.png,p2,train,0
b.png,,train,0
c.png,p3,holdout,2
a.png,p1,train,1
broken.png,p4,val,0
,p5,train,0
"""


def test_every_bad_row_is_named_with_its_reason(tmp_path: Path) -> None:
    path = manifest(tmp_path / "d", BAD)
    with pytest.raises(InputError, match="5 of 7 rows cannot be used") as caught:
        data.open_dataset(config(path, targets=("Mass",)))
    text = str(caught.value)
    for part in (
        r"manifest.csv line 3 (missing.png): " + str(tmp_path / "d" / "missing.png") + " does not exist",
        "manifest.csv line 4 (b.png): it has no patient_id",
        "manifest.csv line 5 (c.png): Mass must be 0, 1 or empty, got '2'; "
        "split must be one of train, val, test, got 'holdout'",
        "manifest.csv line 6 (a.png): the same image as manifest.csv line 2 (a.png)",
        "manifest.csv line 8 (): it names no image",
        "set data.bad_rows=report",
    ):
        assert part in text


def test_unreadable_image_is_named(tmp_path: Path) -> None:
    path = manifest(tmp_path / "d", "path,patient_id,split\na.png,p1,train\nbroken.png,p4,val\n")
    with pytest.raises(InputError, match=r"1 of 2 rows cannot be used:\n  manifest.csv line 3 \(broken.png\): "):
        data.open_dataset(config(path))


def test_reported_bad_rows_are_left_out_and_written_down(tmp_path: Path) -> None:
    path = manifest(tmp_path / "d", BAD)
    dataset = data.open_dataset(config(path, targets=("Mass",), bad_rows="report"))
    assert [name.split("(")[1] for name in dataset.table.names] == ["a.png)"]
    assert len(dataset.pixels) == 1
    data.write_bad_rows(dataset.bad, tmp_path)
    written = (tmp_path / "bad_rows.csv").read_text().splitlines()
    assert written[0] == "row,reason" and len(written) == 7


def test_patient_in_two_splits_is_refused_by_name(tmp_path: Path) -> None:
    text = "path,patient_id,split\na.png,p1,train\nb.png,p1,val\nc.png,p2,train\n"
    with pytest.raises(InputError, match="1 patients are in more than one split: p1; give each patient one split"):
        rows.read_rows(config(manifest(tmp_path / "d", text)))


def test_split_is_made_by_patient_where_none_is_declared(tmp_path: Path) -> None:
    path = phantoms.write(tmp_path, count=60, splits=False)
    table, bad = rows.read_rows(config(path))
    assert not bad
    assert set(table.splits) == {"train", "val", "test"}
    by_patient: dict[str, set[str]] = {}
    for patient, split in zip(table.patients, table.splits, strict=True):
        by_patient.setdefault(patient, set()).add(split)
    assert len(by_patient) == 30 and all(len(splits) == 1 for splits in by_patient.values())


@given(st.text(min_size=1, max_size=20), st.floats(0, 0.5), st.floats(0, 0.5))
def test_hashed_split_depends_on_nothing_else_and_grows_monotonically(patient: str, val: float, more: float) -> None:
    assert patients.hashed_split(patient, (val, 0.2)) == patients.hashed_split(patient, (val, 0.2))
    if patients.hashed_split(patient, (val, 0.0)) == "val":
        assert patients.hashed_split(patient, (val + more, 0.0)) == "val"


def test_hashed_split_has_the_asked_for_shares() -> None:
    found = [patients.hashed_split(f"patient {i}", (0.1, 0.2)) for i in range(4000)]
    assert abs(found.count("val") / 4000 - 0.1) < 0.02
    assert abs(found.count("test") / 4000 - 0.2) < 0.02


def test_labels_of_names(tmp_path: Path) -> None:
    text = (
        "path,patient_id,split,labels\na.png,p1,train,Mass|Pneumonia\nb.png,p2,val,No Finding\nc.png,p3,test,\n"
        "broken.png,p4,test,Infiltration\n"
    )
    unions = {"Lung Opacity": ("Pneumonia", "Infiltration")}
    table, _ = rows.read_rows(config(manifest(tmp_path / "d", text), targets=("Mass", "Lung Opacity"), unions=unions))
    np.testing.assert_array_equal(table.labels, [[1, 1], [0, 0], [np.nan, np.nan], [0, 1]])


@pytest.mark.parametrize(
    ("targets", "unions", "message"),
    [
        (
            ("Mas",),
            {},
            r"no row knows Mas; names in labels are Mass, No Finding, Pneumonia, columns are labels, path, ",
        ),
        (
            ("Opacity",),
            {"Opacity": ("Pneumonia", "Infiltrate")},
            r"no row knows Infiltrate \(of Opacity\); .* or leave it",
        ),
    ],
)
def test_misspelt_names_are_refused(
    tmp_path: Path, targets: tuple[str, ...], unions: dict[str, tuple[str, ...]], message: str
) -> None:
    """Before, every film was without the finding, and a classifier learnt that."""
    text = "path,patient_id,split,labels\na.png,p1,train,Mass|Pneumonia\nb.png,p2,val,No Finding\n"
    path = manifest(tmp_path / "d", text)
    with pytest.raises(InputError, match=message):
        rows.read_rows(config(path, targets=targets, unions=unions))


def test_a_known_name_without_a_film_that_is_kept_is_no_slip(tmp_path: Path) -> None:
    text = "path,patient_id,split,labels\na.png,p1,train,Mass\nb.png,p2,val,No Finding\n"
    source = SourceConfig(str(manifest(tmp_path / "d", text)), where=("split=val",))
    table, _ = rows.read_rows(DataConfig((source,), targets=("Mass",)))
    np.testing.assert_array_equal(table.labels, [[0]])
    column = "path,patient_id,split,Spot\nc.png,p1,train,\n"  # another source knows the other target
    second = SourceConfig(str(manifest(tmp_path / "e", column)), knows=("Spot",))
    first = SourceConfig(str(tmp_path / "d" / "manifest.csv"), knows=("Mass",))
    (tmp_path / "e" / "manifest.csv").write_text(column.replace("Spot", "Spot,Mass").replace("train,", "train,1,"))
    table, _ = rows.read_rows(DataConfig((first, second), targets=("Mass", "Spot")))
    np.testing.assert_array_equal(table.labels, [[1, np.nan], [0, np.nan], [np.nan, 1]])


def test_labels_of_columns_and_their_union(tmp_path: Path) -> None:
    text = "path,patient_id,split,A,B\na.png,p1,train,1,\nb.png,p2,val,0,-1\nc.png,p3,test,0.0,0\n"
    table, _ = rows.read_rows(config(manifest(tmp_path / "d", text), targets=("A", "AB"), unions={"AB": ("A", "B")}))
    np.testing.assert_array_equal(table.labels, [[1, 1], [0, np.nan], [0, 0]])


def test_part_of_a_union_without_a_column_is_unknown(tmp_path: Path) -> None:
    """A source that labels A alone cannot say that neither A nor B is there; names in `labels` can."""
    text = "path,patient_id,split,A\na.png,p1,train,1\nb.png,p2,val,0\nc.png,p3,test,\n"
    unions = {"AB": ("A", "B")}
    full = "path,patient_id,split,A,B\nd.png,p4,train,0,1\n"
    first, second = manifest(tmp_path / "d", text), manifest(tmp_path / "e", full)
    (tmp_path / "d" / "a.png").rename(tmp_path / "e" / "d.png")
    phantoms.draw(np.random.default_rng(1), big=True, spot=False).save(tmp_path / "d" / "a.png")
    sources = (SourceConfig(str(first)), SourceConfig(str(second)))
    table, _ = rows.read_rows(DataConfig(sources, targets=("AB",), unions=unions))
    np.testing.assert_array_equal(table.labels[:, 0], [1, np.nan, np.nan, 1])
    listed = "path,patient_id,split,A,labels\na.png,p1,train,1,None\nb.png,p2,val,0,B\nc.png,p3,test,0,None\n"
    table, _ = rows.read_rows(config(manifest(tmp_path / "f", listed), targets=("AB",), unions=unions))
    np.testing.assert_array_equal(table.labels[:, 0], [1, 1, 0])


def test_source_knows_only_some_targets_and_rules_choose_rows(tmp_path: Path) -> None:
    text = (
        "path,patient_id,split,labels,view\na.png,p1,train,Mass,PA\nb.png,p2,val,No Finding,AP\nc.png,p3,test,Mass,L\n"
    )
    path = str(manifest(tmp_path / "d", text))
    source = SourceConfig(path, where=("view!=L", "split=train|val"), knows=("Mass",), weight=3.0)
    table, _ = rows.read_rows(DataConfig((source,), targets=("Mass", "Effusion")))
    np.testing.assert_array_equal(table.labels, [[1, np.nan], [0, np.nan]])
    assert table.weights.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("source", "targets", "message"),
    [
        ({"where": ("view",)}, (), "expected a rule such as source=nih"),
        ({"where": ("colour=1",)}, (), "has no column 'colour'"),
        ({"where": ("split=none",)}, (), "no row of .* is left"),
        ({"knows": ("Mass",)}, ("A",), r"knows \['Mass'\] are no targets"),
        ({}, ("A", "Other"), r"no column for targets \['Other'\]"),
    ],
)
def test_refused_sources(
    tmp_path: Path, source: dict[str, tuple[str, ...]], targets: tuple[str, ...], message: str
) -> None:
    path = str(manifest(tmp_path / "d", "path,patient_id,split,A\na.png,p1,train,1\n"))
    with pytest.raises(InputError, match=message):
        rows.read_rows(DataConfig((SourceConfig(path, **source),), targets=targets))  # type: ignore[arg-type]


def test_missing_manifest_column_and_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; expected a CSV manifest"):
        rows.read_rows(DataConfig((SourceConfig(str(tmp_path / "none.csv")),)))
    (tmp_path / "m.csv").write_text("image\na.png\n")
    with pytest.raises(InputError, match="needs a column 'path'"):
        rows.read_rows(DataConfig((SourceConfig(str(tmp_path / "m.csv")),)))
    with pytest.raises(InputError, match=r"data.sources is empty"):
        rows.read_rows(DataConfig(()))


def test_folder_with_splits_and_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place in ("train/Big", "train/No Finding", "val/Big"):
        (tmp_path / place).mkdir(parents=True)
        phantoms.draw(rng, big=True, spot=False, size=20).save(tmp_path / place / "x.png")
    table, bad = rows.read_rows(DataConfig((SourceConfig(str(tmp_path)),), targets=("Big",)))
    assert not bad
    assert list(zip(table.splits.tolist(), table.labels[:, 0].tolist(), strict=True)) == [
        ("train", 1),
        ("train", 0),
        ("val", 1),
    ]


def test_folder_without_order_serves_for_autoencoders(tmp_path: Path) -> None:
    phantoms.write(tmp_path, count=6)
    table, _ = rows.read_rows(DataConfig((SourceConfig(str(tmp_path)),)))
    assert len(table.names) == 6 and table.labels.shape == (6, 0)


def test_npz_images_are_in_the_order_of_the_rows(tmp_path: Path) -> None:
    images = np.zeros((3, 16, 16), dtype=np.uint8)
    images[:] = np.asarray([10, 20, 30], dtype=np.uint8)[:, None, None]
    np.savez(tmp_path / "x.npz", images=images)
    path = tmp_path / "x.csv"
    path.write_text("index,patient_id,split\n5,p1,train\n7,p2,val\n9,p3,test\n")
    source = SourceConfig(str(path), images=tmp_path / "x.npz", where=("split!=train",))
    dataset = data.open_dataset(DataConfig((source,), size=16, cache=tmp_path / "cache"))
    assert dataset.pixels[:, 0, 0, 0].tolist() == [20, 30]
    path.write_text("patient_id,split\np1,train\n")
    with pytest.raises(InputError, match="has 3 images, its manifest 1 rows"):
        data.open_dataset(DataConfig((source,), size=16))


@pytest.mark.slow  # importing torchxrayvision takes seconds
def test_torchxrayvision_datasets(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"torchxrayvision has no dataset 'Nowhere'; it has \["):
        rows.read_rows(DataConfig((SourceConfig("xrv:Nowhere"),)))
    with pytest.raises(InputError, match="torchxrayvision cannot open NIH_Dataset with"):
        rows.read_rows(DataConfig((SourceConfig("xrv:NIH_Dataset", images=tmp_path / "none"),)))
    source = SourceConfig("xrv:NIH_Dataset", images=tmp_path, options={"views": ["PA", "AP"], "unique_patients": False})
    table, bad = rows.read_rows(DataConfig((source,), targets=("Mass", "Hernia")))
    assert not bad
    assert table.labels.shape == (112_120, 2) and np.nansum(table.labels[:, 0]) == 5782  # Wang et al. 2017: Mass 5,782
    assert len(set(table.patients.tolist())) == 30_805


def written(folder: Path, lines: list[str], head: str = "path,A") -> Path:
    """A manifest of drawn films, as many as there are lines; a file is drawn once."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(len(lines))
    for line in lines:
        file = folder / line.split(",")[0].strip()
        if not file.exists():
            phantoms.draw(rng, big=True, spot=False, size=8).save(file)
    path = folder / "manifest.csv"
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


def sides(source: SourceConfig, column: str = "path") -> dict[str, str]:
    table, _ = rows.read_rows(DataConfig((source,)))
    return dict(zip(table.facts[column], table.splits.tolist(), strict=True))


@pytest.mark.parametrize(
    ("head", "name", "wanted"),
    [
        ("path,Patient ID,A", "Patient ID", "patient_id"),
        ("path,patientid,A", "patientid", "patient_id"),
        ("path, PATIENT-ID ,A", "PATIENT-ID", "patient_id"),
        ("path,patient_id,Split", "Split", "split"),
    ],
)
def test_columns_that_are_nearly_patient_id_or_split_are_refused(
    tmp_path: Path, head: str, name: str, wanted: str
) -> None:
    """Before, films of one patient came to both sides, and declared splits were not looked at, both without a word."""
    path = written(tmp_path, ["a.png,p1,1"], head)
    with pytest.raises(InputError, match=f"expected a column '{wanted}', got '{name}'; rename it to {wanted}"):
        rows.read_rows(config(path))
    path = written(
        tmp_path, ["a.png,p1,train,1"], "path,patient_id,split,Patient ID"
    )  # beside the right one, any column
    assert rows.read_rows(config(path))[0].patients.tolist() == ["p1"]


def test_white_space_around_columns_patients_and_splits_does_not_count(tmp_path: Path) -> None:
    path = written(tmp_path, ["a.png, p1 ,train ,1", "b.png,p1, train,0"], "path, patient_id,split ,A")
    table, bad = rows.read_rows(config(path, targets=("A",)))
    assert not bad
    assert table.patients.tolist() == ["p1", "p1"] and table.splits.tolist() == ["train", "train"]
    assert table.facts["patient_id"].tolist() == ["p1", "p1"]
    path.write_text(path.read_text().replace(",A", ", path"))
    with pytest.raises(InputError, match="expected different column names, got path twice"):
        rows.read_rows(config(path))


def test_unknown_patients_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, ["a.png,1", "b.png,0"])
    for _ in range(2):
        rows.read_rows(config(path))
    assert caplog.messages == [
        f"{path} has no column patient_id, so each image counts as a patient of its own; columns are path, A"
    ]
    written(tmp_path, ["a.png,1"], "path,patient_id")
    rows.read_rows(config(path))
    assert len(caplog.messages) == 1


def test_new_lines_move_no_film_of_unknown_patients(tmp_path: Path) -> None:
    """Before, the number of the line decided."""
    lines = [f"{i}.png,1" for i in range(30)]
    before = sides(SourceConfig(str(written(tmp_path, lines))))
    after = sides(SourceConfig(str(written(tmp_path, ["new.png,1", *reversed(lines)]))))
    assert set(before.values()) == {"train", "val", "test"}
    assert before == {name: side for name, side in after.items() if name != "new.png"}
    assert before == {name: patients.hashed_split(name, (0.1, 0.2)) for name in before}
    dotted = sides(SourceConfig(str(written(tmp_path, [f"./{line}" for line in lines]))))
    assert list(dotted.values()) == list(before.values())


def test_splits_of_patients_with_names_are_what_they_were(tmp_path: Path) -> None:
    path = written(tmp_path, [f"{i}.png,p{i // 2}" for i in range(40)], "path,patient_id")
    table, _ = rows.read_rows(config(path))
    assert table.splits.tolist() == [patients.hashed_split(f"p{i // 2}", (0.1, 0.2)) for i in range(40)]


def test_typing_a_folder_differently_moves_no_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "films", [f"{i}.png,1" for i in range(30)])
    monkeypatch.chdir(tmp_path)
    found = [sides(SourceConfig(name)) for name in ("films", str(tmp_path / "films"), "../" + tmp_path.name + "/films")]
    assert found[0] == found[1] == found[2] and len(set(found[0].values())) > 1


def test_films_of_an_npz_file_are_split_by_path_or_pixels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (30, 4, 4), dtype=np.uint8)
    source = SourceConfig(str(tmp_path / "x.csv"), images=tmp_path / "x.npz")
    found = []
    for head, order in (("number", range(30)), ("number", range(29, -1, -1)), ("path", range(30))):
        path = tmp_path / f"{head}{order[0]}.npz"
        np.savez(path, images=images[list(order)])
        Path(source.manifest).write_text("\n".join([head, *map(str, order)]) + "\n")
        found.append(sides(SourceConfig(source.manifest, images=path), head))
    assert found[0] == found[1] and len(set(found[0].values())) > 1
    assert found[2] == {str(i): patients.hashed_split(str(i), (0.1, 0.2)) for i in range(30)}


def test_films_of_one_name_in_two_sources_are_two_patients(tmp_path: Path) -> None:
    """Before, the same line of two files called manifest.csv was one patient, in two splits."""
    made = [written(tmp_path / side, [f"a.png,{side}"], "path,split") for side in ("train", "val")]
    table, bad = rows.read_rows(DataConfig(tuple(SourceConfig(str(path)) for path in made)))
    assert not bad
    assert table.splits.tolist() == ["train", "val"] and len(set(table.patients.tolist())) == 2


def test_all_bad_rows_are_named_up_to_a_thousand() -> None:
    bad = [rows.BadRow(f"line {i}", "gone") for i in range(1003)]
    with pytest.raises(InputError, match="900 of 900 rows cannot be used") as caught:
        rows.refuse(bad[:900], 0)
    assert str(caught.value).count(": gone") == 900 and "more" not in str(caught.value)
    with pytest.raises(InputError, match="line 999: gone\n  and 3 more\ncorrect them, or set data.bad_rows=report"):
        rows.refuse(bad, 0)
