"""`AutoencoderKL` of the diffusers library (extra `gifsplain[diffusers]`)."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from gifsplain.errors import MissingExtraError, WeightsError
from gifsplain.models import wrap
from gifsplain.models.protocols import ModelCard
from gifsplain.types import Latents

RANGE = (-1.0, 1.0)


def load_autoencoder(folder: Path) -> wrap.ImageAutoencoder:
    """A saved `AutoencoderKL` (config.json and safetensors in one folder); nothing is downloaded.

    Raises:
        MissingExtraError: When diffusers is not installed.
        WeightsError: When the folder does not hold one.
    """
    if not (folder / "config.json").is_file():
        raise WeightsError(f"expected config.json and safetensors of an AutoencoderKL in {folder}, found none")
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise MissingExtraError("diffusers is not installed; install gifsplain[diffusers]") from error
    try:
        net = AutoencoderKL.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"{folder}: expected an AutoencoderKL, could not read it ({error}); save it again"
        ) from error
    return wrap_autoencoder(net, name=f"diffusers:{folder.name}")


def wrap_autoencoder(net: Any, *, name: str) -> wrap.ImageAutoencoder:
    """An `AutoencoderKL` object. Latents are the means of its posterior, so encoding is deterministic.

    A grey picture is repeated for a network with three channels and its drawing averaged back.
    """
    net.eval().requires_grad_(False)
    repeat = int(net.config.in_channels)

    def encode(native: Tensor) -> Latents:
        return net.encode(native.repeat(1, repeat, 1, 1)).latent_dist.mode()  # type: ignore[no-any-return]

    def decode(latents: Latents) -> Tensor:
        return net.decode(latents).sample.mean(dim=1, keepdim=True)  # type: ignore[no-any-return]

    size = int(net.config.sample_size)
    card = ModelCard(name=name, kind="autoencoder", size=size, value_range=RANGE, details={"library": "diffusers"})
    return wrap.ImageAutoencoder(card, encode, decode, net)
