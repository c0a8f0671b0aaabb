"""Decoding each image once: rows to one uint8 memory map at the model's size."""

import errno
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.io import files, images
from gifsplain.models import prepare
from gifsplain.models.protocols import ModelCard
from gifsplain.types import Picture, Provenance

Pixels = UInt8[np.ndarray, "n c s s"]
_DAMAGED = (OSError, KeyError, TypeError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for a file that is no .npz, or was cut off or changed."""
_ENDINGS = tuple(images.SUFFIXES)
_STALE = 24 * 3600.0
"""Seconds after which a temporary file is a killed process's."""


class RowImage(Protocol):
    """An image that can be loaded when it is needed."""

    @property
    def key(self) -> str:
        """Equal for equal images; changes when the file does. Empty where nothing tells it from others."""
        ...

    def load(self) -> Picture:
        """The image in [0, 1], grey."""
        ...


@dataclass(frozen=True)
class FileImage:
    """A file that `gifsplain.io.images` reads; colour becomes grey."""

    path: Path

    @property
    def key(self) -> str:
        """Path, size and time of change; of a missing file its path."""
        try:
            state = self.path.stat()
        except OSError:
            return str(self.path)
        return f"{self.path.resolve()}:{state.st_size}:{state.st_mtime_ns}"

    def load(self) -> Picture:
        """The picture as every other command reads it."""
        return images.load_image(self.path, colour="grey")


@dataclass(frozen=True)
class ArrayImage:
    """One image of the array `images` (uint8, `n h w`) in an .npz file."""

    path: Path
    index: int

    @property
    def key(self) -> str:
        """The file's key and the index."""
        return f"{FileImage(self.path).key}[{self.index}]"

    @classmethod
    def all_of(cls, path: Path, count: int) -> "list[ArrayImage]":
        """All images of the file, which must be `count`."""
        found = len(_npz_images(path))
        if found != count:
            raise InputError(f"{path} has {found} images, its manifest {count} rows; they must be in the same order")
        return [cls(path, i) for i in range(found)]

    def checksum(self) -> str:
        """A checksum of its pixels."""
        return files.sha256_bytes(_npz_images(self.path)[self.index].tobytes())

    def load(self) -> Picture:
        """The image, 0 black and 255 white."""
        array = _npz_images(self.path)
        return _picture(torch.from_numpy(array[self.index].astype(np.float32) / 255)[None], str(self.path))


@dataclass(frozen=True, eq=False)
class DatasetImage:
    """One image of a torchxrayvision dataset."""

    dataset: Any
    index: int
    row: str = ""
    """Checksum of what its table says of the image; empty where it has none."""
    file: str = ""
    """Name of its file below the dataset's `imgpath`, where the table has one."""

    @property
    def name(self) -> str:
        """What the image is called wherever in the table it stands."""
        return self.file or self.row

    @property
    def key(self) -> str:
        """The dataset's own description, its folder, its table's row, the file's key; empty without a table.

        `string()` says how many rows there are, not which: tables of one length share it.
        """
        folder = str(getattr(self.dataset, "imgpath", ""))
        file = FileImage(Path(folder, self.file)).key if self.file else ""
        return f"{self.dataset.string()}:{folder}[{self.index}]:{self.row}:{file}" if self.row else ""

    @classmethod
    def all_of(cls, dataset: Any) -> "list[DatasetImage]":
        """All images of the dataset, with what its `csv` says of each but for the place that each had in the file."""
        table = dataset.csv.drop(columns=["index"], errors="ignore").astype(str)
        rows = table.itertuples(index=False, name=None)
        return [cls(dataset, i, files.sha256_bytes(repr(row).encode()), _file_of(row)) for i, row in enumerate(rows)]

    def load(self) -> Picture:
        """The image, out of [-1024, 1024]."""
        pixels = torch.as_tensor(self.dataset[self.index]["img"], dtype=torch.float32)
        return _picture((pixels[:1] / 2048 + 0.5).clamp(0, 1), f"{self.dataset.string()}[{self.index}]")


def _file_of(row: tuple[str, ...]) -> str:
    """The first value that is called like an image file; empty where none is."""
    return next((value for value in row if value.lower().endswith(_ENDINGS)), "")


@lru_cache(maxsize=4)
def _npz_images(path: Path) -> UInt8[np.ndarray, "n h w"]:
    try:
        with np.load(path) as content:
            array: UInt8[np.ndarray, "n h w"] = content["images"]
    except _DAMAGED as error:
        raise InputError(f"{path} must be an .npz with an array 'images': {error}") from error
    if array.dtype != np.uint8 or array.ndim != 3:
        raise InputError(f"{path}: 'images' must be uint8 of shape n h w, got {array.dtype} {array.shape}")
    return array


def _picture(pixels: Float[Tensor, "c h w"], name: str) -> Picture:
    height, width = pixels.shape[-2:]
    return Picture(pixels, Provenance(name=name, sha256="", format="array", size=(height, width), bits=8))


def decoded(
    rows: Sequence[RowImage],
    card: ModelCard,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Pixels, dict[int, str]]:
    """All images at the size of `card`, and why some of them could not be read (these stay black).

    Kept under a name made of all keys, so that a second training starts at once; images that could not be read are
    tried again then, as a drive may only have been away. `progress` gets done and total.

    Raises:
        InputError: When there is no room for them, or the folder takes no files.
    """
    folder, keys = folder or default_cache(), [row.key for row in rows]
    if not all(keys):
        kept: Pixels = np.zeros((len(rows), card.channels, card.size, card.size), dtype=np.uint8)
        return kept, _fill(kept, rows, card, progress)
    digest = hashlib.sha256(repr((1, card.size, card.channels, keys)).encode()).hexdigest()
    path = folder / f"{digest[:32]}.npy"
    faults = path.with_suffix(".json")
    try:
        if path.exists() and faults.exists():
            problems = _try_again(rows, card, path, faults)
        else:
            files.remove_left_behind(folder, _STALE)
            problems = _decode_all(rows, card, path, progress)
            files.write_text(faults, json.dumps(problems))
        pixels: Pixels = np.load(path, mmap_mode="r")
    except OSError as error:
        size = len(rows) * card.channels * card.size**2 / 1e9
        raise InputError(
            f"{folder}: expected room for {len(rows)} decoded images ({size:.3g} GB) and leave to write them, got: "
            f"{error}; make room, or set data.cache to another folder"
        ) from error
    return pixels, problems


def default_cache() -> Path:
    """Where decoded images are kept unless a configuration says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gifsplain" / "images"


def _decode_all(
    rows: Sequence[RowImage], card: ModelCard, path: Path, progress: Callable[[int, int], None] | None
) -> dict[int, str]:
    shape = (len(rows), card.channels, card.size, card.size)
    with files.atomic_path(path) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        _take_room(temporary)
        problems = _fill(array, rows, card, progress)
        array.flush()
        del array
    return problems


def _take_room(path: Path) -> None:
    """Have the disk set aside a new map's room: writing to a map that the disk has no room for kills the process."""
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    with path.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):  # a file system that cannot
                raise


def _try_again(rows: Sequence[RowImage], card: ModelCard, path: Path, faults: Path) -> dict[int, str]:
    """Decode those images of the cache that could not be read, and put in what can be now; the problems that remain."""
    known = {int(i): why for i, why in json.loads(faults.read_text(encoding="utf-8")).items()}
    places = sorted(known)
    found: Pixels = np.zeros((len(places), card.channels, card.size, card.size), dtype=np.uint8)
    left = {places[i]: why for i, why in _fill(found, [rows[i] for i in places], card, None).items()}
    mended = [i for i, place in enumerate(places) if place not in left]
    if mended:  # others that read this cache have left these rows out
        array = np.load(path, mmap_mode="r+")
        array[[places[i] for i in mended]] = found[mended]
        array.flush()
        files.write_text(faults, json.dumps(left))
    return left


def _fill(
    array: Pixels, rows: Sequence[RowImage], card: ModelCard, progress: Callable[[int, int], None] | None
) -> dict[int, str]:
    def decode(i: int) -> str | None:
        try:
            array[i] = to_uint8(prepare.to_image(rows[i].load(), card))
        except (InputError, OSError, ValueError) as error:
            return str(error)
        return None

    problems: dict[int, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for i, problem in enumerate(pool.map(decode, range(len(rows)))):
            if problem:
                problems[i] = problem
            if progress:
                progress(i + 1, len(rows))
    return problems


def to_uint8(image: Float[Tensor, "c h w"]) -> UInt8[np.ndarray, "c h w"]:
    """[0, 1] to 0 .. 255, rounded."""
    array: NDArray[np.uint8] = (image * 255).round().to(torch.uint8).numpy()
    return array


def to_float(pixels: UInt8[np.ndarray, "b c s s"]) -> Float[Tensor, "b c s s"]:
    """0 .. 255 to [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
