"""What holds for the whole study: its configuration, seed and lock."""

import functools
from dataclasses import dataclass

from sqlmodel import Session, col, select

from gifsplain.errors import InputError
from gifsplain.study import config
from gifsplain.study.store.clock import now
from gifsplain.study.store.engine import Store
from gifsplain.study.store.records import Audit, Setting


@dataclass(frozen=True)
class Setup:
    """The frozen part of a study."""

    config: config.Config
    seed: int
    locked: bool


@functools.lru_cache(maxsize=8)
def _parse(text: str) -> config.Config:
    return config.parse(text)


def load(session: Session) -> Setup:
    """The study's set-up, read again each time because the lock may change; parsing is remembered."""
    rows = {s.key: s.value for s in session.exec(select(Setting).order_by(col(Setting.key)))}
    if "config" not in rows:
        raise InputError("expected a study in this database, got none; make one with `gifsplain study init`")
    return Setup(_parse(rows["config"]), int(rows["seed"]), rows.get("locked") == "1")


def lock(store: Store, locked: bool, *, by: int | None = None) -> None:
    """Fix all answers of the study, or let them change again."""
    with store.write() as session:
        row = session.get(Setting, "locked")
        before = row.value if row else "0"
        if row is None:
            row = Setting(key="locked", value="0")
        row.value = "1" if locked else "0"
        session.add(row)
        session.add(
            Audit(
                at=now(),
                person_id=by,
                action="lock study",
                presentation_id=None,
                question="",
                before=before,
                after=row.value,
                request=None,
            )
        )
