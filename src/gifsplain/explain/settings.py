"""What a user may decide about an explanation, in one frozen value that goes into every record."""

from dataclasses import dataclass
from typing import Literal

from gifsplain.errors import InputError
from gifsplain.explain.compose import Composition
from gifsplain.explain.maps import MAPS
from gifsplain.explain.policies import POLICIES
from gifsplain.models.precision import PRECISIONS, Precision

PolicyName = Literal["exact", "paper-2021", "latentshift-0.0.6"]


@dataclass(frozen=True)
class Settings:
    """Parameters of a sweep; the defaults are the paper's wanted changes with an exact search."""

    drop: float = 0.30
    """Wanted fall of the score, absolute (paper section 4.2)."""
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
    """Lowest score that is asked for; where `drop` leads below it the search goes here and says so."""
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
            "drop must lie in [0, 1]": 0 <= self.drop <= 1,
            "rise must lie in [0, 1]": 0 <= self.rise <= 1,
            "frames must be 2 or more": self.frames is None or self.frames >= 2,
            "tolerance must be above 0": self.tolerance > 0,
            "batch must be 1 or more": self.batch >= 1,
            f"precision must be one of {', '.join(PRECISIONS)}": self.precision in PRECISIONS,
            "memory must be above 0": self.memory is None or self.memory > 0,
            f"policy must be one of exact, {', '.join(POLICIES)}": self.policy == "exact" or self.policy in POLICIES,
            f"map must be one of {', '.join(MAPS)}": self.map is None or self.map in MAPS,
            "strengths must be (lowest <= 0, highest >= 0) and not both 0": self.strengths is None
            or (self.strengths[0] <= 0 <= self.strengths[1] and self.strengths != (0, 0)),
        }
        for message, fine in checks.items():
            if not fine:
                raise InputError(f"{message}, got {self}")

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
