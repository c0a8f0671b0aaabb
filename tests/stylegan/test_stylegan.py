"""StyleGAN2 parts against slow versions written from the paper."""

import pytest
import torch
import torch.nn.functional as F

from gifsplain.errors import ConfigurationError
from gifsplain.models import stylegan
from gifsplain.models.stylegan import Discriminator, StyleConfig, StyleNet

TINY = StyleConfig(size=32, widths=(8, 8, 6, 4), w_dim=5, mapping_layers=2, targets=("a", "b"))


def tiny(condition: str = "none", seed: int = 0) -> StyleNet:
    torch.manual_seed(seed)
    return StyleNet(StyleConfig.from_dict({**TINY.to_dict(), "condition": condition})).eval()


def test_decode_repeats_itself_and_has_the_declared_shape():
    net = tiny()
    w = torch.randn(3, 5)
    assert torch.equal(net.decode(w), net.decode(w))
    assert net.decode(w).shape == (3, 1, 32, 32)


@pytest.mark.parametrize(("size", "widths", "channels"), [(32, (4,) * 4, 1), (64, (4,) * 5, 3), (256, (4,) * 7, 1)])
def test_every_size_encodes_and_decodes(size, widths, channels):
    net = StyleNet(StyleConfig(size=size, widths=widths, channels=channels, w_dim=3))
    images = torch.rand(2, channels, size, size)
    assert net.decode(net.encoder(images)).shape == images.shape
    assert Discriminator(net.config)(images, torch.rand(2, 2)).shape == (2,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 48}, "32, 64, 128 or 256"),
        ({"channels": 2}, "1 or 3"),
        ({"widths": (4,)}, "widths"),
        ({"condition": "x"}, "none"),
        ({"size": 0}, "32, 64, 128 or 256"),
        ({"w_dim": 0}, "1 or more"),
        ({"mapping_layers": 0}, "1 or more"),
        ({"widths": (8, 8, 0, 4)}, "1 or more"),
        ({"targets": ()}, "1 or more"),
    ],
)
def test_configurations_that_fit_nothing_are_refused(values, message):
    with pytest.raises(ConfigurationError, match=message):
        StyleConfig.from_dict({**TINY.to_dict(), **values})


def test_an_unknown_key_is_refused():
    with pytest.raises(ConfigurationError, match="unknown keys"):
        StyleConfig.from_dict({"depth": 3})


def test_config_survives_json():
    assert StyleConfig.from_dict(TINY.to_dict()) == TINY


def test_condition_changes_the_image_and_has_a_gradient():
    net = tiny("concat")
    w = torch.randn(2, 5)
    p = torch.full((2, 2), 0.3, requires_grad=True)
    image = net.decode(net.code(w, p))
    (slope,) = torch.autograd.grad(image.square().sum(), p)
    assert slope.abs().min() > 0
    low, high = (net.decode(net.code(w, torch.full((2, 2), v))) for v in (0.0, 1.0))
    assert (low - high).abs().mean() > 1e-4


def test_without_condition_the_code_is_w():
    w = torch.randn(2, 5)
    assert tiny().code(w, torch.rand(2, 2)) is w


def test_dropped_condition_is_the_middle_one():
    net = tiny("concat")
    w = torch.randn(2, 5)
    assert torch.equal(net.code(w, None), net.code(w, torch.full((2, 2), 0.5)))


def test_styles_and_w_decode_alike():
    net = tiny()
    w = torch.randn(3, 5)
    assert torch.equal(net.synthesis(net.synthesis.styles(w)), net.decode(w))


@pytest.mark.parametrize("layer", [0, 3, 6])
def test_a_style_edit_equals_an_edit_of_the_affine_bias(layer):
    net = tiny()
    w = torch.randn(2, 5)
    styles = net.synthesis.styles(w)
    place = sum(net.synthesis.lengths[:layer]) + 1
    styles[:, place] += 0.7
    edited = net.synthesis(styles)
    with torch.no_grad():
        net.synthesis.affines[layer].bias[1] += 0.7
    torch.testing.assert_close(edited, net.decode(w), atol=1e-5, rtol=1e-5)


def test_decoding_may_start_at_any_layer():
    net = tiny()
    styles = net.synthesis.styles(torch.randn(2, 5))
    whole, states = net.synthesis.run(styles)
    assert len(states) == len(net.synthesis.convs) == 7
    for start, state in enumerate(states):
        torch.testing.assert_close(net.synthesis(styles, start, state), whole, atol=1e-6, rtol=1e-5)


def test_style_convolution_equals_the_per_sample_weights_of_the_paper():
    torch.manual_seed(1)
    conv = stylegan.StyledConv(5, 7)
    maps, style = torch.randn(3, 5, 8, 8), torch.randn(3, 5)
    rows = []
    for i in range(3):  # Karras et al. 2020, eq. 1 and 3
        weight = conv.weight * conv.scale * style[i][None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        rows.append(F.leaky_relu(F.conv2d(maps[i : i + 1], weight, padding=1) + conv.bias[:, None, None], 0.2) * 2**0.5)
    torch.testing.assert_close(conv(maps, style), torch.cat(rows), atol=1e-5, rtol=1e-5)


def test_up_convolution_equals_bilinear_then_convolution_inside():
    torch.manual_seed(2)
    conv = stylegan.StyledConv(4, 3, up=True)
    maps, style = torch.randn(2, 4, 8, 8), torch.ones(2, 4)
    wide = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
    slow = F.conv2d(wide, (conv.weight * conv.scale).flip(2, 3), padding=1)
    slow = F.leaky_relu(slow * conv.demodulation(style)[:, :, None, None], 0.2) * 2**0.5
    torch.testing.assert_close(conv(maps, style)[..., 3:-3, 3:-3], slow[..., 3:-3, 3:-3], atol=1e-5, rtol=1e-5)


def test_down_convolution_smooths_by_1_3_3_1_then_takes_every_second():
    torch.manual_seed(3)
    conv = stylegan.EqualConv(2, 3, 1, down=True, active=False)
    maps = torch.randn(1, 2, 8, 8)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    padded = F.pad(maps, (1, 1, 1, 1))
    smooth = torch.stack(
        [
            sum(line[a] * line[b] * padded[0, :, 2 * i + a, 2 * j + b] for a in range(4) for b in range(4))
            for i in range(4)
            for j in range(4)
        ]
    ).T.reshape(1, 2, 4, 4)
    slow = F.conv2d(smooth, conv.weight * conv.scale)
    torch.testing.assert_close(conv(maps), slow, atol=1e-5, rtol=1e-5)


def test_penalties_pass_twice_through_the_discriminator():
    critic = Discriminator(TINY)
    images = torch.rand(4, 1, 32, 32, requires_grad=True)
    (slope,) = torch.autograd.grad(critic(images, torch.rand(4, 2)).sum(), images, create_graph=True)
    slope.square().sum().backward()
    grads = [p.grad for p in critic.trunk.parameters() if p.grad is not None]
    assert len(grads) > 5
    assert all(bool(torch.isfinite(g).all()) for g in grads)


def test_discriminator_uses_the_probabilities():
    torch.manual_seed(4)
    critic = Discriminator(TINY)
    images = torch.rand(4, 1, 32, 32)
    assert (critic(images, torch.zeros(4, 2)) - critic(images, torch.ones(4, 2))).abs().min() > 1e-5


def test_equal_images_have_no_batch_deviation():
    same = torch.rand(1, 3, 4, 4).expand(8, -1, -1, -1)
    assert stylegan.batch_deviation(same).max() < 2e-4
    torch.manual_seed(0)
    mixed = torch.randn(8, 3, 4, 4)
    groups = mixed.reshape(4, 2, -1)  # image i is in group i % 2
    expected = groups.std(0, unbiased=False).mean(1)
    torch.testing.assert_close(stylegan.batch_deviation(mixed)[:, 0, 0, 0], expected.repeat(4), atol=1e-5, rtol=1e-4)


def test_affine_matrix_is_the_map_from_w_to_styles():
    net = tiny("concat")
    w = torch.randn(1, 5)
    code = net.code(w, None)
    moved = net.synthesis.styles(net.code(w + torch.eye(5)[2], None)) - net.synthesis.styles(code)
    matrix = net.affine_matrix()
    assert matrix.shape == (net.synthesis.searched, 5)
    torch.testing.assert_close(moved[0, : net.synthesis.searched], matrix[:, 2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(net.affine_matrix(normalize_rows=True).norm(dim=1), torch.ones(len(matrix)))
