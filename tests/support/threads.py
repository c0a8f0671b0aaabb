"""Work that several threads do at once."""

import threading
from collections.abc import Callable


def failures_of_three(work: Callable[[], object]) -> list[Exception]:
    """What `work` raised in three threads that did it at the same time."""
    failed: list[Exception] = []

    def guarded() -> None:
        try:
            work()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed
