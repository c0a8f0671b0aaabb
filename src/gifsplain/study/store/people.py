"""Readers, administrators, invitations and sessions; secrets are handed out once and kept only as hashes."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from gifsplain.errors import InputError
from gifsplain.study import design
from gifsplain.study.store import settings
from gifsplain.study.store.clock import now
from gifsplain.study.store.engine import Store
from gifsplain.study.store.records import Audit, Item, Login, Person, Presentation

DAY, HOUR = design.DAY, 3_600_000


@dataclass(frozen=True)
class Invitation:
    """A new person and the secret part of the link; it cannot be read again later."""

    name: str
    token: str


@dataclass(frozen=True)
class Visitor:
    """Who is behind a session."""

    id: int
    role: str
    name: str
    csrf: str


def digest(secret: str) -> str:
    """SHA-256 in hex: invitations and cookies are random with 256 bits, so a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()


def add_readers(store: Store, names: Sequence[str]) -> list[Invitation]:
    """New readers with all their pages; the whole list is added or none of it."""
    wrong = [n for n in names if not n or len(n) > 40 or not n.isprintable()]
    if wrong or len(set(names)) < len(names):
        raise InputError(
            f"expected distinct printable names of at most 40 characters, got {list(names)}; use codes like reader-1"
        )
    with store.write() as session:
        known = set(session.exec(select(Person.name).where(Person.role == "reader")))
        if known & set(names):
            raise InputError(
                f"expected new readers, got {sorted(known & set(names))} again; use --renew for a new link"
            )
        start = len(known)
        return [_add_reader(session, name, start + i) for i, name in enumerate(names)]


def _add_reader(session: Session, name: str, number: int) -> Invitation:
    setup = settings.load(session)
    person, invitation = _person(session, "reader", name, number)
    items = session.exec(select(Item).order_by(col(Item.number))).all()
    ids = {i.number: i.id for i in items}
    plain = [design.Item(i.number, i.name, i.target, i.truth, i.score, i.training) for i in items]
    for slot in design.schedule(plain, setup.config, reader=number, seed=setup.seed):
        session.add(
            Presentation(
                key=secrets.token_urlsafe(16),
                person_id=person.id or 0,
                read=slot.read,
                position=slot.position,
                item_id=ids[slot.item] or 0,
                condition=slot.condition,
                kind=slot.kind,
                answered=0,
                locked=False,
                comment="",
            )
        )
    return invitation


def _person(session: Session, role: str, name: str, number: int) -> tuple[Person, Invitation]:
    setup = settings.load(session)
    token, at = secrets.token_urlsafe(32), now()
    person = Person(
        role=role, name=name, number=number, invitation=digest(token), invited=at,
        expires=at + round(setup.config.invitation_days * DAY), revoked=False,
    )  # fmt: skip
    session.add(person)
    session.flush()
    session.add(audit(person.id, f"add {role}", after=name))
    return person, Invitation(name, token)


def add_admin(store: Store, name: str) -> Invitation:
    """A new administrator."""
    with store.write() as session:
        if session.exec(select(Person).where(Person.role == "admin", Person.name == name)).first():
            raise InputError(f"expected a new administrator, got {name!r} again; use --renew for a new link")
        return _person(session, "admin", name, -1)[1]


def renew(store: Store, name: str, *, role: str = "reader", by: int | None = None) -> Invitation:
    """A new invitation for a known person; the old link and all open sessions end."""
    with store.write() as session:
        person = session.exec(select(Person).where(Person.role == role, Person.name == name)).first()
        if person is None:
            raise InputError(f"expected a known {role}, got {name!r}; see `gifsplain study status`")
        token, at = secrets.token_urlsafe(32), now()
        person.invitation, person.invited, person.revoked = digest(token), at, False
        person.expires = at + round(settings.load(session).config.invitation_days * DAY)
        _end_sessions(session, person)
        session.add(audit(by, "renew invitation", after=name))
        return Invitation(name, token)


def revoke(store: Store, person_id: int, *, by: int | None = None) -> None:
    """Close a reader's access; answers stay."""
    with store.write() as session:
        person = session.get(Person, person_id)
        if person is None or person.role != "reader":
            raise InputError(f"expected a reader, got person {person_id}; reload the page")
        person.revoked = True
        _end_sessions(session, person)
        session.add(audit(by, "revoke", after=person.name))


def _end_sessions(session: Session, person: Person) -> None:
    for login in session.exec(select(Login).where(Login.person_id == person.id)):
        session.delete(login)


def enter(store: Store, token: str, role: str) -> str | None:
    """The secret of a new session for a valid invitation of that role, else None."""
    with store.write() as session:
        person = session.exec(select(Person).where(Person.invitation == digest(token))).first()
        if person is None or person.role != role or person.revoked or person.expires <= now():
            return None
        secret, at = secrets.token_urlsafe(32), now()
        hours = settings.load(session).config.session_hours
        session.add(
            Login(
                token=digest(secret),
                person_id=person.id or 0,
                csrf=secrets.token_urlsafe(32),
                created=at,
                expires=at + round(hours * HOUR),
            )
        )
        session.add(audit(person.id, "enter"))
        return secret


def visitor(session: Session, secret: str, role: str) -> Visitor | None:
    """Who holds this session secret, if it is valid now and of that role."""
    row = session.exec(
        select(Person, Login).where(Login.token == digest(secret), Person.id == Login.person_id, Person.role == role)
    ).first()
    if row is None:
        return None
    person, login = row
    if person.revoked or login.expires <= now() or not hmac.compare_digest(login.token, digest(secret)):
        return None
    return Visitor(person.id or 0, person.role, person.name, login.csrf)


def leave(store: Store, secret: str) -> None:
    """End a session."""
    with store.write() as session:
        login = session.get(Login, digest(secret))
        if login is not None:
            session.delete(login)
            session.add(audit(login.person_id, "leave"))


def audit(
    person_id: int | None,
    action: str,
    *,
    presentation_id: int | None = None,
    question: str = "",
    before: str = "",
    after: str = "",
    request: str | None = None,
) -> Audit:
    """A row of the audit log, stamped now."""
    return Audit(
        at=now(), person_id=person_id, action=action, presentation_id=presentation_id, question=question, before=before, after=after, request=request
    )  # fmt: skip
