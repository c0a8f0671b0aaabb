"""What finding directions costs at equal quality: the fewest selection images with which finders explain the same share.

Each finder is ranked again on the first 1, 2, 4 ... of its selection images. Quality is the share of held-out images that
any of its kept moves explains within one mean change of the picture. Seconds are those of the whole table, in proportion.
What needs no score is always that of all selection images: spreads, principal components, extremes of coordinates.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch

from gifsplain.evaluate.directions import Found, Stage, signed

LIMIT = 0.03
"""Mean change of the picture, in full scales, within which an image counts as explained."""
FINDERS = ("attfind", "eigenfind")


def budgets(images: int) -> tuple[int, ...]:
    """1, 2, 4 ... and all images."""
    powers = [2**k for k in range(max(1, images).bit_length()) if 2**k < images]
    return (*powers, images)


@torch.no_grad()
def quality_rows(found: Sequence[Found], stage: Stage, targets: Sequence[str], *, limit: float = LIMIT) -> pd.DataFrame:
    """One row a method, budget, target, aim and held-out image on the wrong side: explained or not, and the cost."""
    return pd.DataFrame(
        [
            {"method": item.method, "images": count, "forwards": count * item.table.forwards // len(item.table.base),
             "seconds": count * item.seconds / len(item.table.base), **row}
            for item in found
            for count in budgets(len(item.table.base))
            for row in _explained(item, count, stage, targets, limit)
        ]
    )  # fmt: skip


def _explained(
    item: Found, count: int, stage: Stage, targets: Sequence[str], limit: float
) -> Iterator[dict[str, object]]:
    table = item.table.first(count)
    for target in targets:
        ranking = item.rank(table, stage.pair.targets.index(target))
        for raises in (True, False):
            aim, images = stage.wrong(target, raises)
            for image in images:
                hit = False
                if ranking:
                    scores, change = stage.alone(item.mover, image, signed(ranking, raises), aim)
                    hit = bool((aim.reached(scores) & (change <= limit)).any())
                yield {"target": target, "raises": raises, "image": image, "explained": hit}


def quality_curve(rows: pd.DataFrame) -> pd.DataFrame:
    """Share explained by method and budget, in the order of the rows."""
    keys = ["method", "images", "forwards", "seconds"]
    return rows.groupby(keys, sort=False)["explained"].mean().rename("share").reset_index()


def equal_quality(curve: pd.DataFrame) -> pd.DataFrame:
    """For each method the smallest budget that explains as much as both finders can: images, forwards, seconds, ratios.

    The level is the lower of the two finders' best shares. A method that never reaches it has nan; so has everything
    where a finder is missing or explains nothing.
    """
    best = curve.groupby("method")["share"].max()
    level = float(best.reindex(list(FINDERS)).min(skipna=False))
    enough = curve[(curve["share"] >= level) & (level > 0)].sort_values("forwards").drop_duplicates("method")
    methods = list(dict.fromkeys(curve["method"]))
    cost = enough.set_index("method")[["images", "forwards", "seconds"]].reindex(methods).astype(float)
    table = cost.assign(level=level, best=best.reindex(methods)).reset_index()
    for column in ("forwards", "seconds"):
        eigen = cost[column].reindex(["eigenfind"]).iloc[0]
        table[f"{column}_by_eigenfind"] = table[column] / eigen
    first = ["method", "level", "best"]
    return table[[*first, *(name for name in table.columns if name not in first)]]


def sentence(table: pd.DataFrame, limit: float = LIMIT) -> str:
    """What the table says, controls included; empty without both finders."""
    known: dict[str, dict[str, float]] = {
        str(row["method"]): {str(k): float(v) for k, v in row.items() if k != "method"}
        for row in table.to_dict("records")
    }
    if not set(FINDERS) <= set(known):
        return ""
    attfind, eigen = known["attfind"], known["eigenfind"]
    if not eigen["level"] > 0:
        return "AttFind or EigenFind explains no image: their costs cannot be compared at equal quality."
    controls = [f"{name} {_needs(known[name])}" for name in ("random", "pca") if name in known]
    return (
        f"To explain {eigen['level']:.2f} of the images within a mean change of {limit:g}, AttFind {_needs(attfind)} and "
        f"EigenFind {_needs(eigen)}: {_times(attfind['forwards_by_eigenfind'])} times the forwards and "
        f"{_times(attfind['seconds_by_eigenfind'])} times the seconds. Controls: {', '.join(controls)}."
    )


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _needs(row: Mapping[str, float]) -> str:
    if math.isnan(row["forwards"]):
        return f"never gets there (at most {row['best']:.2f})"
    images = f"{row['images']:.0f} image" + ("" if row["images"] == 1 else "s")
    return f"needs {images}, {row['forwards']:,.0f} forwards, {row['seconds']:.1f} s"
