"""How the process holds memory: large arrays are made and dropped at every layer of a network."""

import ctypes
import os

PARAMETERS = {
    -8: 1,  # M_ARENA_MAX: one heap for all threads, else each thread would keep a peak of its own
    -4: 0,  # M_MMAP_MAX: nothing is mapped by itself
    -1: -1,  # M_TRIM_THRESHOLD: the end of the heap is never given back
    -2: 2**26,  # M_TOP_PAD: the heap grows by so many bytes at least
}
"""Of glibc's mallopt, in the order in which they are set."""
TUNED = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
"""With any of these the environment has decided already."""


def keep_freed() -> bool:
    """Keep freed memory for the next large array instead of giving it back to the system, for the rest of the process.

    glibc maps arrays of more than some 32 MB anew each time, and the system clears each page when it is first touched: for the
    layers of a network that can cost more than computing them, most of all in sandboxes, where a page fault is dear. A
    program's business, not a library's: training commands call it, before they start threads. Explaining does not: its
    arrays are smaller, and there it saves nothing (measured). The process keeps the most that it ever held. Does nothing and returns False where the allocator is not glibc's or
    the environment tunes or replaces it already (`TUNED`, `GLIBC_TUNABLES`, `LD_PRELOAD` of a library named malloc).
    """
    environment = os.environ
    if any(name in environment for name in TUNED) or "glibc.malloc." in environment.get("GLIBC_TUNABLES", ""):
        return False
    if "malloc" in environment.get("LD_PRELOAD", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no shared C library, another one, Windows
        return False
    return all(mallopt(parameter, value) for parameter, value in PARAMETERS.items())
