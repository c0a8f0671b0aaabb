"""From the rows of `evaluate directions` to its table, its figure and the sentences that say what they mean."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from gifsplain.errors import InputError
from gifsplain.evaluate import (
    bootstrap,
    cases,
    directions,
    directions_cost,
    directions_verdict,
    experiments,
    parts,
    tables,
)
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.directions import Cost, DirectionsPlan
from gifsplain.evaluate.selection import load_in_chunks
from gifsplain.io.files import write_bytes, write_text
from gifsplain.models.identity import identity

COLOURS = {
    "attfind": ("#0072b2", "-"),
    "eigenfind": ("#d55e00", "-"),
    "pca": ("0.45", "--"),
    "random": ("0.45", ":"),
    "mean-gradient": ("#009e73", "-"),
    "probe": ("#cc79a7", "-"),
    "label-flip": ("#e69f00", "-"),
    "gradient": ("black", "-"),
    "eigenfind-local": ("#56b4e9", "-"),
}
"""Colour and line of a method, the same in all panels; controls are grey."""
ORDER = ("attfind", "eigenfind", "eigenfind-local", "pca", "random", "mean-gradient", "probe", "label-flip", "gradient")


@dataclass(frozen=True)
class DirectionsConfig:
    """`setup.split` holds the images that are explained, `selection_split` those on which directions are ranked."""

    setup: Setup
    plan: DirectionsPlan = field(default_factory=DirectionsPlan)
    selection_split: str = "val"
    selection: int = 150
    """Most images that rank directions."""

    def __post_init__(self) -> None:
        if self.selection < 8:
            raise InputError(f"expected 8 or more images that rank directions, got {self.selection}")


@dataclass(frozen=True)
class Report:
    """Tables and figure of one run."""

    shares: pd.DataFrame
    costs: pd.DataFrame
    equal: pd.DataFrame
    """Cost at equal quality; see `directions_cost.equal_quality`."""
    figure: Figure
    words: tuple[str, ...]


def run(config: DirectionsConfig, done: Callable[[str], None] = lambda step: None) -> Report:
    """Measure and write OUT/directions/{rows,shares,costs,quality,equal}.csv, tables.md, words.txt and directions.png.

    Raises:
        InputError: When both splits are the same or share a patient: directions would be ranked on what they explain; or
            there is more than one classifier.
        ConfigurationError: When the folder holds results of another configuration or other weights.
    """
    setup = config.setup
    if config.selection_split == setup.split:
        raise InputError(f"selection and held-out split are both {setup.split!r}; rank on val, explain on test")
    if len(setup.classifiers) != 1:
        raise InputError(f"evaluate directions measures one pair at a time, got {len(setup.classifiers)} classifiers")
    setup, pairs = setup.opened()
    pair = pairs[setup.classifiers[0]]
    config = replace(config, setup=setup, plan=replace(config.plan, targets=config.plan.chosen(pair)))
    chosen = cases.draw(cases.load_cases(setup, split=config.selection_split), config.selection, setup.seed)
    held = cases.draw(cases.load_cases(setup), setup.limit, setup.seed)
    _refuse_shared(chosen, held, config)
    parts.claim(setup.out / "directions", config, [identity(pair.classifier), identity(pair.autoencoder)])
    measured = directions.measure(
        pair, load_in_chunks(chosen, pair.autoencoder.card).to(pair.device),
        load_in_chunks(held, pair.autoencoder.card).to(pair.device),
        config.plan, done,
    )  # fmt: skip
    rows = complete(directions.case_rows(measured.tried))
    rows["patient"] = [held[i].patient for i in rows["image"]]
    quality = directions_cost.quality_rows(measured.found, measured.stage, config.plan.chosen(pair))
    done("costs at equal quality")
    report = make(rows, measured.costs, quality, kept=config.plan.kept)
    write(report, rows, quality, setup.out / "directions")
    return report


def _refuse_shared(chosen: Sequence[cases.Case], held: Sequence[cases.Case], config: DirectionsConfig) -> None:
    """Refuse patients who rank directions and are explained by them."""
    shared = sorted({case.patient for case in chosen} & {case.patient for case in held})
    if shared:
        raise InputError(
            f"{config.setup.manifest}: {len(shared)} patients of split {config.setup.split!r} are also in "
            f"{config.selection_split!r}, which ranks directions, such as {shared[0]}; name two splits that share no patient"
        )


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """With a row, not explained, for every case of a target for which a finder ranked no direction at all."""
    kinds, case = ["method", "selection", "by", "at"], ["target", "raises", "image"]
    wanted = rows[kinds].drop_duplicates().merge(rows[case].drop_duplicates(), how="cross")
    full = wanted.merge(rows, on=[*kinds, *case], how="left")
    return full.assign(explained=full["explained"].eq(True), change=full["change"].fillna(math.inf))


def make(rows: pd.DataFrame, costs: Sequence[Cost], quality: pd.DataFrame, *, kept: int) -> Report:
    """Shares with intervals over patients, costs with the ratio to EigenFind, figure and words."""
    equal = directions_cost.equal_quality(directions_cost.quality_curve(quality))
    shares = summarise(rows)
    table = pd.DataFrame([vars(cost) for cost in costs])
    eigen = table[table["method"] == "eigenfind"]
    for column in ("forwards", "seconds"):
        per_image = table[column] / table["images"]
        base = float(eigen[column].iloc[0] / eigen["images"].iloc[0]) if len(eigen) else math.nan
        table[f"{column}_by_eigenfind"] = per_image / base
    said = (*words(shares, table, equal), *directions_verdict.sentences(rows, directions_cost.LIMIT))
    return Report(shares, table, equal, figure(shares, kept), said)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Share explained by method, selection, and length or budget, pooled over targets and aims."""
    found = []
    keys = ["method", "selection", "by", "at"]
    for key, part in rows.groupby(keys, sort=False):
        interval = bootstrap.mean_interval(part["explained"].to_numpy(float), list(part["patient"]))
        finite = part["change"].replace(math.inf, math.nan)
        found.append(dict(zip(keys, key, strict=True)) | {
            "share": interval.value, "low": interval.low, "high": interval.high, "change": float(finite.mean()),
            "n": len(part),
        })  # fmt: skip
    table = pd.DataFrame(found)
    rank = table["method"].map({name: i for i, name in enumerate(ORDER)})
    return table.assign(rank=rank).sort_values(["by", "selection", "rank", "at"]).drop(columns="rank")


def share_table(shares: pd.DataFrame, by: str) -> pd.DataFrame:
    """Methods down, lengths or budgets across, as `0.35 [0.30, 0.41]`; methods with one direction once."""
    one = shares["method"].isin(directions_verdict.SINGLES) & (shares["selection"] != directions_verdict.SINGLE)
    part = shares[(shares["by"] == by) & ~one]
    text = part.assign(
        cell=[tables.with_interval(*three) for three in part[["share", "low", "high"]].to_numpy(float).tolist()],
        row=part["method"] + " (" + part["selection"] + ")",
    )
    order = list(dict.fromkeys(text.sort_values(["selection", "method"])["row"]))
    wide = text.pivot(index="row", columns="at", values="cell").loc[order].fillna("–")
    return wide.reset_index().rename(columns={"row": "directions"})


def figure(shares: pd.DataFrame, kept: int) -> Figure:
    """Share explained over the length in W, and over the change of the picture that was allowed.

    `kept`: most directions of a ranking that an image may choose among.
    """
    drawn = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = drawn.subplots(1, 2, sharey=True)
    for axis, by, label in (
        (left, "length", "length of the move in W (sigma)"),
        (right, "budget", "allowed mean change"),
    ):
        for method in ORDER:
            selection = "best" if method in directions_verdict.SINGLES else "independent"
            part = shares[(shares["method"] == method) & (shares["selection"] == selection) & (shares["by"] == by)]
            if part.empty or (by == "length" and method == "attfind"):
                continue
            label_text = method if selection == "best" else f"{method}, any of {kept}"
            colour, line = COLOURS[method]
            axis.plot(
                part["at"], part["share"], label=label_text, color=colour, linestyle=line, marker="o", markersize=3
            )
            axis.fill_between(part["at"], part["low"], part["high"], alpha=0.06, color=colour, linewidth=0)
        axis.set_xlabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("held-out images explained")
    left.set_ylim(0, 1.02)
    handles = {
        text: line for axis in (left, right) for line, text in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    drawn.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    return drawn


def words(shares: pd.DataFrame, costs: pd.DataFrame, equal: pd.DataFrame) -> tuple[str, ...]:
    """What the numbers say, controls first."""
    found = []
    at = shares[(shares["by"] == "budget") & (shares["selection"] == "independent")]
    for budget, part in at.groupby("at"):
        share = part.set_index("method")["share"]
        if {"eigenfind", "random", "pca"} <= set(share.index):
            found.append(
                f"Within a mean change of {budget:g}: EigenFind {share['eigenfind']:.2f}, random directions "
                f"{share['random']:.2f}, principal components {share['pca']:.2f}"
                + (f", AttFind {share['attfind']:.2f}." if "attfind" in share else ".")
            )
    ratio = costs[costs["method"] == "attfind"]
    if len(ratio):
        row = ratio.iloc[0]
        found.append(
            f"For one image AttFind takes {row['forwards_by_eigenfind']:.0f} times EigenFind's forwards and "
            f"{row['seconds_by_eigenfind']:.0f} times its seconds."
        )
    at_equal_quality = directions_cost.sentence(equal)
    return (*found, at_equal_quality) if at_equal_quality else tuple(found)


def write(report: Report, rows: pd.DataFrame, quality: pd.DataFrame, folder: Path) -> None:
    """All files of a run."""
    write_text(folder / "quality.csv", quality.to_csv(index=False))
    write_text(folder / "equal.csv", report.equal.to_csv(index=False))
    write_text(folder / "rows.csv", rows.to_csv(index=False))
    write_text(folder / "shares.csv", report.shares.to_csv(index=False))
    write_text(folder / "costs.csv", report.costs.to_csv(index=False))
    titles = {
        "Explained at equal length (sigma; AttFind: ways to the extreme)": share_table(report.shares, "length"),
        "Explained within a mean change of the picture": share_table(report.shares, "budget"),
        "Cost of finding the directions": report.costs.round(2),
        "Cost at equal quality (share explained within a mean change of 0.03)": report.equal.round(2),
    }
    text = "\n".join(f"### {title}\n\n{tables.markdown(table)}" for title, table in titles.items())
    write_text(folder / "tables.md", text)
    write_text(folder / "words.txt", "".join(f"{sentence}\n" for sentence in report.words))
    write_bytes(folder / "directions.png", experiments.png(report.figure))
