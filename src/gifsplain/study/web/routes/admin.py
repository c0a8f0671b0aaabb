"""Administrators: progress, links, the lock and the answers so far; none of it can be reached by a reader's session."""

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from gifsplain.errors import InputError
from gifsplain.study import exports
from gifsplain.study.store import people, progress, settings
from gifsplain.study.store.records import Person
from gifsplain.study.web.context import Admin, Body, Shared, WritingAdmin, html

router = APIRouter(prefix="/admin")


@router.get("")
def overview(request: Request, shared: Shared) -> Response:
    """Progress of every reader."""
    visitor = shared.visitor(request, "admin")
    if visitor is None:
        return RedirectResponse("/admin/enter", 303)
    with shared.store.read() as session:
        setup = settings.load(session)
        readers = progress.overview(session)
    return html(shared, "admin.html", visitor=visitor, readers=readers, config=setup.config, locked=setup.locked)


class Lock(Body):
    """Whether answers are fixed."""

    locked: bool


@router.post("/lock")
def lock(body: Lock, shared: Shared, visitor: WritingAdmin) -> Response:
    """Fix or free all answers."""
    settings.lock(shared.store, body.locked, by=visitor.id)
    return JSONResponse({"outcome": "saved"})


class ReaderId(Body):
    """Which reader."""

    reader: int


@router.post("/revoke")
def revoke(body: ReaderId, shared: Shared, visitor: WritingAdmin) -> Response:
    """Close a reader's access."""
    people.revoke(shared.store, body.reader, by=visitor.id)
    return JSONResponse({"outcome": "saved"})


@router.post("/renew")
def renew(body: ReaderId, shared: Shared, visitor: WritingAdmin) -> Response:
    """A new link for a reader, shown once."""
    with shared.store.read() as session:
        person = session.get(Person, body.reader)
    if person is None or person.role != "reader":
        return JSONResponse({"error": "unknown reader"}, 404)
    return JSONResponse({"link": f"/enter#{people.renew(shared.store, person.name, by=visitor.id).token}"})


@router.get("/answers.csv")
def answers(shared: Shared, visitor: Admin) -> Response:
    """The answers so far in long form, with truth: for administrators only."""
    try:
        text = exports.long_form(progress.table(shared.store)).to_csv(index=False)
    except InputError as error:
        raise HTTPException(409, "There are no answers yet.") from error
    return Response(text, media_type="text/csv", headers={"Content-Disposition": 'attachment; filename="answers.csv"'})
