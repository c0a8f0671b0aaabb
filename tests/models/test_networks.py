"""Networks: shapes, gradients, configs that rebuild them, and the laws of the latent frame."""

import json
from dataclasses import replace

import pytest
import torch

from gifsplain.errors import ModelError
from gifsplain.models.networks import (
    AutoencoderConfig,
    ClassifierConfig,
    LatentFrame,
    build_autoencoder,
    build_classifier,
    resnet_autoencoder_config,
)

TINY = AutoencoderConfig(
    size=32, patch=4, widths=(8, 8), blocks=(0, 1), decoder_blocks=(1, 0), bottleneck=(3, 4, 4), rank=0
)


def _images(n: int, size: int) -> torch.Tensor:
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "bottleneck",
    [(3, 4, 4), (5, 8, 8), (6, 3, 3), (20, 1, 1), (4, 3, 2)],
    ids=["same", "fine", "3x3", "vector", "oblong"],
)
def test_every_bottleneck_gives_its_latent_and_an_image(bottleneck: tuple[int, int, int]) -> None:
    network = build_autoencoder(replace(TINY, bottleneck=bottleneck)).eval()
    latents = network.encode(_images(2, 32))
    assert latents.shape == (2, *bottleneck)
    assert network.decode(latents).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("depth", [18, 50, 101, 151, 152])
def test_resnet_config_has_the_papers_shape(depth: int) -> None:
    config = resnet_autoencoder_config(depth, (512, 3, 3), size=64, width=4)
    assert config.grids == (16, 8, 4, 4)  # a stage never falls below the bottleneck
    assert resnet_autoencoder_config(depth, (512, 3, 3)).grids == (56, 28, 14, 7)
    assert config.latent_size == 4608


def test_small_resnet_autoencoder_runs() -> None:
    network = build_autoencoder(resnet_autoencoder_config(50, (8, 2, 2), size=32, width=4)).eval()
    assert network(_images(2, 32)).shape == (2, 1, 32, 32)


def test_autoencoder_gradient_reaches_every_weight_and_the_latent() -> None:
    network = build_autoencoder(TINY)
    latents = network.encode(_images(2, 32))
    latents.retain_grad()
    network.decode(latents).square().sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0
    assert all(weight.grad is not None for weight in network.parameters())


def test_autoencoder_config_survives_json() -> None:
    config = replace(TINY, rank=4)
    assert AutoencoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_classifier_config_survives_json() -> None:
    config = ClassifierConfig(targets=("Mass", "Effusion"), backbone="small", size=64)
    assert ClassifierConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_config_keys_are_named() -> None:
    with pytest.raises(ModelError, match="depht"):
        AutoencoderConfig.from_dict({"depht": 3})
    with pytest.raises(ModelError, match="colour"):
        ClassifierConfig.from_dict({"targets": ["a"], "colour": 1})


def test_impossible_autoencoders_are_refused() -> None:
    with pytest.raises(ModelError, match="one entry per stage"):
        replace(TINY, widths=(8,))
    with pytest.raises(ModelError, match="multiple of patch"):
        replace(TINY, patch=5)
    with pytest.raises(ModelError, match="depth must be one of"):
        resnet_autoencoder_config(34, (8, 2, 2))


def _frame() -> LatentFrame:
    generator = torch.Generator().manual_seed(1)
    frame = LatentFrame(48, 5)
    basis, _ = torch.linalg.qr(torch.randn(48, 5, generator=generator))
    frame.basis.copy_(basis)
    frame.gains.copy_(torch.tensor([4.0, 3.0, 2.0, 1.5, 0.7]))
    frame.floor.copy_(torch.tensor(0.25))
    frame.mean.copy_(torch.randn(48, generator=generator))
    return frame


def test_latent_frame_is_inverted_exactly() -> None:
    frame = _frame()
    codes = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(frame.from_frame(frame.to_frame(codes)), codes, atol=1e-5, rtol=1e-5)


def test_latent_frame_whitens_what_it_was_made_from() -> None:
    frame = _frame()
    scale = torch.eye(48) * frame.floor + frame.basis @ torch.diag(frame.gains - frame.floor) @ frame.basis.T
    noise = torch.randn(20_000, 48, generator=torch.Generator().manual_seed(3))
    latents = frame.to_frame((noise @ scale + frame.mean).view(-1, 3, 4, 4)).flatten(1)
    torch.testing.assert_close(torch.cov(latents.T), torch.eye(48), atol=0.06, rtol=0)


def test_gradient_in_the_frame_is_preconditioned_by_the_covariance() -> None:
    frame = _frame()
    slope = torch.randn(48, generator=torch.Generator().manual_seed(4))
    latents = torch.zeros(1, 3, 4, 4, requires_grad=True)
    (frame.from_frame(latents).flatten() @ slope).backward()
    assert latents.grad is not None
    moved = (frame.from_frame(latents.grad) - frame.from_frame(torch.zeros(1, 3, 4, 4))).flatten()
    scale = torch.eye(48) * frame.floor + frame.basis @ torch.diag(frame.gains - frame.floor) @ frame.basis.T
    torch.testing.assert_close(moved, scale @ scale @ slope, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["small", "efficientnet-lite0"])
def test_classifier_gives_one_logit_per_target(backbone: str) -> None:
    config = ClassifierConfig.from_dict({"targets": ["a", "b", "c"], "backbone": backbone, "size": 64, "width": 4})
    network = build_classifier(config).eval()
    images = _images(2, 64).requires_grad_()
    logits = network(images)
    assert logits.shape == (2, 3)
    logits.sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_calibration_moves_the_operating_point_to_zero() -> None:
    network = build_classifier(ClassifierConfig(targets=("a", "b"), backbone="small", size=64, width=4)).eval()
    images = _images(1, 64)
    raw = network.raw_logits(images)[0].detach()
    network.calibration_offset.copy_(raw - torch.tensor([0.0, 1.0]))
    network.calibration_temperature.copy_(torch.tensor([2.0, 0.5]))
    torch.testing.assert_close(network(images)[0], torch.tensor([0.0, 2.0]), atol=1e-5, rtol=1e-5)


def test_logit_is_the_mean_of_its_activation_map() -> None:
    network = build_classifier(ClassifierConfig(targets=("a", "b"), backbone="small", size=64, width=4)).eval()
    maps = network.target_maps(network.feature_maps(_images(2, 64)))
    torch.testing.assert_close(maps.mean((2, 3)), network.raw_logits(_images(2, 64)), atol=1e-5, rtol=1e-5)
