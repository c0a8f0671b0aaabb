"""`evaluate curves`: score over strength for several classifiers with one autoencoder (Cohen 2021, figure 3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from gifsplain.evaluate import cases, parts
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.store import claim
from gifsplain.explain.methods import explain_with


@dataclass(frozen=True)
class CurvesConfig:
    """The same images for every classifier, strengths from `-reach` to `reach` in the method's unit."""

    setup: Setup
    method: str = "latentshift"
    reach: float = 1.0
    points: int = 41


def run(config: CurvesConfig, progress: parts.Progress | None = None) -> pd.DataFrame:
    """One row a classifier, target, case and strength: score, and the mean absolute change of the frame."""
    setup, pairs = config.setup.opened()
    config = replace(config, setup=setup)
    pool = cases.load_cases(setup)
    settings = replace(
        setup.settings, strengths=(-config.reach, config.reach), frames=config.points, batch=max(setup.batch, 8)
    )
    units = [
        parts.Unit((name, target), case.key, case)
        for name, pair in pairs.items()
        for target in setup.targets or pair.targets
        if target in pair.targets
        for case in cases.draw(cases.shown(setup, pool, target), setup.limit, setup.seed)
    ]
    cases.refuse_none(setup, units)
    folder = setup.out / "curves"
    claim(folder, config, pairs.values(), (config.method,))

    def compute(group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
        """Rows of some cases of one group."""
        name, target = group[0].group
        pair = pairs[name]
        images = cases.load_pictures([unit.payload for unit in group], pair.classifier.card)
        pictures = cases.as_pictures(images, [unit.case for unit in group])
        rows = []
        for unit, found in zip(group, explain_with(config.method, pair, pictures, [target], settings), strict=True):
            changes = (found.frames - found.baseline_frame).abs().mean(dim=(1, 2, 3))
            table = zip(found.strengths, found.frame_scores, changes, strict=True)
            rows.append(
                [{"classifier": name, "target": target, "case": unit.case, "patient": unit.payload.patient,
                  "strength": float(s), "unit": found.strength_unit, "score": float(v), "change": float(c)}
                 for s, v, c in table]
            )  # fmt: skip
        return rows

    return parts.run_parts(folder, units, compute, chunk=setup.batch, progress=progress).some()


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Shape of each curve, averaged over cases: lowest, highest, range, share of rising steps, largest single step."""
    found = []
    for (classifier, target), table in rows.groupby(["classifier", "target"], sort=False):
        steps = [group.sort_values("strength")["score"].to_numpy() for _, group in table.groupby("case")]
        found.append(
            {"classifier": classifier, "target": target, "cases": len(steps),
             "lowest": float(np.mean([s.min() for s in steps])), "highest": float(np.mean([s.max() for s in steps])),
             "range": float(np.mean([np.ptp(s) for s in steps])),
             "rising": float(np.mean([(np.diff(s) >= 0).mean() for s in steps])),
             "largest_step": float(np.mean([np.abs(np.diff(s)).max() for s in steps]))}
        )  # fmt: skip
    return pd.DataFrame(found)
