"""Layers of any network without knowing its class: in which order they run, new random weights, and features."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gifsplain.errors import ModelError
from gifsplain.explain.attribution import network_of
from gifsplain.models.protocols import Autoencoder, Classifier
from gifsplain.types import Images


@runtime_checkable
class Resettable(Protocol):
    """A layer that can draw its own initial weights."""

    def reset_parameters(self) -> None: ...


@dataclass(frozen=True)
class Layer:
    """A module that owns parameters itself, and its place in the network."""

    name: str
    module: nn.Module


def layers_in_order(network: nn.Module, run: Callable[[], object]) -> list[Layer]:
    """Modules with parameters of their own, input side first, in the order in which they finish when `run` is called.

    Modules that are never called (parameters used directly) come last, as the output side.
    """
    finished: list[nn.Module] = []

    def note(module: nn.Module, _: object, __: object) -> None:
        if not any(module is other for other in finished):
            finished.append(module)

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    place = {id(module): index for index, module in enumerate(finished)}
    own = [(name, m) for name, m in network.named_modules() if next(m.parameters(recurse=False), None) is not None]
    if not own:
        raise ModelError("randomisation needs a network with parameters, this one has none")
    own.sort(key=lambda item: place.get(id(item[1]), len(place)))
    return [Layer(name or "(network)", module) for name, module in own]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _redraw(module: nn.Module, seed: int) -> None:
    """Initial weights again where the layer knows how, else normal with each tensor's own mean and spread."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        if isinstance(module, Resettable):
            module.reset_parameters()
            return
        for parameter in module.parameters(recurse=False):
            spread = float(parameter.std(correction=0)) if parameter.numel() > 1 else float(parameter.abs().mean())
            parameter.normal_(float(parameter.mean()), spread or 1.0)


@contextmanager
def randomised(layers: Sequence[Layer], seeds: Sequence[int]) -> Iterator[None]:
    """New random weights in `layers` while the block runs; then every tensor is as before, also after an error."""
    kept = [(tensor, tensor.detach().clone()) for layer in layers for tensor in _tensors(layer.module)]
    try:
        for layer, seed in zip(layers, seeds, strict=True):
            _redraw(layer.module, seed)
        yield
    finally:
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)


def classifier_features(classifier: Classifier, images: Images) -> Float[Tensor, "b d"]:
    """What enters the last linear layer that runs: the features on which the decision is made."""
    network = network_of(classifier)
    seen: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
        for module in network.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.no_grad():
            logits = classifier.logits(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen[-1].reshape(images.shape[0], -1).clone() if seen else logits


def autoencoder_features(autoencoder: Autoencoder, images: Images) -> Float[Tensor, "b d"]:
    """The latent, averaged over its places where it has any."""
    with torch.no_grad():
        latents = autoencoder.encode(images)
    return latents.mean(dim=tuple(range(2, latents.ndim))) if latents.ndim > 2 else latents
