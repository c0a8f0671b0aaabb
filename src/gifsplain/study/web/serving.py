"""How a server is reached, and the refusal to be reached from outside without protection."""

import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from gifsplain.errors import ConfigurationError

MIN_SECRET = 32
TLS_NOTE = (
    "Listening beyond this machine: readers' answers and session cookies must travel by TLS. Give --tls-cert and --tls-key, "
    "or --behind-proxy when a reverse proxy on this machine ends TLS."
)
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Serving:
    """What the application must know about its surroundings."""

    secret: str = field(repr=False)
    """Signs session cookies; a new one ends every session."""
    hosts: tuple[str, ...] = LOOPBACK_NAMES
    """Accepted names in the Host header, without port."""
    secure: bool = False
    """Whether browsers reach the server by TLS."""

    def sign(self, role: str, token: str) -> str:
        """The cookie of a session secret."""
        return f"{token}.{self._mac(role, token)}"

    def verify(self, role: str, cookie: str) -> str | None:
        """The session secret in a cookie that this server signed, else None."""
        token, _, mac = cookie.partition(".")
        good = hmac.compare_digest(mac.encode(), self._mac(role, token).encode())
        return token if good and token else None

    def _mac(self, role: str, token: str) -> str:
        return hmac.new(self.secret.encode(), f"{role}:{token}".encode(), hashlib.sha256).hexdigest()

    def cookie(self, role: str) -> str:
        """Name of the cookie: with TLS the browser itself refuses to share it with other hosts."""
        return f"__Host-gifsplain-{role}" if self.secure else f"gifsplain-{role}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Listen:
    """What the command line asked for."""

    host: str = "127.0.0.1"
    public_name: str = ""
    secret_file: Path | None = None
    tls: bool = False
    behind_proxy: bool = False


def serving(folder: Path, listen: Listen) -> Serving:
    """The surroundings of a server, or a refusal.

    Beyond loopback (or behind a proxy, which is reached from beyond) it takes a secret kept outside the study folder,
    TLS, and the name under which readers reach it.
    """
    wide = not is_loopback(listen.host) or listen.behind_proxy
    if not wide and listen.secret_file is None:
        return Serving(_own_secret(folder / "secret"), secure=listen.tls)
    if listen.secret_file is None:
        raise ConfigurationError(
            f"expected --secret-file to listen on {listen.host}, got none; write {MIN_SECRET} random characters to a file. {TLS_NOTE}"
        )
    if listen.secret_file.resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(
            f"expected a secret outside the study folder, got {listen.secret_file}; keep it apart from backups"
        )
    secret = _secret(listen.secret_file)
    if not wide:
        return Serving(secret, secure=listen.tls)
    if not (listen.tls or listen.behind_proxy):
        raise ConfigurationError(f"expected TLS to listen on {listen.host}, got none. {TLS_NOTE}")
    if not listen.public_name:
        raise ConfigurationError(
            "expected --public-name (the host name that readers type), got none; it guards against rebinding"
        )
    return Serving(secret, hosts=(listen.public_name, *LOOPBACK_NAMES), secure=True)


def _own_secret(path: Path) -> str:
    """The study's own secret, made anew where a backup was unpacked without one."""
    if not path.is_file():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(48) + "\n", encoding="utf-8")
    return _secret(path)


def _secret(path: Path) -> str:
    if not path.is_file():
        raise ConfigurationError(f"expected a secret in {path}, found none; write {MIN_SECRET} random characters to it")
    secret = path.read_text(encoding="utf-8").strip()
    if len(secret) < MIN_SECRET or len(set(secret)) < 10:
        raise ConfigurationError(
            f"expected at least {MIN_SECRET} random characters in {path}, got a weaker secret; make a new one"
        )
    return secret
