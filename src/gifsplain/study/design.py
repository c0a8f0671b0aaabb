"""Which cases are read, by whom, when and under which condition: pure functions of a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import optimize

from gifsplain.errors import InputError
from gifsplain.study.config import Cases, Config

Kind = Literal["training", "main", "repeat"]
DAY = 86_400_000
"""Milliseconds."""


@dataclass(frozen=True)
class Item:
    """A case and target of the study; `number` is its place in the design, not what readers see."""

    number: int
    case: str
    target: str
    truth: int
    score: float
    training: bool = False


@dataclass(frozen=True)
class Slot:
    """One page of one reader: reads and positions count from 1."""

    read: int
    position: int
    item: int
    condition: str
    kind: Kind


def choose(pool: pd.DataFrame, cases: Cases, seed: int) -> list[Item]:
    """The study's items: a seeded draw with no image twice, balanced by target and truth, training items last.

    `pool` has case, target, truth, score and perhaps split. Only predictions above the operating point count. Raises
    `InputError` that lists every target and truth with too few cases.
    """
    usable = pool[pool["score"] > cases.operating_point]
    if "split" in usable:
        usable = usable[usable["split"] == cases.split]
    wrong = round(cases.per_target * cases.false_positives)
    wanted = [(t, truth, n) for t in cases.targets for truth, n in ((1, cases.per_target - wrong), (0, wrong)) if n]
    short = _short(usable, wanted)
    if short:
        raise InputError(
            f"expected enough predictions above {cases.operating_point:g}"
            + (f" in split {cases.split!r}" if "split" in pool else "")
            + f", got too few: {'; '.join(short)}; give more cases or lower cases.per_target"
        )
    generator = np.random.Generator(np.random.PCG64(seed))
    main = _match(usable, wanted, generator)
    rest = usable[~usable["case"].isin({case for case, _ in main})]
    practice = _practice(rest, cases, generator)
    facts = {(r["case"], r["target"]): (int(r["truth"]), float(r["score"])) for r in usable.to_dict("records")}
    return [Item(i, c, t, *facts[c, t], training=i > len(main)) for i, (c, t) in enumerate([*main, *practice], start=1)]


def _short(usable: pd.DataFrame, wanted: Sequence[tuple[str, int, int]]) -> list[str]:
    counts = usable.groupby(["target", "truth"]).size().to_dict()
    return [
        f"{target}, truth {truth}: {counts.get((target, truth), 0)} of {n}"
        for target, truth, n in wanted
        if counts.get((target, truth), 0) < n
    ]


def _match(
    usable: pd.DataFrame, wanted: Sequence[tuple[str, int, int]], generator: np.random.Generator
) -> list[tuple[str, str]]:
    """Random assignment of images to strata, each image at most once (a minimum-cost matching with random costs)."""
    images = sorted(usable["case"].unique())
    column = {case: j for j, case in enumerate(images)}
    slots = [(target, truth) for target, truth, n in wanted for _ in range(n)]
    chance = generator.random(len(images))
    cost = np.full((len(slots), len(images)), 1e6)
    groups = {key: [column[c] for c in rows["case"]] for key, rows in usable.groupby(["target", "truth"])}
    for i, key in enumerate(slots):
        cost[i, groups[key]] = chance[groups[key]]
    if len(slots) > len(images):
        raise InputError(f"expected {len(slots)} different images, got {len(images)}; lower cases.per_target")
    rows, columns = optimize.linear_sum_assignment(cost)
    if cost[rows, columns].max() >= 1e6:
        raise InputError(
            "expected every image in one target only, but too many are shared between targets; give more cases"
        )
    return [(images[j], slots[i][0]) for i, j in zip(rows, columns, strict=True)]


def _practice(rest: pd.DataFrame, cases: Cases, generator: np.random.Generator) -> list[tuple[str, str]]:
    rest = rest[rest["target"].isin(cases.targets)].sort_values(["case", "target"])
    order = generator.permutation(len(rest))
    picked: dict[str, str] = {}
    for i in order:
        if len(picked) < cases.training:
            picked.setdefault(str(rest.iloc[i]["case"]), str(rest.iloc[i]["target"]))
    if len(picked) < cases.training:
        raise InputError(
            f"expected {cases.training} further images for training, got {len(picked)}; lower cases.training"
        )
    return list(picked.items())


def sequences(conditions: Sequence[str]) -> list[tuple[str, ...]]:
    """Orders of the conditions balanced for position and for what came just before (Williams 1949).

    As many as conditions where their number is even, twice as many where it is odd.

    >>> sequences(["a", "b"])
    [('a', 'b'), ('b', 'a')]
    """
    n = len(conditions)
    zigzag = [0]
    for step in range(1, n):
        zigzag.append((zigzag[-1] + (step if step % 2 else -step)) % n)
    rows = [[(z + shift) % n for z in zigzag] for shift in range(n)]
    if n % 2 and n > 1:
        rows += [row[::-1] for row in rows]
    return [tuple(conditions[i] for i in row) for row in rows]


def schedule(items: Sequence[Item], config: Config, *, reader: int, seed: int) -> list[Slot]:
    """Every page of one reader (numbered from 0), in order; the same seed gives the same pages.

    Every item is seen once under each condition, one read each. Within each target and truth the orders of conditions
    are spread evenly over cases and rotated by reader (`counterbalance: case`), or each reader keeps one order.
    """
    keys = [c.key for c in config.conditions]
    orders = sequences(keys)
    turn = (
        _turns(items, len(orders), seed)
        if config.order.counterbalance == "case"
        else dict.fromkeys((i.number for i in items), 0)
    )
    slots: list[Slot] = []
    for read in range(1, len(keys) + 1):
        generator = np.random.Generator(np.random.PCG64([seed, reader, read]))
        condition = {i.number: orders[(turn[i.number] + reader) % len(orders)][read - 1] for i in items}
        pages = _practice_pages(items, config, read, condition) + _read_pages(items, config, (reader, read), generator)
        slots += [Slot(read, p, item, condition[item], kind) for p, (item, kind) in enumerate(pages, start=1)]
    return slots


def _turns(items: Sequence[Item], orders: int, seed: int) -> dict[int, int]:
    """Which order each item begins with: even within target and truth, continued over strata."""
    generator = np.random.Generator(np.random.PCG64([seed, 2**31]))
    turns: dict[int, int] = {}
    strata: dict[tuple[bool, str, int], list[int]] = {}
    for item in items:
        strata.setdefault((item.training, item.target, item.truth) if not item.training else (True, "", 0), []).append(
            item.number
        )
    start = 0
    for numbers in strata.values():
        for j, number in enumerate(generator.permutation(numbers)):
            turns[int(number)] = (start + j) % orders
        start += len(numbers)
    return turns


def _practice_pages(
    items: Sequence[Item], config: Config, read: int, condition: dict[int, str]
) -> list[tuple[int, Kind]]:
    if read > 1 and config.order.counterbalance == "case":
        return []  # the first read already showed every condition
    return [(i.number, "training") for i in items if i.training]


def _read_pages(
    items: Sequence[Item], config: Config, place: tuple[int, int], generator: np.random.Generator
) -> list[tuple[int, Kind]]:
    """Main items shuffled; repeats of early items among the last third, so that a third of the read lies between."""
    main = [int(n) for n in generator.permutation([i.number for i in items if not i.training])]
    reads, (reader, read) = len(config.conditions), place
    repeats = (config.cases.repeats + (read - 1 + reader) % reads) // reads
    third = max(1, len(main) // 3)
    if repeats > third:
        raise InputError(f"expected at most {third * reads} repeats for {len(main)} cases, got {config.cases.repeats}")
    pages: list[tuple[int, Kind]] = [(n, "main") for n in main]
    for n in generator.permutation(main[:third])[:repeats]:
        pages.insert(int(generator.integers(2 * third, len(pages) + 1)), (int(n), "repeat"))
    return pages


def opens_at(read: int, finished: dict[int, int], washout_days: float) -> int | None:
    """When a read may begin, in milliseconds: 0 for the first, None while the read before is not finished.

    >>> opens_at(2, {1: 1000}, 1.0)
    86401000
    """
    if read == 1:
        return 0
    return finished[read - 1] + round(washout_days * DAY) if read - 1 in finished else None
