"""Batches that fit into memory: as many images at once as a number of bytes allows, half of that after too many."""

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

log = logging.getLogger(__name__)

_CPU_MESSAGES = ("not enough memory", "can't allocate memory", "cannot allocate memory")


@dataclass
class Budget:
    """How many bytes a batch may take, and the batch size that was learnt from it.

    `size` starts as the largest that is wanted. It is lowered when one image is found to take more than its share and
    halved each time memory runs out; it stays low, so that a long run meets the limit once.
    """

    bytes: int | None = None
    """None sets no limit: only running out of memory lowers `size`."""
    size: int = 16

    def fit(self, bytes_each: int) -> None:
        """Lower `size` to what images of so many bytes allow; never below 1."""
        if self.bytes is not None and bytes_each > 0:
            self.size = max(1, min(self.size, self.bytes // bytes_each))

    def halve(self) -> None:
        """Half of the batch; called after memory ran out."""
        self.size = max(1, self.size // 2)


def in_chunks(work: Callable[[Tensor], Tensor], items: Tensor, budget: Budget) -> Tensor:
    """`work(items)` computed in batches of at most `budget.size`, in order; the same as in one piece.

    `work` must treat every item for itself and keep nothing when it fails.

    Raises:
        RuntimeError: What `work` raised when even one item does not fit, and every other error of it.
    """
    done: list[Tensor] = []
    start = 0
    while start < len(items) or not done:
        part = items[start : start + budget.size]
        try:
            done.append(work(part))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or len(part) <= 1:
                raise
            budget.size = len(part)
            budget.halve()
            log.warning("memory ran out with %d images at once; going on with %d", len(part), budget.size)
        else:
            start += len(part)
            continue
        free_memory()
    return torch.cat(done)


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
