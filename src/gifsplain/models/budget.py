"""Batches that fit into memory: as many images at once as a number of bytes allows, half of that after too many."""

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

log = logging.getLogger(__name__)

T = TypeVar("T")

_CPU_MESSAGES = ("not enough memory", "can't allocate memory", "cannot allocate memory")


UNLIMITED = 1 << 30


@dataclass
class Budget:
    """How many images may pass through the networks at once, as far as memory goes; learnt on the way.

    `size` is lowered when one image is found to take more than its share of the bytes, and halved each time memory runs
    out; it stays low, so that a long run meets the limit once.
    """

    bytes: int | None = None
    """None sets no limit: only running out of memory lowers `size`."""
    size: int = UNLIMITED
    measured: int = 0
    """Bytes that one image was found to take; 0 before."""

    def fit(self, bytes_each: int) -> None:
        """Lower `size` to what images of so many bytes allow; never below 1."""
        self.measured = max(self.measured, bytes_each)
        if self.bytes is not None and bytes_each > 0:
            self.size = max(1, min(self.size, self.bytes // bytes_each))

    def most(self, wanted: int) -> int:
        """The batch size to use where `wanted` is the largest that is asked for."""
        return max(1, min(wanted, self.size))

    def halve(self, failed: int) -> None:
        """Half of the batch that failed; called after memory ran out."""
        self.size = max(1, failed // 2)


def in_parts(work: Callable[[slice], T], count: int, budget: Budget, wanted: int = UNLIMITED) -> list[T]:
    """`work` on consecutive slices that cover `count` items, each at most `wanted` and what the budget allows.

    Slices are nearly equal: 21 items in parts of 16 are 11 and 10. After running out of memory the batch is halved and the
    work goes on where it stood; `work` must treat every item for itself and keep nothing when it fails.

    Raises:
        RuntimeError: What `work` raised when even one item does not fit, and every other error of it.
    """
    done: list[T] = []
    start = 0
    while start < count:
        left = count - start
        step = -(-left // -(-left // budget.most(wanted)))
        try:
            done.append(work(slice(start, start + step)))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or step <= 1:
                raise
            budget.halve(step)
            log.warning("memory ran out with %d images at once; going on with %d", step, budget.size)
        else:
            start += step
            continue
        free_memory()
    return done


def in_chunks(work: Callable[[Tensor], Tensor], items: Tensor, budget: Budget, wanted: int = UNLIMITED) -> Tensor:
    """`work(items)` computed in parts as by `in_parts`; the same as in one piece."""
    if len(items) == 0:
        return work(items)
    return torch.cat(in_parts(lambda part: work(items[part]), len(items), budget, wanted))


def free_bytes(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where nothing tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _CPU_MESSAGES)


def free_memory() -> None:
    """Give back what the failed batch held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Peak(TorchDispatchMode):
    """Counts the bytes of all tensors made inside it that are alive, and remembers the most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@contextmanager
def peak_bytes() -> Iterator[Callable[[], int]]:
    """Most bytes that tensors made inside the block took at the same time; the value is a function that tells it.

    Counts what operators return, not their scratch space; the same on every device.
    """
    mode = _Peak()
    with mode:
        yield lambda: mode.most
