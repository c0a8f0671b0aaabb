"""From a sweep to a 2-D map (Cohen et al. 2021, appendix B): tensors in, one map out, averaged over channels."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.types import Map

Frames = Float[Tensor, "n c h w"]


def maximum(frames: Frames, baseline: Float[Tensor, "c h w"]) -> Map:
    """latentshift-max: the largest absolute difference of any frame from the baseline at each pixel."""
    return (frames - baseline).abs().amax(dim=0).mean(dim=0)


def mean(frames: Frames, baseline: Float[Tensor, "c h w"]) -> Map:
    """latentshift-mean: the average absolute difference of the frames from the baseline.

    The paper's words ("the average of all images") leave out the difference; without it the map would be an average
    picture, so this is the form of both published implementations.
    """
    return (frames - baseline).abs().mean(dim=0).mean(dim=0)


def minmax(frames: Frames, baseline: Float[Tensor, "c h w"]) -> Map:
    """latentshift-minmax: the absolute difference of the two extreme frames."""
    return (frames[0] - frames[-1]).abs().mean(dim=0)


def sliding(frames: Frames, baseline: Float[Tensor, "c h w"]) -> Map:
    """latentshift-sliding interval: the average absolute difference of neighbouring frames; zeros for a single frame."""
    if frames.shape[0] < 2:
        return torch.zeros_like(frames[0]).mean(dim=0)
    return frames.diff(dim=0).abs().mean(dim=(0, 1))


def extreme(frames: Frames, baseline: Float[Tensor, "c h w"]) -> Map:
    """What the code of 2021 computes under the name max: the first frame (lowest strength) against the baseline."""
    return (frames[0] - baseline).abs().mean(dim=0)


MAPS: dict[str, Callable[[Frames, Float[Tensor, "c h w"]], Map]] = {
    "max": maximum,
    "mean": mean,
    "minmax": minmax,
    "sliding": sliding,
    "extreme-2021": extreme,
}
