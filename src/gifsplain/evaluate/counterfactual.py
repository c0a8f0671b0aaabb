"""`evaluate counterfactual`: one table over methods of how good their counterfactuals and maps are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.evaluate import bootstrap, cases, parts, perceptual, quality
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.layers import autoencoder_features, classifier_features
from gifsplain.evaluate.store import Drawn, Store, fits_of
from gifsplain.explain import attribution
from gifsplain.explain.attribution import native_zero
from gifsplain.models.identity import identity, pair_identity
from gifsplain.models.load import load_classifier
from gifsplain.models.protocols import Classifier, Pair
from gifsplain.models.wrap import resized
from gifsplain.types import Explanation, Images, Map, Stop

KEYS = ["classifier", "method"]
EXTRACTORS = ("classifier", "autoencoder")
FEWEST = 10
"""With fewer images a distance of feature sets says nothing, so none is given."""


@dataclass(frozen=True)
class CounterfactualConfig:
    """Shared setup, a second opinion, and optional weights for a perceptual distance."""

    setup: Setup
    oracle: str | None = None
    """An independently trained classifier with the same targets, by name or folder of `gifsplain train classifier`;
    None leaves the oracle columns empty."""
    perceptual: str | None = None
    """Name of a classifier whose layers measure perceptual distance; None leaves that column empty."""
    steps: int = 20
    """Portions in which deletion, insertion and COUT exchange pixels."""


def run(config: CounterfactualConfig, progress: parts.Progress | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a case, target and method, and the summary table over methods."""
    setup, pairs = config.setup.opened()
    config = replace(config, setup=setup)
    folder = setup.out / "counterfactual"
    size = next(iter(pairs.values())).classifier.card.size
    names = dict.fromkeys(name for name in (config.oracle, config.perceptual) if name)
    others = {name: resized(load_classifier(name), size) for name in names}
    weights = [pair_identity(pair) for pair in pairs.values()]
    pool = cases.load_cases(setup)
    units = [
        parts.Unit((name, target, method), case.key, case)
        for name, pair in pairs.items()
        for target in setup.targets or pair.targets
        if target in pair.targets
        for method in setup.methods
        for rank, case in enumerate(cases.draw(cases.shown(setup, pool, target), setup.limit, setup.seed))
        if setup.reaches(method, rank)
    ]
    cases.refuse_none(setup, units)
    fits = fits_of(pairs.values(), setup.methods)
    parts.claim(folder, config, [*weights, *map(identity, others.values())], fits)

    def compute(group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
        return _rows(config, pairs[group[0].group[0]], others, group)

    found = parts.run_parts(folder, units, compute, chunk=setup.batch, progress=progress)
    return found.some(), summarise(found.frame)


def _rows(
    config: CounterfactualConfig, pair: Pair, others: dict[str, Classifier], group: Sequence[parts.Unit]
) -> list[list[parts.Row]]:
    name, target, method = group[0].group
    images = cases.load_pictures([unit.payload for unit in group], pair.classifier.card)
    store, settings, names = Store(config.setup.store_folder), config.setup.settings, [unit.case for unit in group]
    rows: list[list[parts.Row]] = []
    found = [] if method in attribution.MAPS else store.sweeps(pair, method, images, target, settings, names=names)
    maps = [Drawn(one.map, one.cost.seconds) for one in found] or store.maps(
        pair, method, images, target, settings, names=names
    )
    for unit, image, drawn in zip(group, images, maps, strict=True):
        row: parts.Row = {"classifier": name, "target": target, "method": method, "case": unit.case,
                          "patient": unit.payload.patient, "seconds": drawn.seconds}  # fmt: skip
        rows.append([row | faithfulness(pair, image, drawn.map, target, config.steps)])
    for (row,), explanation in zip(rows if found else (), found, strict=True):
        row |= counterfactual_measures(explanation, settings.drop, settings.tolerance)
        row |= _with_models(pair, explanation, config, others)
    return rows


def faithfulness(pair: Pair, image: Float[Tensor, "c h w"], found: Map, target: str, steps: int) -> parts.Row:
    """Deletion (lower is better) and insertion (higher is better) of the map's pixels (Petsiuk 2018).

    Deletion exchanges pixels for the network's own 0, insertion brings them back into a blurred image.
    """
    score = _score(pair.classifier, target)
    order = quality.order_of(found)
    empty = torch.full_like(image, native_zero(pair.classifier))
    side = 2 * (image.shape[-1] // 8) + 1
    blurred = torch.nn.functional.avg_pool2d(image[None], side, 1, side // 2, count_include_pad=False)[0]
    deleted = quality.path_scores(image, empty, order, score, steps=steps)
    inserted = quality.path_scores(blurred, image, order, score, steps=steps)
    return {"deletion": quality.area(deleted), "insertion": quality.area(inserted)}


def _score(classifier: Classifier, target: str) -> Callable[[Tensor], Tensor]:
    index = classifier.card.targets.index(target)

    def score(images: Images) -> Tensor:
        with torch.no_grad():
            return classifier.scores(images)[:, index].cpu()

    return score


def changes(explanation: Explanation) -> bool:
    """Whether the counterfactual is another picture than the unchanged frame.

    Where it is not, nothing was found: how near it is to the unchanged frame says nothing about a method.
    """
    return not torch.equal(explanation.frames[explanation.counterfactual], explanation.baseline_frame)


def wants_fall(explanation: Explanation) -> bool:
    """Whether a fall is the wanted change: wherever one was searched, found or not, as in `Explanation.stop`.

    Else the side on which the counterfactual lies: a rise alone was asked for, or the score was too low to fall.
    """
    searched = explanation.stop_lower not in (Stop.NOT_SEARCHED, Stop.SCORE_BOUND)
    return searched or explanation.counterfactual <= explanation.baseline


def counterfactual_measures(explanation: Explanation, drop: float, tolerance: float) -> parts.Row:
    """What needs no model: validity, proximity, sparsity, path, and what else changed, against the unchanged frame.

    Proximity, sparsity and what else changed are nan where nothing changed.
    """
    base, cf = explanation.baseline_frame, explanation.frames[explanation.counterfactual]
    before, after = explanation.baseline_score, float(explanation.frame_scores[explanation.counterfactual])
    path = explanation.frame_scores.numpy().astype(float)
    own = explanation.targets.index(explanation.target)
    others = [t for t in range(len(explanation.targets)) if t != own]
    moved = explanation.target_scores[explanation.counterfactual] - explanation.baseline_scores
    changed, middle = changes(explanation), explanation.meaning.middle
    return {
        "stop": explanation.stop.value,
        "before": before,
        "after": after,
        "valid": float(before - after >= drop - tolerance),
        "flipped": float(before >= middle > after) if before >= middle else float("nan"),
        "l1": quality.distance(cf, base) if changed else float("nan"),
        "ssim": quality.similarity(cf, base) if changed else float("nan"),
        "changed": quality.changed_share(cf, base) if changed else float("nan"),
        "monotonicity": quality.monotonicity(path),
        "detour": quality.detour(path),
        "roughness": quality.roughness(explanation.frames),
        "other_targets": float(moved[others].abs().mean()) if others and changed else float("nan"),
    }


def _with_models(
    pair: Pair, explanation: Explanation, config: CounterfactualConfig, others: dict[str, Classifier]
) -> parts.Row:
    """What needs a network: COUT, the second opinion, perceptual distance, and features for realism.

    COUT, agreement and perceptual distance are nan where nothing changed.
    """
    base, cf = explanation.baseline_frame, explanation.frames[explanation.counterfactual]
    score, lowered, changed = _score(pair.classifier, explanation.target), wants_fall(explanation), changes(explanation)
    cout = quality.cout(base, cf, score, lowered=lowered, steps=config.steps) if changed else float("nan")
    row: parts.Row = {"cout": cout}
    if config.oracle:
        row |= _second_opinion(others[config.oracle], explanation)
    if config.perceptual:
        row["perceptual"] = perceptual.distance(others[config.perceptual], base, cf) if changed else float("nan")
    stack = torch.stack([explanation.image, base, cf]).to(pair.device)
    features = {"classifier": classifier_features(pair.classifier, stack),
                "autoencoder": autoencoder_features(pair.autoencoder, stack)}  # fmt: skip
    for extractor, values in features.items():
        for kind, vector in zip(("image", "base", "cf"), values.cpu(), strict=True):
            row[f"features:{extractor}:{kind}"] = [round(float(v), 5) for v in vector]
    return row


def _second_opinion(oracle: Classifier, explanation: Explanation) -> parts.Row:
    """Whether another classifier says the same of the counterfactual (Hvilshoj 2021), and how far it moved."""
    if explanation.target not in oracle.card.targets:
        return {"oracle_agrees": float("nan"), "oracle_change": float("nan")}
    ends = torch.stack([explanation.baseline_frame, explanation.frames[explanation.counterfactual]])
    before, after = _score(oracle, explanation.target)(ends).tolist()
    mine = float(explanation.frame_scores[explanation.counterfactual])
    same = (after >= oracle.card.meaning.middle) == (mine >= explanation.meaning.middle)
    agrees = float(same) if changes(explanation) else float("nan")
    return {"oracle_agrees": agrees, "oracle_change": before - after}


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean of every measure over the rows that have it, with their number (`MEASURE_n`), for each classifier and method.

    Main measures have an interval; realism is that of feature sets.
    """
    ignored = {"target", "case", "patient", "stop", *KEYS}
    measures = [str(c) for c in rows if c not in ignored and not str(c).startswith("features:")]
    summary = []
    for key, table in rows.groupby(KEYS, sort=False):
        row: parts.Row = {**dict(zip(KEYS, key, strict=True)), "n": len(table)}
        for measure in measures:
            row |= {measure: float(table[measure].mean()), f"{measure}_n": int(table[measure].count())}
        for measure in [m for m in ("valid", "l1", "deletion", "insertion") if m in table]:
            found = bootstrap.mean_interval(table[measure].to_numpy(float), list(table["patient"]))
            row |= {f"{measure}_low": found.low, f"{measure}_high": found.high}
        summary.append(row | _realism(table))
    return pd.DataFrame(summary)


def _realism(table: pd.DataFrame) -> parts.Row:
    """Feature distances from real images to counterfactuals, and to unchanged frames as the autoencoder's share."""
    row: parts.Row = {}
    for extractor in EXTRACTORS:
        columns = {kind: f"features:{extractor}:{kind}" for kind in ("image", "base", "cf")}
        if columns["cf"] not in table or table[columns["cf"]].isna().all():
            continue
        kept = table[table[columns["cf"]].notna()]
        if len(kept) < FEWEST:
            continue
        sets = {kind: np.stack([np.asarray(v, float) for v in kept[column]]) for kind, column in columns.items()}
        centre, spread = sets["image"].mean(axis=0), sets["image"].std(axis=0).mean() or 1.0
        real, base, cf = ((sets[kind] - centre) / spread for kind in ("image", "base", "cf"))
        row |= {f"kid_{extractor}": quality.kernel_distance(cf, real),
                f"kid_{extractor}_unchanged": quality.kernel_distance(base, real),
                f"fid_{extractor}": quality.frechet_distance(cf, real)}  # fmt: skip
    return row
