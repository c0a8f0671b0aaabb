"""Optical flow of the change from the baseline to the counterfactual (Cohen et al. 2021, figure 1B)."""

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from gifsplain.render.ink import MARK, fit_in_figure, to_bytes
from gifsplain.types import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Flow = Float[np.ndarray, "2 h w"]

_SIDE = 256
"""Flow is computed at this size at most: motion of whole structures, at a cost that does not grow with the picture."""


class FlowMethod(StrEnum):
    """Which of scikit-image's estimators."""

    ILK = "ilk"
    """Iterative Lucas-Kanade (Le Besnerais and Champagnat 2005): fast, smooth."""
    TVL1 = "tvl1"
    """TV-L1 (Zach, Pock and Bischof 2007): slower, keeps the edges of what moves."""


def optical_flow(
    before: Float[Tensor, "c h w"], after: Float[Tensor, "c h w"], method: FlowMethod = FlowMethod.TVL1
) -> Flow:
    """Rows down and columns right, in pixels, by which each pixel of `before` has moved in `after`.

    A shadow that fades without moving also yields vectors, along its border: flow cannot tell the two apart.
    """
    from skimage.registration import optical_flow_ilk, optical_flow_tvl1

    first, second = (picture.mean(0).detach().cpu().numpy().astype(np.float32) for picture in (before, after))
    if np.array_equal(first, second):
        return np.zeros((2, *first.shape), dtype=np.float32)
    # One scale for both: the estimators' weights are meant for pictures that fill [0, 1].
    low, high = min(first.min(), second.min()), max(first.max(), second.max())
    first, second = (first - low) / (high - low), (second - low) / (high - low)
    if method is FlowMethod.ILK:
        found = optical_flow_ilk(first, second, radius=max(3, first.shape[-1] // 28))
    else:
        found = optical_flow_tvl1(first, second, tightness=0.3)
    return np.asarray(found, dtype=np.float32)


def flow_figure(explanation: Explanation, method: FlowMethod = FlowMethod.TVL1) -> "Figure":
    """`flow.png`: arrows over the baseline, coloured by length, to the counterfactual."""
    from matplotlib.figure import Figure

    before, after = _small(explanation.baseline_frame), _small(explanation.frames[explanation.counterfactual])
    flow = optical_flow(before, after, method)
    height, width = flow.shape[1:]
    length = np.hypot(*flow)
    figure = Figure(figsize=(6.4, 6.4 * height / width + 1.1), dpi=110, facecolor="#101010", layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(_grey(to_bytes(before)), cmap="gray", vmin=0, vmax=255, alpha=0.62)
    rows, columns = _grid(height, width)
    down, right, size = flow[0][rows, columns], flow[1][rows, columns], length[rows, columns]
    # A whole pixel at least fills the scale: shifts far below one are the estimator's noise and stay faint.
    longest = max(float(np.quantile(length, 0.995)), 1.0)
    seen = size > 0.1 * longest
    step = width / 36
    arrows = axes.quiver(
        columns[seen],
        rows[seen],
        right[seen],
        down[seen],
        size[seen],
        angles="xy",
        scale_units="xy",
        scale=longest / (2.2 * step),
        cmap="plasma",
        clim=(0, longest),
        width=0.0045,
    )
    axes.set_axis_off()
    bar = figure.colorbar(arrows, ax=axes, orientation="horizontal", fraction=0.035, pad=0.015, aspect=45)
    bar.set_label(f"shift in pixels of the {width}-pixel picture", color="#d0d0d0", fontsize=9)
    bar.ax.tick_params(colors="#d0d0d0", labelsize=8)
    bar.outline.set_visible(False)
    title = f"{fit_in_figure(explanation.target, 600)}\nfrom baseline to counterfactual · {MARK}"
    axes.set_title(title, color="#f0f0f0", fontsize=10, parse_math=False)  # a name may hold dollar signs
    return figure


def _small(picture: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    from torch.nn.functional import interpolate

    factor = max(1, -(-max(picture.shape[-2:]) // _SIDE))
    if factor == 1:
        return picture
    size = [max(1, side // factor) for side in picture.shape[-2:]]
    return interpolate(picture[None], size=size, mode="area")[0]


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    step = max(1, round(width / 36))
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    return rows, columns


def _grey(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 2 else pixels.mean(axis=2)
