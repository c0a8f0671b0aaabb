"""Writing that a crash cannot leave half done, checksums, and names that every file system takes."""

import hashlib
import os
import re
import secrets
import shutil
import time
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gifsplain.errors import InputError

_BLOCK = 1 << 20
_TEMPORARY = re.compile(r"\..{1,32}\.[0-9a-f]{12}\.tmp(\.\w+)?")
"""What `_beside` makes."""
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` with the same suffix; moved onto `path` when the block ends well.

    The parent folders are made. When the block raises, `path` is left as it was and the temporary file or folder is
    removed. A folder takes its place only where `path` does not exist or is an empty folder.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(final)
    try:
        yield temporary
        flush(temporary)
        temporary.replace(final)
        flush(final.parent)
    except BaseException:
        _remove(temporary)
        raise


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Write a whole UTF-8 file atomically, line ends as given."""
    write_bytes(path, content.encode("utf-8"))


def write_text_once(path: str | Path, content: str) -> None:
    """Write a whole UTF-8 file unless there is one: of several processes that try at once, the first wins."""
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(final)
    try:
        temporary.write_bytes(content.encode("utf-8"))
        flush(temporary)
        final.hardlink_to(temporary)
        flush(final.parent)
    except FileExistsError:
        return
    except OSError:  # FAT and some network drives have no hard links; there, the last one wins
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(folder: str | Path) -> None:
    """Refuse a folder that can be seen not to take any file, before anything is computed for it.

    Raises:
        InputError: When it, or the nearest folder above that exists, is a file or may not be written.
    """
    place = Path(folder)
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not os.path.isdir(place) or not os.access(place, os.W_OK | os.X_OK):  # noqa: PTH112 - Path's raises where none may enter
        found = "a folder that may not be written" if os.path.isdir(place) else "a file"  # noqa: PTH112
        raise InputError(f"{folder}: expected a folder to write to, {place} is {found}; choose another")


def _beside(final: Path) -> Path:
    """A temporary path in the same folder, hidden, with the same suffix."""
    return final.with_name(f".{final.stem[:32]}.{secrets.token_hex(6)}.tmp{final.suffix}")


def remove_left_behind(folder: Path, seconds: float) -> None:
    """Remove temporary files of `atomic_path` in a folder that nobody has written to for so long: of killed processes."""
    for path in folder.glob(".*.tmp*"):
        with suppress(OSError):  # another process was faster, or may and we may not
            if _TEMPORARY.fullmatch(path.name) and path.is_file() and time.time() - path.stat().st_mtime > seconds:
                path.unlink()


def flush(path: Path) -> None:
    """Ask the operating system to put a file, or a folder's list of names, on the disk."""
    with suppress(PermissionError):  # Windows refuses to open a folder; the move itself is still atomic there
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    """Remove our own temporary file or folder; one that was never made is no fault."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sha256_bytes(content: bytes) -> str:
    """Checksum in lower-case hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Checksum of a file in lower-case hexadecimal, read in blocks."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def utf8(text: str) -> str:
    """`text` as UTF-8 can hold it: names of files may be bytes that are no text, which show as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def safe_name(text: str, limit: int = 80) -> str:
    """`text` as one file or folder name: letters, digits, `.`, `_`, `-`; never empty, hidden or reserved.

    >>> safe_name("Lung Lesion / left")
    'Lung_Lesion_left'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("._-")[:limit].rstrip("._-")
    return f"_{name}" if _RESERVED.match(name) else name or "unnamed"


def unique_names(texts: Iterable[str], limit: int = 80) -> list[str]:
    """Safe names in the order of `texts`, all different even on a file system that ignores case.

    The first of equal names stays as it is, later ones get `-2`, `-3` and so on.
    """
    wanted = [safe_name(text, limit) for text in texts]
    first: dict[str, int] = {}
    for index, name in enumerate(wanted):
        first.setdefault(name.lower(), index)
    taken = set(first)
    numbers = dict.fromkeys(first, 2)  # where the next search begins: all numbers below are taken for good
    names = []
    for index, name in enumerate(wanted):
        stem = name.lower()
        if first[stem] != index:
            while f"{stem}-{numbers[stem]}" in taken:
                numbers[stem] += 1
            name = f"{name}-{numbers[stem]}"
        taken.add(name.lower())
        names.append(name)
    return names
