"""Does a finder earn its place? Paired differences to its controls and to each image's own gradient, over patients."""

import math

import pandas as pd

from gifsplain.evaluate import bootstrap

CONTROLS = ("random", "pca")
CASE = ["target", "raises", "image"]
SINGLES = ("gradient", "mean-gradient", "probe", "label-flip")
SINGLE = "best"
"""Selection of methods with one direction; the others are judged by any of their kept directions."""


def paired(rows: pd.DataFrame, method: str, other: str, limit: float) -> bootstrap.Interval | None:
    """Share explained by `method` minus that by `other` within a mean change; None where one was not measured."""
    both = _explained(rows, method, limit).merge(_explained(rows, other, limit), on=CASE, suffixes=("", "_other"))
    if both.empty:
        return None
    difference = both["explained"].to_numpy(float) - both["explained_other"].to_numpy(float)
    return bootstrap.mean_interval(difference, list(both["patient"]))


def _explained(rows: pd.DataFrame, method: str, limit: float) -> pd.DataFrame:
    part = rows[(rows["method"] == method) & (rows["by"] == "budget") & (rows["at"] == limit)]
    several = part[part["selection"] == "independent"]
    return (part[part["selection"] == SINGLE] if method in SINGLES else several)[[*CASE, "explained", "patient"]]


def earns_its_place(rows: pd.DataFrame, method: str, limit: float) -> bool:
    """Whether it explains more than random directions and more than principal components, both intervals above 0."""
    found = [paired(rows, method, control, limit) for control in CONTROLS]
    return all(interval is not None and interval.low > 0 for interval in found)


def sentences(rows: pd.DataFrame, limit: float) -> tuple[str, ...]:
    """One sentence a finder: its differences, and the verdict by the rule of `earns_its_place`."""
    said = []
    for method in ("attfind", "eigenfind", "eigenfind-local"):
        found = {other: paired(rows, method, other, limit) for other in (*CONTROLS, "gradient")}
        parts = [f"{other} {_shown(interval)}" for other, interval in found.items() if interval is not None]
        if parts:
            verdict = "above both controls" if earns_its_place(rows, method, limit) else "not above both controls"
            said.append(f"{method} within a mean change of {limit:g}, less {', less '.join(parts)}: {verdict}.")
    return tuple(said)


def _shown(interval: bootstrap.Interval) -> str:
    """`+0.35 [+0.30, +0.41]`; without bounds where one patient has none."""
    bounds = "" if math.isnan(interval.low) else f" [{interval.low:+.2f}, {interval.high:+.2f}]"
    return f"{interval.value:+.2f}{bounds}"
