"""Every experiment by name: its configuration, what it runs, and its tables and figures."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gifsplain.evaluate import (
    alignment,
    counterfactual,
    curves,
    figures,
    localisation,
    model_figures,
    parts,
    randomisation,
    reconstruction,
    robustness,
    shortcut,
    tables,
    verdicts,
)
from gifsplain.io.files import write_bytes, write_text


@dataclass(frozen=True)
class Result:
    """What an experiment found: tidy rows, readable tables, figures, and sentences that say what it means."""

    rows: pd.DataFrame
    summary: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    figures: Mapping[str, Figure]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """One command of `gifsplain evaluate`."""

    title: str
    config: type[Any]
    run: Callable[[Any, parts.Progress | None], Result]
    options: Mapping[str, Any] = field(default_factory=dict)


def _overlap(config: localisation.OverlapConfig, progress: parts.Progress | None) -> Result:
    rows, summary = localisation.run(config, progress)
    controls = [c for c in ("random-map", "centre-prior", "box-prior") if f"over_{c}" in summary]
    found = {
        "IoU at the expert's area and AUC (tables 1 and E.1)": tables.overlap(summary),
        "Localisation, with 95 % intervals over patients": tables.localisation(summary),
        "Gain in IoU over the controls and over the plain gradient": tables.against_controls(
            pd.concat([summary, localisation.gains_together(rows, config.setup.split)]),
            ("random-map", "centre-prior", "box-prior"),
            localisation.GRADIENT,
        ),
    }
    words = verdicts.overlap(summary, controls, config.setup.split, config.threshold_split)
    return Result(rows, summary, found, {"overlap": figures.overlap(summary)}, words)


def _randomisation(config: randomisation.RandomisationConfig, progress: parts.Progress | None) -> Result:
    rows = randomisation.run(config, progress)
    summary = randomisation.summarise(rows)
    table = verdicts.randomisation_table(summary)
    return Result(rows, summary, {"Maps of the trained and of the random network": tables.rounded(table, 2)},
                  {"randomisation": figures.randomisation(summary)}, verdicts.randomisation(summary))  # fmt: skip


def _robustness(config: robustness.RobustnessConfig, progress: parts.Progress | None) -> Result:
    rows = robustness.run(config, progress)
    summary = robustness.summarise(rows)
    keys = ["disturbance", "level", "method"]
    table = summary.groupby(keys, sort=False)[["spearman_mean", "top_overlap_mean", "iou_mean"]].mean().reset_index()
    return Result(rows, summary, {"Means over classifiers and targets": tables.rounded(table, 2)},
                  {"robustness": figures.robustness(summary)}, verdicts.robustness(summary))  # fmt: skip


def _reconstruction(config: reconstruction.ReconstructionConfig, progress: parts.Progress | None) -> Result:
    rows = reconstruction.run(config, progress)
    summary = reconstruction.summarise(rows)
    return Result(rows, summary, {"What the autoencoder alone does (table K.1)": tables.reconstruction(summary)},
                  {"reconstruction": figures.reconstruction(summary)}, verdicts.reconstruction(summary))  # fmt: skip


def _curves(config: curves.CurvesConfig, progress: parts.Progress | None) -> Result:
    rows = curves.run(config, progress)
    summary = curves.summarise(rows)
    return Result(rows, summary, {"Shape of the curves": tables.rounded(summary)}, {"curves": figures.curves(rows)})


def _counterfactual(config: counterfactual.CounterfactualConfig, progress: parts.Progress | None) -> Result:
    rows, summary = counterfactual.run(config, progress)
    kept = [c for c in rows if not str(c).startswith("features:")]
    return Result(rows[kept], summary, {"Quality of counterfactuals and maps": tables.counterfactual(summary)},
                  {"counterfactual": figures.counterfactual(summary)})  # fmt: skip


def _alignment(config: alignment.AlignmentConfig, progress: parts.Progress | None) -> Result:
    rows, summary = alignment.run(config, progress)
    write_text(config.setup.out / "alignment" / "images.html", verdicts.alignment_pages(rows, config.minimum))
    return Result(rows.drop(columns=["base_path", "path"]), summary,
                  {"Relative change, mean ± standard error (cases)": tables.alignment(summary)},
                  {"alignment": figures.alignment(summary)}, verdicts.alignment(summary))  # fmt: skip


def _shortcut(config: shortcut.ShortcutConfig, progress: parts.Progress | None) -> Result:
    rows, summary = shortcut.run(config, progress)
    columns = ["mark", "agreement", "method", "n", "reliance", "auc_mark_agrees", "auc_mark_opposes", "random_iou", "iou",
               "hit", "energy", "drawable", "removed", "added"]  # fmt: skip
    shown = tables.rounded(summary[[c for c in columns if c in summary]], 2)
    return Result(rows, summary, {"Planted mark: reliance, localisation, and what became of it": shown},
                  {"shortcut": figures.shortcut(summary)}, verdicts.shortcut(summary))  # fmt: skip


def _models(config: model_figures.ModelFiguresConfig, progress: parts.Progress | None) -> Result:
    rows, explained = model_figures.run(config, progress)
    values = model_figures.metrics(rows, explained, config.visible)
    write_text(config.setup.out / "models" / "metrics.json", json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    areas = model_figures.discrimination(rows)
    found = {
        "AUC [95 % interval over patients], positives": tables.areas(areas),
        "Operating point, and what the autoencoder does to positives' scores": model_figures.operating_point(rows),
        "Reconstruction": model_figures.reconstruction(rows),
        "Source told from features and logits": model_figures.source_probe(rows),
        **{
            f"{method} on positives that score above 0.5": model_figures.reach(explained, method, config.visible)
            for method in model_figures.methods_of(explained)
        },
    }
    shown = {title: tables.rounded(table, 4 if title == "Reconstruction" else 2) for title, table in found.items()}
    return Result(rows.drop(columns="features"), areas, {k: v for k, v in shown.items() if len(v)},
                  {"models": figures.areas(areas)}, verdicts.models(areas, model_figures.operating_point(rows)))  # fmt: skip


EXPERIMENTS: Mapping[str, Experiment] = {
    "overlap": Experiment("Overlap with experts' marks", localisation.OverlapConfig, _overlap),
    "randomisation": Experiment("Random weights", randomisation.RandomisationConfig, _randomisation),
    "robustness": Experiment("Noise and blur", robustness.RobustnessConfig, _robustness),
    "models": Experiment("Figures of the model cards", model_figures.ModelFiguresConfig, _models),
    "reconstruction": Experiment(
        "What the autoencoder alone does", reconstruction.ReconstructionConfig, _reconstruction
    ),
    "curves": Experiment("Score over strength", curves.CurvesConfig, _curves),
    "counterfactual": Experiment("Quality of counterfactuals", counterfactual.CounterfactualConfig, _counterfactual),
    "alignment": Experiment("Counterfactual alignment", alignment.AlignmentConfig, _alignment),
    "shortcut": Experiment("Planted shortcut", shortcut.ShortcutConfig, _shortcut),
}
"""Names as `gifsplain evaluate` takes them. `bottleneck` and `directions` live in files of their own."""


def png(figure: Figure) -> bytes:
    """The figure as a PNG at 150 dots an inch."""
    buffer = io.BytesIO()
    figures.literal(figure).savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def perform(name: str, config: Any, progress: parts.Progress | None = None) -> Result:
    """Run one experiment and write OUT/NAME/{rows.csv,summary.csv,tables.md,NAME.png,words.txt}."""
    result = EXPERIMENTS[name].run(config, progress)
    folder: Path = config.setup.out / name
    write_text(folder / "rows.csv", result.rows.to_csv(index=False))
    write_text(folder / "summary.csv", result.summary.to_csv(index=False))
    text = "\n".join(f"### {title}\n\n{tables.markdown(table)}" for title, table in result.tables.items())
    write_text(folder / "tables.md", text)
    write_text(folder / "words.txt", "".join(f"{sentence}\n" for sentence in result.words))
    for title, figure in result.figures.items():
        write_bytes(folder / f"{title}.png", png(figure))
    return result


def failures(folder: Path) -> int:
    """How many units of the experiment in `folder` failed in its last run."""
    path = folder / "failed.csv"
    return len(pd.read_csv(path)) if path.exists() else 0
