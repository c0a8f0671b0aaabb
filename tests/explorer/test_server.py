"""The port: ours alone, on loopback, and told before the first request."""

import socket

import pytest
from fastapi import FastAPI

from gifsplain.errors import InputError
from gifsplain.explorer import server


def test_a_taken_port_is_one_clear_error():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} to be free"):
            server.run(FastAPI(), port, ready=lambda address: pytest.fail(address))


def test_it_listens_on_loopback_and_says_where(monkeypatch):
    seen = {}

    def serve(self, sockets):
        seen["name"] = sockets[0].getsockname()

    monkeypatch.setattr(server.uvicorn.Server, "run", serve)
    server.run(FastAPI(), 0, ready=lambda address: seen.setdefault("address", address))
    assert seen["name"][0] == "127.0.0.1" and seen["address"] == f"http://127.0.0.1:{seen['name'][1]}/"
