"""Weights on disk: where they may lie, whether they are the right ones, and what to tell when they are not there."""

import json
import os
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gifsplain.errors import WeightsError
from gifsplain.io import files

MAX_BYTES = 8 << 30
"""A download that grows beyond this is stopped."""
_TIMEOUT_S = 30
_BLOCK = 1 << 20


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights by name; what is known about it is checked."""

    name: str
    sha256: str = ""
    """Checksum, or its first digits (at least 8, as torch hub puts them into file names); empty where unknown."""
    url: str = ""
    """Where it can be had; nothing is ever downloaded without it."""


def search_folders(extra: Sequence[str | Path] = ()) -> list[Path]:
    """Folders that may hold weights, best first: `extra`, $GIFSPLAIN_WEIGHTS, our cache, caches of the libraries."""
    home = Path.home()
    named = os.environ.get("GIFSPLAIN_WEIGHTS", "")
    hub = Path(os.environ.get("TORCH_HOME", home / ".cache" / "torch")) / "hub" / "checkpoints"
    folders = [Path(folder) for folder in extra] + [Path(part) for part in named.split(os.pathsep) if part]
    return [*folders, cache_folder(), home / ".torchxrayvision" / "models_data", hub]


def cache_folder() -> Path:
    """Where downloads are put: `gifsplain/weights` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gifsplain" / "weights"


def find(wanted: WeightsFile, folders: Sequence[str | Path] = ()) -> Path | None:
    """The first file of that name in the search folders, None where there is none; a name may be a path of its own."""
    own = Path(wanted.name).expanduser()
    if own.is_file():
        return own
    for folder in search_folders(folders):
        if (folder / own.name).is_file():
            return folder / own.name
    return None


def obtain(wanted: WeightsFile, folders: Sequence[str | Path] = (), *, download: bool = True) -> Path:
    """The checked file: found on this machine, else downloaded to the cache if a URL is known and `download` allows."""
    path = find(wanted, folders)
    if path is not None:
        verify(path, wanted)
        return path
    if not wanted.url or not download:
        raise WeightsError(_missing(wanted, folders, "it is nowhere on this machine"))
    try:
        return fetch(wanted, cache_folder() / Path(wanted.name).name)
    except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError; ValueError: not a URL
        raise WeightsError(_missing(wanted, folders, f"and {wanted.url} cannot be reached ({error})")) from error


def verify(path: str | Path, wanted: WeightsFile) -> None:
    """Refuse a file whose checksum is not the expected one; without an expected one there is nothing to refuse."""
    if not wanted.sha256:
        return
    if len(wanted.sha256) < 8:
        raise WeightsError(f"expected a checksum of at least 8 digits for {wanted.name}, got {wanted.sha256!r}")
    got = files.sha256_file(path)
    if not got.startswith(wanted.sha256.lower()):
        raise WeightsError(
            f"{path}: expected SHA-256 {wanted.sha256}, got {got}; the file is damaged or another one: "
            "delete it and fetch it again"
        )


def fetch(wanted: WeightsFile, path: str | Path) -> Path:
    """Download to a temporary file beside `path`, check it, then move it there; an old file stays until then."""
    scheme = urlsplit(wanted.url).scheme
    if scheme not in ("https", "http", "file") or (scheme == "http" and not wanted.sha256):
        raise WeightsError(f"expected an https address (or http with a known checksum), got {wanted.url}")
    request = urllib.request.Request(wanted.url, headers={"User-Agent": "gifsplain"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer, files.atomic_path(path) as temporary:
        total = 0
        with temporary.open("wb") as stream:
            while block := answer.read(_BLOCK):
                total += len(block)
                if total > MAX_BYTES:
                    raise WeightsError(f"expected at most {MAX_BYTES:,} bytes from {wanted.url}, got more")
                stream.write(block)
        length = answer.headers.get("Content-Length")
        if length is not None and total != int(length):
            raise WeightsError(f"expected {int(length):,} bytes from {wanted.url}, got {total:,}; try again")
        verify(temporary, wanted)
    return Path(path)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (on the CPU, in their stored type) and metadata of a safetensors file."""
    try:
        with safe_open(str(path), framework="pt", device="cpu") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
            return tensors, dict(stored.metadata() or {})
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: expected a safetensors file, there is no such file") from error
    except (OSError, SafetensorError, ValueError, json.JSONDecodeError) as error:
        raise WeightsError(
            f"{path}: expected a whole safetensors file, got a damaged or different one ({error}); fetch it again"
        ) from error


def _missing(wanted: WeightsFile, folders: Sequence[str | Path], why: str) -> str:
    """The error for weights that are not there: name, checksum, where to get it and where to put it."""
    known = f"SHA-256 {wanted.sha256}" if wanted.sha256 else "checksum unknown"
    source = f"download it from {wanted.url}" if wanted.url else "get it from whoever made the model"
    places = [str(folder) for folder in search_folders(folders)]
    return (
        f"expected the weights {Path(wanted.name).name} ({known}), {why}; {source} and put it into one of: "
        + ", ".join(places)
    )
