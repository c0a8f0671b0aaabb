"""The one place that knows native value ranges: any `nn.Module` becomes a `Classifier` or an `Autoencoder` here."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gifsplain.errors import ModelError
from gifsplain.models.fold import Net, fold
from gifsplain.models.protocols import Autoencoder, Classifier, ModelCard, Pair
from gifsplain.types import Images, Latents, ScoreMeaning

Logits = Float[Tensor, "b t"]
Output = Literal["logits", "softmax_logits", "probabilities"]

_EPSILON = 1e-6
"""Probabilities are kept this far from 0 and 1 before log-odds are taken."""


def to_native(images: Images, value_range: tuple[float, float]) -> Images:
    """[0, 1] to a model's own range."""
    low, high = value_range
    return images if (low, high) == (0.0, 1.0) else images * (high - low) + low


def from_range(images: Images, value_range: tuple[float, float]) -> Images:
    """A model's own range to [0, 1]; not clamped."""
    low, high = value_range
    return images if (low, high) == (0.0, 1.0) else (images - low) / (high - low)


def softmax_log_odds(logits: Logits) -> Logits:
    """Log-odds of each class against all others: `sigmoid` of it is the softmax."""
    if logits.shape[1] == 1:
        raise ModelError("softmax_logits needs at least two classes, got 1; use output='logits'")
    others = [torch.cat([logits[:, :t], logits[:, t + 1 :]], dim=1).logsumexp(dim=1) for t in range(logits.shape[1])]
    return logits - torch.stack(others, dim=1)


def log_odds(probabilities: Logits) -> Logits:
    """Inverse sigmoid, finite at 0 and 1."""
    kept = probabilities.clamp(_EPSILON, 1 - _EPSILON)
    return kept.log() - (1 - kept).log()


LOGITS_FROM: dict[Output, Callable[[Logits], Logits]] = {
    "logits": lambda raw: raw,
    "softmax_logits": softmax_log_odds,
    "probabilities": log_odds,
}


def place(net: Net, device: torch.device | str | None = None) -> Net:
    """A folded copy on `device`, or on torch's default device: in evaluation mode and without parameter gradients."""
    return fold(net.to(torch.get_default_device() if device is None else device))


def _frozen(net: nn.Module, device: torch.device | str | None) -> nn.Module:
    """As `place`, but the caller's module stays where it is."""
    return place(copy.deepcopy(net), device)


def _check(images: Tensor, card: ModelCard) -> None:
    expected = (card.channels, card.size, card.size)
    if images.ndim != 4 or tuple(images.shape[1:]) != expected:
        raise ModelError(
            f"{card.name} takes images of shape b {' '.join(map(str, expected))}, got {tuple(images.shape)}; "
            "prepare pictures with models.prepare.to_images, or wrap the classifier with models.wrap.resized"
        )
    if not images.is_floating_point():
        raise ModelError(
            f"{card.name} takes floating-point images in [0, 1], got {images.dtype}; divide by the maximum"
        )


def _require_tensor(value: object, what: str) -> None:
    """Refuse the tuples, dicts and output objects of networks that return more than one thing."""
    if not isinstance(value, Tensor):
        raise ModelError(f"{what} {type(value).__name__}, expected one tensor; return only that one from the network")


def _check_net(net: object, size: Any, value_range: tuple[float, float], name: str) -> None:
    """Refuse what is no network, a size that is none, and a value range in which black and white are the same."""
    if not isinstance(net, nn.Module):
        raise ModelError(
            f"{name}: expected a torch.nn.Module, got {type(net).__name__}; put the function into a module"
        )
    if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
        raise ModelError(f"{name}: expected size as one whole number, height and width alike, got {size!r}")
    if len(value_range) != 2 or value_range[0] == value_range[1]:
        raise ModelError(f"{name}: expected value_range as (black, white), two different numbers, got {value_range}")


def _check_output(output: str, name: str) -> None:
    """Refuse an output that has no meaning here."""
    if output not in LOGITS_FROM:
        raise ModelError(f"{name}: expected output to be one of {', '.join(LOGITS_FROM)}, got {output!r}")


def named(labels: Sequence[str]) -> tuple[str, ...]:
    """Outputs without a name get one, so that each can be refused by name."""
    return tuple(label or f"(unused {index})" for index, label in enumerate(labels))


def meaning_of(given: str, name: str) -> ScoreMeaning:
    """The meaning that was given, as itself or as its text."""
    try:
        return ScoreMeaning(given)
    except ValueError as error:
        known = ", ".join(meaning.value for meaning in ScoreMeaning)
        raise ModelError(f"{name}: expected meaning to be one of {known}, got {given!r}") from error


@dataclass(frozen=True, eq=False)
class ImageClassifier:
    """A network with its declaration. Make one with `classifier`."""

    card: ModelCard
    forward: Callable[[Tensor], Logits]
    """Native images to log-odds."""
    squash: Callable[[Logits], Logits]
    repeat: int = 1
    """How often the grey channel is repeated for a network that takes colour."""
    net: nn.Module | None = None
    """The frozen copy, for methods that need layers (Grad-CAM, cascading randomisation)."""

    def logits(self, images: Images) -> Logits:
        """Log-odds of every target."""
        _check(images, self.card)
        native = to_native(images, self.card.value_range)
        logits = self.forward(native.repeat(1, self.repeat, 1, 1) if self.repeat > 1 else native)
        _require_tensor(logits, f"{self.card.name} gives")
        if logits.shape != (images.shape[0], len(self.card.targets)):
            raise ModelError(
                f"{self.card.name} declares {len(self.card.targets)} targets, its output has shape {tuple(logits.shape)}; "
                "list one name per output in targets"
            )
        return logits

    def link(self, logits: Logits) -> Logits:
        """Scores from log-odds."""
        return self.squash(logits)

    def scores(self, images: Images) -> Logits:
        """Numbers that the card declares."""
        return self.squash(self.logits(images))


@dataclass(frozen=True, eq=False)
class ImageAutoencoder:
    """An encoder and a decoder with their declaration. Make one with `autoencoder`."""

    card: ModelCard
    encoder: Callable[[Tensor], Latents]
    decoder: Callable[[Latents], Tensor]
    net: nn.Module | None = None

    def encode(self, images: Images) -> Latents:
        """Latents of images in [0, 1]."""
        _check(images, self.card)
        latents = self.encoder(to_native(images, self.card.value_range))
        _require_tensor(latents, f"encode of {self.card.name} gives")
        return latents

    def decode(self, latents: Latents) -> Images:
        """Images, nominally in [0, 1], not clamped."""
        drawn = self.decoder(latents)
        _require_tensor(drawn, f"decode of {self.card.name} gives")
        expected = (latents.shape[0], self.card.channels, self.card.size, self.card.size)
        if tuple(drawn.shape) != expected:
            raise ModelError(
                f"{self.card.name} declares images of shape {expected}, its decode gives {tuple(drawn.shape)}"
            )
        return from_range(drawn, self.card.value_range)


def classifier(
    net: nn.Module,
    *,
    name: str,
    targets: Sequence[str],
    size: int,
    output: Output = "logits",
    meaning: ScoreMeaning | str = ScoreMeaning.PROBABILITY,
    value_range: tuple[float, float] = (0.0, 1.0),
    channels: int = 1,
    repeat: int = 1,
    device: torch.device | str | None = None,
) -> ImageClassifier:
    """Wrap any network that maps `b c h w` to `b t`.

    Args:
        net: Copied, set to evaluation mode and frozen; yours is not touched.
        name: Goes into every result.
        targets: One name for each output.
        size: Height and width that the network takes.
        output: What the network returns: independent logits, logits of a softmax, or probabilities.
        meaning: What a score means, or its text. `LOGIT` leaves logits as scores, everything else is a probability.
        value_range: Native range of the pixel values, for black and white.
        channels: Channels that the wrapper takes.
        repeat: Times that a grey channel is repeated for a network that takes colour.
        device: Where the copy lives; the device of `load_models` or else torch's default when left out.

    Raises:
        ModelError: When the declaration contradicts itself.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
        >>> model = classifier(net, name="mine", targets=("cat", "dog"), size=8, output="softmax_logits")
        >>> model.scores(torch.rand(3, 1, 8, 8)).sum(dim=1).round().tolist()
        [1.0, 1.0, 1.0]
    """
    _check_net(net, size, value_range, name)
    _check_output(output, name)
    said = meaning_of(meaning, name)
    own = _frozen(net, device)
    to_logits = LOGITS_FROM[output]
    card = ModelCard(
        name=name,
        kind="classifier",
        size=int(size),
        channels=channels,
        value_range=value_range,
        targets=named(targets),
        meaning=said,
        details={"output": output},
    )
    squash: Callable[[Logits], Logits] = (lambda logits: logits) if said is ScoreMeaning.LOGIT else torch.sigmoid
    return ImageClassifier(card, lambda native: to_logits(own(native)), squash, repeat, own)


def autoencoder(
    net: nn.Module,
    *,
    name: str,
    size: int,
    value_range: tuple[float, float] = (0.0, 1.0),
    channels: int = 1,
    device: torch.device | str | None = None,
) -> ImageAutoencoder:
    """Wrap any network with `encode` and `decode` methods; copied and frozen as in `classifier`.

    Raises:
        ModelError: When the network lacks one of the two methods, or the value range is none.
    """
    _check_net(net, size, value_range, name)
    for method in ("encode", "decode"):
        if not callable(getattr(net, method, None)):
            raise ModelError(f"an autoencoder needs encode(x) and decode(z); {type(net).__name__} has no {method}")
    own = _frozen(net, device)
    card = ModelCard(name=name, kind="autoencoder", size=int(size), channels=channels, value_range=value_range)
    return ImageAutoencoder(card, own.encode, own.decode, own)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class ResizedClassifier:
    """A classifier that takes another size: bilinear with anti-aliasing, declared in its card."""

    inner: Classifier
    card: ModelCard

    def logits(self, images: Images) -> Logits:
        """Log-odds after resizing to the inner size."""
        _check(images, self.card)
        size = self.inner.card.size
        return self.inner.logits(F.interpolate(images, size=(size, size), mode="bilinear", antialias=True))

    def link(self, logits: Logits) -> Logits:
        """Scores from log-odds."""
        return self.inner.link(logits)

    def scores(self, images: Images) -> Logits:
        """Scores after resizing."""
        return self.link(self.logits(images))


def resized(inner: Classifier, size: int) -> Classifier:
    """`inner` for images of another size; the same object when it fits already."""
    if inner.card.size == size:
        return inner
    details = {**inner.card.details, "resized_from": size}
    return ResizedClassifier(inner, replace(inner.card, size=size, details=details))


def pair(first: Classifier, second: Autoencoder, *, device: torch.device | str = "cpu") -> Pair:
    """A classifier and an autoencoder that fit together.

    Raises:
        ModelError: When sizes or channels differ.
    """
    mine, theirs = first.card, second.card
    if (mine.size, mine.channels) != (theirs.size, theirs.channels):
        raise ModelError(
            f"{mine.name} takes {mine.channels} x {mine.size} x {mine.size}, {theirs.name} draws "
            f"{theirs.channels} x {theirs.size} x {theirs.size}; wrap the classifier with models.wrap.resized (--resize)"
        )
    return Pair(first, second, torch.device(device))
