"""What tells one model's weights from those of another that goes by the same name."""

import hashlib
from collections.abc import Sequence
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from gifsplain.models.protocols import Autoencoder, Classifier, ModelCard, Pair
from gifsplain.models.styleex import StyleAutoencoder, StyleView
from gifsplain.models.wrap import ResizedClassifier

_Marks = tuple[tuple[ref[Tensor], int], ...]
_DIGESTS: WeakKeyDictionary[nn.Module, tuple[_Marks, str]] = WeakKeyDictionary()
"""Checksums of networks that were asked for before, and by what a change since then shows."""


def identity(model: Classifier | Autoencoder) -> str:
    """The card's checksum; where it has none, one of the network's numbers, its layers and its declaration.

    Empty where the model shows no network either: it cannot be told from another, so nothing of it may be used again.
    Code between the layers is not seen.
    """
    if isinstance(model, ResizedClassifier):
        return identity(model.inner)
    if isinstance(model, StyleView):
        return identity(model.model)
    if model.card.sha256:
        return model.card.sha256
    nets = _networks(model)
    words = [_declaration(model.card), *map(_digest, nets)]
    return hashlib.sha256("\n".join(words).encode()).hexdigest() if nets else ""


def pair_identity(pair: Pair) -> str:
    """Both identities, the classifier's first; empty where one of them is."""
    both = identity(pair.classifier), identity(pair.autoencoder)
    return "".join(both) if all(both) else ""


def _networks(model: Classifier | Autoencoder) -> list[nn.Module]:
    """Networks that a model shows: itself, or what it keeps as `net`."""
    if isinstance(model, StyleAutoencoder):
        return [model.net, model.classifier]
    shown = model if isinstance(model, nn.Module) else getattr(model, "net", None)
    return [shown] if isinstance(shown, nn.Module) else []


def _declaration(card: ModelCard) -> str:
    """What the card says that decides numbers; its name and its size are said beside an identity."""
    return repr((card.channels, card.value_range, card.targets, card.meaning.value, dict(card.details)))


def _digest(net: nn.Module) -> str:
    """Checksum of a network's layers and of its parameters and buffers in order; computed once while they stay."""
    named = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    marks = tuple((ref(value), 0 if value.is_inference() else value._version) for _, value in named)
    known = _DIGESTS.get(net)
    if known is None or not _same(known[0], marks):
        known = _DIGESTS[net] = marks, _hash(str(net), named)
    return known[1]


def _same(before: _Marks, now: _Marks) -> bool:
    """Whether the tensors are the same objects, unchanged; a new one may get the address of one that is gone."""
    return len(before) == len(now) and all(
        a() is b() and old == new for (a, old), (b, new) in zip(before, now, strict=True)
    )


def _hash(layers: str, named: Sequence[tuple[str, Tensor]]) -> str:
    found = hashlib.sha256(layers.encode())
    for name, value in named:
        found.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        plain = value.detach().cpu().contiguous().reshape(-1)
        found.update(plain.view(torch.uint8).numpy().data)  # numpy has no bfloat16, bytes it has
    return found.hexdigest()
