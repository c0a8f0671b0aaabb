"""Laws of the plan: every row exactly once, however the work is split and wherever it was stopped."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifsplain.batch import plan
from gifsplain.batch.plan import Item, Key, Shard
from gifsplain.errors import ConfigurationError, InputError
from gifsplain.io.manifest import Case

TARGETS = ("a", "b", "c")


@st.composite
def item_lists(draw: st.DrawFn) -> list[Item]:
    count = draw(st.integers(0, 40))
    chosen = [draw(st.lists(st.sampled_from(TARGETS), min_size=1, unique=True)) for _ in range(count)]
    return plan.make_items([Case(f"c{i}", Path(f"{i}.png"), targets=tuple(t)) for i, t in enumerate(chosen)], ())


def keys(items: list[Item]) -> list[Key]:
    return [key for item in items for key in item.keys]


@given(items=item_lists(), count=st.integers(1, 9), size=st.integers(1, 7))
def test_shards_and_parts_hold_every_row_once(items: list[Item], count: int, size: int) -> None:
    shards = [plan.own(items, Shard(index, count)) for index in range(count)]
    parts = [part for shard in shards for part in plan.make_parts(shard, size)]
    found = [key for part in parts for item in part.items for key in item.keys]
    assert sorted(found) == sorted(keys(items))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert all(1 <= len(part.items) <= size for part in parts)
    assert len({part.name for part in parts}) == len(parts)


@given(items=item_lists(), data=st.data(), counts=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_resuming_with_another_number_of_workers_loses_and_doubles_nothing(
    items: list[Item], data: st.DataObject, counts: tuple[int, int]
) -> None:
    """Any set of parts may have been committed before the kill."""
    first = [p for i in range(counts[0]) for p in plan.make_parts(plan.own(items, Shard(i, counts[0])), 3)]
    kept = [part for part in first if data.draw(st.booleans())]
    done = {key for part in kept for item in part.items for key in item.keys}
    again = [plan.remaining(plan.own(items, Shard(i, counts[1])), done) for i in range(counts[1])]
    assert sorted([*done, *(key for shard in again for key in keys(shard))]) == sorted(keys(items))


@given(items=item_lists())
def test_the_plan_is_stable(items: list[Item]) -> None:
    names = [part.name for part in plan.make_parts(items, 4)]
    assert names == [part.name for part in plan.make_parts(list(items), 4)]
    assert plan.remaining(items, set(keys(items))) == []
    assert plan.remaining(items, set()) == items


def test_identity_tells_content_target_and_configuration_apart() -> None:
    base = ("sha", "Mass", "conf")
    found = {plan.identity(*base), plan.identity("other", *base[1:]), plan.identity("sha", "Edema", "conf")}
    assert len({*found, plan.identity("sha", "Mass", "other")}) == 4
    assert plan.identity(*base) == plan.identity(*base)


def test_every_spelling_of_a_path_has_one_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.png").touch()
    (tmp_path / "link").symlink_to("images")
    monkeypatch.chdir(tmp_path)
    spelt = ["images/x.png", tmp_path / "images" / "x.png", "link/x.png", "images/../images/x.png"]
    cases = [Case("x", Path(path)) for path in spelt]
    assert len({plan.path_hash(case) for case in cases}) == 1
    assert plan.path_hash(Case("x", Path("images/y.png"))) != plan.path_hash(cases[0])
    as_spelt = hashlib.sha256(b"images/x.png").hexdigest()[:16]  # what older folders hold
    assert all(as_spelt in plan.path_hashes(case) for case in cases[:2])


def test_cases_need_targets_and_names() -> None:
    with pytest.raises(InputError, match="expected a target for every case, none for x"):
        plan.make_items([Case("x", Path("x.png"))], ())
    with pytest.raises(InputError, match="'x' twice"):
        plan.make_items([Case("x", Path("1.png")), Case("X", Path("2.png"))], ("a",))
    own = plan.make_items([Case("x", Path("x.png"), targets=("b",)), Case("y", Path("y.png"))], ("a", "a"))
    assert [item.targets for item in own] == [("b",), ("a",)]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"RANK": "2", "WORLD_SIZE": "4"}, Shard(2, 4)),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, Shard(3, 8)),
        (
            {"SLURM_STEP_ID": "2", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "8"},
            Shard(1, 4),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),  # a batch script, started once
        ({"SLURM_STEP_ID": "batch", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),
        ({"SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),  # an interactive shell
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "7", "SLURM_ARRAY_TASK_MAX": "7"}, Shard(0, 1)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "1",
                "SLURM_ARRAY_TASK_MAX": "2",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_PROCID": "0",
                "SLURM_NTASKS": "8",
            },
            Shard(1, 3),
        ),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "6"}, Shard(4, 6)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "30",
                "SLURM_ARRAY_TASK_MIN": "10",
                "SLURM_ARRAY_TASK_STEP": "10",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_STEP_ID": "0",
                "SLURM_PROCID": "1",
                "SLURM_NTASKS": "8",
            },
            Shard(17, 24),
        ),
    ],
)
def test_place_from_the_environment(environment: dict[str, str], expected: Shard | None) -> None:
    assert plan.shard_from_environment(environment) == expected


@pytest.mark.parametrize("element", ["3", "7"])
def test_an_array_with_gaps_is_refused(element: str) -> None:
    """As of `--array=3,7`."""
    array = {"MIN": "3", "MAX": "7", "COUNT": "2", "STEP": "1", "ID": element}
    environment = {f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()}
    with pytest.raises(
        ConfigurationError, match="got 2 elements from 3 to 7; submit a whole range, such as --array=0-1"
    ):
        plan.shard_from_environment(environment)


def test_a_place_lies_among_its_count() -> None:
    with pytest.raises(ConfigurationError, match="from 0 to 3 among 4, got 4"):
        Shard(4, 4)
