"""`evaluate overlap`: methods x classifiers x targets against experts' marks (tables 1, E.1) and controls."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool

from gifsplain.errors import InputError
from gifsplain.evaluate import bootstrap, cases, discrimination, overlap, parts
from gifsplain.evaluate.config import CONTROLS, Setup
from gifsplain.evaluate.store import Store, claim, maps_as_tensor

BOX_PRIOR = "box-prior"
"""Control: mean mark of the target in the train split, the case's own patient left out."""
GRADIENT = "grad"
"""The plain input gradient: no control, but what every other method has to beat to be worth its time."""
Prior = list[tuple[str, Bool[np.ndarray, "s s"]]]
"""Patient and mark."""
MEASURES = ("iou", "precision", "recall", "hit", "energy")
KEYS = ["classifier", "target", "method"]


@dataclass(frozen=True)
class OverlapConfig:
    """What `overlap.run` needs beyond the shared setup."""

    setup: Setup
    threshold_split: str = "val"
    """Where the one threshold a target is chosen (CheXlocalize); where its cases are measured too, the report says so."""
    prior_split: str = "train"
    """Where the mean mark of the control `box-prior` comes from."""
    auc_images: int = 2048


def run(config: OverlapConfig, progress: parts.Progress | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a case, method, target and classifier; and the summary table.

    Summary: mean, sd and interval of each measure, number of cases, AUC, and the mean IoU gained over each control.
    """
    setup, pairs = config.setup.opened()
    config = replace(config, setup=setup)
    splits = tuple(dict.fromkeys((setup.split, config.threshold_split)))
    everything = {split: cases.load_cases(setup, split=split) for split in splits}
    units = [
        parts.Unit((name, target, split), case.key, (case, rank))
        for name, pair in pairs.items()
        for target in setup.targets or pair.targets
        if target in pair.targets
        for split in splits
        for rank, case in enumerate(cases.draw(cases.marked(setup, everything[split], target), setup.limit, setup.seed))
    ]
    cases.refuse_none(setup, [unit for unit in units if unit.group[2] == setup.split], "with an expert's mark")
    folder = setup.out / "overlap"
    claim(folder, config, pairs.values(), setup.methods)
    size = next(iter(pairs.values())).classifier.card.size
    priors = _priors(setup, config.prior_split, {unit.group[1] for unit in units}, size)

    def compute(group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
        _, target, _ = group[0].group
        name = group[0].group[0]
        return _rows(setup, pairs[name], group, priors.get(target, []))

    found = parts.run_parts(folder, units, compute, chunk=setup.batch, progress=progress)
    rows = found.some()
    parts.Parts(rows[rows["split"] == setup.split], found.failures).some()  # those that choose thresholds are no result
    auc = discrimination.run(discrimination.DiscriminationConfig(setup, config.auc_images))
    return rows, summarise(rows, auc, split=setup.split, threshold_split=config.threshold_split)


def _priors(setup: Setup, split: str, targets: set[str], size: int) -> dict[str, Prior]:
    """Marks of the split's patients for each target."""
    try:
        pool = cases.load_cases(setup, split=split)
    except InputError:
        return {}
    found = {}
    for target in sorted(targets):
        marked = cases.marked(setup, pool, target)
        found[target] = [(case.patient, cases.expert_mask(case, size).numpy()) for case in marked]
    return found


def _mean_mark(prior: Prior, patient: str) -> overlap.Map | None:
    """Mean mark of all other patients; None without any."""
    others = [mark for owner, mark in prior if owner != patient]
    return np.mean(others, axis=0) if others else None


def _rows(setup: Setup, pair: cases.Any, group: Sequence[parts.Unit], prior: Prior) -> list[list[parts.Row]]:
    name, target, split = group[0].group
    card = pair.classifier.card
    images = cases.load_pictures([unit.payload[0] for unit in group], card)
    marks = [cases.expert_mask(unit.payload[0], card.size).numpy() for unit in group]
    names, store = [unit.case for unit in group], Store(setup.store_folder)
    drawn: list[dict[str, np.ndarray]] = [{} for _ in group]
    for method in setup.methods:
        rows = [row for row, unit in enumerate(group) if setup.reaches(method, unit.payload[1]) and marks[row].any()]
        if rows:
            some = [names[row] for row in rows]
            found = store.maps(pair, method, images[rows], target, setup.settings, names=some)
            for row, values in zip(rows, maps_as_tensor(found).numpy(), strict=True):
                drawn[row][method] = values
    for one, unit in zip(drawn, group, strict=True):
        mean = _mean_mark(prior, unit.payload[0].patient)
        if mean is not None:
            one[BOX_PRIOR] = mean
    return [
        [
            {"classifier": name, "target": target, "split": split, "case": unit.case,
             "patient": unit.payload[0].patient, "method": method, **overlap.measures(found.astype(float), mark)}
            for method, found in maps.items()
            if mark.any()
        ]
        for unit, mark, maps in zip(group, marks, drawn, strict=True)
    ]  # fmt: skip


def choose_thresholds(rows: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """The threshold with the highest mean IoU for each classifier, target and method."""
    columns = [f"iou@{threshold:.2f}" for threshold in overlap.THRESHOLDS]
    means = rows.groupby(KEYS)[columns].mean()
    best = means.to_numpy().argmax(axis=1)
    return {key: overlap.THRESHOLDS[index] for key, index in zip(means.index, best, strict=True)}


def summarise(rows: pd.DataFrame, auc: pd.DataFrame, *, split: str, threshold_split: str) -> pd.DataFrame:
    """One row for each classifier, target and method of `split`."""
    thresholds = choose_thresholds(rows[rows["split"] == threshold_split])
    chosen = rows[rows["split"] == split]
    summary = []
    for names, table in chosen.groupby(KEYS, sort=False):
        key = (str(names[0]), str(names[1]), str(names[2]))
        row: parts.Row = dict(zip(KEYS, key, strict=True))
        row["n"], row["patients"] = len(table), table["patient"].nunique()
        for measure in MEASURES:
            row |= _interval(measure, table[measure].to_numpy(float), list(table["patient"]))
            row[f"{measure}_sd"] = float(table[measure].std(ddof=0))
        row["random_iou"] = float(table["random_iou"].mean())
        row["threshold"] = thresholds.get(key, float("nan"))
        column = f"iou@{row['threshold']:.2f}"
        row["iou_at_threshold"] = float(table[column].mean()) if column in table else float("nan")
        row |= _against_controls(key, table, chosen)
        summary.append(row)
    frame = pd.DataFrame(summary)
    return frame.merge(auc, on=["classifier", "target"], how="left", suffixes=("", "_auc")) if len(auc) else frame


def _interval(name: str, values: np.ndarray, patients: list[str]) -> parts.Row:
    found = bootstrap.mean_interval(values, patients)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def gains_together(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """Gain in IoU over each control and over the gradient for each classifier and method, over the marks of all targets.

    `n` counts the method's marks; a gain is over those that the other was drawn for too. Nothing where there is one target.
    """
    chosen = rows[rows["split"] == split]
    if chosen["target"].nunique() < 2:
        return pd.DataFrame()
    found = []
    for names, table in chosen.groupby(["classifier", "method"], sort=False):
        classifier, method = str(names[0]), str(names[1])
        others = chosen[chosen["classifier"] == classifier]
        row: parts.Row = {"classifier": classifier, "target": "all", "method": method, "n": len(table)}
        found.append(row | _gains(method, table, others))
    return pd.DataFrame(found)


def _against_controls(key: tuple[str, str, str], table: pd.DataFrame, chosen: pd.DataFrame) -> parts.Row:
    """Mean gain in IoU over each control and over the gradient on the same cases, with its interval."""
    same = (chosen["classifier"] == key[0]) & (chosen["target"] == key[1])
    return _gains(key[2], table, chosen[same])


def _gains(method: str, table: pd.DataFrame, others: pd.DataFrame) -> parts.Row:
    row: parts.Row = {}
    for control in (*CONTROLS, BOX_PRIOR, GRADIENT):
        theirs = others.loc[others["method"] == control, ["target", "case", "iou"]]
        if control == method or theirs.empty:
            continue
        both = table[["target", "case", "patient", "iou"]].merge(theirs, on=["target", "case"], suffixes=("", "_c"))
        gain = both["iou"].to_numpy(float) - both["iou_c"].to_numpy(float)
        found = bootstrap.mean_interval(gain, list(both["patient"]))
        row |= {f"over_{control}": found.value, f"over_{control}_low": found.low, f"over_{control}_high": found.high}  # fmt: skip
    return row
