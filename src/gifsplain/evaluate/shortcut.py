"""`evaluate shortcut`: a benchmark whose truth is known. A planted mark agrees with the label at a chosen rate."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.evaluate import bootstrap, cases, marks, overlap, parts, shortcut_models
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.discrimination import auc
from gifsplain.evaluate.maps import maps_of
from gifsplain.explain import attribution
from gifsplain.explain.compose import Composition
from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.models import wrap
from gifsplain.models.identity import identity
from gifsplain.models.load import load_autoencoder
from gifsplain.models.protocols import Autoencoder, ModelCard, Pair
from gifsplain.types import Images

RATES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
UNKNOWING = "pca-without-mark"
"""Principal components of the training images as they are: an autoencoder that has never seen the mark."""
KNOWING = "pca-with-mark"
"""The same of training images of which half carry the mark: an autoencoder that can draw it."""
_FAINT = 0.02
"""A mark whose contrast in the unchanged frame is below this cannot be said to be removed."""


@dataclass(frozen=True)
class ShortcutConfig:
    """The planted mark, the real finding that competes with it, and what is trained."""

    setup: Setup
    target: str = "Lung Opacity"
    mark: marks.Mark = field(default_factory=marks.Mark)
    kinds: tuple[marks.MarkKind, ...] = ()
    """Kinds of mark to go through; empty takes the one of `mark`."""
    size: int = 0
    """Side of the images in a small, quick run, where an autoencoder that has not seen the mark is fitted as well;
    0 takes the size of the setup's autoencoder, and that autoencoder."""
    agreements: tuple[float, ...] = RATES
    train_split: str = "train"
    train_images: int = 600
    epochs: int = 8
    components: int = 128

    @property
    def marks(self) -> dict[str, marks.Mark]:
        """The marks by kind."""
        return {kind: replace(self.mark, kind=kind) for kind in self.kinds or (self.mark.kind,)}


@dataclass(frozen=True, eq=False)
class _Data:
    cases: list[cases.Case]
    images: Images
    labels: Bool[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class _World:
    """One mark, the autoencoders that are asked about it, and the held-out images."""

    config: ShortcutConfig
    mark: marks.Mark
    drawers: dict[str, Autoencoder]
    test: _Data


def run(config: ShortcutConfig, progress: parts.Progress | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a test image, agreement and way of asking; and the summary with the true reliance on the mark."""
    setup = config.setup
    folder = setup.out / "shortcut"
    drawer = load_autoencoder(setup.autoencoder)
    parts.claim(folder, config, [identity(drawer)])
    card = replace(drawer.card, size=config.size) if config.size else drawer.card
    test = _data(config, card, setup.split, setup.limit)

    @cache
    def train() -> _Data:
        return _data(config, card, config.train_split, config.train_images // 2)

    @lru_cache(maxsize=1)
    def world(kind: str) -> _World:
        other = _fitted(config, train().images, UNKNOWING) if config.size else drawer
        name = UNKNOWING if config.size else setup.autoencoder
        knowing = _fitted(config, _planted(train(), config.marks[kind], 0.5, setup.seed + 1), KNOWING)
        return _World(config, config.marks[kind], {name: other, KNOWING: knowing}, test)

    @lru_cache(maxsize=1)
    def classifier(kind: str, agreement: float) -> wrap.ImageClassifier:
        return _classifier(config, kind, agreement, train)

    units = [
        parts.Unit((kind, f"{agreement:.2f}"), str(index), index)
        for kind in config.marks
        for agreement in config.agreements
        for index in range(len(test.cases))
    ]

    def compute(group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
        kind, rate = group[0].group
        return _rows(world(kind), float(rate), classifier(kind, float(rate)), index=[unit.payload for unit in group])

    found = parts.run_parts(folder, units, compute, chunk=setup.batch, progress=progress).some()
    return found, summarise(found)


def _data(config: ShortcutConfig, card: ModelCard, split: str, each: int) -> _Data:
    pool = [case for case in cases.load_cases(config.setup, split=split) if case.labelled]
    chosen = [
        case for sign in (True, False)
        for case in cases.draw([c for c in pool if c.has(config.target) == sign], each, config.setup.seed)
    ]  # fmt: skip
    labels = np.array([case.has(config.target) for case in chosen])
    if labels.all() or not labels.any():
        raise InputError(f"{split} needs cases with and without {config.target}; choose another --finding")
    return _Data(chosen, cases.load_pictures(chosen, card), labels)


def _planted(data: _Data, mark: marks.Mark, agreement: float, seed: int) -> Images:
    """The images, those with the mark that `marks.assign` says."""
    marked = torch.from_numpy(marks.assign(data.labels, agreement, seed))
    return torch.where(marked[:, None, None, None], marks.plant(data.images, mark), data.images)


def _classifier(config: ShortcutConfig, kind: str, agreement: float, train: Any) -> wrap.ImageClassifier:
    path = config.setup.out / "shortcut" / "classifiers" / f"{kind}-{agreement:.2f}.safetensors"
    data: _Data = train()
    images = _planted(data, config.marks[kind], agreement, config.setup.seed)
    labels = torch.from_numpy(data.labels).float()
    net = shortcut_models.cached_classifier(path, images, labels, epochs=config.epochs, seed=config.setup.seed)
    channels, size = images.shape[1], images.shape[-1]
    return wrap.classifier(net, name=f"mark-{agreement:.2f}", targets=(config.target,), size=size, channels=channels)


def _fitted(config: ShortcutConfig, images: Images, name: str) -> Autoencoder:
    net = shortcut_models.fit_linear_autoencoder(images, config.components, seed=config.setup.seed)
    return wrap.autoencoder(net, name=name, size=images.shape[-1], channels=images.shape[1])


def _rows(
    world: _World, agreement: float, classifier: wrap.ImageClassifier, *, index: Sequence[int]
) -> list[list[parts.Row]]:
    test, mark = world.test, world.mark
    plain = test.images[list(index)]
    planted = marks.plant(plain, mark)
    with torch.no_grad():
        without, with_mark = classifier.scores(plain)[:, 0], classifier.scores(planted)[:, 0]
    shared = [
        {"mark": mark.kind, "agreement": agreement, "case": test.cases[n].key, "patient": test.cases[n].patient,
         "positive": bool(test.labels[n]), "score_without": float(without[k]), "score_with": float(with_mark[k])}
        for k, n in enumerate(index)
    ]  # fmt: skip
    rows: list[list[parts.Row]] = [[] for _ in index]
    mask = marks.mark_mask(mark, plain.shape[-1]).numpy()
    for asked, maps, extra in _ask(world, classifier, plain, planted):
        for k in range(len(index)):
            found = overlap.measures(maps[k].numpy().astype(float), mask)
            rows[k].append({**shared[k], "method": asked, "iou": found["iou"], "hit": found["hit"],
                            "energy": found["energy"], "random_iou": found["random_iou"], **extra[k]})  # fmt: skip
    return rows


def _ask(
    world: _World, classifier: wrap.ImageClassifier, plain: Images, planted: Images
) -> list[tuple[str, Tensor, list[parts.Row]]]:
    """Every way of asking where the decision on the marked images comes from: its name, maps, and what was drawn."""
    found: list[tuple[str, Tensor, list[parts.Row]]] = []
    config, drawers = world.config, world.drawers
    first = Pair(classifier, next(iter(drawers.values())))
    nothing: list[parts.Row] = [{} for _ in range(len(plain))]
    for method in config.setup.methods:
        if method in attribution.MAPS:
            found.append((method, maps_of(first, method, planted, config.target, config.setup.settings), nothing))
            continue
        for name, drawer in drawers.items():
            for composition in Composition:
                settings = replace(config.setup.settings, composition=composition, rise=0.3)
                maps, extra = _sweeps(world, Pair(classifier, drawer), method, settings, plain=plain, planted=planted)
                found.append((f"{method} / {name} / {composition.value}", maps, extra))
    return found


def _sweeps(
    world: _World, pair: Pair, method: str, settings: Settings, *, plain: Images, planted: Images
) -> tuple[Tensor, list[parts.Row]]:
    """Maps of the marked images; does lowering their score remove the mark, does raising the others' draw one?"""
    config, names = world.config, [str(n) for n in range(len(plain))]
    marked = explain_with(method, pair, cases.as_pictures(planted, names), [config.target], settings, cases=names)
    others = explain_with(method, pair, cases.as_pictures(plain, names), [config.target], settings, cases=names)
    rows = []
    for k, (one, other) in enumerate(zip(marked, others, strict=True)):
        full = float(marks.presence(planted[k : k + 1], world.mark) - marks.presence(plain[k : k + 1], world.mark))
        drawn = torch.stack(
            [one.reconstruction, one.baseline_frame, one.frames[0], other.baseline_frame, other.frames[-1]]
        )
        empty = float(marks.presence(other.baseline_frame[None], world.mark))
        seen = [float(v) for v in marks.presence(drawn, world.mark)]
        there = seen[1] - empty
        rows.append(
            {"drawable": (seen[0] - empty) / full if abs(full) > _FAINT else float("nan"),
             "removed": (seen[1] - seen[2]) / there if abs(there) > _FAINT else float("nan"),
             "removed_grey": seen[1] - seen[2],
             "added": (seen[4] - seen[3]) / full if abs(full) > _FAINT else float("nan"),
             "lowered": one.baseline_score - float(one.frame_scores[0]),
             "raised": float(other.frame_scores[-1]) - other.baseline_score}
        )  # fmt: skip
    return torch.stack([one.map for one in marked]), rows


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """For each mark, agreement and method: reliance on the mark, AUCs, localisation, and what became of the mark."""
    measures = [m for m in ("iou", "hit", "energy", "drawable", "removed", "added", "lowered", "raised") if m in rows]
    found = []
    for (mark, agreement, method), table in rows.groupby(["mark", "agreement", "method"], sort=False):
        positive = table["positive"].to_numpy(bool)
        row: parts.Row = {"mark": mark, "agreement": agreement, "method": method, "n": len(table)}
        row["reliance"] = float((table["score_with"] - table["score_without"]).mean())
        row["auc_without_mark"] = auc(positive, table["score_without"].to_numpy(float))
        both = np.where(positive, table["score_with"], table["score_without"]).astype(float)
        row["auc_mark_agrees"] = auc(positive, both)
        row["auc_mark_opposes"] = auc(
            positive, np.where(positive, table["score_without"], table["score_with"]).astype(float)
        )
        row["random_iou"] = float(table["random_iou"].mean())
        for measure in measures:
            interval = bootstrap.mean_interval(table[measure].to_numpy(float), list(table["patient"]))
            row |= {measure: interval.value, f"{measure}_low": interval.low, f"{measure}_high": interval.high}
        found.append(row)
    return pd.DataFrame(found)
