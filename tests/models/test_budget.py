"""Batches adapt to memory: fake limits, laws, and a known peak."""

import itertools
from unittest.mock import Mock, patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gifsplain.models.budget import Budget, free_bytes, in_chunks, in_parts, out_of_memory, peak_bytes


@given(count=st.integers(1, 40), fits=st.integers(1, 12), size=st.integers(1, 64))
@patch(
    "gifsplain.models.budget.gc.collect", Mock()
)  # each failure collects garbage: half a second with all that tests load
def test_out_of_memory_halves_the_batch_and_nothing_is_lost(count: int, fits: int, size: int) -> None:
    seen: list[int] = []

    def work(items: Tensor) -> Tensor:
        seen.append(len(items))
        if len(items) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return items * 2

    items = torch.arange(count).float()
    budget = Budget(size=size)
    assert torch.equal(in_chunks(work, items, budget), items * 2)
    assert budget.size <= max(fits, size) and all(b <= a for a, b in itertools.pairwise(seen))
    before = len(seen)
    in_chunks(work, items, budget)
    assert max(seen[before:]) <= fits  # learnt once


def test_one_item_that_does_not_fit_is_an_error() -> None:
    def work(items: Tensor) -> Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(RuntimeError, match="can't allocate memory"):
        in_chunks(work, torch.zeros(3), Budget(size=4))


def test_other_errors_pass_through() -> None:
    calls: list[int] = []

    def work(items: Tensor) -> Tensor:
        calls.append(len(items))
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        in_chunks(work, torch.zeros(4), Budget(size=4))
    assert calls == [4]
    assert not out_of_memory(ValueError("out of memory of another kind"))
    assert out_of_memory(MemoryError())


@pytest.mark.parametrize(
    ("limit", "each", "expected"), [(1000, 100, 10), (50, 100, 1), (10_000, 100, 16), (None, 100, 16)]
)
def test_a_byte_budget_sets_the_batch(limit: int | None, each: int, expected: int) -> None:
    budget = Budget(limit, size=16)
    budget.fit(each)
    assert budget.size == expected


def test_peak_counts_what_is_alive_at_the_same_time() -> None:
    x = torch.rand(100, 100)
    with peak_bytes() as peak:
        for _ in range(5):
            y = x + 1
            y = y.relu()
    assert 80_000 <= peak() <= 120_000
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU())
    peaks = []
    for count in (1, 4):
        with peak_bytes() as peak, torch.no_grad():
            net(torch.zeros(count, 1, 34, 34))
        peaks.append(peak())
    assert peaks[1] == pytest.approx(4 * peaks[0], rel=0.05)


@given(count=st.integers(0, 60), wanted=st.integers(1, 20), size=st.integers(1, 20))
def test_parts_cover_all_and_are_nearly_equal(count: int, wanted: int, size: int) -> None:
    parts = in_parts(lambda part: list(range(count))[part], count, Budget(size=size), wanted)
    assert [item for part in parts for item in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert len(parts) == -(-count // min(wanted, size))
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_what_is_free_is_known_here() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None or free > 1_000_000
