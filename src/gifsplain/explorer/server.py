"""The explorer on a port of this machine."""

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from gifsplain.errors import InputError


def run(app: FastAPI, port: int, *, ready: Callable[[str], None]) -> None:
    """Serve on 127.0.0.1 until interrupted; `ready` is told the address once the port is ours.

    Raises:
        InputError: When the port is taken.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"expected port {port} to be free, {error.strerror}; choose another with --port"
            ) from error
        listening.listen()
        ready(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        config = uvicorn.Config(app, log_level="warning", server_header=False, date_header=False)
        uvicorn.Server(config).run(sockets=[listening])
