"""`evaluate reconstruction`: what the autoencoder alone does to the score (Cohen 2021, appendix K, table K.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from gifsplain.evaluate import bootstrap, cases, parts
from gifsplain.evaluate.config import Setup
from gifsplain.models.identity import pair_identity


@dataclass(frozen=True)
class ReconstructionConfig:
    """Up to `images` positives and as many negatives a target; the paper used 500."""

    setup: Setup
    images: int = 500


def run(config: ReconstructionConfig, progress: parts.Progress | None = None) -> pd.DataFrame:
    """One row a classifier, case and target: label, score of the image, score of its reconstruction, mean error."""
    setup, pairs = config.setup.opened()
    config = replace(config, setup=setup)
    pool = [case for case in cases.load_cases(setup) if case.labelled]
    wanted = {
        (target, sign): {
            c.key for c in cases.draw([c for c in pool if c.has(target) == sign], config.images, setup.seed)
        }
        for target in dict.fromkeys(t for pair in pairs.values() for t in setup.targets or pair.targets)
        for sign in (True, False)
    }
    used = set().union(*wanted.values())
    units = [parts.Unit((name,), case.key, case) for name in pairs for case in pool if case.key in used]
    cases.refuse_none(setup, units, "with labels")
    folder = setup.out / "reconstruction"
    parts.claim(folder, config, [pair_identity(pair) for pair in pairs.values()])

    def compute(group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
        """Rows of some images with one classifier."""
        name = group[0].group[0]
        pair = pairs[name]
        images = cases.load_pictures([unit.payload for unit in group], pair.classifier.card).to(pair.device)
        with torch.no_grad():
            drawn = pair.autoencoder.decode(pair.autoencoder.encode(images)).clamp(0, 1)
            before, after = pair.classifier.scores(images).cpu(), pair.classifier.scores(drawn).cpu()
        errors = (drawn - images).abs().mean(dim=(1, 2, 3)).cpu()
        return [
            [
                {"classifier": name, "case": unit.case, "patient": unit.payload.patient, "target": target,
                 "positive": unit.payload.has(target), "score": float(before[i, t]),
                 "reconstruction": float(after[i, t]), "error": float(errors[i])}
                for t, target in enumerate(pair.targets)
                if unit.case in wanted.get((target, unit.payload.has(target)), ())
            ]
            for i, unit in enumerate(group)
        ]  # fmt: skip

    return parts.run_parts(folder, units, compute, chunk=max(setup.batch, 16), progress=progress).some()


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Table K.1: mean score of image and reconstruction, difference with interval, for positives and negatives."""
    found = []
    for (positive, classifier, target), table in rows.groupby(["positive", "classifier", "target"], sort=False):
        lost = (table["score"] - table["reconstruction"]).to_numpy(float)
        interval = bootstrap.mean_interval(lost, list(table["patient"]))
        found.append(
            {"label": "Positive" if positive else "Negative", "classifier": classifier, "target": target,
             "score": float(table["score"].mean()), "reconstruction": float(table["reconstruction"].mean()),
             "difference": interval.value, "difference_low": interval.low, "difference_high": interval.high,
             "error": float(table["error"].mean()), "n": len(table)}
        )  # fmt: skip
    return pd.DataFrame(found).sort_values(["label", "classifier", "target"], ascending=[False, True, True])
