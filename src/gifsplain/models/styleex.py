"""A StyleEx as a pair: the explained classifier, and an autoencoder over W or over style space."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from gifsplain.errors import ModelError, WeightsError
from gifsplain.io import files
from gifsplain.models import builtin, wrap
from gifsplain.models.protocols import Autoencoder, Classifier, ModelCard, Pair
from gifsplain.models.small import SmallClassifier, SmallConfig
from gifsplain.models.stylegan import State, StyleConfig, StyleNet
from gifsplain.types import Images, Latents, ScoreMeaning

STEM = "styleex-64"
OWN_STEM = "styleex"
"""Name of weights and card in the folder that `gifsplain train styleex` wrote."""


@runtime_checkable
class StyleModel(Protocol):
    """An autoencoder over W whose decoder goes through a style tensor: what AttFind and EigenFind need."""

    @property
    def card(self) -> ModelCard: ...

    @property
    def w_dim(self) -> int:
        """The first so many numbers of a latent are w; what follows is the condition, which directions leave alone."""
        ...

    @property
    def searched(self) -> tuple[int, ...]:
        """Number of style coordinates of each convolution; together they come first in the style tensor."""
        ...

    def encode(self, images: Images) -> Latents: ...

    def decode(self, latents: Latents) -> Images: ...

    def styles(self, latents: Latents) -> Float[Tensor, "b s"]: ...

    def decode_styles(self, styles: Float[Tensor, "b s"], start: int = 0, state: State | None = None) -> Images: ...

    def states(self, styles: Float[Tensor, "b s"]) -> list[State]:
        """What stands before each convolution: decoding a style edit of layer k can start there."""
        ...

    def affine_matrix(self, *, normalize_rows: bool = False) -> Float[Tensor, "s d"]: ...


@dataclass(frozen=True, eq=False)
class StyleAutoencoder:
    """StyleNet as an autoencoder: latents are w, followed by `2 p - 1` where the generator is conditioned."""

    card: ModelCard
    net: StyleNet
    classifier: SmallClassifier

    @property
    def w_dim(self) -> int:
        """Length of w."""
        return self.net.config.w_dim

    @property
    def searched(self) -> tuple[int, ...]:
        """Style coordinates of each convolution."""
        return self.net.synthesis.lengths

    def encode(self, images: Images) -> Latents:
        """w of the images, with the classifier's own probabilities where the generator is conditioned."""
        w = cast(Tensor, self.net.encoder(images))
        if self.net.config.condition == "none":
            return w
        return self.net.code(w, torch.sigmoid(self.classifier(images)))

    def decode(self, latents: Latents) -> Images:
        """Images, nominally in [0, 1], not clamped."""
        return self.net.decode(latents)

    def styles(self, latents: Latents) -> Float[Tensor, "b s"]:
        """All styles: the convolutions' in order, then the image layers'."""
        return self.net.synthesis.styles(latents)

    def decode_styles(self, styles: Float[Tensor, "b s"], start: int = 0, state: State | None = None) -> Images:
        """Images from styles, from convolution `start` on."""
        return cast(Tensor, self.net.synthesis(styles, start, state))

    def states(self, styles: Float[Tensor, "b s"]) -> list[State]:
        """Inputs of every convolution."""
        return self.net.synthesis.run(styles)[1]

    def affine_matrix(self, *, normalize_rows: bool = False) -> Float[Tensor, "s d"]:
        """The map from W to style space."""
        return self.net.affine_matrix(normalize_rows=normalize_rows)


@dataclass(frozen=True, eq=False)
class StyleView:
    """The same model with the style tensor as its latent."""

    model: StyleModel

    @property
    def card(self) -> ModelCard:
        """The model's card under the name of the view."""
        return replace(self.model.card, name=f"{self.model.card.name} (style space)")

    def encode(self, images: Images) -> Latents:
        """Styles of the images."""
        return self.model.styles(self.model.encode(images))

    def decode(self, latents: Latents) -> Images:
        """Images from styles."""
        return self.model.decode_styles(latents)


def in_w(autoencoder: Autoencoder, changes: Latents) -> Latents:
    """Changes of latents with none of the condition: a method that explains by w must not simply tell the generator.

    As they are for models without a condition.
    """
    if not isinstance(autoencoder, StyleModel) or autoencoder.w_dim == changes.shape[1]:
        return changes
    w_dim = autoencoder.w_dim
    return torch.nn.functional.pad(changes[:, :w_dim], (0, changes.shape[1] - w_dim))


def style_view(autoencoder: Autoencoder) -> Autoencoder:
    """The autoencoder over style space; refuses one without styles."""
    return StyleView(require_styles(autoencoder))


def require_styles(autoencoder: Autoencoder) -> StyleModel:
    """`autoencoder` itself when it has a style tensor.

    Raises:
        ModelError: When it has none; says which models do.
    """
    if isinstance(autoencoder, StyleView):
        return autoencoder.model
    if not isinstance(autoencoder, StyleModel):
        raise ModelError(
            f"this method needs an autoencoder with a style tensor, {autoencoder.card.name} has none; "
            "use --autoencoder styleex --classifier styleex"
        )
    return autoencoder


def read_small_classifier(path: Path, prefix: str = "") -> SmallClassifier:
    """A frozen small classifier from a safetensors file with its configuration in the header."""
    if not path.is_file():
        raise WeightsError(
            f"expected weights of a small classifier at {path}, found none; train one with "
            "`gifsplain train small-classifier`"
        )
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        state = {k.removeprefix(prefix): file.get_tensor(k) for k in file.keys() if k.startswith(prefix)}  # noqa: SIM118
    if "config" not in header and "classifier" not in header:
        raise WeightsError(
            f"{path} has no configuration in its header; it is not a file of `gifsplain train small-classifier`"
        )
    net = SmallClassifier(SmallConfig.from_dict(json.loads(header.get("classifier", header.get("config", "")))))
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return net.eval().requires_grad_(False)


def read_styleex(path: Path, card: ModelCard, classifier_card: ModelCard, device: torch.device | str = "cpu") -> Pair:
    """The pair out of one safetensors file: StyleNet under `net.`, the explained classifier under `classifier.`."""
    classifier = read_small_classifier(path, "classifier.").to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with safe_open(path, framework="pt") as file:
        config = StyleConfig.from_dict(json.loads((file.metadata() or {})["styleex"]))
        state = {k.removeprefix("net."): file.get_tensor(k).float() for k in file.keys() if k.startswith("net.")}  # noqa: SIM118
    net = StyleNet(config)
    net.load_state_dict(state)
    net = net.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    first = wrap.ImageClassifier(classifier_card, classifier, torch.sigmoid, 1, classifier)
    return wrap.pair(first, StyleAutoencoder(card, net, classifier), device=device)


def load_styleex(device: torch.device | str = "cpu", folder: Path | None = None, stem: str = STEM) -> Pair:
    """The StyleEx of the package (Cardiomegaly and Effusion at 64 pixels), or STEM.safetensors of a folder.

    Raises:
        WeightsError: When its files are missing or damaged.
    """
    values = builtin.read_card(stem, folder)
    path = (folder or builtin.weights_folder()) / f"{stem}.safetensors"
    if not path.is_file() or files.sha256_file(path) != values["sha256"]:
        raise WeightsError(
            f"expected {path} with sha256 {values['sha256']}; it is missing or damaged, reinstall gifsplain"
        )
    details = {
        key: value for key, value in values.items() if key not in ("name", "size", "channels", "targets", "sha256")
    }
    common = {"size": values["size"], "channels": values["channels"], "sha256": values["sha256"], "details": details}
    first = ModelCard(
        name=f"{values['name']} classifier",
        kind="classifier",
        targets=tuple(values["targets"]),
        meaning=ScoreMeaning.PROBABILITY,
        **common,
    )
    return read_styleex(path, ModelCard(name=values["name"], kind="autoencoder", **common), first, device)


def styleex_classifier() -> Classifier:
    """The classifier that the built-in StyleEx explains."""
    return load_styleex().classifier


def styleex_autoencoder() -> Autoencoder:
    """Generator and encoder of the built-in StyleEx."""
    return load_styleex().autoencoder
