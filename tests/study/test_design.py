"""The design: balance, separation of repeats, and seeds."""

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gifsplain.errors import ConfigurationError, InputError
from gifsplain.study import config, design, timing

PAPER = config.default()


def pool(per: int = 60, seed: int = 0, shared: int = 1) -> pd.DataFrame:
    """Cases whose images carry `shared` targets each."""
    generator = np.random.default_rng(seed)
    rows = []
    for t, target in enumerate(PAPER.cases.targets):
        for j in range(2 * per):
            image = f"img-{(t // shared)}-{j}"
            rows.append((image, target, j % 2, generator.uniform(0.3, 1), "test" if j % 7 else "train"))
    return pd.DataFrame(rows, columns=["case", "target", "truth", "score", "split"])


@pytest.fixture(scope="module")
def items() -> list[design.Item]:
    return design.choose(pool(), PAPER.cases, seed=1)


def test_papers_numbers(items: list[design.Item]) -> None:
    main = [i for i in items if not i.training]
    assert len(main) == 240 and len({i.case for i in items}) == 246
    assert set(Counter((i.target, i.truth) for i in main).values()) == {20}
    assert all(i.score > 0.5 for i in items)
    assert PAPER.questions[0].text == "How confident are you in the model’s prediction? (1-5)"
    assert PAPER.questions[1].text == "Is the model looking at the correct feature? (1-5)"
    assert [len(c.panels) for c in PAPER.conditions] == [3, 2]


def test_same_seed_same_choice_and_row_order_does_not_matter(items: list[design.Item]) -> None:
    assert design.choose(pool(), PAPER.cases, seed=1) == items
    assert design.choose(pool(), PAPER.cases, seed=2) != items


def test_shared_images_are_used_once() -> None:
    chosen = design.choose(pool(per=150, shared=2), PAPER.cases, seed=0)
    assert len({i.case for i in chosen}) == 246


def test_too_few_cases_are_named() -> None:
    few = pool()
    few = few[~((few.target == "Mass") & (few.truth == 0) & (few.index % 3 > 0))]
    with pytest.raises(InputError, match=r"Mass, truth 0: \d+ of 20"):
        design.choose(few, PAPER.cases, seed=0)
    with pytest.raises(InputError, match=r"expected 240 different images, got \d+"):
        design.choose(pool(per=50, shared=6), PAPER.cases, seed=0)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_williams_sequences_balance_position_and_predecessor(n: int) -> None:
    rows = design.sequences([str(i) for i in range(n)])
    assert len(rows) == (n if n % 2 == 0 or n == 1 else 2 * n)
    for column in zip(*rows, strict=True):
        assert len(set(Counter(column).values())) == 1 and len(set(column)) == n
    follows = Counter((a, b) for row in rows for a, b in itertools.pairwise(row))
    assert len(set(follows.values())) <= 1 and len(follows) == n * (n - 1)


@pytest.mark.parametrize("reader", [0, 1, 2])
def test_every_item_is_read_once_under_each_condition(items: list[design.Item], reader: int) -> None:
    slots = design.schedule(items, PAPER, reader=reader, seed=5)
    main = [s for s in slots if s.kind == "main"]
    assert Counter((s.item, s.condition) for s in main) == Counter(
        {(i.number, c.key): 1 for i in items if not i.training for c in PAPER.conditions}
    )
    assert Counter((s.item, s.read) for s in main).most_common(1)[0][1] == 1
    by = {i.number: i for i in items}
    balance = Counter((s.read, s.condition, by[s.item].target, by[s.item].truth) for s in main)
    assert set(balance.values()) == {10}  # counterbalanced within every target and truth
    for read in (1, 2):
        assert [s.position for s in slots if s.read == read] == list(range(1, 1 + sum(s.read == read for s in slots)))


def test_readers_are_rotated_and_orders_differ(items: list[design.Item]) -> None:
    first, second = (design.schedule(items, PAPER, reader=r, seed=5) for r in (0, 1))
    condition = [{s.item: s.condition for s in slots if s.read == 1 and s.kind == "main"} for slots in (first, second)]
    assert all(condition[0][i] != condition[1][i] for i in condition[0])
    orders = [[s.item for s in slots if s.read == 1 and s.kind == "main"] for slots in (first, second)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
    assert design.schedule(items, PAPER, reader=0, seed=5) == first


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 50), st.integers(0, 2**30))
def test_training_first_and_repeats_far_apart(reader: int, seed: int) -> None:
    items = [design.Item(i, f"c{i}", "Mass", i % 2, 0.9, training=i > 60) for i in range(1, 65)]
    slots = design.schedule(items, PAPER, reader=reader, seed=seed)
    repeats = [s for s in slots if s.kind == "repeat"]
    assert len(repeats) == PAPER.cases.repeats
    for read in (1, 2):
        here = [s for s in slots if s.read == read]
        kinds = [s.kind for s in here]
        assert "training" not in kinds[4 if read == 1 else 0 :]
        place = {s.item: s.position for s in here if s.kind == "main"}
        for s in here:
            if s.kind == "repeat":
                assert s.position - place[s.item] >= 20
                assert s.condition == next(x.condition for x in here if x.item == s.item)


def test_one_condition_a_read_when_readers_are_counterbalanced(items: list[design.Item]) -> None:
    text = config.default_text().replace("counterbalance: case", "counterbalance: reader")
    slots = [design.schedule(items, config.parse(text), reader=r, seed=5) for r in (0, 1)]
    seen = [[{s.condition for s in own if s.read == read} for read in (1, 2)] for own in slots]
    assert seen == [[{"traditional"}, {"latentshift"}], [{"latentshift"}, {"traditional"}]]


def test_washout() -> None:
    assert design.opens_at(1, {}, 28) == 0
    assert design.opens_at(2, {}, 28) is None
    assert design.opens_at(2, {1: 5}, 28) == 5 + 28 * 86_400_000


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("points: 5", "points: 12", "points from 2 to 9"),
        ("points: 5", "points: five", "expected int at study.points, got 'five'"),
        ("lock: read", "lock: sometimes", "one of never, case, read at order.lock"),
        ("key: feature", "key: confidence", "distinct keys .* at questions"),
        ("key: feature", "key: truth", "no question named like a column"),
        ("per_target: 40", "per_target: 40\n  colour: red", r"unknown \['colour'\]"),
        ("title: Do", "titel: Do", r"unknown \['titel'\] and no \['title'\]"),
        ("questions:", "questions: []\nold:", "at least one entry at study.questions"),
        ("points: 5", "points: [", "expected YAML"),
    ],
)
def test_configuration_mistakes_are_named(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config.parse(config.default_text().replace(old, new, 1))


def test_any_number_of_conditions_and_questions() -> None:
    text = config.default_text().replace(
        "cases:\n",
        "  - key: none\n    label: Method C\n    panels: [{key: map, title: Map, about: A map.}]\ncases:\n",
        1,
    )
    setup = config.parse(text.replace("questions:\n", 'questions:\n  - {key: trust, text: "Trust it?"}\n', 1))
    assert [c.key for c in setup.conditions] == ["traditional", "latentshift", "none"] and len(setup.questions) == 3
    items = [design.Item(i, f"c{i}", "Mass", i % 2, 0.9) for i in range(1, 61)]
    slots = [s for s in design.schedule(items, setup, reader=3, seed=1) if s.kind == "main"]
    assert Counter((s.item, s.condition) for s in slots).most_common(1)[0][1] == 1 and len(slots) == 180


def test_time_in_view() -> None:
    e = timing.Event
    assert np.isnan(timing.seconds([e(0, "a", "visible")]))
    assert timing.seconds([e(0, "a", "visible"), e(7000, "a", "answer")]) == 7.0
    hidden = [e(0, "a", "visible"), e(2000, "a", "hidden"), e(60_000, "a", "visible"), e(61_000, "a", "answer")]
    assert timing.seconds(hidden) == 3.0
    asleep = [e(0, "a", "visible"), e(3_600_000, "a", "answer")]
    assert timing.seconds(asleep) == 45.0  # no sign of life: the machine slept
    beats = [e(0, "a", "visible"), *(e(15_000 * k, "a", "beat") for k in range(1, 9)), e(130_000, "a", "answer")]
    assert timing.seconds(beats) == 130.0
    tabs = [e(0, "a", "visible"), e(1000, "b", "visible"), e(5000, "b", "answer")]
    assert timing.seconds(tabs) == 5.0  # two tabs count once
    late = [*hidden, e(62_000, "a", "beat"), e(90_000, "a", "hidden")]
    assert timing.seconds(late) == 3.0  # looking on after the last answer does not count
