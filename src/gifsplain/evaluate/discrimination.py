"""How well a classifier tells a finding from its absence: area under the ROC curve."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from gifsplain.evaluate import bootstrap, cases, parts
from gifsplain.evaluate.config import Setup
from gifsplain.models.identity import identity


def auc(positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """Share of pairs in which the positive case scores higher, ties counting half; nan unless both kinds are there."""
    below = np.sort(scores[~positive])
    ours = scores[positive]
    if not len(below) or not len(ours) or np.isnan(scores).any():
        return float("nan")
    beaten = np.searchsorted(below, ours, "left").sum() + np.searchsorted(below, ours, "right").sum()
    return float(beaten) / (2 * len(ours) * len(below))


@dataclass(frozen=True)
class DiscriminationConfig:
    """Scores of up to `images` labelled pictures (the paper used 2048)."""

    setup: Setup
    images: int = 2048


def run(config: DiscriminationConfig, progress: parts.Progress | None = None) -> pd.DataFrame:
    """AUC with interval for each classifier and target: classifier, target, auc, auc_low, auc_high, n, positives.

    Empty where no case has labels.
    """
    setup = config.setup
    folder = setup.out / "discrimination"
    pairs = {name: setup.load(name) for name in setup.classifiers}
    parts.claim(folder, config, [identity(pair.classifier) for pair in pairs.values()])
    labelled = [case for case in cases.load_cases(setup) if case.labelled]
    chosen = cases.draw(labelled, config.images, setup.seed)
    units = [parts.Unit((name,), case.key, case) for name in setup.classifiers for case in chosen]

    def compute(group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
        classifier = pairs[group[0].group[0]].classifier
        scores = classifier.scores(cases.load_pictures([unit.payload for unit in group], classifier.card))
        names = classifier.card.targets
        return [[{"classifier": unit.group[0], "case": unit.case, "patient": unit.payload.patient,
                  **{f"score:{t}": float(s) for t, s in zip(names, row, strict=True)}}]
                for unit, row in zip(group, scores, strict=True)]  # fmt: skip

    found = parts.run_parts(folder, units, compute, chunk=32, progress=progress)
    if found.frame.empty:
        return found.frame
    truth = {case.key: case for case in chosen}
    rows = []
    for name, table in found.frame.groupby("classifier"):
        for target in setup.targets or pairs[str(name)].targets:
            if f"score:{target}" in table and table[f"score:{target}"].notna().any():
                positive = np.array([truth[key].has(target) for key in table["case"]])
                rows.append({"classifier": name, "target": target, **_row(positive, table, target)})
    return pd.DataFrame(rows)


def _row(positive: Bool[np.ndarray, " n"], table: pd.DataFrame, target: str) -> parts.Row:
    scores = table[f"score:{target}"].to_numpy(float)
    found = bootstrap.statistic_interval(lambda rows: auc(positive[rows], scores[rows]), list(table["patient"]))
    return {"auc": found.value, "auc_low": found.low, "auc_high": found.high, "n": len(positive),
            "positives": int(positive.sum())}  # fmt: skip
