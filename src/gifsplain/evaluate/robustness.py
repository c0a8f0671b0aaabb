"""`evaluate robustness`: how maps change when noise or blur is added to the image (Cohen 2021, figure G.1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from gifsplain.evaluate import cases, correlation, overlap, parts
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.maps import maps_of
from gifsplain.evaluate.store import Store, claim, maps_as_tensor
from gifsplain.models.protocols import Pair
from gifsplain.types import Images


@dataclass(frozen=True)
class RobustnessConfig:
    """Steps of both disturbances; the paper used 80 images with marks."""

    setup: Setup
    noises: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
    """Standard deviations in grey ranges: times 2048 for torchxrayvision's units."""
    blurs: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)
    """Standard deviations in pixels of the model's input."""


def with_noise(images: Images, level: float, seed: int) -> Images:
    """Gaussian noise, the same pattern for every image, clamped to [0, 1]."""
    pattern = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed))
    return (images + level * pattern.to(images)).clamp(0, 1)


def with_blur(images: Images, level: float) -> Images:
    """Gaussian blur cut at three standard deviations, borders mirrored; unchanged at 0."""
    if level == 0:
        return images
    # loads all its models, and torch's compiler with them: seconds
    from torchvision.transforms.functional import gaussian_blur

    side = min(2 * math.ceil(3 * level) + 1, 2 * (min(images.shape[-2:]) // 2) - 1)
    blurred: Images = gaussian_blur(images, [side, side], [level, level])
    return blurred


def run(config: RobustnessConfig, progress: parts.Progress | None = None) -> pd.DataFrame:
    """One row a case, method, disturbance and level.

    Spearman and top-tenth IoU with the undisturbed map, IoU with the mark, and the score.
    """
    setup, pairs = config.setup.opened()
    config = replace(config, setup=setup)
    pool = cases.load_cases(setup)
    units = [
        parts.Unit((name, target), case.key, case)
        for name, pair in pairs.items()
        for target in setup.targets or pair.targets
        if target in pair.targets
        for case in cases.draw(cases.marked(setup, pool, target), setup.limit, setup.seed)
    ]
    cases.refuse_none(setup, units, "with an expert's mark")
    folder = setup.out / "robustness"
    claim(folder, config, pairs.values(), setup.methods)

    def compute(group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
        return _rows(config, pairs[group[0].group[0]], group)

    return parts.run_parts(folder, units, compute, chunk=setup.batch, progress=progress).some()


def _rows(config: RobustnessConfig, pair: Pair, group: Sequence[parts.Unit]) -> list[list[parts.Row]]:
    name, target = group[0].group
    card, setup = pair.classifier.card, config.setup
    images = cases.load_pictures([unit.payload for unit in group], card)
    marks = [cases.expert_mask(unit.payload, card.size).numpy() for unit in group]
    changed = [("noise", level, with_noise(images, level, setup.seed)) for level in config.noises]
    changed += [("blur", level, with_blur(images, level)) for level in config.blurs]
    rows: list[list[parts.Row]] = [[] for _ in group]
    store, names = Store(setup.store_folder), [unit.case for unit in group]
    clean = {
        m: maps_as_tensor(store.maps(pair, m, images, target, setup.settings, names=names)).numpy()
        for m in setup.methods
    }
    for kind, level, copies in changed:
        with torch.no_grad():
            scores = pair.classifier.scores(copies.to(pair.device)).cpu()[:, card.targets.index(target)]
        for method, before in clean.items():
            after = before if level == 0 else maps_of(pair, method, copies, target, setup.settings).numpy()
            for index, unit in enumerate(group):
                rows[index].append(
                    {"classifier": name, "target": target, "case": unit.case, "patient": unit.payload.patient,
                     "method": method, "disturbance": kind, "level": level, "score": float(scores[index]),
                     "spearman": correlation.spearman(before[index], after[index]),
                     "top_overlap": correlation.top_overlap(before[index], after[index]),
                     "iou": overlap.iou_at_area(after[index].astype(float), marks[index])}
                )  # fmt: skip
    return rows


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over images for each classifier, target, method, disturbance and level."""
    keys = ["classifier", "target", "method", "disturbance", "level"]
    table = rows.groupby(keys, sort=False)[["spearman", "top_overlap", "iou"]].agg(["mean", "std", "count"])
    table.columns = pd.Index(["_".join(map(str, column)) for column in table.columns.to_flat_index()])
    return table.reset_index()
