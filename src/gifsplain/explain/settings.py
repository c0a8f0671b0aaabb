"""What a user may decide about an explanation, in one frozen value that goes into every record."""

import math
from dataclasses import dataclass
from typing import Literal

from gifsplain.errors import InputError, require
from gifsplain.explain.compose import Composition
from gifsplain.explain.maps import MAPS
from gifsplain.explain.policies import POLICIES
from gifsplain.models.precision import PRECISIONS, Precision
from gifsplain.types import ScoreMeaning

PolicyName = Literal["exact", "paper-2021", "latentshift-0.0.6"]


@dataclass(frozen=True)
class Settings:
    """Parameters of a sweep; the defaults are the paper's wanted changes with an exact search."""

    drop: float = 0.30
    """Wanted fall of the score, absolute (paper section 4.2); of a logit where the score is one."""
    rise: float = 0.05
    """Wanted rise of the score, absolute (paper section 4.2); 0 leaves that side out."""
    frames: int | None = None
    """Frames of the sweep; None takes the policy's own number (21 for `exact`, 10 for the published ones)."""
    policy: PolicyName = "exact"
    composition: Composition = Composition.RECONSTRUCTION
    map: str | None = None
    """Name in `maps.MAPS`; None takes the policy's own (`max` for `exact`)."""
    tolerance: float = 0.005
    """A reached score lies beyond the wanted one by at most this."""
    floor: float = 0.01
    """Lowest probability that is asked for; where `drop` leads below it the search goes here and says so."""
    ceiling: float = 0.99
    pixel_limit: float = 0.05
    """Largest mean absolute change of a frame, in full scales; further out an image is no likely radiograph any more."""
    latent_limit: float = 2.0
    """Largest latent distance, in norms of the latent."""
    evaluations: int = 24
    """Most measurements of one side's search."""
    strengths: tuple[float, float] | None = None
    """Lowest and highest strength; given, nothing is searched."""
    seed: int = 0
    """For methods that draw random numbers."""
    batch: int = 16
    """Most images that pass through a network at once."""
    precision: Precision = "float32"
    """Number format of the networks; with `bf16` the error of the returned frame is measured and stated."""
    memory: int | None = None
    """Bytes that a batch may take; it is made smaller where one image takes too many. None: until memory runs out."""

    def __post_init__(self) -> None:
        checks = {
            "drop must be 0 or more": (0 <= self.drop < math.inf, self.drop),
            "rise must be 0 or more": (0 <= self.rise < math.inf, self.rise),
            "frames must be 2 or more": (self.frames is None or self.frames >= 2, self.frames),
            "frames must be 3 or more where both sides are shown": (
                self.frames != 2 or not self._two_sided,
                self.frames,
            ),
            "tolerance must be above 0": (self.tolerance > 0, self.tolerance),
            "batch must be 1 or more": (self.batch >= 1, self.batch),
            f"precision must be one of {', '.join(PRECISIONS)}": (self.precision in PRECISIONS, self.precision),
            "memory must be above 0": (self.memory is None or self.memory > 0, self.memory),
            f"policy must be one of exact, {', '.join(POLICIES)}": (
                self.policy == "exact" or self.policy in POLICIES,
                self.policy,
            ),
            "composition must be a gifsplain.Composition": (
                isinstance(self.composition, Composition),
                self.composition,
            ),
            f"map must be one of {', '.join(MAPS)}": (self.map is None or self.map in MAPS, self.map),
            "strengths must be (lowest <= 0, highest >= 0) and not both 0": (
                self.strengths is None or (self.strengths[0] <= 0 <= self.strengths[1] and self.strengths != (0, 0)),
                self.strengths,
            ),
        }
        require(checks)

    @property
    def _two_sided(self) -> bool:
        """Whether strengths below and above 0 are wanted, between which 0 itself needs a frame."""
        if self.strengths is not None:
            return self.strengths[0] < 0 < self.strengths[1]
        return self.policy == "exact" and self.drop > 0 and self.rise > 0

    def room(self, meaning: ScoreMeaning) -> tuple[float, float]:
        """Lowest and highest score that a search may ask for; logits have no bounds.

        Raises:
            InputError: When a wanted change is more than a probability can make.
        """
        if meaning is ScoreMeaning.LOGIT:
            return -math.inf, math.inf
        if max(self.drop, self.rise) > 1:
            raise InputError(f"drop and rise must lie in [0, 1] for probabilities, got {self.drop} and {self.rise}")
        return self.floor, self.ceiling

    @property
    def frame_count(self) -> int:
        """Frames that the sweep will have."""
        if self.frames is not None:
            return self.frames
        return 21 if self.policy == "exact" else POLICIES[self.policy].frames

    @property
    def map_name(self) -> str:
        """Map that the sweep is reduced to."""
        if self.map is not None:
            return self.map
        return "max" if self.policy == "exact" else POLICIES[self.policy].map
