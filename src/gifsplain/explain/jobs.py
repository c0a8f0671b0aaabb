"""One job is one image and one target on its way to an explanation; frames of many jobs are evaluated in one batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.explain.compose import Composition, compose
from gifsplain.explain.moves import Move
from gifsplain.explain.search import Measurement
from gifsplain.models.budget import in_chunks, in_parts
from gifsplain.models.protocols import Pair
from gifsplain.types import Images


@dataclass(eq=False)
class Job:
    """An image, a target and the move that was proposed; remembers the frames measured so far."""

    image: Float[Tensor, "c h w"]
    latent: Float[Tensor, "..."]
    target: int
    move: Move
    decoded: Float[Tensor, "c h w"]
    """D(z), not clamped."""
    baseline: Float[Tensor, "c h w"]
    """The frame at strength 0."""
    input_scores: Float[Tensor, " t"]
    reconstruction_scores: Float[Tensor, " t"]
    """Scores of D(z) as drawn."""
    baseline_scores: Float[Tensor, " t"]
    gradients: int = 0
    decodes: int = 1
    frames: dict[float, tuple[Float[Tensor, "c h w"], Float[Tensor, " t"]]] = field(default_factory=dict)


CACHED_FRAMES = 7
"""Most frames that a processor draws at once: larger batches leave its caches (benchmarks/floor.py: 16 cost 10 to 20 % more
each than 4 to 8)."""


@dataclass(frozen=True)
class Stage:
    """How frames are made and scored: the models, the composition, and whether frames are clamped to [0, 1]."""

    pair: Pair
    composition: Composition
    batch: int
    clamp: bool = True

    def score(self, images: Images) -> Float[Tensor, "b t"]:
        """Scores of all targets, in chunks."""
        return in_chunks(self.pair.classifier.scores, images, self.pair.budget, self.batch)

    def evaluate(self, jobs: Sequence[Job], asked: Sequence[tuple[int, float]]) -> None:
        """Decode, compose and score the frames that `asked` names as (job, strength) and that no job has yet."""
        missing = [(j, s) for j, s in dict.fromkeys(asked) if s not in jobs[j].frames]
        most = min(self.batch, CACHED_FRAMES) if self.pair.device.type == "cpu" else self.batch
        in_parts(lambda part: self._chunk(jobs, missing[part]), len(missing), self.pair.budget, most)

    def _chunk(self, jobs: Sequence[Job], chunk: Sequence[tuple[int, float]]) -> None:
        latents = torch.cat(
            [jobs[j].move.apply(jobs[j].latent, torch.tensor([s], dtype=torch.float64)) for j, s in chunk]
        )
        frames = self.pair.autoencoder.decode(latents)
        if self.composition is Composition.RESIDUAL:
            images = torch.stack([jobs[j].image for j, _ in chunk])
            frames = compose(self.composition, frames, images, torch.stack([jobs[j].decoded for j, _ in chunk]))
        frames = frames.clamp(0, 1) if self.clamp else frames
        for (j, s), frame, scores in zip(chunk, frames, self.pair.classifier.scores(frames), strict=True):
            jobs[j].frames[s] = (frame, scores)
            jobs[j].decodes += 1

    def measurement(self, job: Job, strength: float) -> Measurement:
        """What the search wants to know of an evaluated frame."""
        frame, scores = job.frames[strength]
        change = float((frame - job.baseline).abs().mean())
        low, high = self.pair.autoencoder.card.value_range
        size = float((job.baseline * (high - low) + low).abs().mean())
        relative = change * (high - low) / size if size > 0 else float("inf")
        return Measurement(strength, float(scores[job.target]), change, relative)
