"""Networks in a shorter number format where that is sooner; what goes in and comes out stays float32."""

import logging
import platform
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.models.protocols import Autoencoder, Classifier, Pair
from gifsplain.models.wrap import ImageAutoencoder, ImageClassifier, ResizedClassifier

log = logging.getLogger(__name__)

Precision = Literal["float32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")


def helps(device: torch.device) -> bool:
    """Whether the device computes bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    if platform.machine() in ("x86_64", "AMD64"):  # oneDNN takes any AVX-512, and emulates on what has no more
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def lowered(pair: Pair, precision: Precision) -> Pair:
    """The same models with their networks under autocast; the pair itself for float32.

    Raises:
        InputError: When a model is not made by `models.wrap`, so that its network cannot be reached.
    """
    if precision == "float32":
        return pair
    if not helps(pair.device):
        log.warning("%s has no bfloat16 in hardware: bf16 will be slower than float32", pair.device)
    return replace(
        pair,
        classifier=_classifier(pair.classifier, pair.device),
        autoencoder=_autoencoder(pair.autoencoder, pair.device),
    )


def _classifier(model: Classifier, device: torch.device) -> Classifier:
    if isinstance(model, ResizedClassifier):
        return replace(model, inner=_classifier(model.inner, device))
    if isinstance(model, ImageClassifier):
        return replace(model, forward=_under(model.forward, device))
    raise _refusal(model)


def _autoencoder(model: Autoencoder, device: torch.device) -> Autoencoder:
    if isinstance(model, ImageAutoencoder):
        return replace(model, encoder=_under(model.encoder, device), decoder=_under(model.decoder, device))
    raise _refusal(model)


def _under(work: Callable[[Tensor], Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    def run(values: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return work(values).float()

    return run


def _refusal(model: Classifier | Autoencoder) -> InputError:
    return InputError(f"precision bf16 needs a model of models.wrap, {model.card.name} is none; use precision float32")
