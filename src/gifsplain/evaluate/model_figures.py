"""`evaluate models`: the figures of a model card: AUC by group, reconstruction by group, source probe, reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.evaluate import bootstrap, cases, parts, quality
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.discrimination import auc
from gifsplain.evaluate.layers import classifier_features
from gifsplain.evaluate.store import fits_of
from gifsplain.explain.methods import AUTO, explain_with
from gifsplain.models.identity import identity
from gifsplain.models.protocols import Pair
from gifsplain.types import Explanation, ScoreMeaning, Stop

PATCH = 8
"""Side in pixels of the square whose mean change tells whether a change can be seen."""
VISIBLE = 0.05
"""A counterfactual counts as visible when such a square changes by this share of the grey range in mean."""
FEWEST = 3
"""With fewer positives or negatives in a group no AUC is given."""
Table = pd.DataFrame


@dataclass(frozen=True)
class ModelFiguresConfig:
    """Scores are measured on `setup.sources`, reconstruction and the probe of source on every row that `where` keeps."""

    setup: Setup
    explained: int = 40
    """Most positives a target that are explained."""
    everywhere: tuple[str, ...] | None = None
    """Conditions on the manifest's columns for reconstruction and the probe of source; None: `weights_ok=1` where the
    manifest has that column, else every row."""
    visible: float = VISIBLE
    methods: tuple[str, ...] = ("latentshift", "latentshift-steps")
    """Methods with which positives are explained."""


def run(config: ModelFiguresConfig, progress: parts.Progress | None = None) -> tuple[Table, Table]:
    """One row an image with scores, errors and features; one row an explanation of a positive."""
    setup = config.setup
    if len(setup.classifiers) != 1:
        raise InputError(f"evaluate models measures one pair at a time, got {len(setup.classifiers)} classifiers")
    setup, pairs = setup.opened()
    config, pair = replace(config, setup=setup, everywhere=_conditions(config)), pairs[setup.classifiers[0]]
    folder = setup.out / "models"
    if pair.classifier.card.meaning is ScoreMeaning.LOGIT:
        raise InputError(
            f"expected scores that are probabilities, {pair.classifier.card.name} gives logits; wrap it with "
            "meaning=ScoreMeaning.PROBABILITY, which puts a sigmoid behind them"
        )
    own = cases.load_cases(setup)
    pool = cases.load_cases(replace(setup, sources=(), where=(*setup.where, *_conditions(config))))
    weights = [identity(pair.classifier), identity(pair.autoencoder)]
    parts.claim(folder, config, weights, fits_of([pair], config.methods))
    known = {case.key for case in own}
    everything = [*own, *(case for case in pool if case.key not in known)]
    units = [parts.Unit(("images",), case.key, case) for case in everything]
    rows = parts.run_parts(
        folder / "images", units, lambda group: _image_rows(pair, group), chunk=max(16, setup.batch), progress=progress
    ).some()
    facts = cases.read_table(setup.manifest, ("path",)).replace("", np.nan).drop_duplicates("path").set_index("path")
    columns = [name for name in ("source", "view", "sex", "age") if name in facts]
    rows = rows.join(facts[columns], on="case")
    rows["measured"] = rows["case"].isin(known)
    explained = _explain_positives(config, pair, own, rows, progress)
    return rows, with_auto(explained)


def _conditions(config: ModelFiguresConfig) -> tuple[str, ...]:
    if config.everywhere is not None:
        return config.everywhere
    return ("weights_ok=1",) if "weights_ok" in cases.read_table(config.setup.manifest, ("path",)) else ()


def _image_rows(pair: Pair, group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
    images = cases.load_pictures([unit.payload for unit in group], pair.classifier.card).to(pair.device)
    with torch.no_grad():
        drawn = pair.autoencoder.decode(pair.autoencoder.encode(images)).clamp(0, 1)
        before, after = pair.classifier.scores(images).cpu(), pair.classifier.scores(drawn).cpu()
        logits = pair.classifier.logits(images).cpu()
        features = classifier_features(pair.classifier, images)
    errors = (drawn - images).abs().mean(dim=(1, 2, 3)).cpu()
    return [
        [
            {
                "case": unit.case,
                "patient": unit.payload.patient,
                "labelled": unit.payload.labelled,
                "error": float(errors[i]),
                "similarity": quality.similarity(images[i].cpu(), drawn[i].cpu()),
                "features": [round(float(v), 5) for v in features[i]],
                **{f"positive:{t}": unit.payload.has(t) for t in pair.targets},
                **{f"score:{t}": float(before[i, k]) for k, t in enumerate(pair.targets)},
                **{f"logit:{t}": float(logits[i, k]) for k, t in enumerate(pair.targets)},
                **{f"drawn:{t}": float(after[i, k]) for k, t in enumerate(pair.targets)},
            }
        ]
        for i, unit in enumerate(group)
    ]


def _explain_positives(
    config: ModelFiguresConfig, pair: Pair, own: Sequence[cases.Case], rows: Table, progress: parts.Progress | None
) -> Table:
    """Each method on the same positives that score above 0.5."""
    setup = config.setup
    units = [
        parts.Unit((target, method), case.key, case)
        for method in config.methods
        for target in setup.targets or pair.targets
        for case in cases.draw(_seen(own, rows, target), config.explained, setup.seed)
    ]

    def compute(group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
        """Rows of some explanations of one target by one method."""
        target, method = group[0].group
        images = cases.load_pictures([unit.payload for unit in group], pair.classifier.card)
        names = [unit.case for unit in group]
        pictures = cases.as_pictures(images, names)
        made = explain_with(method, pair, pictures, [target], setup.settings, cases=names)
        return [
            [explanation_row(one) | {"patient": unit.payload.patient}] for unit, one in zip(group, made, strict=True)
        ]

    folder = setup.out / "models" / "explanations"
    return parts.run_parts(folder, units, compute, chunk=setup.batch, progress=progress).frame


def with_auto(explained: Table) -> Table:
    """The rows and, where both are there, what `methods.explain_with` would have made of them under the name `auto`.

    The line's row, or the steps' where only they reached; seconds of both where both had to be tried.
    """
    line, steps = (
        explained[explained["method"] == name].set_index(["target", "case"]) if len(explained) else explained
        for name in ("latentshift", "latentshift-steps")
    )
    if not len(line) or not len(steps) or set(line.index) != set(steps.index):
        return explained
    steps = steps.loc[line.index]
    reached = line["reached"].astype(bool)
    seconds = line["seconds"] + steps["seconds"].where(~reached, 0.0)
    chosen = line.where(reached | ~steps["reached"].astype(bool), steps)
    auto = chosen.assign(method=AUTO, seconds=seconds).reset_index()
    return pd.concat([explained, auto[list(explained.columns)]], ignore_index=True)


def _seen(own: Sequence[cases.Case], rows: Table, target: str) -> list[cases.Case]:
    """Positives that score above 0.5."""
    high = set(rows.loc[rows[f"score:{target}"] > 0.5, "case"])
    return [case for case in own if case.has(target) and case.key in high]


def explanation_row(explanation: Explanation) -> parts.Row:
    """What one explanation did: scores, why the search ended, and how much one sees of it."""
    change = (explanation.frames[explanation.counterfactual] - explanation.reconstruction).abs()
    return {
        "case": explanation.case,
        "method": explanation.method,
        "target": explanation.target,
        "score": explanation.scores.input,
        "reconstruction": explanation.scores.reconstruction,
        "counterfactual": explanation.scores.counterfactual,
        "stop": explanation.stop.value,
        "reached": explanation.stop is Stop.REACHED,
        "peak": peak_change(change),
        "change": float(change.mean()),
        "seconds": explanation.cost.seconds,
    }


def peak_change(change: Float[Tensor, "c h w"], side: int = PATCH) -> float:
    """Largest mean of `change` over channels in any `side` x `side` square."""
    return float(F.avg_pool2d(change.mean(0)[None, None], min(side, *change.shape[-2:]), 1).max())


def groups(rows: Table) -> Mapping[str, Bool[np.ndarray, " n"]]:
    """All rows, then by view, sex and age band, where the manifest knows them."""
    found: dict[str, Bool[np.ndarray, " n"]] = {"all": np.ones(len(rows), dtype=bool)}
    for column, values in (("view", ("PA", "AP")), ("sex", ("F", "M"))):
        if column in rows:
            found |= {f"{column} {value}": (rows[column] == value).to_numpy() for value in values}
    if "age" in rows:
        age = pd.to_numeric(rows["age"], errors="coerce").to_numpy(float)
        found |= {"age < 40": age < 40, "age 40-59": (age >= 40) & (age < 60), "age >= 60": age >= 60}
    return {name: chosen for name, chosen in found.items() if chosen.any()}


def targets_of(rows: Table) -> list[str]:
    """Targets in the classifier's order."""
    return [str(name).removeprefix("score:") for name in rows if str(name).startswith("score:")]


def discrimination(rows: Table) -> Table:
    """AUC with interval over patients for each target and group, on images and, for all rows, on reconstructions."""
    own = rows[rows["measured"] & rows["labelled"]].reset_index(drop=True)
    found = []
    for name, chosen in groups(own).items():
        part = own[chosen]
        for target in targets_of(own):
            kinds = [("image", "score")] + ([("reconstruction", "drawn")] if name == "all" else [])
            for kind, prefix in kinds:
                found.append({"group": name, "of": kind, "target": target, **_area(part, target, prefix)})
    return pd.DataFrame(found)


def _area(part: Table, target: str, prefix: str) -> parts.Row:
    positive = part[f"positive:{target}"].to_numpy(bool)
    scores = part[f"{prefix}:{target}"].to_numpy(float)
    counts = {"positives": int(positive.sum()), "n": len(positive)}
    if min(positive.sum(), (~positive).sum()) < FEWEST:
        return {"auc": np.nan, "low": np.nan, "high": np.nan, **counts}
    area = bootstrap.statistic_interval(lambda k: auc(positive[k], scores[k]), list(part["patient"]))
    return {"auc": area.value, "low": area.low, "high": area.high, **counts}


def operating_point(rows: Table) -> Table:
    """Sensitivity and specificity at a score of 0.5, and what the autoencoder does to the score (table K.1)."""
    own = rows[rows["measured"] & rows["labelled"]]
    found = []
    for target in targets_of(own):
        positive = own[f"positive:{target}"].to_numpy(bool)
        score, drawn = own[f"score:{target}"].to_numpy(float), own[f"drawn:{target}"].to_numpy(float)
        lost = score - drawn
        found.append(
            {
                "target": target,
                "positives": int(positive.sum()),
                "sensitivity": float((score[positive] > 0.5).mean()),
                "specificity": float((score[~positive] <= 0.5).mean()),
                "score": float(score[positive].mean()),
                "reconstruction": float(drawn[positive].mean()),
                "drop": float(lost[positive].mean()),
                "drop_on_negatives": float(lost[~positive].mean()),
            }
        )
    return pd.DataFrame(found)


def reconstruction(rows: Table) -> Table:
    """Mean absolute error and structural similarity by source, and within the measured rows by group."""
    chosen: dict[str, Bool[np.ndarray, " n"]] = {"every source": np.ones(len(rows), dtype=bool)}
    if "source" in rows:
        chosen |= {
            f"source {name}": (rows["source"] == name).to_numpy() for name in sorted(rows["source"].dropna().unique())
        }
    measured = rows["measured"].to_numpy(bool)
    chosen |= {f"measured, {name}": part & measured for name, part in groups(rows).items()}
    return pd.DataFrame(
        [
            {"group": name, "images": int(part.sum()), "mae": float(rows.loc[part, "error"].mean()),
             "ssim": float(rows.loc[part, "similarity"].mean())}
            for name, part in chosen.items() if part.any()
        ]
    )  # fmt: skip


def source_probe(rows: Table, *, least: int = 40, seed: int = 0) -> Table:
    """How well a linear model tells an image's source: balanced accuracy, folds by patient, chance = 1 / sources.

    From the classifier's pooled features, and from its logits alone. Sources with fewer than `least` images are left
    out.
    """
    from sklearn.linear_model import LogisticRegression  # with its companions a second to load
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if "source" not in rows:
        return pd.DataFrame()
    counts = rows["source"].value_counts()
    part = rows[rows["source"].isin(counts[counts >= least].index)]
    sources = part["source"].to_numpy(str)
    if len(set(sources)) < 2:
        return pd.DataFrame()
    seen = {
        "pooled features": np.array(part["features"].tolist(), dtype=float),
        "logits": part[[f"logit:{t}" for t in targets_of(rows)]].to_numpy(float),
    }
    folds = GroupKFold(5, shuffle=True, random_state=seed)
    found = []
    for name, values in seen.items():
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced"))
        accuracy = cross_val_score(
            model, values, sources, groups=part["patient"].astype(str), cv=folds, scoring="balanced_accuracy"
        )
        found.append(
            {"from": name, "sources": ", ".join(sorted(set(sources))), "images": len(part),
             "balanced_accuracy": float(accuracy.mean()), "chance": 1 / len(set(sources))}
        )  # fmt: skip
    return pd.DataFrame(found)


def reach(explained: Table, method: str, visible: float = VISIBLE) -> Table:
    """For each target: how many explanations by `method` reached the wanted change, and how many show it."""
    explained = explained[explained["method"] == method] if len(explained) else explained
    found = []
    parts_of = [(str(t), part) for t, part in explained.groupby("target", sort=False)] if len(explained) else []
    for target, part in [*parts_of, *([("all", explained)] if len(explained) else [])]:
        shown = part["peak"] >= visible
        row: dict[str, Any] = {
            "target": target,
            "n": len(part),
            "reached": float(part["reached"].mean()),
            "reached_and_visible": float((part["reached"] & shown).mean()),
            "visible": float(shown.mean()),
        }
        found.append(row | {k: float(part[k].mean()) for k in ("peak", "score", "reconstruction", "counterfactual")})
    return pd.DataFrame(found)


def methods_of(explained: Table) -> list[str]:
    """Methods that explained something, in order."""
    return [str(name) for name in explained["method"].unique()] if len(explained) else []


def metrics(rows: Table, explained: Table, visible: float = VISIBLE) -> dict[str, Any]:
    """Everything above as JSON values for a model card, rounded to four digits."""
    found = {
        "auc": discrimination(rows),
        "operating_point": operating_point(rows),
        "reconstruction": reconstruction(rows),
        "source_probe": source_probe(rows),
        **{method: reach(explained, method, visible) for method in methods_of(explained)},
    }
    return {name: [_rounded(row) for row in table.to_dict("records")] for name, table in found.items() if len(table)}


def _rounded(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(k): round(v, 4) if isinstance(v, float) else v for k, v in row.items() if v == v}  # nan is left out
