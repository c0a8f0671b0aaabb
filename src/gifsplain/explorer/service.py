"""What the explorer can do, without a word of HTTP: keep pictures, score them, explain them, draw the results."""

import io
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from gifsplain.errors import InputError
from gifsplain.explain.compose import Composition, native_frame
from gifsplain.explain.methods import AUTO, AUTO_SUMMARY, METHODS, SweepMethod, explain_with, refuse_unknown
from gifsplain.explain.run import target_index
from gifsplain.explain.settings import Settings
from gifsplain.explorer.shelf import GoneError, Shelf
from gifsplain.io.examples import chest_radiograph
from gifsplain.io.grey import Colour
from gifsplain.io.images import load_bytes, load_image
from gifsplain.models.load import CATALOGUE, available, load_models
from gifsplain.models.prepare import centre_crop, to_images
from gifsplain.models.protocols import Pair
from gifsplain.render import directory, report
from gifsplain.render.frames import strength_labels
from gifsplain.render.heatmap import Window
from gifsplain.render.ink import to_bytes
from gifsplain.render.record import record_of, to_json
from gifsplain.types import Explanation, Picture

Load = Callable[[str, str], Pair]
"""Names of a classifier and an autoencoder to models that fit together."""
DOWNLOADS = ("report", "gif", "mp4", "webp", "json", "map", "overlay", "curve", "flow")


@dataclass(frozen=True)
class Wish:
    """What to explain and how; equal wishes give one explanation."""

    picture: str
    target: str
    method: str = "latentshift"
    classifier: str = "cxr"
    autoencoder: str = "cxr"
    composition: str = "residual"
    drop: float = 0.30
    rise: float = 0.05
    frames: int = 21

    def settings(self) -> Settings:
        """The wish as settings of the search and sweep."""
        if self.composition not in [kind.value for kind in Composition]:
            raise InputError(f"composition must be residual or reconstruction, got {self.composition!r}")
        kind = Composition(self.composition)
        return Settings(drop=self.drop, rise=self.rise, frames=self.frames, composition=kind)


class Explorer:
    """Pictures, models and explanations of one session; the models work for one request at a time."""

    def __init__(
        self,
        *,
        classifiers: Sequence[str] = (),
        autoencoders: Sequence[str] = (),
        load: Load | None = None,
        device: str = "cpu",
    ) -> None:
        self.classifiers = _names("classifier", classifiers)
        self.autoencoders = _names("autoencoder", autoencoders)
        self.pictures: Shelf[Picture] = Shelf("picture", 12)
        self.explanations: Shelf[Explanation] = Shelf("explanation", 48)
        self._made: dict[Wish, str] = {}
        self._pairs: dict[tuple[str, str], Pair] = {}
        self._load = load or (lambda first, second: load_models(first, second, resize=True, device=device))
        self._lock = threading.Lock()

    def options(self) -> dict[str, Any]:
        """What can be chosen; the first of each is what the page starts with."""
        methods = [{"name": AUTO, "summary": AUTO_SUMMARY, "sweep": True}]
        methods += [
            {"name": name, "summary": method.summary, "sweep": isinstance(method, SweepMethod)}
            for name, method in METHODS.items()
        ]
        return {"classifiers": self.classifiers, "autoencoders": self.autoencoders, "methods": methods}

    def open_bytes(self, content: bytes, name: str, colour: Colour = "refuse") -> dict[str, Any]:
        """Keep an uploaded picture; the name is only shown."""
        return self._keep(load_bytes(content, name, colour=colour))

    def open_example(self) -> dict[str, Any]:
        """Keep the chest radiograph that comes with pydicom-data."""
        return self._keep(load_image(chest_radiograph()))

    def preview(self, picture: str) -> bytes:
        """The whole picture as a PNG of at most 640 pixels."""
        drawn = Image.fromarray(to_bytes(self.pictures.get(picture).pixels))
        drawn.thumbnail((640, 640), Image.Resampling.LANCZOS)
        return _png(drawn)

    def scores(self, picture: str, classifier: str, autoencoder: str) -> dict[str, Any]:
        """Scores of all targets; None for a head that was never trained."""
        kept = self.pictures.get(picture)
        with self._lock, torch.no_grad():
            pair = self._pair(classifier, autoencoder)
            numbers = pair.classifier.scores(to_images(kept, pair.autoencoder.card).to(pair.device))[0].tolist()
        card = pair.classifier.card
        rows = [
            {"target": name, "score": None if name in card.untrained else number}
            for name, number in zip(card.targets, numbers, strict=True)
        ]
        return {"meaning": card.meaning.value, "scores": rows}

    def explain(self, wish: Wish) -> dict[str, Any]:
        """Make the explanation, or find the one made before, and describe it."""
        picture = self.pictures.get(wish.picture)
        refuse_unknown(wish.method)
        settings = wish.settings()
        with self._lock:
            name = self._made.get(wish)
            if name is None or name not in self.explanations:
                pair = self._pair(wish.classifier, wish.autoencoder)
                target_index(pair.classifier.card, wish.target)
                made = explain_with(wish.method, pair, [picture], [wish.target], settings)[0]
                name = self.explanations.put(replace(made, case=picture.provenance.name))
                self._made = {key: value for key, value in self._made.items() if value in self.explanations}
                self._made[wish] = name
        return self.describe(name)

    def describe(self, name: str) -> dict[str, Any]:
        """The record of an explanation, and how its pictures are laid out."""
        explanation = self.explanations.get(name)
        frames = explanation.frames
        height, width = explanation.picture.pixels.shape[-2:]
        crop = centre_crop(height, width)
        window = Window.of(explanation.map)
        columns = _columns(len(frames))
        return to_json(record_of(explanation)) | {
            "id": name,
            "labels": strength_labels(explanation.strengths.tolist()),
            "sheet": {"columns": columns, "count": len(frames), "height": frames.shape[-2], "width": frames.shape[-1]},
            "window": {"low": window.low, "high": window.high},
            "native": {
                "possible": _has_native(explanation) and height * width > frames[0, 0].numel(),
                "height": height,
                "width": width,
                "crop": vars(crop),
            },
            "worst": report.worst_verdict(explanation),
            "downloads": [kind for kind in DOWNLOADS if directory.is_made(explanation, kind)],
        }

    def sheet(self, name: str) -> bytes:
        """All frames in one PNG, row by row: fetched once, then every frame is there."""
        frames = self.explanations.get(name).frames
        columns = _columns(len(frames))
        pictures = [to_bytes(frame) for frame in frames]
        pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % columns)
        rows = [np.concatenate(pictures[k : k + columns], axis=1) for k in range(0, len(pictures), columns)]
        return _png(Image.fromarray(np.concatenate(rows)))

    def map(self, name: str) -> bytes:
        """The map as a PNG with opacity."""
        explanation = self.explanations.get(name)
        return _png(Image.fromarray(report.transparent_map(explanation, Window.of(explanation.map))))

    def native(self, name: str, index: int) -> bytes:
        """One frame at the original's own size as a JPEG."""
        explanation = self.explanations.get(name)
        if not 0 <= index < len(explanation.frames):
            raise GoneError(f"expected a frame below {len(explanation.frames)}, got {index}")
        buffer = io.BytesIO()
        frame = native_frame(explanation, index) if explanation.has_sweep else explanation.picture.pixels
        Image.fromarray(to_bytes(frame)).save(buffer, "JPEG", quality=95)
        return buffer.getvalue()

    def download(self, name: str, kind: str) -> tuple[str, bytes]:
        """File name and content of one output."""
        explanation = self.explanations.get(name)
        if kind not in DOWNLOADS:
            raise GoneError(f"expected one of {', '.join(DOWNLOADS)}, got {kind[:40]!r}")
        if not directory.is_made(explanation, kind):
            raise InputError(f"{explanation.method} only draws a map; there is no {directory.FILES[kind]}")
        wanted = {kind, "flow"} if kind == "report" and explanation.has_sweep else {kind}
        made = dict(directory.outputs(explanation, wanted))
        return directory.file_name(explanation, kind), made[directory.FILES[kind]]

    def _keep(self, picture: Picture) -> dict[str, Any]:
        source = picture.provenance
        name = self.pictures.put(picture)
        return {"id": name, "name": source.name, "format": source.format, "bits": source.bits, "steps": source.steps,
                "height": source.size[0], "width": source.size[1]}  # fmt: skip

    def _pair(self, classifier: str, autoencoder: str) -> Pair:
        """Models by names that were offered: a name from the web never becomes a path or an import."""
        for kind, name, offered in (
            ("classifier", classifier, self.classifiers),
            ("autoencoder", autoencoder, self.autoencoders),
        ):
            if name not in [entry["name"] for entry in offered]:
                raise InputError(f"expected one of the offered {kind}s, got {name[:80]!r}")
        if (classifier, autoencoder) not in self._pairs:
            self._pairs[classifier, autoencoder] = self._load(classifier, autoencoder)
        return self._pairs[classifier, autoencoder]


def _names(kind: str, more: Sequence[str]) -> list[Mapping[str, str]]:
    """Models that are on this machine, and those that were named when the explorer was started."""
    found = [
        {"name": entry.name, "summary": entry.summary}
        for entry in CATALOGUE
        if entry.kind == kind and available(entry) == "yes"
    ]
    known = {entry["name"] for entry in found}
    return [*({"name": name, "summary": "named at the start"} for name in more if name not in known), *found]


def _has_native(explanation: Explanation) -> bool:
    """A map alone can be laid over the original; a decoded frame has no more detail than the models' size."""
    return explanation.composition == Composition.RESIDUAL or not explanation.has_sweep


def _columns(count: int) -> int:
    return max(1, math.isqrt(count))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
