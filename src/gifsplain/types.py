"""Array aliases and frozen results that every layer shares (words: docs/conventions.md)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "b c h w"]
"""float32 in [0, 1] everywhere inside the package."""
Latents = Float[Tensor, "b ..."]
Map = Float[Tensor, "h w"]


class ScoreMeaning(StrEnum):
    """What the number of a target output means."""

    LOGIT = "logit"
    PROBABILITY = "probability"
    CALIBRATED = "calibrated probability"

    @property
    def middle(self) -> float:
        """Score that lies between no and yes: 0.5, and for logits 0, its log-odds."""
        return 0.0 if self is ScoreMeaning.LOGIT else 0.5


class Stop(StrEnum):
    """Why a strength search ended; an outcome, not a fault."""

    REACHED = "reached"
    """The wanted change was met within the tolerance."""
    SCORE_BOUND = "score_bound"
    """The score had less room than the wanted change; the search went to the bound instead."""
    TURNED = "turned"
    """The score turned back before it reached the wanted change; the best strength is kept."""
    PIXEL_LIMIT = "pixel_limit"
    LATENT_LIMIT = "latent_limit"
    STRENGTH_LIMIT = "strength_limit"
    BUDGET = "budget"
    """The allowed number of evaluations was used up."""
    ZERO_GRADIENT = "zero_gradient"
    NO_DIRECTION = "no_direction"
    """No direction that the method tried moves the score the wanted way; others may."""
    NOT_SEARCHED = "not_searched"
    """No search was asked for: fixed strengths, a published policy's disabled side, or a map without a sweep."""


class Verdict(StrEnum):
    """Outcome of one trust check."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One answer to "how far can this explanation be trusted?"."""

    name: str
    verdict: Verdict
    text: str
    value: float | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a picture came from and what was applied to it; carries no patient identifiers."""

    name: str
    sha256: str
    format: str
    size: tuple[int, int]
    """Original height and width in pixels."""
    bits: int
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """One image at its own size: float32 in [0, 1], bone bright, `c h w` with c 1 or 3."""

    pixels: Float[Tensor, "c h w"]
    provenance: Provenance


@dataclass(frozen=True)
class Scores:
    """Score of the target for the input, for D(E(x)), and for the counterfactual frame (nan where there is none)."""

    input: float
    reconstruction: float
    counterfactual: float


@dataclass(frozen=True)
class Cost:
    """What an explanation cost; counted per image, a gradient includes its forward."""

    encodes: int = 0
    decodes: int = 0
    predictions: int = 0
    gradients: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Explanation:
    """The sweep of one case and target, its map, and how far to trust it.

    A method that only draws a map (a Captum baseline) has the single frame `image` at strength 0, stops
    `NOT_SEARCHED` and `scores.counterfactual` nan: `has_sweep` is False.
    """

    case: str
    method: str
    target: str
    meaning: ScoreMeaning
    picture: Picture
    image: Float[Tensor, "c h w"]
    """The picture as the models saw it."""
    reconstruction: Float[Tensor, "c h w"]
    frames: Float[Tensor, "n c h w"]
    """Ordered by strength, lowest first; in [0, 1]."""
    strengths: Float[Tensor, " n"]
    """In `strength_unit`; 0 is the baseline, positive raises the score."""
    strength_unit: str
    frame_scores: Float[Tensor, " n"]
    """Score of the target for each frame exactly as stored in `frames`."""
    targets: tuple[str, ...]
    target_scores: Float[Tensor, "n t"]
    """Scores of all targets for each frame: what else changed."""
    scores: Scores
    counterfactual: int
    """Index into `frames`."""
    stop_lower: Stop
    stop_higher: Stop
    map: Map
    """2-D attribution at model size; non-negative; 0 where nothing changes."""
    map_name: str
    composition: str
    """`reconstruction` (frames are decoded) or `residual` (frames are x + (x_alpha - D(z)))."""
    checks: tuple[Check, ...] = ()
    cost: Cost = field(default_factory=Cost)
    record: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON values that reproduce it: versions, model cards, seed, parameters, hashes, move."""
    start: Float[Tensor, "c h w"] | None = None
    """The frame at strength 0 where the sweep leaves it out, as the policy `paper-2021` does; else None."""
    start_scores: Float[Tensor, " t"] | None = None
    """Scores of all targets for `start`."""

    @property
    def has_sweep(self) -> bool:
        """Whether there is more than the unchanged image."""
        return self.frames.shape[0] > 1

    @property
    def stop(self) -> Stop:
        """Why the search for the wanted change ended: the fall where one was searched, found or not; else the rise.

        A score that is as low as scores go has no fall to be searched.
        """
        if self.stop_higher is Stop.NOT_SEARCHED:
            return self.stop_lower
        no_room = self.stop_lower is Stop.SCORE_BOUND and self.counterfactual >= self.baseline
        return self.stop_higher if no_room or self.stop_lower is Stop.NOT_SEARCHED else self.stop_lower

    @property
    def baseline(self) -> int:
        """Index of the frame whose strength is nearest to 0; what changes is measured from `baseline_frame`."""
        return int(self.strengths.abs().argmin())

    @property
    def baseline_frame(self) -> Float[Tensor, "c h w"]:
        """The frame at strength 0."""
        return self.frames[self.baseline] if self.start is None else self.start

    @property
    def baseline_scores(self) -> Float[Tensor, " t"]:
        """Scores of all targets at strength 0."""
        return self.target_scores[self.baseline] if self.start_scores is None else self.start_scores

    @property
    def baseline_score(self) -> float:
        """Score of the target at strength 0."""
        if self.start_scores is None:
            return float(self.frame_scores[self.baseline])
        return float(self.start_scores[self.targets.index(self.target)])

    def _repr_html_(self) -> str | None:
        """HTML for a notebook, made by the view that the package facade registers."""
        return _notebook_view(self) if _notebook_view else None


_notebook_view: Callable[[Explanation], str] | None = None


def register_notebook_view(view: Callable[[Explanation], str]) -> None:
    """Let an `Explanation` show itself in a notebook; called once by the facade, which may import the renderer."""
    global _notebook_view
    _notebook_view = view
