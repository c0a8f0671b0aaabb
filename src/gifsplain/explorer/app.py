"""The explorer as a web application: requests in, the service's answers out, one shape for every error."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from gifsplain.errors import GifsplainError, InputError, ModelError, WeightsError
from gifsplain.explorer.security import LOOPBACK, Guard, problem
from gifsplain.explorer.service import Explorer, Wish
from gifsplain.explorer.shelf import GoneError

UPLOAD_LIMIT = 128 * 1024 * 1024
"""Bytes of one picture; a mammogram of 16 bits has about 50 million."""
_STATIC = Path(__file__).parent / "static"
_KINDS = {".html": "text/html", ".gif": "image/gif", ".mp4": "video/mp4", ".webp": "image/webp", ".png": "image/png",
          ".json": "application/json"}  # fmt: skip


class WishForm(BaseModel):
    """A wish as the page sends it."""

    model_config = ConfigDict(extra="forbid")
    picture: str = Field(max_length=64)
    target: str = Field(max_length=200)
    method: str = Field("auto", max_length=60)
    classifier: str = Field("cxr", max_length=200)
    autoencoder: str = Field("cxr", max_length=200)
    composition: str = Field("residual", max_length=40)
    drop: float = Field(0.30, ge=0, le=1)
    rise: float = Field(0.05, ge=0, le=1)
    frames: int = Field(21, ge=3, le=61)


def create_app(
    explorer: Explorer | None = None, *, upload_limit: int = UPLOAD_LIMIT, hosts: tuple[str, ...] = LOOPBACK
) -> FastAPI:
    """The whole application; tests use it in process."""
    app = FastAPI(title="gifsplain explorer", openapi_url=None, docs_url=None, redoc_url=None)
    service = explorer or Explorer()
    _catch(app)
    _add_pictures(app, service, upload_limit)
    _add_explanations(app, service)

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html", media_type="text/html; charset=utf-8")

    app.mount("/static", StaticFiles(directory=_STATIC))
    app.add_middleware(Guard, hosts=hosts)
    return app


def _add_pictures(app: FastAPI, service: Explorer, limit: int) -> None:
    @app.get("/api/options")
    def options() -> Mapping[str, Any]:
        return service.options()

    @app.post("/api/pictures", status_code=201)
    async def upload(request: Request, colour: str = "refuse") -> Mapping[str, Any]:
        if colour not in ("refuse", "grey"):
            raise InputError(f"colour must be refuse or grey, got {colour[:20]!r}")
        content = await _body(request, limit)
        name = _shown_name(request.headers.get("x-name", ""))
        return await run_in_threadpool(service.open_bytes, content, name, "grey" if colour == "grey" else "refuse")

    @app.post("/api/pictures/example", status_code=201)
    def example() -> Mapping[str, Any]:
        return service.open_example()

    @app.get("/api/pictures/{picture}/preview.png")
    def preview(picture: str) -> Response:
        return Response(service.preview(picture), media_type="image/png")

    @app.get("/api/pictures/{picture}/scores")
    def scores(picture: str, classifier: str = "cxr", autoencoder: str = "cxr") -> Mapping[str, Any]:
        return service.scores(picture, classifier, autoencoder)


def _add_explanations(app: FastAPI, service: Explorer) -> None:
    @app.post("/api/explanations", status_code=201)
    def explain(form: WishForm) -> Mapping[str, Any]:
        return service.explain(Wish(**form.model_dump()))

    @app.get("/api/explanations/{name}")
    def describe(name: str) -> Mapping[str, Any]:
        return service.describe(name)

    @app.get("/api/explanations/{name}/sheet.png")
    def sheet(name: str) -> Response:
        return Response(service.sheet(name), media_type="image/png")

    @app.get("/api/explanations/{name}/map.png")
    def attribution(name: str) -> Response:
        return Response(service.map(name), media_type="image/png")

    @app.get("/api/explanations/{name}/native/{index}.jpg")
    def native(name: str, index: int) -> Response:
        return Response(service.native(name, index), media_type="image/jpeg")

    @app.get("/api/explanations/{name}/download/{kind}")
    def download(name: str, kind: str) -> Response:
        file, content = service.download(name, kind)
        headers = {"content-disposition": f'attachment; filename="{file}"'}  # file names are safe names
        return Response(content, media_type=_KINDS[Path(file).suffix], headers=headers)


async def _body(request: Request, limit: int) -> bytes:
    """The request's body, refused as soon as it is longer than `limit`."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > limit:
            raise HTTPException(413, f"expected at most {limit:,} bytes; explain larger files on the command line")
    return bytes(content)


def _shown_name(header: str) -> str:
    """What to call an upload: the last part of its name, without control characters; never used as a path."""
    last = unquote(header).replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(letter for letter in last if letter.isprintable())[:120].strip()
    return Path(shown).stem if shown.strip(".") else "upload"


def _catch(app: FastAPI) -> None:
    """Every error as JSON of one shape."""

    @app.exception_handler(GifsplainError)
    def ours(_: Request, error: GifsplainError) -> JSONResponse:
        code = 404 if isinstance(error, GoneError) else 400
        code = 503 if isinstance(error, ModelError | WeightsError) and not isinstance(error, InputError) else code
        return JSONResponse(problem(type(error).__name__, str(error)), status_code=code)

    @app.exception_handler(HTTPException)
    def http(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(problem("Request", str(error.detail)), status_code=error.status_code)

    @app.exception_handler(RequestValidationError)
    def form(_: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(str(place) for place in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
        return JSONResponse(problem("Request", "; ".join(parts)), status_code=422)

    @app.exception_handler(Exception)
    def unexpected(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(
            problem("Fault", f"the explorer failed ({type(error).__name__}); see its log"), status_code=500
        )
