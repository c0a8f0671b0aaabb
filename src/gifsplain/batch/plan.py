"""Which work there is and who does it: pure functions from cases to parts, the same in every process."""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gifsplain.errors import ConfigurationError, InputError
from gifsplain.io.manifest import Case

Key = tuple[str, str]
"""Case and target: one row of the results."""


@dataclass(frozen=True)
class Item:
    """One case with the targets that are to be explained."""

    case: Case
    targets: tuple[str, ...]

    @property
    def keys(self) -> tuple[Key, ...]:
        """One for each target."""
        return tuple((self.case.name, target) for target in self.targets)


@dataclass(frozen=True)
class Part:
    """Items that are committed together; the name says what is in it."""

    name: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Shard:
    """Place `index` among `count` processes that share the work."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigurationError(
                f"expected a place from 0 to {self.count - 1} among {self.count}, got {self.index}"
            )


def path_hash(case: Case) -> str:
    """Short hash of where a case's file is: tells files apart without writing down where they lie.

    Relative or absolute, through links or not: every spelling of a path gives the same hash.
    """
    return _short_hash(os.path.realpath(case.path))


def path_hashes(case: Case) -> set[str]:
    """Every hash that a row of this case may have: older folders hash the path as it was spelt when they were made."""
    path = case.path
    spelt = {str(path), str(path.absolute()), os.path.normpath(path.absolute()), os.path.relpath(path)}
    return {path_hash(case), *map(_short_hash, spelt)}


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def identity(content: str, target: str, configuration: str) -> str:
    """What a result is of: hash of the file's content hash, the target and the configuration hash."""
    return hashlib.sha256("\n".join((content, target, configuration)).encode()).hexdigest()[:24]


def make_items(cases: Sequence[Case], targets: Sequence[str]) -> list[Item]:
    """Every case with its own targets from the manifest, or else with `targets`; the order of `cases`.

    Raises:
        InputError: When a case has no target, or two cases have one name.
    """
    items = [Item(case, tuple(dict.fromkeys(case.targets or targets))) for case in cases]
    without = [item.case.name for item in items if not item.targets]
    if without:
        raise InputError(
            f"expected a target for every case, none for {', '.join(without[:5])}; name one with --targets"
        )
    names = [case.name.casefold() for case in cases]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"expected a different name for every case, got {twice!r} twice; see io.manifest.find_cases")
    return items


def own(items: Sequence[Item], shard: Shard) -> list[Item]:
    """The items of one process: every `count`-th of all, so shares differ by at most one and ignore progress."""
    return list(items[shard.index :: shard.count])


def remaining(items: Sequence[Item], done: Collection[Key]) -> list[Item]:
    """Items without the targets that are done; items with nothing left are dropped."""
    left = []
    for item in items:
        targets = tuple(target for target, key in zip(item.targets, item.keys, strict=True) if key not in done)
        if targets:
            left.append(replace(item, targets=targets))
    return left


def make_parts(items: Sequence[Item], size: int) -> list[Part]:
    """Consecutive groups of `size` items, in order."""
    groups = [tuple(items[start : start + size]) for start in range(0, len(items), size)]
    return [Part(_name(group), group) for group in groups]


def _name(items: Sequence[Item]) -> str:
    text = "\n".join("\t".join(key) for item in items for key in item.keys)
    return f"part-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:20]}"


def shard_from_environment(environment: Mapping[str, str] = os.environ) -> Shard | None:
    """This process's place under torchrun or SLURM; None where neither has started it.

    torchrun sets RANK and WORLD_SIZE. Under SLURM, every task of srun in every element of an array is one place. A batch
    script is none, for it runs once, however many tasks its job has; SLURM sets SLURM_PROCID and SLURM_NTASKS there too.

    Raises:
        ConfigurationError: When the elements of an array are no range, so that nobody knows which place is whose.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return Shard(int(environment["RANK"]), int(environment["WORLD_SIZE"]))
    task, element = _srun_task(environment), _array_element(environment)
    if task is None and element is None:
        return None
    inner, outer = task or Shard(), element or Shard()
    return Shard(outer.index * inner.count + inner.index, outer.count * inner.count)


_OWN_STEPS = 0xFFFFFFF0
"""srun numbers its steps from 0; numbers from here on are SLURM's own steps, as that of an interactive shell."""


def _srun_task(environment: Mapping[str, str]) -> Shard | None:
    """The place among the tasks of a step that srun has started; only srun sets SLURM_STEP_ID."""
    step = environment.get("SLURM_STEP_ID", "")
    if not step.isdigit() or int(step) >= _OWN_STEPS or "SLURM_PROCID" not in environment:
        return None
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS", "1")
    return Shard(int(environment["SLURM_PROCID"]), int(tasks))


def _array_element(environment: Mapping[str, str]) -> Shard | None:
    """The place among the elements of a SLURM array."""
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return None
    first = int(environment.get("SLURM_ARRAY_TASK_MIN", "0"))
    count = int(environment.get("SLURM_ARRAY_TASK_COUNT", "1"))
    step = int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
    last = int(environment.get("SLURM_ARRAY_TASK_MAX", first + (count - 1) * step))
    place, rest = divmod(int(environment["SLURM_ARRAY_TASK_ID"]) - first, step)
    if rest or last - first != (count - 1) * step:
        raise ConfigurationError(
            f"expected a SLURM array without gaps, got {count} elements from {first} to {last}; submit a whole range, "
            f"such as --array=0-{count - 1}: what is finished is not done again"
        )
    return Shard(place, count)
