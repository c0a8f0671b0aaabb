"""What a page on another site, or another name for this machine, may not do to a server on loopback."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """Refuses requests under a foreign name or from a foreign page, and sets the headers of every answer.

    The name is checked because a foreign site can point its own name at 127.0.0.1 (DNS rebinding). A page of another
    site is told by `Sec-Fetch-Site`, by `Origin` where a browser does not send that; programs send neither.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = LOOPBACK) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        reply = self.app
        if refusal := self.refusal(scope["method"], headers):
            reply = JSONResponse(problem("Refused", refusal), status_code=403)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        await reply(scope, receive, send_with_headers)

    def refusal(self, method: str, headers: dict[str, str]) -> str | None:
        """Why a request is refused; None where it is not."""
        host = headers.get("host", "")
        if _name(host) not in self.hosts:
            return f"expected to be called {', '.join(sorted(self.hosts))}, got {host or 'no name'}"
        site = headers.get("sec-fetch-site")
        if site in ("cross-site", "same-site"):
            return "expected a request from this page, got one from another site"
        origin = headers.get("origin")
        if method not in ("GET", "HEAD") and site is None and origin and urlsplit(origin).netloc != host:
            return f"expected a request from this page, got one from {origin}"
        return None


def problem(kind: str, message: str) -> dict[str, dict[str, str]]:
    """The one shape of every error."""
    return {"error": {"kind": kind, "message": message}}


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:  # a host that is no host
        return ""
