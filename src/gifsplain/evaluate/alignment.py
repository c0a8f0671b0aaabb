"""`evaluate alignment`: do other targets and classifiers move with a counterfactual? (Cohen 2023, arXiv 2312.02186)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from gifsplain.evaluate import cases, parts
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.store import claim
from gifsplain.explain.methods import explain_with
from gifsplain.models.protocols import Pair
from gifsplain.types import Explanation

MINIMUM = 0.3


@dataclass(frozen=True)
class AlignmentConfig:
    """Frames made for one target go through all targets of all classifiers of the setup."""

    setup: Setup
    method: str = "latentshift"
    minimum: float = MINIMUM
    """Cases count when the base score moved by more than this."""
    drop: float = 0.5
    """Fall that is asked for, so that enough cases pass `minimum`."""


def relative_change(before: float, after: float, base_before: float, base_after: float) -> float:
    """Change of another score as a share of the base score's own change; nan where the base did not move.

    1: moves along fully; 0: does not react; below 0: moves the other way.
    """
    moved = base_before - base_after
    return (before - after) / moved if moved != 0 else float("nan")


def run(config: AlignmentConfig, progress: parts.Progress | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a case, base, and reacting classifier and target, with the whole path; and the matrix in long form."""
    setup, pairs = config.setup.opened()
    config = replace(config, setup=setup)
    pool = cases.load_cases(setup)
    units = [
        parts.Unit((name, target), case.key, case)
        for name, pair in pairs.items()
        for target in setup.targets or pair.targets
        if target in pair.targets
        for case in cases.draw(cases.shown(setup, pool, target), setup.limit, setup.seed)
    ]
    cases.refuse_none(setup, units)
    folder = setup.out / "alignment"
    claim(folder, config, pairs.values(), (config.method,))
    settings = replace(setup.settings, drop=config.drop)

    def compute(group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
        """Rows of some cases of one group."""
        name, target = group[0].group
        pair = pairs[name]
        images = cases.load_pictures([unit.payload for unit in group], pair.classifier.card)
        pictures = cases.as_pictures(images, [unit.case for unit in group])
        explained = explain_with(config.method, pair, pictures, [target], settings)
        shared = [
            {"base_classifier": name, "base": target, "case": unit.case, "patient": unit.payload.patient}
            for unit in group
        ]
        return [_reactions(one, pairs, head) for one, head in zip(explained, shared, strict=True)]

    found = parts.run_parts(folder, units, compute, chunk=setup.batch, progress=progress)
    return found.some(), summarise(found.frame, config.minimum)


def _reactions(found: Explanation, pairs: Mapping[str, Pair], shared: parts.Row) -> list[parts.Row]:
    """What every target of every classifier says of the frames of one explanation."""
    rows: list[parts.Row] = []
    base = found.frame_scores.double().tolist()
    before, after = found.baseline_score, base[found.counterfactual]
    frames = torch.cat([found.frames, found.baseline_frame[None]])  # a policy may leave strength 0 out of the sweep
    for classifier, pair in pairs.items():
        with torch.no_grad():
            scores = pair.classifier.scores(frames.to(pair.device)).cpu().double()
        for index, target in enumerate(pair.targets):
            *path, start = scores[:, index].tolist()
            end = path[found.counterfactual]
            rows.append(
                {**shared, "classifier": classifier, "target": target, "before": start, "after": end,
                 "base_before": before, "base_after": after,
                 "relative": relative_change(start, end, before, after), "base_path": base, "path": path}
            )  # fmt: skip
    return rows


def summarise(rows: pd.DataFrame, minimum: float = MINIMUM) -> pd.DataFrame:
    """Mean relative change and its standard error over the cases whose base moved by more than `minimum`."""
    moved = rows[(rows["base_before"] - rows["base_after"]).abs() > minimum]
    keys = ["base_classifier", "base", "classifier", "target"]
    everything = rows.groupby(keys, sort=False)["case"].count().rename("cases")
    table = moved.groupby(keys, sort=False)["relative"].agg(
        mean="mean", se=lambda v: float(np.std(v, ddof=1) / np.sqrt(len(v))) if len(v) > 1 else float("nan"), n="count"
    )
    return everything.to_frame().join(table).fillna({"n": 0}).reset_index()
