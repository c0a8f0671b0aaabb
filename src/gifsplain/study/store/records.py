"""Rows of the database. Times are milliseconds since 1970 in UTC; no column holds a patient's identity."""

from typing import Any

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


def _moment(**more: Any) -> Any:
    return Field(sa_type=BigInteger, **more)


class Setting(SQLModel, table=True):
    """A fact about the whole study: `config` (YAML), `seed`, `created`, `locked` ("1" when no answer may change)."""

    key: str = Field(primary_key=True)
    value: str


class Item(SQLModel, table=True):
    """A case and target under a pseudonym; `facts` and `iou` are JSON objects."""

    id: int | None = Field(default=None, primary_key=True)
    number: int = Field(unique=True)
    name: str
    target: str
    truth: int
    score: float
    training: bool
    facts: str
    iou: str


class Media(SQLModel, table=True):
    """A picture of an item; `condition` is empty for the bare image. `file` is a random name in the media folder."""

    id: int | None = Field(default=None, primary_key=True)
    item_id: int = Field(foreign_key="item.id", index=True)
    condition: str
    panel: str
    file: str = Field(unique=True)
    sha256: str
    width: int
    height: int
    frames: int
    """Frames stacked from top to bottom; 1 for a still picture."""
    duration: int
    """Milliseconds of one pass; 0 for a still picture."""


class Person(SQLModel, table=True):
    """A reader or an administrator; the invitation itself is never stored, only its SHA-256."""

    id: int | None = Field(default=None, primary_key=True)
    role: str
    name: str
    number: int
    """Place in the counterbalancing, from 0; -1 for administrators."""
    invitation: str = Field(unique=True)
    invited: int = _moment()
    expires: int = _moment()
    revoked: bool


class Login(SQLModel, table=True):
    """A session in a browser; the cookie is never stored, only its SHA-256."""

    token: str = Field(primary_key=True)
    person_id: int = Field(foreign_key="person.id", index=True)
    csrf: str
    created: int = _moment()
    expires: int = _moment()


class Presentation(SQLModel, table=True):
    """One page of one reader: what `design.schedule` recorded, plus how far it got."""

    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    """Random; the only name of the page that leaves the server."""
    person_id: int = Field(foreign_key="person.id", index=True)
    read: int
    position: int
    item_id: int = Field(foreign_key="item.id")
    condition: str
    kind: str
    answered: int
    """Questions that have an answer."""
    locked: bool
    comment: str


class Finished(SQLModel, table=True):
    """A read that its reader closed; the washout counts from here."""

    person_id: int = Field(foreign_key="person.id", primary_key=True)
    read: int = Field(primary_key=True)
    at: int = _moment()


class Answer(SQLModel, table=True):
    """The answer that counts now; its history is in `Audit`."""

    presentation_id: int = Field(foreign_key="presentation.id", primary_key=True)
    question: str = Field(primary_key=True)
    value: int
    at: int = _moment()


class Audit(SQLModel, table=True):
    """Append-only: every answer, change, comment, lock, login and administrator's act. Triggers refuse anything else."""

    id: int | None = Field(default=None, primary_key=True)
    at: int = _moment()
    person_id: int | None
    action: str
    presentation_id: int | None = Field(index=True)
    question: str
    before: str
    after: str
    request: str | None = Field(unique=True)
    """The browser's name of this write; a repeated request finds it and changes nothing."""


class Viewing(SQLModel, table=True):
    """Append-only: when a page was visible, by the server's clock."""

    id: int | None = Field(default=None, primary_key=True)
    at: int = _moment()
    presentation_id: int = Field(foreign_key="presentation.id", index=True)
    page: str
    kind: str
