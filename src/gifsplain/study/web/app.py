"""`create_app(store, media, serving)` builds everything; tests use it in process."""

from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from gifsplain.study.store.engine import Store
from gifsplain.study.web.context import Context
from gifsplain.study.web.guard import Guard, Limiter
from gifsplain.study.web.routes import admin, case, entry, media, reader
from gifsplain.study.web.serving import Serving

STATIC = Path(__file__).parent / "static"
MESSAGES = {
    401: "Please enter with your invitation link.",
    404: "There is no such page.",
    429: "Too many attempts; please wait five minutes.",
}


def create_app(store: Store, media_folder: Path, serving: Serving) -> FastAPI:
    """The whole application on an open store."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.context = Context(store, media_folder.resolve(), serving, Limiter(), environment())
    for room in (entry, reader, case, media, admin):
        app.include_router(room.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Guard, serving=serving)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(sa.exc.OperationalError, _busy)
    return app


def environment() -> Environment:
    """Templates: everything is escaped, an unknown name is an error."""
    env = Environment(
        loader=PackageLoader("gifsplain.study.web", "templates"), autoescape=True, undefined=StrictUndefined
    )
    env.filters["day"] = lambda ms: datetime.fromtimestamp(ms / 1000, UTC).strftime("%-d %B %Y, %H:%M UTC")
    env.filters["iso"] = lambda ms: datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
    return env


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = MESSAGES.get(error.status_code, str(error.detail))
    if request.method == "POST":
        return JSONResponse({"error": message}, error.status_code)
    if request.url.path.startswith(("/media/", "/static/")):
        return PlainTextResponse("not found", error.status_code)
    context: Context = request.app.state.context
    role = "admin" if request.url.path.startswith("/admin") else "reader"
    return HTMLResponse(
        context.page("message.html", title=message, status=error.status_code, role=role), error.status_code
    )


async def _bad_request(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "not understood"}, 422)


async def _busy(request: Request, error: Exception) -> Response:
    """The database is locked or away: the browser keeps the answer and tries again."""
    return JSONResponse({"error": "busy"}, 503, {"Retry-After": "1"})
