"""Simulated answers: five-point answers cut from latent normal opinions, with known effects."""

import numpy as np
import pandas as pd

from gifsplain.study.statistics.table import Table, from_text

TARGETS = ("Atelectasis", "Cardiomegaly", "Effusion", "Lung Opacity", "Mass", "Pneumothorax")
CUTS = np.array([-1.3, -0.5, 0.3, 1.2])


def answers(
    seed: int,
    *,
    readers: int = 2,
    cases: int = 240,
    effect: tuple[float, float] = (0.0, 0.0),
    case_sd: float = 0.6,
    extras: bool = False,
    conditions: tuple[str, ...] = ("traditional", "latentshift"),
) -> pd.DataFrame:
    """A long frame of strings; `effect` is the latent shift of the last condition for truth 1 and 0."""
    generator = np.random.default_rng(seed)
    case = np.repeat(np.arange(cases), readers * len(conditions))
    reader = np.tile(np.repeat(np.arange(readers), len(conditions)), cases)
    condition = np.tile(np.arange(len(conditions)), cases * readers)
    truth = (case // len(TARGETS)) % 2
    shift = np.where(condition == len(conditions) - 1, np.where(truth == 1, effect[0], effect[1]), 0.0)
    opinion = 0.5 * truth + shift + generator.normal(0, case_sd, cases)[case]
    rows = pd.DataFrame({"reader": reader, "case": case, "truth": truth})
    for question in ("confidence", "feature"):
        latent = opinion + 0.2 * reader + generator.logistic(0, 0.6, len(rows))
        rows[question] = 1 + np.searchsorted(CUTS, latent)
    rows["target"] = np.array(TARGETS)[case % len(TARGETS)]
    rows["condition"] = np.array(conditions)[condition]
    rows["read"] = 1 + (condition + case + reader) % len(conditions)
    if extras:
        iou = np.clip(0.2 + 0.1 * opinion + generator.normal(0, 0.05, len(rows)), 0, 1)
        rows["iou"] = [f"{v:.3f}" if t else "" for v, t in zip(iou, truth, strict=True)]
        rows["seconds"] = np.round(generator.lognormal(3, 0.4, len(rows)), 1)
    rows["reader"] = rows["reader"].map("R{}".format)
    rows["case"] = rows["case"].map("C{:04d}".format)
    return rows.astype(str)


def table(seed: int, **options: object) -> Table:
    """The checked table of `answers`."""
    return from_text(answers(seed, **options))  # type: ignore[arg-type]
