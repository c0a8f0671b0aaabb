"""Does the heart get narrower, does the effusion clear, does a finding fade? Measured inside experts' boxes of the built-in
pair's counterfactuals.

    python benchmarks/shrinks_and_clears.py DATA/metadata.csv [--split val] [--limit 40] [--method latentshift-steps]
        [--targets Cardiomegaly Effusion Pneumothorax]

Cardiomegaly: rows from 35 to 70 % of the box's height, averaged; on each side of the box's middle the silhouette ends where
the profile of the unchanged frame or of the counterfactual first falls below the mean of the heart's and the darkest
brightness of the unchanged frame. Effusion: mean change of the lower half of the box, in full scales. Others: mean change of
the whole box; an opacity should get darker, the air of a pneumothorax brighter. Reported for all boxed images and for those
whose wanted drop was reached; and, as controls, in the same boxes while another target is lowered (Cardiomegaly; Effusion for
Cardiomegaly): at its own end, and matched: both at the frames whose mean change comes nearest to the smaller of the two ends.
The silhouette cannot tell a border that moves from one that darkens.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor

from gifsplain.evaluate import cases
from gifsplain.evaluate.config import Setup
from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.models.load import load_models
from gifsplain.types import Explanation, Stop

TARGETS = ("Cardiomegaly", "Effusion")
BRIGHTENED = "Pneumothorax"
"""The finding that is darker than what it replaces."""


def half_width(profile: Tensor, threshold: Tensor) -> int:
    """Pixels from the middle outwards until the profile falls below the threshold."""
    outside = (profile < threshold).nonzero().flatten()
    return int(outside[0]) if len(outside) else len(profile)


def half_widths(before: Tensor, after: Tensor, box: tuple[int, int, int, int]) -> NDArray[np.float64]:
    """Pixels from the box's middle to the silhouette's end, left and right side of the image, before and after; `h w`."""
    left, top, right, bottom = box
    height, width = bottom - top, right - left
    rows = slice(top + round(0.35 * height), top + round(0.7 * height))
    start, stop = max(0, left - width // 10), min(before.shape[1], right + width // 10)
    middle = (left + right) // 2 - start
    profiles = [image[rows, start:stop].mean(0) for image in (before, after)]
    widths = np.zeros((2, 2))
    for number, side in enumerate((lambda p: p[: middle + 1].flip(0), lambda p: p[middle:])):
        parts = [side(profile) for profile in profiles]
        threshold = (parts[0][: max(3, len(parts[0]) // 4)].mean() + parts[0].min()) / 2
        widths[number] = [half_width(part, threshold) for part in parts]
    return widths


def width_ratio(before: Tensor, after: Tensor, box: tuple[int, int, int, int]) -> float:
    """Width of the silhouette in `after` over that in `before`."""
    old, new = half_widths(before, after, box).sum(0)
    return float(new / max(old, 1))


def around(mask: Tensor) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a box."""
    down, across = mask.nonzero().T
    return int(across.min()), int(down.min()), int(across.max()) + 1, int(down.max()) + 1


def sides(made: Explanation, mask: Tensor) -> NDArray[np.float64]:
    """How far each side of the silhouette has come in at the end, as a part of its width; image's left, image's right."""
    before, after = (made.frames[i][0].clamp(0, 1) for i in (made.baseline, 0))
    widths = half_widths(before, after, around(mask))
    return (widths[:, 0] - widths[:, 1]) / max(widths[:, 0].sum(), 1)


def effect(target: str, made: Explanation, frame: int, mask: Tensor) -> float:
    """Ratio of the silhouette's widths, or mean change of the box or (Effusion) its lower half; of a frame against the baseline."""
    before, after = (made.frames[i][0].clamp(0, 1) for i in (made.baseline, frame))
    box = around(mask)
    if target == "Cardiomegaly":
        return width_ratio(before, after, box)
    place = mask.clone()
    if target == "Effusion":
        place[: (box[1] + box[3]) // 2] = False
    return float((after - before)[place].mean())


def change(made: Explanation, frame: int) -> float:
    """Mean absolute change of a frame against the baseline."""
    return float((made.frames[frame] - made.frames[made.baseline]).abs().mean())


def as_large(made: Explanation, size: float) -> int:
    """The frame of the falling side whose change comes nearest to `size`."""
    return min(range(made.baseline + 1), key=lambda i: abs(change(made, i) - size))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--method", default="latentshift")
    parser.add_argument("--classifier", default="cxr", help="as for gifsplain explain")
    parser.add_argument("--autoencoder", default="cxr", help="as for gifsplain explain")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    options = parser.parse_args()
    pair = load_models(options.classifier, options.autoencoder)
    setup = Setup(options.manifest, Path("unused"), sources=("nih",), split=options.split)
    pool = cases.load_cases(setup)
    for target in options.targets:
        other = "Effusion" if target == "Cardiomegaly" else "Cardiomegaly"
        marked = cases.draw(cases.marked(setup, pool, target), options.limit, 0)
        names = [case.key for case in marked]
        pictures = cases.as_pictures(cases.load_pictures(marked, pair.classifier.card), names)
        rows, moved = [], []
        found = explain_with(options.method, pair, pictures, [target, other], Settings(), cases=names)
        for case, made, control in zip(marked, found[::2], found[1::2], strict=True):
            mask = cases.expert_mask(case, made.frames.shape[-1])
            if not (made.baseline and control.baseline):
                continue  # one of them does not fall at all
            moved.append(sides(made, mask))
            ends = change(made, 0), change(control, 0)
            same = [as_large(one, min(ends)) for one in (made, control)]
            rows.append(
                (
                    effect(target, made, 0, mask),
                    effect(target, control, 0, mask),
                    effect(target, made, same[0], mask),
                    effect(target, control, same[1], mask),
                    made.stop is Stop.REACHED,
                    *ends,
                    change(made, same[0]),
                    change(control, same[1]),
                )
            )
        report(target, other, np.array(rows))
        if target == "Cardiomegaly":
            report_sides(np.array(moved))


def report_sides(moved: NDArray[np.float64]) -> None:
    """Print whether a narrower silhouette has come in from both sides or has moved."""
    for name, part in zip(("left", "right"), moved.T, strict=True):
        print(
            f"  image's {name} side comes in by {np.median(part):+.2f} of the width (median), "
            f"by 0.02 or more in {(part >= 0.02).mean():.0%}, goes out by as much in {(part <= -0.02).mean():.0%}"
        )
    print(f"  both sides come in by 0.02 or more in {(moved >= 0.02).all(1).mean():.0%}")


def report(target: str, other: str, rows: NDArray[np.float64]) -> None:
    """Print one target: its own effect, and that of lowering the other one, to each one's end and to the same mean change."""
    reached, (own, others, ours, theirs) = rows[:, 4] == 1, rows[:, 5:].mean(0)
    print(f"{target}: mean change {own:.4f}, while lowering {other} {others:.4f}; matched {ours:.4f} and {theirs:.4f}")
    series = {
        f"all {len(rows)}": rows[:, 0],
        f"the {reached.sum()} that reached the drop": rows[reached, 0],
        f"while lowering {other}": rows[:, 1],
        "matched": rows[:, 2],
        f"matched, while lowering {other}": rows[:, 3],
    }
    for name, values in series.items():
        if target == "Cardiomegaly":
            words = f"width {np.median(values):.2f} of before (median), narrower by 5 % in {(values < 0.95).mean():.0%}, wider in {(values > 1.05).mean():.0%}"
        else:
            place = "lower half of the box" if target == "Effusion" else "box"
            words = f"{place} changes by {np.median(values):+.3f} (median), darker by 0.02 in {(values < -0.02).mean():.0%}, brighter in {(values > 0.02).mean():.0%}"
        print(f"  {name}: {words}")
    more, less = int((rows[:, 2] < rows[:, 3]).sum()), int((rows[:, 2] > rows[:, 3]).sum())
    more, less = (less, more) if target == BRIGHTENED else (more, less)
    p = binomtest(more, more + less).pvalue if more + less else 1.0
    print(f"  at the same mean change stronger than the control in {more}, weaker in {less} (sign test p = {p:.2g})")


if __name__ == "__main__":
    main()
