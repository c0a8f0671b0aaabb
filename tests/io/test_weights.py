"""Weights: found, checked, fetched only with an address, and an error that says what to do."""

import hashlib
import http.server
import threading

import pytest
import torch
from safetensors.torch import save_file

from gifsplain.errors import WeightsError
from gifsplain.io import weights
from gifsplain.io.weights import WeightsFile, fetch, find, obtain, read_tensors

CONTENT = b"weights" * 1000
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GIFSPLAIN_WEIGHTS", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "folder", [".torchxrayvision/models_data", ".cache/gifsplain/weights", ".cache/torch/hub/checkpoints"]
)
def test_weights_are_found_where_libraries_and_users_put_them(home, folder):
    (home / folder).mkdir(parents=True)
    (home / folder / "net.pt").write_bytes(CONTENT)
    assert obtain(WeightsFile("net.pt", SUM)) == home / folder / "net.pt"
    assert obtain(WeightsFile("net.pt", SUM[:8].upper())) == home / folder / "net.pt"


def test_folders_in_order_and_a_path_of_its_own(home, monkeypatch):
    for name in ("one", "two", "three"):
        (home / name).mkdir()
        (home / name / "net.pt").write_bytes(name.encode())
    monkeypatch.setenv("GIFSPLAIN_WEIGHTS", str(home / "two"))
    assert find(WeightsFile("net.pt")) == home / "two" / "net.pt"
    assert find(WeightsFile("net.pt"), [home / "one"]) == home / "one" / "net.pt"
    assert find(WeightsFile(str(home / "three" / "net.pt"))) == home / "three" / "net.pt"
    assert find(WeightsFile("other.pt")) is None


def test_a_wrong_file_is_refused(home):
    path = home / "net.pt"
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=f"expected SHA-256 {SUM}, got .*delete it"):
        obtain(WeightsFile(str(path), SUM))
    with pytest.raises(WeightsError, match="at least 8 digits"):
        obtain(WeightsFile(str(path), "abc"))


@pytest.mark.parametrize("url", ["", "https://127.0.0.1:9/net.pt"])
def test_what_is_missing_offline_is_told_with_name_checksum_and_place(home, url):
    with pytest.raises(WeightsError) as caught:
        obtain(WeightsFile("net.pt", SUM, url))
    text = str(caught.value)
    for part in ("net.pt", SUM, str(home / ".torchxrayvision" / "models_data"), url or "whoever made the model"):
        assert part in text
    assert not list(home.rglob("*.pt"))


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if "none" in self.path else 200)
            self.send_header("Content-Length", str(len(CONTENT) + (5 if "short" in self.path else 0)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_download_is_checked_before_it_counts(home, server):
    path = obtain(WeightsFile("net.pt", SUM, f"{server}/net.pt"))
    assert path.read_bytes() == CONTENT
    assert path == weights.cache_folder() / "net.pt"
    assert [entry.name for entry in path.parent.iterdir()] == ["net.pt"]


@pytest.mark.parametrize(
    ("page", "digest", "match"),
    [
        ("net.pt", "0" * 64, "expected SHA-256 0000"),
        ("none", SUM, "cannot be reached"),
        ("short", SUM, r"expected 7,005 bytes|cannot be reached"),
        ("net.pt", "", "https address"),
    ],
)
def test_a_bad_download_leaves_nothing(home, server, page, digest, match):
    with pytest.raises(WeightsError, match=match):
        obtain(WeightsFile("net.pt", digest, f"{server}/{page}"))
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_other_addresses_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="expected an https address"):
        fetch(WeightsFile("a", "", "ftp://example.org/a"), tmp_path / "a")


def test_a_download_that_grows_without_end_is_stopped(home, server, monkeypatch):
    monkeypatch.setattr(weights, "MAX_BYTES", 100)
    with pytest.raises(WeightsError, match="at most 100 bytes"):
        obtain(WeightsFile("net.pt", SUM, f"{server}/net.pt"))


def test_tensors_are_read_as_written(tmp_path):
    path = tmp_path / "w.safetensors"
    stored = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2], dtype=torch.int64)}
    save_file(stored, path, metadata={"card": "x"})
    tensors, metadata = read_tensors(path)
    assert metadata == {"card": "x"}
    assert tensors.keys() == stored.keys()
    assert all(torch.equal(tensors[name], stored[name]) for name in stored)
    content = path.read_bytes()
    for end in (0, 4, 20, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(WeightsError, match="whole safetensors file"):
            read_tensors(path)
    with pytest.raises(WeightsError, match="no such file"):
        read_tensors(tmp_path / "none.safetensors")
