"""Does the heart get narrower, and does the effusion clear? Measured inside experts' boxes of the built-in pair's counterfactuals.

    python benchmarks/shrinks_and_clears.py DATA/metadata.csv [--split val] [--limit 40] [--control]

Cardiomegaly: rows from 35 to 70 % of the box's height, averaged; on each side of the box's middle the silhouette ends where
the profile of the unchanged frame or of the counterfactual first falls below the mean of the heart's and the darkest
brightness of the unchanged frame. Effusion: mean change of the lower half of the box, in full scales. Reported for all boxed
images and for those whose wanted drop was reached. With `--control` the same boxes are looked at while the other target is
explained.
"""

import argparse
from pathlib import Path

import numpy as np
from torch import Tensor

from gifsplain.evaluate import cases
from gifsplain.evaluate.config import Setup
from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.models.load import load_models
from gifsplain.types import Stop

TARGETS = ("Cardiomegaly", "Effusion")


def half_width(profile: Tensor, threshold: Tensor) -> int:
    """Pixels from the middle outwards until the profile falls below the threshold."""
    outside = (profile < threshold).nonzero().flatten()
    return int(outside[0]) if len(outside) else len(profile)


def width_ratio(before: Tensor, after: Tensor, box: tuple[int, int, int, int]) -> float:
    """Width of the silhouette in `after` over that in `before`; images `h w`."""
    left, top, right, bottom = box
    height, width = bottom - top, right - left
    rows = slice(top + round(0.35 * height), top + round(0.7 * height))
    start, stop = max(0, left - width // 10), min(before.shape[1], right + width // 10)
    middle = (left + right) // 2 - start
    profiles = [image[rows, start:stop].mean(0) for image in (before, after)]
    widths = np.zeros(2)
    for side in (lambda p: p[: middle + 1].flip(0), lambda p: p[middle:]):
        parts = [side(profile) for profile in profiles]
        threshold = (parts[0][: max(3, len(parts[0]) // 4)].mean() + parts[0].min()) / 2
        widths += [half_width(part, threshold) for part in parts]
    return float(widths[1] / widths[0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--control", action="store_true", help="explain the other target")
    options = parser.parse_args()
    pair = load_models()
    setup = Setup(options.manifest, Path("unused"), sources=("nih",), split=options.split)
    pool = cases.load_cases(setup)
    for target in TARGETS:
        marked = cases.draw(cases.marked(setup, pool, target), options.limit, 0)
        names = [case.key for case in marked]
        explained = TARGETS[1 - TARGETS.index(target)] if options.control else target
        pictures = cases.as_pictures(cases.load_pictures(marked, pair.classifier.card), names)
        found, reached = [], []
        for case, made in zip(
            marked, explain_with("latentshift", pair, pictures, [explained], Settings(), cases=names), strict=True
        ):
            before, after = (made.frames[i][0].clamp(0, 1) for i in (made.baseline, made.counterfactual))
            mask = cases.expert_mask(case, before.shape[-1])
            down, across = mask.nonzero().T
            box = int(across.min()), int(down.min()), int(across.max()) + 1, int(down.max()) + 1
            if target == "Cardiomegaly":
                found.append(width_ratio(before, after, box))
            else:
                mask[: (box[1] + box[3]) // 2] = False
                found.append(float((after - before)[mask].mean()))
            reached.append(made.stop is Stop.REACHED)
        values, chosen = np.array(found), np.array(reached)
        for name, kept in (("all", values), ("reached", values[chosen])):
            if target == "Cardiomegaly":
                words = f"width {np.median(kept):.2f} of before (median), narrower by 5 % in {(kept < 0.95).mean():.0%}, wider in {(kept > 1.05).mean():.0%}"
            else:
                words = f"lower half of the box changes by {np.median(kept):+.3f} (median), darker by 0.02 in {(kept < -0.02).mean():.0%}, brighter in {(kept > 0.02).mean():.0%}"
            print(f"{target}{' while lowering ' + explained if options.control else ''}, {name} {len(kept)}: {words}")


if __name__ == "__main__":
    main()
