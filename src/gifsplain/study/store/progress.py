"""How far everybody is, and the answers as the long table that the analysis reads."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sqlmodel import Session, col, func, select

from gifsplain.study import design, timing
from gifsplain.study.statistics import table as tables
from gifsplain.study.store import settings
from gifsplain.study.store.answers import finished_reads
from gifsplain.study.store.clock import now
from gifsplain.study.store.engine import Store
from gifsplain.study.store.records import Answer, Audit, Item, Person, Presentation, Viewing


@dataclass(frozen=True)
class Page:
    """A line of the reader's list."""

    key: str
    position: int
    target: str
    kind: str
    answered: int
    locked: bool
    comment: bool


@dataclass(frozen=True)
class Read:
    """A read of one reader; `opens` is 0 where it may begin, None where nobody knows yet."""

    number: int
    pages: tuple[Page, ...]
    complete: int
    opens: int | None
    finished: int | None
    now: int

    @property
    def open(self) -> bool:
        """Whether its pages may be seen now."""
        return self.finished is None and self.opens is not None and self.opens <= self.now

    @property
    def training_left(self) -> int:
        """Training cases without all answers: until 0 the other cases are closed."""
        return sum(p.kind == "training" for p in self.pages) - self._trained

    _trained: int = 0


def reads(session: Session, person_id: int) -> list[Read]:
    """All reads of a reader with their pages in order."""
    setup = settings.load(session)
    questions = len(setup.config.questions)
    query = select(Presentation, Item.target).where(
        Presentation.person_id == person_id, Item.id == Presentation.item_id
    )
    finished, at = finished_reads(session, person_id), now()
    by_read: dict[int, list[Page]] = {}
    for p, target in session.exec(query.order_by(col(Presentation.read), col(Presentation.position))):
        by_read.setdefault(p.read, []).append(
            Page(p.key, p.position, target, p.kind, p.answered, p.locked, bool(p.comment))
        )
    found = []
    for number, pages in by_read.items():
        opens = design.opens_at(number, finished, setup.config.order.washout_days)
        done = [p for p in pages if p.answered == questions]
        trained = sum(p.kind == "training" for p in done)
        found.append(Read(number, tuple(pages), len(done), opens, finished.get(number), at, trained))
    return found


@dataclass(frozen=True)
class ReaderState:
    """A line of the administrator's page."""

    id: int
    name: str
    revoked: bool
    last: int | None
    """When the last answer came."""
    reads: tuple[tuple[int, int, bool], ...]
    """Complete cases, cases, finished; one per read."""


def overview(session: Session) -> list[ReaderState]:
    """All readers in the order in which they were added."""
    found = []
    for person in session.exec(select(Person).where(Person.role == "reader").order_by(col(Person.number))):
        last = session.exec(
            select(func.max(Audit.at)).where(Audit.person_id == person.id, col(Audit.action).in_(("answer", "change")))
        ).one()
        states = tuple((r.complete, len(r.pages), r.finished is not None) for r in reads(session, person.id or 0))
        found.append(ReaderState(person.id or 0, person.name, person.revoked, last, states))
    return found


def table(store: Store, conditions: Sequence[str] = ()) -> tables.Table:
    """The checked long table of all analysed pages that have at least one answer; training is left out."""
    with store.read() as session:
        setup = settings.load(session)
        rows = _rows(session, tuple(q.key for q in setup.config.questions))
    keys = [c.key for c in setup.config.conditions]
    questions = tuple(q.key for q in setup.config.questions)
    raw = pd.DataFrame(rows, columns=[*tables.KEYS, *questions, "iou", "seconds", "repeat"]).astype(str)
    present = [k for k in keys if k in set(raw["condition"])]
    return tables.from_text(
        raw, questions=questions, conditions=conditions or present, points=setup.config.points, partial=True
    )


def comments(store: Store) -> pd.DataFrame:
    """What readers wrote on pages, training left out: reader, read, case, target, condition, comment."""
    query = select(Presentation, Item, Person.name).where(
        Item.id == Presentation.item_id, Person.id == Presentation.person_id, Presentation.kind != "training",
        Presentation.comment != "",
    )  # fmt: skip
    with store.read() as session:
        found = session.exec(query.order_by(col(Person.number), col(Presentation.read), col(Presentation.position)))
        rows = [[name, p.read, item.name, item.target, p.condition, p.comment] for p, item, name in found]
    return pd.DataFrame(rows, columns=["reader", "read", "case", "target", "condition", "comment"])


def _rows(session: Session, questions: tuple[str, ...]) -> list[list[object]]:
    answers: dict[int, dict[str, int]] = {}
    for a in session.exec(select(Answer)):
        answers.setdefault(a.presentation_id, {})[a.question] = a.value
    times = _seconds(session)
    query = select(Presentation, Item, Person.name).where(
        Item.id == Presentation.item_id, Person.id == Presentation.person_id, Presentation.kind != "training"
    )
    rows: list[list[object]] = []
    for p, item, name in session.exec(
        query.order_by(col(Person.number), col(Presentation.read), col(Presentation.position))
    ):
        given = answers.get(p.id or 0, {})
        if given:
            iou = json.loads(item.iou).get(p.condition, "") if item.truth else ""
            time = times.get(p.id or 0, np.nan)
            shown = "" if np.isnan(time) else f"{time:.3f}"
            keys = [name, p.read, item.name, item.target, item.truth, p.condition]
            rows.append([*keys, *(given.get(q, "") for q in questions), iou, shown, int(p.kind == "repeat")])
    return rows


def _seconds(session: Session) -> dict[int, float]:
    events: dict[int, list[timing.Event]] = {}
    for v in session.exec(select(Viewing).order_by(col(Viewing.id))):
        events.setdefault(v.presentation_id, []).append(timing.Event(v.at, v.page, v.kind))  # type: ignore[arg-type]
    return {page: timing.seconds(own) for page, own in events.items()}
