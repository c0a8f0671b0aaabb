"""What readers write: answers, comments, viewing events, finished cases and reads."""

from dataclasses import dataclass
from enum import StrEnum

from sqlmodel import Session, col, func, select

from gifsplain.study import design
from gifsplain.study.store import settings
from gifsplain.study.store.clock import now
from gifsplain.study.store.engine import Store
from gifsplain.study.store.people import audit
from gifsplain.study.store.records import Answer, Audit, Finished, Item, Presentation, Viewing

MAX_COMMENT = 2000


class Outcome(StrEnum):
    """What became of a write."""

    SAVED = "saved"
    REPEATED = "repeated"
    """The same request came before; nothing changed."""
    LOCKED = "locked"
    """The answer is fixed, or the read is not open."""
    UNKNOWN = "unknown"
    """No such page for this reader."""
    WRONG = "wrong"
    """Not an answer to a question of this study."""


class Gate(StrEnum):
    """Whether a page may be seen now."""

    OPEN = "open"
    WAIT = "wait"
    """Its read has not begun: an earlier one is unfinished or the washout runs."""
    TRAINING = "training"
    """The training cases come first."""
    CLOSED = "closed"
    """Its read is finished."""


def find(session: Session, person_id: int, key: str, *, hold: bool = False) -> Presentation | None:
    """The reader's page of that key; `hold` keeps other writers off it until the transaction ends (PostgreSQL)."""
    query = select(Presentation).where(Presentation.key == key, Presentation.person_id == person_id)
    return session.exec(query.with_for_update() if hold else query).first()


def finished_reads(session: Session, person_id: int) -> dict[int, int]:
    """Read -> when it was finished."""
    return {f.read: f.at for f in session.exec(select(Finished).where(Finished.person_id == person_id))}


def gate(session: Session, page: Presentation) -> Gate:
    """Whether the page may be seen now."""
    setup = settings.load(session)
    finished = finished_reads(session, page.person_id)
    if page.read in finished:
        return Gate.CLOSED
    opens = design.opens_at(page.read, finished, setup.config.order.washout_days)
    if opens is None or opens > now():
        return Gate.WAIT
    if page.kind != "training" and _training_left(session, page, len(setup.config.questions)):
        return Gate.TRAINING
    return Gate.OPEN


def _training_left(session: Session, page: Presentation, questions: int) -> int:
    return session.exec(
        select(func.count())
        .select_from(Presentation)
        .where(
            Presentation.person_id == page.person_id,
            Presentation.read == page.read,
            Presentation.kind == "training",
            col(Presentation.answered) < questions,
        )
    ).one()


@dataclass(frozen=True)
class Write:
    """One write of a reader's browser; `request` is its random name, `opening` the opening of the page."""

    person_id: int
    key: str
    request: str
    opening: str = ""


def answer(store: Store, write: Write, question: str, value: int) -> Outcome:
    """Save or change an answer; acknowledged only after the commit."""
    with store.write() as session:
        page, refused = _writable(session, write)
        if page is None:
            return refused
        setup = settings.load(session)
        if question not in {q.key for q in setup.config.questions} or not 1 <= value <= setup.config.points:
            return Outcome.WRONG
        at, identity = now(), page.id or 0
        old = session.get(Answer, (identity, question))
        session.add(
            audit(
                write.person_id,
                "answer" if old is None else "change",
                presentation_id=identity,
                question=question,
                before="" if old is None else str(old.value),
                after=str(value),
                request=write.request,
            )
        )
        if old is None:
            session.add(Answer(presentation_id=identity, question=question, value=value, at=at))
            page.answered += 1
        else:
            old.value, old.at = value, at
        session.add(Viewing(at=at, presentation_id=identity, page=write.opening, kind="answer"))
        return Outcome.SAVED


def comment(store: Store, write: Write, text: str) -> Outcome:
    """Save the reader's comment on a case."""
    with store.write() as session:
        page, refused = _writable(session, write)
        if page is None:
            return refused
        if len(text) > MAX_COMMENT or "\0" in text:
            return Outcome.WRONG
        session.add(
            audit(
                write.person_id,
                "comment",
                presentation_id=page.id,
                before=page.comment,
                after=text,
                request=write.request,
            )
        )
        page.comment = text
        return Outcome.SAVED


def _writable(session: Session, write: Write) -> tuple[Presentation | None, Outcome]:
    page = find(session, write.person_id, write.key, hold=True)
    if page is None:
        return None, Outcome.UNKNOWN
    if session.exec(select(Audit.id).where(Audit.request == write.request)).first() is not None:
        return None, Outcome.REPEATED
    if page.locked or settings.load(session).locked or gate(session, page) is not Gate.OPEN:
        return None, Outcome.LOCKED
    return page, Outcome.SAVED


def viewed(store: Store, write: Write, kind: str) -> Outcome:
    """Record that a page is visible, hidden, or still there."""
    if kind not in ("visible", "hidden", "beat"):
        return Outcome.WRONG
    with store.write() as session:
        page = find(session, write.person_id, write.key)
        if page is None or gate(session, page) is not Gate.OPEN:
            return Outcome.UNKNOWN
        session.add(Viewing(at=now(), presentation_id=page.id or 0, page=write.opening, kind=kind))
        return Outcome.SAVED


def finish_case(store: Store, write: Write) -> Outcome:
    """The reader goes on; with `lock: case` the answers are fixed if all questions have one."""
    with store.write() as session:
        page, refused = _writable(session, write)
        if page is None:
            return refused
        setup = settings.load(session)
        if setup.config.order.lock == "case" and page.answered == len(setup.config.questions):
            page.locked = True
            session.add(audit(write.person_id, "lock case", presentation_id=page.id, request=write.request))
        return Outcome.SAVED


def finish_read(store: Store, person_id: int, read: int) -> Outcome:
    """Close a read in which every question is answered; the washout begins and earlier pages close."""
    with store.write() as session:
        setup = settings.load(session)
        pages = session.exec(
            select(Presentation).where(Presentation.person_id == person_id, Presentation.read == read).with_for_update()
        ).all()
        if not pages:
            return Outcome.UNKNOWN
        if session.get(Finished, (person_id, read)) is not None:
            return Outcome.REPEATED
        if setup.locked or gate(session, pages[-1]) in (Gate.WAIT, Gate.CLOSED):
            return Outcome.LOCKED
        if any(p.answered < len(setup.config.questions) for p in pages):
            return Outcome.WRONG
        session.add(Finished(person_id=person_id, read=read, at=now()))
        for page in pages:
            page.locked = page.locked or setup.config.order.lock != "never"
        session.add(audit(person_id, "finish read", after=str(read)))
        return Outcome.SAVED


def item_of(session: Session, page: Presentation) -> Item:
    """The case and target on the page."""
    return session.exec(select(Item).where(Item.id == page.item_id)).one()
