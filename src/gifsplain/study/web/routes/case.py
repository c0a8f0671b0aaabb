"""One case: the page, and the writes that it sends."""

import json
from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import Field
from sqlmodel import Session, col, select
from starlette.responses import HTMLResponse, Response

from gifsplain.study.config import Config
from gifsplain.study.store import answers, settings
from gifsplain.study.store.records import Answer, Media, Presentation
from gifsplain.study.web.context import Body, Name, Reader, Shared, WritingReader, html
from gifsplain.study.web.routes.reader import outcome_response

router = APIRouter(prefix="/case")
CLOSED = {
    answers.Gate.WAIT: "This read has not begun yet.",
    answers.Gate.TRAINING: "Please answer the training cases first.",
    answers.Gate.CLOSED: "This read is finished; its cases are closed.",
}


@router.get("/{key}")
def page(key: str, shared: Shared, visitor: Reader) -> HTMLResponse:
    """The case page, if it may be seen now."""
    with shared.store.read() as session:
        found = answers.find(session, visitor.id, key)
        if found is None:
            raise HTTPException(404)
        gate = answers.gate(session, found)
        if gate is not answers.Gate.OPEN:
            return html(shared, "message.html", visitor=visitor, title=CLOSED[gate], role="reader")
        setup = settings.load(session)
        values = _values(session, found, setup.config)
    locked = found.locked or setup.locked
    return html(shared, "case.html", visitor=visitor, page=found, config=setup.config, locked=locked, **values)


def _values(session: Session, found: Presentation, config: Config) -> dict[str, object]:
    item = answers.item_of(session, found)
    media = {
        (m.condition, m.panel): m
        for m in session.exec(
            select(Media).where(Media.item_id == item.id, col(Media.condition).in_(("", found.condition)))
        )
    }
    condition = config.condition(found.condition)
    panels = [(panel, media[found.condition, panel.key], i) for i, panel in enumerate(condition.panels, start=1)]
    given = {a.question: a.value for a in session.exec(select(Answer).where(Answer.presentation_id == found.id))}
    keys = session.exec(
        select(Presentation.key)
        .where(Presentation.person_id == found.person_id, Presentation.read == found.read)
        .order_by(col(Presentation.position))
    ).all()
    here = keys.index(found.key)
    return {
        "item": item, "facts": json.loads(item.facts), "image": media["", "image"], "panels": panels, "label": condition.label,
        "given": given, "total": len(keys), "previous": keys[here - 1] if here else "", "next": keys[here + 1] if here + 1 < len(keys) else "",
    }  # fmt: skip


class AnswerBody(Body):
    """One answer."""

    question: Annotated[str, Field(max_length=40)]
    value: int
    request: Name
    opening: Name


@router.post("/{key}/answer")
def answer(key: str, body: AnswerBody, shared: Shared, visitor: WritingReader) -> Response:
    """Save or change an answer; 200 means that it is on disk."""
    write = answers.Write(visitor.id, key, body.request, body.opening)
    return outcome_response(answers.answer(shared.store, write, body.question, body.value))


class CommentBody(Body):
    """The comment as it stands."""

    text: Annotated[str, Field(max_length=answers.MAX_COMMENT)]
    request: Name


@router.post("/{key}/comment")
def comment(key: str, body: CommentBody, shared: Shared, visitor: WritingReader) -> Response:
    """Save the comment."""
    return outcome_response(answers.comment(shared.store, answers.Write(visitor.id, key, body.request), body.text))


class ViewBody(Body):
    """What happened to the page."""

    kind: Annotated[str, Field(pattern="^(visible|hidden|beat)$")]
    opening: Name


@router.post("/{key}/view")
def view(key: str, body: ViewBody, shared: Shared, visitor: WritingReader) -> Response:
    """Record that the page is seen or hidden; the server's clock counts."""
    return outcome_response(answers.viewed(shared.store, answers.Write(visitor.id, key, "", body.opening), body.kind))


class DoneBody(Body):
    """The reader goes on."""

    request: Name


@router.post("/{key}/done")
def done(key: str, body: DoneBody, shared: Shared, visitor: WritingReader) -> Response:
    """Leave the case; some studies lock it now."""
    return outcome_response(answers.finish_case(shared.store, answers.Write(visitor.id, key, body.request)))
