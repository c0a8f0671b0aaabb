"""The server's clock, in one place so that tests can set it."""

import time


def now() -> int:
    """Milliseconds since 1970 in UTC."""
    return time.time_ns() // 1_000_000
