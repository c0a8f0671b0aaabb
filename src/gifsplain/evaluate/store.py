"""Maps and sweeps that several experiments need, computed once and kept as files; a stopped run continues from them."""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gifsplain.evaluate import parts
from gifsplain.evaluate.cases import as_pictures
from gifsplain.evaluate.config import digest, plain
from gifsplain.explain import attribution, fits
from gifsplain.explain.methods import explain_with
from gifsplain.explain.run import target_index
from gifsplain.explain.settings import Settings
from gifsplain.io.files import atomic_path
from gifsplain.models.identity import pair_identity
from gifsplain.models.protocols import Pair
from gifsplain.types import Cost, Explanation, Images, Map, ScoreMeaning, Scores, Stop

T = TypeVar("T")
_TENSORS = ("image", "reconstruction", "frames", "strengths", "frame_scores", "target_scores", "map")
_START = ("start", "start_scores")
"""Only of sweeps that leave strength 0 out."""
_VALUES = ("case", "method", "target", "strength_unit", "counterfactual", "map_name", "composition")


@dataclass(frozen=True)
class Drawn:
    """The map of one image, and the seconds that it took."""

    map: Map
    seconds: float


@dataclass(frozen=True)
class Store:
    """Results by what decides them: weights, method and its fit, target, settings and the image's own values."""

    folder: Path

    def path(self, pair: Pair, method: str, image: Float[Tensor, "c h w"], target: str, settings: Settings) -> Path:
        """The file of one result."""
        return self._paths(pair, method, image[None], target, settings)[0]

    def _paths(self, pair: Pair, method: str, images: Images, target: str, settings: Settings) -> list[Path]:
        cards = (pair.classifier.card, pair.autoencoder.card)
        decided = plain(replace(settings, batch=1)) if method not in attribution.MAPS else None
        more = fits_of([pair], [method])
        more += ["with its start"] if decided and settings.policy == "paper-2021" else []  # older files lack it
        key = [[card.sha256 for card in cards], method, target, decided, *more]
        return [self.folder / f"{digest([*key, _bytes_of(image)])}.safetensors" for image in images]

    def maps(
        self, pair: Pair, method: str, images: Images, target: str, settings: Settings, *, names: Sequence[str]
    ) -> list[Drawn]:
        """Maps of images at model size; attributions are drawn without the autoencoder's detour."""
        if method not in attribution.MAPS:
            found = self.sweeps(pair, method, images, target, settings, names=names)
            return [Drawn(one.map, one.cost.seconds) for one in found]
        index = target_index(pair.classifier.card, target)

        def compute(rows: Sequence[int]) -> list[Drawn]:
            started = time.perf_counter()
            maps = attribution.MAPS[method](pair, images[list(rows)].to(pair.device), index).cpu()
            seconds = (time.perf_counter() - started) / len(rows)
            return [Drawn(one, seconds) for one in maps]

        paths = self._paths(pair, method, images, target, settings)
        return _through(paths, compute, _save_drawn, _load_drawn, keep=_known(pair))

    def sweeps(
        self, pair: Pair, method: str, images: Images, target: str, settings: Settings, *, names: Sequence[str]
    ) -> list[Explanation]:
        """Explanations of images at model size; those that were kept have no checks and no record."""
        pictures = as_pictures(images, names)

        def compute(rows: Sequence[int]) -> list[Explanation]:
            chosen, called = [pictures[row] for row in rows], [names[row] for row in rows]
            return explain_with(method, pair, chosen, [target], settings, cases=called)

        paths = self._paths(pair, method, images, target, settings)
        found = _through(paths, compute, _save_sweep, _load_sweep, keep=_known(pair))
        return [replace(one, picture=picture) for one, picture in zip(found, pictures, strict=True)]


def fits_of(pairs: Iterable[Pair], methods: Sequence[str]) -> list[str]:
    """Checksums of the fits behind those of `methods` that take directions from one; empty when none does.

    Raises:
        WeightsError: When such a method is asked for and a pair was never fitted.
    """
    if not any(method.removesuffix("-subset") in fits.METHODS for method in methods):
        return []
    return [fits.load(pair).sha256 for pair in pairs]


def claim(folder: Path, config: object, pairs: Collection[Pair], methods: Sequence[str]) -> None:
    """`parts.claim` for what `methods` explain with `pairs`: bound to their weights, and to the fits of directions.

    Raises:
        ConfigurationError: When the folder was begun with something else.
        WeightsError: When a method needs a fit and there is none.
    """
    parts.claim(folder, config, [pair_identity(pair) for pair in pairs], fits_of(pairs, methods))


def _known(pair: Pair) -> bool:
    """Models without a checksum cannot be told apart, so nothing of theirs is kept."""
    return bool(pair.classifier.card.sha256 and pair.autoencoder.card.sha256)


def _bytes_of(image: Float[Tensor, "c h w"]) -> str:
    return hashlib.blake2b(image.detach().cpu().contiguous().numpy().tobytes(), digest_size=16).hexdigest()


def _through(
    paths: Sequence[Path],
    compute: Callable[[Sequence[int]], list[T]],
    save: Callable[[Path, T], None],
    load: Callable[[Path], T],
    *,
    keep: bool,
) -> list[T]:
    missing = [row for row, path in enumerate(paths) if not (keep and path.exists())]
    fresh = dict(zip(missing, compute(missing), strict=True)) if missing else {}
    for row, value in fresh.items() if keep else ():
        save(paths[row], value)
    return [fresh[row] if row in fresh else load(path) for row, path in enumerate(paths)]


def _write(path: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        save_file(whole, str(temporary), {"values": json.dumps(values)})


def _read(path: Path, names: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(str(path), "pt") as file:
        values: dict[str, Any] = json.loads(file.metadata()["values"])
        there = [name for name in _START if name in file.keys()]  # noqa: SIM118 - no dictionary
        return {name: file.get_tensor(name) for name in (*names, *there)}, values


def _save_drawn(path: Path, drawn: Drawn) -> None:
    _write(path, {"map": drawn.map}, {"seconds": drawn.seconds})


def _load_drawn(path: Path) -> Drawn:
    tensors, values = _read(path, ("map",))
    return Drawn(tensors["map"], values["seconds"])


def _save_sweep(path: Path, found: Explanation) -> None:
    values = {name: getattr(found, name) for name in _VALUES} | {
        "meaning": found.meaning.value, "targets": list(found.targets), "scores": asdict(found.scores),
        "stop_lower": found.stop_lower.value, "stop_higher": found.stop_higher.value, "cost": asdict(found.cost),
    }  # fmt: skip
    tensors = {name: getattr(found, name) for name in (*_TENSORS, *_START)}
    _write(path, {name: tensor for name, tensor in tensors.items() if tensor is not None}, values)


def _load_sweep(path: Path) -> Explanation:
    tensors, values = _read(path, _TENSORS)
    known: dict[str, Any] = {name: values[name] for name in _VALUES} | tensors
    return Explanation(
        **known,
        picture=as_pictures(tensors["image"][None], [values["case"]])[0],
        meaning=ScoreMeaning(values["meaning"]),
        targets=tuple(values["targets"]),
        scores=Scores(**values["scores"]),
        stop_lower=Stop(values["stop_lower"]),
        stop_higher=Stop(values["stop_higher"]),
        cost=Cost(**values["cost"]),
    )


def maps_as_tensor(found: Sequence[Drawn]) -> Float[Tensor, "b h w"]:
    """The maps alone."""
    return torch.stack([one.map for one in found])
