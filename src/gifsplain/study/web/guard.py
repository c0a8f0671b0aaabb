"""What every request passes: known host, small body, same-origin writes, strict headers, few wrong invitations."""

import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gifsplain.study.web.serving import Serving

MAX_BODY = 16_384
SAFE = ("GET", "HEAD")
POLICY = "; ".join(
    (
        "default-src 'none'", "img-src 'self'", "style-src 'self'", "script-src 'self'", "connect-src 'self'",
        "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Robots-Tag": "noindex",
}


class Guard:
    """ASGI middleware; refuses before any route runs."""

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        self.app, self.serving = app, serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 400, 403, 405 or 413."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["method"], headers)

        async def with_headers(message: Message) -> None:
            """Send the message, with the strict headers on its start."""
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    found[name] = value
                found.setdefault("Cache-Control", "no-store")
                if self.serving.secure:
                    found["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        if refusal is not None:
            return await refusal(scope, receive, with_headers)
        return await self.app(scope, bounded(receive), with_headers)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
        if name not in self.serving.hosts:
            return PlainTextResponse("unknown host", 400)
        if method in SAFE:
            return None
        if method != "POST":
            return PlainTextResponse("method not allowed", 405)
        if not same_origin(headers, host, secure=self.serving.secure):
            return PlainTextResponse("cross-site request refused", 403)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            return PlainTextResponse("body too large", 413)
        return None


def same_origin(headers: Mapping[str, str], host: str, *, secure: bool) -> bool:
    """Whether a write came from a page of this server: Sec-Fetch-Site decides, Origin where a browser lacks it.

    A request with neither is refused.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(headers.get("origin", ""))
    return origin.netloc == host and origin.scheme == ("https" if secure else "http")


def bounded(receive: Receive) -> Receive:
    """The same body, cut off with an error once it is longer than promised limits allow."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY:
            raise HTTPException(413, "body too large")
        return message

    return limited


class Limiter:
    """At most `limit` failures per client within `seconds`; older ones are forgotten, memory is bounded."""

    def __init__(self, limit: int = 10, seconds: float = 300.0, clients: int = 10_000) -> None:
        self.limit, self.seconds, self.clients = limit, seconds, clients
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def blocked(self, client: str) -> bool:
        """Whether the client has used up its failures."""
        return len(self._recent(client)) >= self.limit

    def failed(self, client: str) -> None:
        """Count a failure."""
        recent = self._recent(client)
        recent.append(time.monotonic())
        self._failures[client] = recent
        self._failures.move_to_end(client)
        while len(self._failures) > self.clients:
            self._failures.popitem(last=False)

    def _recent(self, client: str) -> deque[float]:
        times = self._failures.get(client, deque())
        while times and times[0] < time.monotonic() - self.seconds:
            times.popleft()
        return times
