"""Decoding each image once: rows to one uint8 memory map at the model's size."""

import hashlib
import json
import os
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


class RowImage(Protocol):
    """An image that can be loaded when it is needed."""

    @property
    def key(self) -> str:
        """Equal for equal images; changes when the file does."""
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

    def load(self) -> Picture:
        """The image, 0 black and 255 white."""
        array = _npz_images(self.path)
        return _picture(torch.from_numpy(array[self.index].astype(np.float32) / 255)[None], str(self.path))


@dataclass(frozen=True, eq=False)
class DatasetImage:
    """One image of a torchxrayvision dataset."""

    dataset: Any
    index: int

    @property
    def key(self) -> str:
        """The dataset's own description, its folder and the index."""
        return f"{self.dataset.string()}:{getattr(self.dataset, 'imgpath', '')}[{self.index}]"

    def load(self) -> Picture:
        """The image, out of [-1024, 1024]."""
        pixels = torch.as_tensor(self.dataset[self.index]["img"], dtype=torch.float32)
        return _picture((pixels[:1] / 2048 + 0.5).clamp(0, 1), self.key)


@lru_cache(maxsize=4)
def _npz_images(path: Path) -> UInt8[np.ndarray, "n h w"]:
    try:
        with np.load(path) as content:
            array: UInt8[np.ndarray, "n h w"] = content["images"]
    except (OSError, KeyError, ValueError) as error:
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

    Kept under a name made of all keys, so that a second training starts at once; `progress` gets done and total.
    """
    folder = folder or default_cache()
    digest = hashlib.sha256(repr((1, card.size, card.channels, [row.key for row in rows])).encode()).hexdigest()
    path = folder / f"{digest[:32]}.npy"
    faults = path.with_suffix(".json")
    if not (path.exists() and faults.exists()):
        problems = _decode_all(rows, card, path, progress)
        files.write_text(faults, json.dumps(problems))
    pixels: Pixels = np.load(path, mmap_mode="r")
    return pixels, {int(i): why for i, why in json.loads(faults.read_text(encoding="utf-8")).items()}


def default_cache() -> Path:
    """Where decoded images are kept unless a configuration says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gifsplain" / "images"


def _decode_all(
    rows: Sequence[RowImage], card: ModelCard, path: Path, progress: Callable[[int, int], None] | None
) -> dict[int, str]:
    shape = (len(rows), card.channels, card.size, card.size)
    with files.atomic_path(path) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        problems = _fill(array, rows, card, progress)
        array.flush()
        del array
    return problems


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
