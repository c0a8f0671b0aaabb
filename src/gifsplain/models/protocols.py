"""What the rest of the package asks of a model. Anything with these members fits: no base class to inherit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.models.budget import Budget
from gifsplain.types import Images, Latents, ScoreMeaning


@dataclass(frozen=True)
class ModelCard:
    """Declaration of a model: what it takes, what it gives, where it came from, how good it is."""

    name: str
    kind: Literal["classifier", "autoencoder"]
    size: int
    """Height and width in pixels that the model takes."""
    channels: int = 1
    value_range: tuple[float, float] = (0.0, 1.0)
    """Native range of the network; only `models.wrap` converts."""
    targets: tuple[str, ...] = ()
    meaning: ScoreMeaning = ScoreMeaning.PROBABILITY
    untrained: tuple[str, ...] = ()
    """Targets whose head was never trained; asking for one is refused by name."""
    sha256: str = ""
    """Checksum of the weights; empty when they are not a file."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Data, terms, splits, metrics, limits, command: shown by `gifsplain models show`."""


@runtime_checkable
class Classifier(Protocol):
    """Images in [0, 1] to one number a target."""

    @property
    def card(self) -> ModelCard: ...

    def logits(self, images: Images) -> Float[Tensor, "b t"]:
        """Unsquashed outputs, differentiable: directions come from these (DESIGN 4.2)."""
        ...

    def link(self, logits: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        """Scores from logits: one forward pass gives both."""
        ...

    def scores(self, images: Images) -> Float[Tensor, "b t"]:
        """Numbers whose meaning the card declares; nothing applies a sigmoid to them."""
        ...


@runtime_checkable
class Autoencoder(Protocol):
    """Images in [0, 1] to latents and back; `decode` is deterministic, differentiable and not clamped."""

    @property
    def card(self) -> ModelCard: ...

    def encode(self, images: Images) -> Latents: ...

    def decode(self, latents: Latents) -> Images: ...


@dataclass(frozen=True)
class Pair:
    """A classifier and the autoencoder that draws for it; both at the same size and channels (checked by `wrap.pair`)."""

    classifier: Classifier
    autoencoder: Autoencoder
    device: torch.device = torch.device("cpu")
    """Where both live; `explain` sends images there."""
    budget: Budget = field(default_factory=Budget, compare=False, repr=False)
    """How large a batch may be, as learnt so far."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the classifier's outputs in order."""
        return self.classifier.card.targets
