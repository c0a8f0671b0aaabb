"""Real parts for slow tests: a server process, a PostgreSQL of one's own, many clients at once."""

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 240.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """`gifsplain study serve` in a process of its own."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port = folder, port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it answers."""
        code = (
            f"from gifsplain.cli import main; main(['study', 'serve', {str(self.folder)!r}, '--port', '{self.port}'])"
        )
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with closing(Client(self.port)) as client:
                try:
                    if client.get("/enter")[0] == 200:
                        return
                except OSError:
                    time.sleep(0.1)
            assert self.process.poll() is None, "the server ended"
        raise TimeoutError("the server did not start")

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def cpu_seconds(self) -> float:
        """Processor time used by the server so far."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@dataclass
class Client:
    """A small keep-alive HTTP client with a cookie: light, so that it does not measure itself."""

    port: int
    cookie: str = ""
    csrf: str = ""
    times: list[tuple[str, float]] = field(default_factory=list)
    _connection: http.client.HTTPConnection | None = None

    def request(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and content; the connection is opened anew after an error."""
        headers = {"Sec-Fetch-Site": "same-origin", "Cookie": self.cookie, "X-CSRF-Token": self.csrf}
        data = json.dumps(body).encode() if body is not None else None
        if data is not None:
            headers["Content-Type"] = "application/json"
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        start = time.perf_counter()
        try:
            self._connection.request(method, path, data, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = None
            raise ConnectionError from None
        self.times.append(
            (
                f"{method} {path.split('/')[1]} {path.rsplit('/', 1)[-1] if method == 'POST' else ''}",
                time.perf_counter() - start,
            )
        )
        for cookie in answer.headers.get_all("set-cookie") or []:
            self.cookie = cookie.split(";")[0]
        return answer.status, content

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str) -> tuple[int, bytes]:
        return self.request("GET", path)

    def post(self, path: str, body: object) -> tuple[int, bytes]:
        return self.request("POST", path, body)

    def enter(self, token: str) -> None:
        """Become a reader."""
        assert self.post("/enter", {"token": token})[0] == 200
        self.csrf = self.get("/")[1].decode().partition('data-csrf="')[2].partition('"')[0]


def read_cases(client: Client, keys: list[str], value: int) -> list[tuple[str, str, int]]:
    """Everything that a browser does on these cases; returns the acknowledged answers."""
    done = []
    for key in keys:
        opening = secrets.token_hex(8)
        assert client.get(f"/case/{key}")[0] == 200
        for number in range(3):
            assert client.get(f"/media/{key}/{number}")[0] == 200
        client.post(f"/case/{key}/view", {"kind": "visible", "opening": opening})
        for question in ("confidence", "feature"):
            body = {"question": question, "value": value, "request": secrets.token_hex(16), "opening": opening}
            assert client.post(f"/case/{key}/answer", body)[0] == 200
            done.append((key, question, value))
        assert client.post(f"/case/{key}/done", {"request": secrets.token_hex(16)})[0] == 200
    return done


def at_once(jobs: list[threading.Thread]) -> float:
    """Run threads together; seconds until the last one is done."""
    start = time.perf_counter()
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    return time.perf_counter() - start


def postgresql_programs() -> Path | None:
    """Folder of initdb and postgres, where Debian or the PATH has them."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    candidates += [Path(found).resolve().parent] if found else []
    needed = ("initdb", "postgres", "createdb")
    return next((c for c in candidates if all((c / name).is_file() for name in needed)), None)


@contextmanager
def postgresql(programs: Path) -> Iterator[str]:
    """URL of an empty database in a PostgreSQL of its own: temporary folder, Unix socket only, not as root."""
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg-") as temporary:
        folder = Path(temporary)
        if user:
            shutil.chown(folder, user)
        run = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "study"], check=True, **run)
        process = subprocess.Popen([programs / "postgres", "-D", folder / "data", "-k", folder, "-h", ""], **run)
        try:
            end = time.monotonic() + PATIENCE
            while not (folder / ".s.PGSQL.5432").exists() and time.monotonic() < end:
                time.sleep(0.1)
            for _ in range(200):
                made = subprocess.run([programs / "createdb", "-h", folder, "-U", "study", "study"], check=False, **run)
                if made.returncode == 0:
                    break
                time.sleep(0.2)
            yield f"postgresql://study@/study?host={folder}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
