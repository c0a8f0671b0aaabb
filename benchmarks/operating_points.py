"""How well is an operating point known from few films? The rules of train.calibration, and a logistic fit, compared.

    python benchmarks/operating_points.py MANIFEST FOLDER [FOLDER ...] [--films 185] [--repeats 200]

Each FOLDER is one of `gifsplain train cross-fit`: logits of training films by classifiers that had not seen their patients; several
are averaged. Patients are drawn until they have `--films` films of the manifest, the operating point of each target is found on them,
and sensitivity and specificity are counted on all other patients: `youden` is sensitivity + specificity - 1, `lean` is sensitivity
- specificity. Prints mean and standard deviation over the draws; `best` is the largest youden over all films, which no rule knows.
The logistic regression, in which both kinds weigh the same, is right where the logarithm of the densities' ratio is linear.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from gifsplain.train import calibration
from gifsplain.train.out_of_fold import FILE

Values = NDArray[np.float64]
UNIONS = {"Lung Opacity": ("Pneumonia", "Infiltration", "Consolidation")}


def read(manifest: Path, folders: list[Path]) -> tuple[tuple[str, ...], NDArray[np.str_], Values, Values]:
    """Targets; patients, labels and logits of the films that have a row in the manifest."""
    stored = [np.load(folder / FILE) for folder in folders]
    if any((one["films"] != stored[0]["films"]).any() for one in stored):
        raise SystemExit("expected folders of the same films; cross-fit them on the same data")
    names = [str(name).split(": ", 1)[1] for name in stored[0]["films"]]  # "patient: path"
    rows = pd.read_csv(manifest).set_index("path")
    kept = [place for place, name in enumerate(names) if name in rows.index]
    rows = rows.loc[[names[place] for place in kept]]
    targets = tuple(str(target) for target in stored[0]["targets"])
    found = [set(str(text).split("|")) for text in rows["labels"]]
    labels = np.array([[float(bool(have & set(UNIONS.get(t, (t,))))) for t in targets] for have in found])
    return targets, rows["patient_id"].to_numpy(str), labels, np.mean([one["logits"] for one in stored], axis=0)[kept]


def logistic(labels: Values, logits: Values) -> float:
    """Where both kinds are as likely, by a logistic regression in which they weigh the same."""
    model = LogisticRegression(C=1e9, class_weight="balanced").fit(logits[:, None], labels)
    return float(-model.intercept_[0] / model.coef_[0, 0])


RULES = {**calibration.RULES, "logistic": logistic}


def judged(labels: Values, logits: Values, point: float) -> tuple[float, float]:
    """Sensitivity + specificity - 1, and sensitivity - specificity."""
    sensitivity, specificity = (logits[labels == 1] > point).mean(), (logits[labels == 0] <= point).mean()
    return float(sensitivity + specificity - 1), float(sensitivity - specificity)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--films", type=int, default=185)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    targets, patients, labels, logits = read(options.manifest, options.folders)
    everyone, rng = np.unique(patients), np.random.default_rng(0)
    print(f"{len(labels)} films of {len(everyone)} patients, {options.films} drawn {options.repeats} times")
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(options.repeats):
        order = rng.permutation(everyone)
        ends = np.cumsum([(patients == patient).sum() for patient in order])
        ours = np.isin(patients, order[: int(np.searchsorted(ends, options.films)) + 1])
        for t, target in enumerate(targets):
            if len(set(labels[ours, t])) < 2:
                continue
            for name, rule in RULES.items():
                point = rule(labels[ours, t], logits[ours, t])
                found.setdefault((target, name), []).append(judged(labels[~ours, t], logits[~ours, t], point))
    print("| target | positives | best | rule | youden | lean |\n|---|---|---|---|---|---|")
    for (target, rule), values in found.items():
        t = targets.index(target)
        best, _lean = judged(labels[:, t], logits[:, t], calibration.counted(labels[:, t], logits[:, t]))
        means, spreads = np.mean(values, axis=0), np.std(values, axis=0)
        told = " | ".join(f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(means, spreads, strict=True))
        print(f"| {target} | {labels[:, t].sum():.0f} | {best:.3f} | {rule} | {told} |")


if __name__ == "__main__":
    main()
