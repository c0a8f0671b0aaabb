"""Seconds that a reader looked at a case, from events that the server stamped."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

SILENCE = 45_000
"""Milliseconds without a sign of life after which a visible page counts no longer; pages send one every 15 s."""


@dataclass(frozen=True)
class Event:
    """Something that a page reported; `at` in milliseconds by the server's clock, `page` one opening of the page."""

    at: int
    page: str
    kind: Literal["visible", "hidden", "beat", "answer"]


def seconds(events: Iterable[Event]) -> float:
    """Time that the case was visible until its last answer; nan without an answer. Two open tabs count once.

    >>> seconds([Event(0, "a", "visible"), Event(4000, "a", "hidden"), Event(9000, "a", "visible"), Event(10000, "a", "answer")])
    5.0
    """
    ordered = sorted(events, key=lambda e: e.at)
    end = max((e.at for e in ordered if e.kind == "answer"), default=None)
    if end is None:
        return float("nan")
    spans = []
    for page in {e.page for e in ordered}:
        own = [e for e in ordered if e.page == page]
        for now, later in zip(own, [*own[1:], Event(end, page, "hidden")], strict=True):
            if now.kind != "hidden" and now.at < end:
                spans.append((now.at, min(later.at, end, now.at + SILENCE)))
    return _union(spans) / 1000


def _union(spans: list[tuple[int, int]]) -> int:
    total, reached = 0, -1
    for start, stop in sorted(spans):
        total += max(0, stop - max(start, reached))
        reached = max(reached, stop)
    return total
