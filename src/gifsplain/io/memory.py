"""How the process holds memory: large arrays are made and dropped at every layer of a network."""

import ctypes
import os

MMAP_MAX, TRIM_THRESHOLD, TOP_PAD = -4, -1, -2
"""Parameters of glibc's mallopt."""
KEPT = 2**31 - 1
"""Bytes at the end of the heap that stay with the process when they are free: the most that mallopt takes."""
PAD = 2**26
"""Bytes by which the heap grows at least."""


def keep_freed() -> bool:
    """Keep freed memory for the next large array instead of giving it back to the system, for the rest of the process.

    glibc maps arrays of more than some 32 MB anew each time, and the system clears each page when it is first touched: for the
    layers of a network that can cost more than computing them, most of all in sandboxes, where a page fault is dear. A
    program's business, not a library's: the commands and their worker processes call it. Does nothing and returns False
    where the allocator is not glibc's or the environment tunes it already (`GLIBC_TUNABLES`, `MALLOC_..._`).
    """
    if any(name == "GLIBC_TUNABLES" or (name.startswith("MALLOC_") and name.endswith("_")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no shared C library, another one, Windows
        return False
    return all(
        mallopt(parameter, value) for parameter, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, KEPT), (TOP_PAD, PAD))
    )
