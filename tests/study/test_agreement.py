"""Agreement against scikit-learn and the worked example of Shrout & Fleiss (1979)."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from gifsplain.errors import InputError
from gifsplain.study.statistics import agreement
from gifsplain.study.statistics.table import from_text

from .tables import answers

# table 2 of Shrout & Fleiss 1979: six targets rated by four judges
SHROUT = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
ratings = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=40)


@given(ratings, st.sampled_from(["linear", "quadratic", "none"]))
def test_kappa_is_sklearns(pairs: list[tuple[int, int]], weights: str) -> None:
    a, b = np.array(pairs, float).T
    ours = agreement.weighted_kappa(a, b, 5, weights)  # type: ignore[arg-type]
    if len(set(a) | set(b)) == 1:
        assert np.isnan(ours)
    else:
        theirs = cohen_kappa_score(a, b, labels=[1, 2, 3, 4, 5], weights=None if weights == "none" else weights)
        assert ours == pytest.approx(theirs)


def test_kappa_refuses_unpaired_ratings() -> None:
    with pytest.raises(InputError, match="two ratings of the same cases, got 1 and 2"):
        agreement.weighted_kappa(np.ones(1), np.ones(2), 5)


def test_icc_has_the_published_values() -> None:
    values = {i.form: i for i in agreement.icc(SHROUT)}
    published = {
        "ICC(1,1)": 0.17,
        "ICC(2,1)": 0.29,
        "ICC(3,1)": 0.71,
        "ICC(1,k)": 0.44,
        "ICC(2,k)": 0.62,
        "ICC(3,k)": 0.91,
    }
    assert {form: round(i.value, 2) for form, i in values.items()} == published
    # intervals that the R package psych (ICC) prints for the same table, two decimals
    assert (round(values["ICC(1,1)"].low, 2), round(values["ICC(1,1)"].high, 2)) == (-0.13, 0.72)
    assert (round(values["ICC(2,1)"].low, 2), round(values["ICC(2,1)"].high, 2)) == (0.02, 0.76)
    assert (round(values["ICC(3,1)"].low, 2), round(values["ICC(3,1)"].high, 2)) == (0.34, 0.95)


def test_icc_of_equal_raters_is_one_and_of_constants_undefined() -> None:
    same = np.repeat(np.array([[1.0], [3], [5]]), 2, axis=1)
    assert [i.value for i in agreement.icc(same)] == pytest.approx([1.0] * 6)
    assert all(np.isnan(i.value) for i in agreement.icc(np.full((4, 2), 3.0)))
    assert all(np.isnan(i.value) for i in agreement.icc(np.ones((1, 2))))


def test_between_and_within_readers() -> None:
    frame = answers(5, readers=3, cases=60)
    again = frame.iloc[::7].assign(repeat="1", confidence=lambda f: f["confidence"])
    table = from_text(pd.concat([frame.assign(repeat="0"), again], ignore_index=True))
    between = agreement.between_readers(table)
    assert set(between["readers"]) == {"R0 & R1", "R0 & R2", "R1 & R2", "all"}
    a = table.first[table.first.reader == "R0"].sort_values(["case", "condition"])["confidence"]
    b = table.first[table.first.reader == "R1"].sort_values(["case", "condition"])["confidence"]
    row = between[(between.question == "confidence") & (between.condition == "all") & (between.readers == "R0 & R1")]
    assert row["kappa_quadratic"].item() == pytest.approx(cohen_kappa_score(a, b, weights="quadratic"))
    within = agreement.within_readers(table)
    assert (within.loc[within.question == "confidence", "kappa_quadratic"] == 1).all()
    assert within.loc[(within.reader == "all"), "n"].unique().tolist() == [len(again)]
