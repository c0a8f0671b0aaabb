"""The long table: every problem is named with its row."""

from pathlib import Path

import pandas as pd
import pytest

from gifsplain.errors import InputError
from gifsplain.study import analysis
from gifsplain.study.statistics.table import condition_order, from_text, read_csv

from .tables import answers

HEADER = "reader,read,case,target,truth,condition,confidence,feature"


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "answers.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_reads_clean_rows(tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, "r1,1,c1,Mass,1,A,4,5", "r1,2,c1,Mass,1,B,3,2"))
    assert table.conditions == ("A", "B") and table.targets == ("Mass",) and len(table.rows) == 2
    assert table.rows["iou"].isna().all() and table.rows["confidence"].tolist() == [4, 3]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("r1,1,c1,Mass,2,A,4,5", r"row 2: truth must be 0 .*got '2'"),
        ("r1,1,c1,Mass,1,A,6,5", r"row 2: confidence must be a whole number from 1 to 5, got '6'"),
        ("r1,1,c1,Mass,1,A,4,", r"row 2: feature must be .* got ''"),
        ("r1,1,c1,Mass,1,A,4.0,5", r"row 2: confidence must be .* got '4.0'"),
        (",1,c1,Mass,1,A,4,5", r"row 2: reader is empty"),
        ("r1,x,c1,Mass,1,A,4,5", r"row 2: read must be a whole number not below 0, got 'x'"),
        ("r1,nan,c1,Mass,1,A,4,5", r"row 2: read must be a whole number not below 0, got 'nan'"),
        ("r1,inf,c1,Mass,1,A,4,5", r"row 2: read must be .*got 'inf'"),
        ("r1,1,c1,Mass,1,,4,5", r"row 2: condition is empty"),
    ],
)
def test_names_the_row(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_csv(write(tmp_path, row))


def test_names_every_problem(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "r1,1,c1,Mass,1,A,9,5,0.2,3",
        "r1,1,c1,Mass,0,A,4,0,1.2,3",
        "r1,2,c1,Mass,1,B,4,1,,-3",
        header=HEADER + ",iou,seconds",
    )
    with pytest.raises(InputError, match="6 problems") as caught:
        read_csv(path)
    for text in (
        "row 2: confidence",
        "row 3: feature",
        "row 3: iou",
        "row 4: seconds",
        "as in row 2",
        "row 3: truth of case",
    ):
        assert text in str(caught.value)


def test_missing_column_and_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="add feature"):
        read_csv(write(tmp_path, "r1,1,c1,Mass,1,A,4", header=HEADER.removesuffix(",feature")))
    with pytest.raises(InputError, match="found none at"):
        read_csv(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="at least one row"):
        read_csv(write(tmp_path))


def test_conditions_that_are_not_named_are_left_out_of_everything() -> None:
    frame = answers(3, cases=24, effect=(2.0, 2.0), extras=True, conditions=("a", "b", "c"))
    frame.loc[frame["condition"] == "c", "reader"] += " late"  # readers who saw nothing else
    named = from_text(frame, conditions=("b", "a"))
    alone = from_text(frame[frame["condition"] != "c"], conditions=("b", "a"))
    assert named.conditions == ("b", "a") and named.readers == ("R0", "R1")
    options = analysis.Options(draws=100)
    assert analysis.analyse(named, options).record == analysis.analyse(alone, options).record
    with pytest.raises(InputError, match="row 4: confidence must be"):  # still checked: a slip there may hide another
        from_text(frame.assign(confidence=frame["confidence"].where(frame.index != 2, "9")), conditions=("a", "b"))


def test_partial_answers_only_when_allowed(tmp_path: Path) -> None:
    path = write(tmp_path, "r1,1,c1,Mass,1,A,4,")
    assert read_csv(path, partial=True).rows["feature"].isna().all()


def test_later_readings_are_repeats() -> None:
    frame = pd.DataFrame(
        [["r", 3, "c", "t", 1, "A", 1, 1], ["r", 1, "c", "t", 1, "A", 2, 2], ["r", 2, "c", "t", 1, "B", 3, 3]],
        columns=HEADER.split(","),
    ).astype(str)
    assert from_text(frame).rows["repeat"].tolist() == [True, False, False]
    marked = frame.assign(repeat=["0", "1", "0"])
    assert from_text(marked).rows["repeat"].tolist() == [False, True, False]


def test_order_of_conditions() -> None:
    assert condition_order(["b", "a"]) == ("a", "b")
    assert condition_order(["b", "latentshift", "traditional"]) == ("traditional", "latentshift", "b")
    assert condition_order(["b", "a"], ["b", "a"]) == ("b", "a")
    with pytest.raises(InputError, match="expected conditions among a, b, got a, c"):
        condition_order(["b", "a"], ["a", "c"])


def test_row_order_does_not_matter() -> None:
    frame = answers(1, cases=24)
    mixed = frame.sample(frac=1, random_state=3)
    assert from_text(frame).conditions == from_text(mixed).conditions


def test_no_answers_yet_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("reader,read,case,target,truth,condition,confidence,feature\n")
    with pytest.raises(InputError, match="wait until readers have answered"):
        read_csv(path)
