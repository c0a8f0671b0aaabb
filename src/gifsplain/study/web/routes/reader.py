"""The reader's list: what is done, what is next, when the next read opens."""

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from gifsplain.study.store import answers, progress, settings
from gifsplain.study.web.context import Body, Reader, Shared, WritingReader, html

router = APIRouter()


@router.get("/")
def pages(request: Request, shared: Shared) -> Response:
    """All reads of the reader, or the entry."""
    visitor = shared.visitor(request, "reader")
    if visitor is None:
        return RedirectResponse("/enter", 303)
    with shared.store.read() as session:
        setup = settings.load(session)
        reads = progress.reads(session, visitor.id)
    return html(shared, "list.html", visitor=visitor, reads=reads, config=setup.config, locked=setup.locked)


class ReadNumber(Body):
    """Which read is finished."""

    read: int


@router.post("/read/finish")
def finish(body: ReadNumber, shared: Shared, visitor: WritingReader) -> Response:
    """Close a complete read."""
    outcome = answers.finish_read(shared.store, visitor.id, body.read)
    return outcome_response(outcome)


STATUS = {
    answers.Outcome.SAVED: 200, answers.Outcome.REPEATED: 200, answers.Outcome.LOCKED: 409, answers.Outcome.UNKNOWN: 404,
    answers.Outcome.WRONG: 422,
}  # fmt: skip


def outcome_response(outcome: answers.Outcome) -> Response:
    """What a browser is told about a write."""
    return JSONResponse({"outcome": outcome.value}, STATUS[outcome])


@router.get("/help")
def explain(shared: Shared, visitor: Reader) -> HTMLResponse:
    """How the pages work, with all keys."""
    with shared.store.read() as session:
        setup = settings.load(session)
    if not setup.config.questions:
        raise HTTPException(404)
    return html(shared, "help.html", visitor=visitor, config=setup.config)
