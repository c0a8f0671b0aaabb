"""What healthy films show where an expert has boxed a finding: the change that lowering that finding shall draw."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from gifsplain.train.augment import blur
from gifsplain.train.edits import fitted
from gifsplain.types import Images

GIVERS = 5
"""Films whose mean is looked at: those that fit best along the border; what one of them shows by chance counts less."""
SMOOTH = 5.0
"""Standard deviation in pixels of the blur over the change: ribs and vessels of other patients shall not count."""
LEAST = 0.03
"""What is added everywhere in the box, of full scale: where patients differ much, the sign alone still tells."""


def healing(
    images: Images,
    labels: Float[Tensor, "b t"],
    parts: Int[Tensor, " b"],
    rows: Int[Tensor, " k"],
    places: Float[Tensor, "k s s"],
    signs: Float[Tensor, " k"],
) -> Float[Tensor, "k 1 s s"]:
    """For some rows of a batch the change from what their box holds to what films without any of the targets hold there.

    In full scale. Only its part of the sign that a cure has, -1 where the finding is brighter than what it replaces and 1
    where it is darker: the rest is the other patients' anatomy; and a little (`LEAST`) of that sign everywhere in the box.
    0 for a row whose sign is 0, or when the batch has no such film of the same part (source), since exposure and sharpness
    differ between parts.
    """
    healthy: Bool[Tensor, " b"] = (labels == 0).all(1)
    changes = images.new_zeros(len(rows), 1, *images.shape[2:])
    for number, row in enumerate(rows.tolist()):
        givers = healthy & (parts == parts[row])
        givers[row] = False
        if not signs[number] or not givers.any():
            continue
        made, soft, misfit = fitted(images[row], images[givers], places[number])
        best = misfit.topk(min(GIVERS, len(misfit)), largest=False).indices
        change = (made[best].clamp(0, 1).mean(0) - images[row]) * soft
        smooth = blur(change.mean(0, keepdim=True)[None], SMOOTH)[0]
        changes[number] = ((smooth * signs[number]).relu() + LEAST * soft) * signs[number]
    return changes
