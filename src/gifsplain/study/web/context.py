"""What the routes share: the store, the templates, and who is asking."""

import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Header, HTTPException, Request
from jinja2 import Environment
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse

from gifsplain.study.store import people
from gifsplain.study.store.engine import Store
from gifsplain.study.web.guard import Limiter
from gifsplain.study.web.serving import Serving


@dataclass(frozen=True)
class Context:
    """One application's parts."""

    store: Store
    media: Path
    serving: Serving
    limiter: Limiter
    templates: Environment

    def page(self, template: str, **values: Any) -> str:
        """A rendered page."""
        return self.templates.get_template(template).render(**({"visitor": None, "status": 200} | values))

    def visitor(self, request: Request, role: str) -> people.Visitor | None:
        """Who asks, by a cookie that this server signed and a session that still runs."""
        secret = self.serving.verify(role, request.cookies.get(self.serving.cookie(role), ""))
        if secret is None:
            return None
        with self.store.read() as session:
            return people.visitor(session, secret, role)


def context(request: Request) -> Context:
    """The application's context."""
    found: Context = request.app.state.context
    return found


Shared = Annotated[Context, Depends(context)]


def current_reader(request: Request, shared: Shared) -> people.Visitor:
    """The reader who asks, or 401."""
    visitor = shared.visitor(request, "reader")
    if visitor is None:
        raise HTTPException(401)
    return visitor


def current_admin(request: Request, shared: Shared) -> people.Visitor:
    """The administrator who asks, or 401."""
    visitor = shared.visitor(request, "admin")
    if visitor is None:
        raise HTTPException(401)
    return visitor


Reader = Annotated[people.Visitor, Depends(current_reader)]
Admin = Annotated[people.Visitor, Depends(current_admin)]
Token = Annotated[str, Header(alias="X-CSRF-Token")]


def check_csrf(visitor: people.Visitor, token: str) -> None:
    """403 unless the page that writes was made for this session."""
    if not hmac.compare_digest(visitor.csrf.encode(), token.encode()):
        raise HTTPException(403, "This page is out of date; reload it.")


def writing_reader(visitor: Reader, token: Token = "") -> people.Visitor:
    """The reader who writes, with the token of his session."""
    check_csrf(visitor, token)
    return visitor


def writing_admin(visitor: Admin, token: Token = "") -> people.Visitor:
    """The administrator who writes, with the token of the session."""
    check_csrf(visitor, token)
    return visitor


WritingReader = Annotated[people.Visitor, Depends(writing_reader)]
WritingAdmin = Annotated[people.Visitor, Depends(writing_admin)]


class Body(BaseModel):
    """A JSON body: unknown fields are refused, numbers are not guessed from text."""

    model_config = ConfigDict(extra="forbid", strict=True)


Name = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
"""Random hexadecimal name made by the browser."""


def html(shared: Context, template: str, **values: Any) -> HTMLResponse:
    """A page as a response."""
    return HTMLResponse(shared.page(template, **values))
