"""Paired comparisons against SciPy, brute force and the paper's own numbers."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gifsplain.study.statistics import paired

from .tables import table

differences = st.lists(st.integers(-4, 4), min_size=1, max_size=60).map(lambda v: np.array(v, float))


@given(differences)
def test_normal_approximation_is_scipys(d: np.ndarray) -> None:
    ours = paired.wilcoxon(d)
    if not d.any():
        assert np.isnan(ours.p_value) and ours.n == 0
        return
    theirs = stats.wilcoxon(d, zero_method="wilcox", correction=False, method="asymptotic")
    assert ours.statistic == theirs.statistic
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=1e-12)
    assert ours.n == np.count_nonzero(d)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20, unique=True), st.randoms())
def test_exact_without_ties_is_scipys(sizes: list[int], random: object) -> None:
    d = np.array([s * random.choice([-1, 1]) for s in sizes], float)  # type: ignore[attr-defined]
    assert paired.wilcoxon(d, "exact").p_value == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, abs=1e-12)


@settings(max_examples=30)
@given(st.lists(st.integers(-3, 3).filter(bool), min_size=1, max_size=9))
def test_exact_with_ties_is_all_sign_flips(values: list[int]) -> None:
    d = np.array(values, float)
    ranks = stats.rankdata(abs(d))
    smaller = min(ranks[d > 0].sum(), ranks[d < 0].sum())
    sums = [sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in product([0, 1], repeat=len(d))]
    assert paired.wilcoxon(d, "exact").p_value == pytest.approx(
        min(1, 2 * np.mean([s <= smaller + 1e-9 for s in sums]))
    )


def test_papers_means_and_deviations_give_the_papers_p_values() -> None:
    # section 4.6: 240 pairs of each truth (120 cases, two readers): 0.15 +- 0.95 has p 0.01, 0.04 +- 1.06 has p 0.57
    for mean, sd, p in ((0.15, 0.95, 0.01), (0.04, 1.06, 0.57)):
        assert 2 * stats.norm.sf(mean / sd * np.sqrt(240)) == pytest.approx(p, abs=0.015)


def test_comparisons_by_hand() -> None:
    data = table(4, cases=48, conditions=("a", "b", "c"))
    found = paired.comparisons(data)
    assert len(found) == 2 * 2 * 7 * 3  # questions, truths, targets and "all", pairs of conditions
    one = next(c for c in found if (c.question, c.truth, c.target, c.conditions) == ("feature", 0, "Mass", ("a", "c")))
    rows = data.rows[(data.rows.truth == 0) & (data.rows.target == "Mass")]
    values = {(r.reader, r.case, r.condition): r.feature for r in rows.itertuples()}
    d = [values[k[0], k[1], "c"] - v for k, v in values.items() if k[2] == "a"]
    assert one.n == len(d) and one.mean_difference == pytest.approx(np.mean(d))
    assert one.sd_difference == pytest.approx(np.std(d, ddof=1))
    assert one.cohen_dz == pytest.approx(np.mean(d) / np.std(d, ddof=1))
    assert one.probability_higher == pytest.approx(np.mean([(x > 0) + 0.5 * (x == 0) for x in d]))


def test_pairs_need_both_conditions_and_ignore_repeats() -> None:
    data = table(2, cases=12)
    before = paired.comparisons(data)
    rows = data.rows.copy()
    extra = rows.iloc[[0, 5]].assign(repeat=True, confidence=1.0, read=9)
    lonely = rows.iloc[[0]].assign(case="only-once")

    more = paired.Table(pd.concat([rows, extra, lonely], ignore_index=True), data.questions, data.conditions, 5)
    assert repr(paired.comparisons(more)) == repr(before)  # nan equals nan in text


def test_summaries_add_up() -> None:
    data = table(3, cases=36)
    frame = paired.summaries(data)
    overall = frame[(frame.question == "confidence") & (frame.target == "all")]
    assert overall["n"].sum() == len(data.rows)
    first = overall.iloc[0]
    rows = data.rows[(data.rows.truth == first.truth) & (data.rows.condition == first.condition)]
    assert first["mean"] == pytest.approx(rows.confidence.mean()) and first["sd"] == pytest.approx(
        rows.confidence.std()
    )


def test_rank_biserial_and_holm() -> None:
    assert paired.wilcoxon(np.array([1.0, 2, 3])).rank_biserial == 1
    assert paired.wilcoxon(np.array([1.0, -1])).rank_biserial == 0
    from statsmodels.stats.multitest import multipletests

    p = np.array([0.2, 0.01, 0.03, 0.04, 0.9])
    np.testing.assert_allclose(paired.holm(p), multipletests(p, method="holm")[1])
    assert np.isnan(paired.holm(np.array([np.nan, 0.5]))).tolist() == [True, False]
