"""Entering with an invitation, and leaving. The secret stands after # in the link, so that no server logs it."""

from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Request
from pydantic import Field
from starlette.responses import HTMLResponse, JSONResponse, Response

from gifsplain.study.store import people
from gifsplain.study.web.context import Body, Context, Shared, Token, check_csrf, html

router = APIRouter()
Role = Literal["reader", "admin"]


class Invitation(Body):
    """What the entry page sends."""

    token: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{20,100}$")]


@router.get("/enter")
def enter_page(shared: Shared) -> HTMLResponse:
    """The readers' entry."""
    return html(shared, "enter.html", role="reader")


@router.get("/admin/enter")
def enter_admin_page(shared: Shared) -> HTMLResponse:
    """The administrators' entry."""
    return html(shared, "enter.html", role="admin")


@router.post("/enter")
def enter(request: Request, body: Invitation, shared: Shared) -> Response:
    """A session for a reader."""
    return _enter(request, body, shared, "reader")


@router.post("/admin/enter")
def enter_admin(request: Request, body: Invitation, shared: Shared) -> Response:
    """A session for an administrator."""
    return _enter(request, body, shared, "admin")


def _enter(request: Request, body: Invitation, shared: Context, role: Role) -> Response:
    client = request.client.host if request.client else ""
    if shared.limiter.blocked(client):
        raise HTTPException(429)
    secret = people.enter(shared.store, body.token, role)
    if secret is None:
        shared.limiter.failed(client)
        return JSONResponse({"error": "This invitation is not valid. Ask for a new link."}, 403)
    answer = JSONResponse({"next": "/" if role == "reader" else "/admin"})
    answer.set_cookie(
        shared.serving.cookie(role),
        shared.serving.sign(role, secret),
        httponly=True,
        samesite="strict",
        secure=shared.serving.secure,
        path="/",
    )
    return answer


@router.post("/leave")
def leave(request: Request, shared: Shared, token: Token = "") -> Response:
    """End the reader's session."""
    return _leave(request, shared, "reader", token)


@router.post("/admin/leave")
def leave_admin(request: Request, shared: Shared, token: Token = "") -> Response:
    """End the administrator's session."""
    return _leave(request, shared, "admin", token)


def _leave(request: Request, shared: Context, role: Role, token: str) -> Response:
    visitor = shared.visitor(request, role)
    if visitor is None:
        raise HTTPException(401)
    check_csrf(visitor, token)
    secret = shared.serving.verify(role, request.cookies.get(shared.serving.cookie(role), ""))
    people.leave(shared.store, secret or "")
    answer = JSONResponse({"next": "/enter" if role == "reader" else "/admin/enter"})
    answer.delete_cookie(
        shared.serving.cookie(role), path="/", secure=shared.serving.secure, httponly=True, samesite="strict"
    )
    return answer
