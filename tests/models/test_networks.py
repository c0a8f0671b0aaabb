"""Networks: shapes, gradients, configs that rebuild them, and the laws of the latent frame."""

import json
from dataclasses import replace

import pytest
import torch

from gifsplain.errors import ConfigurationError, ModelError
from gifsplain.models import deform
from gifsplain.models.backbones import LITE_SCALES, load_lite_imagenet
from gifsplain.models.networks import (
    AutoencoderConfig,
    ClassifierConfig,
    LatentFrame,
    build_autoencoder,
    build_classifier,
    resnet_autoencoder_config,
)
from gifsplain.train.imagenet import lite_weights

TINY = AutoencoderConfig(size=32, patch=4, widths=(8, 8), blocks=(0, 1), decoder_blocks=(1, 0), bottleneck=(3, 4, 4))


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
    assert config.latent_shape == (512, 3, 3)


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
    config = replace(TINY, layered=True, framed=True)
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
    frame = LatentFrame((3, 4, 4))
    frame.mixtures.copy_(torch.linalg.qr(torch.randn(3, 3, generator=generator))[0])
    frame.waves.copy_(torch.linalg.qr(torch.randn(16, 16, generator=generator))[0])
    frame.gains.copy_(torch.rand(3, 16, generator=generator) + 0.2)
    frame.mean.copy_(torch.randn(3, 4, 4, generator=generator))
    return frame


def _matrix(frame: LatentFrame) -> torch.Tensor:
    """`A` of the class's text, written out."""
    basis = torch.kron(frame.mixtures, frame.waves)
    return basis @ torch.diag(frame.gains.flatten()) @ basis.T


def test_latent_frame_is_inverted_exactly() -> None:
    frame = _frame()
    codes = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(frame.from_frame(frame.to_frame(codes)), codes, atol=1e-5, rtol=1e-5)


def test_latent_frame_is_the_matrix_that_it_says() -> None:
    frame = _frame()
    moves = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(frame.shift(moves).flatten(1), moves.flatten(1) @ _matrix(frame), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(frame.unshift(frame.shift(moves)), moves, atol=1e-4, rtol=1e-4)


def test_gradient_in_the_frame_is_preconditioned_by_its_square() -> None:
    frame = _frame()
    slope = torch.randn(48, generator=torch.Generator().manual_seed(4))
    latents = torch.zeros(1, 3, 4, 4, requires_grad=True)
    (frame.from_frame(latents).flatten() @ slope).backward()
    assert latents.grad is not None
    moved = (frame.from_frame(latents.grad) - frame.from_frame(torch.zeros(1, 3, 4, 4))).flatten()
    torch.testing.assert_close(moved, _matrix(frame) @ _matrix(frame) @ slope, atol=1e-4, rtol=1e-4)


def test_layers_start_as_the_images_brightness_and_no_movement() -> None:
    network = build_autoencoder(replace(TINY, layered=True)).eval()
    images = _images(2, 32)
    latents = network.encode(images)
    assert latents.shape == (2, 6, 4, 4)
    torch.testing.assert_close(latents[:, 3:4], torch.nn.functional.avg_pool2d(images, 8))
    assert not latents[:, 4:].any()
    plain = build_autoencoder(TINY).eval()
    plain.load_state_dict(network.state_dict())
    rough = plain(images)
    shaded = deform.shade(rough, latents[:, 3:4])
    torch.testing.assert_close(network.decode(latents), shaded, atol=1e-5, rtol=0)
    error = [(torch.nn.functional.avg_pool2d(drawn - images, 8)).abs().mean() for drawn in (rough, shaded)]
    assert error[1] < 0.5 * error[0]  # the coarse brightness is the image's own


def test_first_order_decoding_is_decoding_at_rest() -> None:
    """Equal where the velocity is 0; its derivative there is a small step's difference quotient."""
    network = build_autoencoder(replace(TINY, layered=True)).eval()
    rest = network.encode(_images(1, 32))
    torch.testing.assert_close(network.decode_first_order(rest), network.decode(rest), atol=1e-5, rtol=0)
    ramp = torch.linspace(0, 1, 32).square().expand(1, 1, 32, 32)  # smooth, so that sampling has no kinks
    velocity = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(5))
    first = deform.warp_first_order(ramp, velocity) - ramp
    slope = (deform.warp(ramp, 0.01 * velocity) - deform.warp(ramp, -0.01 * velocity)) / 0.02
    torch.testing.assert_close(first, slope, atol=3e-3, rtol=0.02)
    assert first.abs().max() > 0.02


@pytest.mark.parametrize(
    ("backbone", "widths", "blocks"),
    [
        ("efficientnet-lite0", [16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1]),
        ("efficientnet-lite1", [16, 24, 40, 80, 112, 192, 320], [1, 3, 3, 4, 4, 5, 1]),
        ("efficientnet-lite2", [16, 24, 48, 88, 120, 208, 352], [1, 3, 3, 4, 4, 5, 1]),
    ],
)
def test_efficientnets_have_the_published_layout(backbone: str, widths: list[int], blocks: list[int]) -> None:
    """Channels and blocks of each stage as in the published checkpoints, whose weights fit one after the other."""
    network = build_classifier(ClassifierConfig(targets=("a",), backbone=backbone))
    outs = [layer.project[0].out_channels for layer in network.body.children() if hasattr(layer, "project")]
    assert outs == [width for width, count in zip(widths, blocks, strict=True) for _ in range(count)]
    load_lite_imagenet(network, lite_weights(backbone))
    with pytest.raises(ModelError, match="expected .* tensors of"):
        load_lite_imagenet(network, {"one": torch.zeros(1)})


def test_imagenet_weights_are_of_efficientnets_only() -> None:
    small = build_classifier(ClassifierConfig(targets=("a",), backbone="small"))
    with pytest.raises(ModelError, match="ImageNet weights fit"):
        load_lite_imagenet(small, {})
    with pytest.raises(ConfigurationError, match="init imagenet needs one of"):
        lite_weights("small")


@pytest.mark.parametrize("backbone", ["small", *LITE_SCALES])
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
