"""The folded copy computes what the network computes, and nothing is folded that the data flow does not prove."""

import copy
import logging
from typing import Any

import pytest
import torch
import torchvision
import torchxrayvision as xrv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gifsplain.models.fold import fold, folded_count, fused_parameters, unfold

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def settle(net: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics unlike the initial ones, so that a wrong fold shows."""
    generator = torch.Generator().manual_seed(seed)

    def draw(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    for part in net.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.copy_(draw(part.running_mean, -0.3, 0.3))
            part.running_var.copy_(draw(part.running_var, 0.5, 2.0))  # type: ignore[union-attr, arg-type]
            if part.affine:
                part.weight.data.copy_(draw(part.weight, 0.5, 1.5))
                part.bias.data.copy_(draw(part.bias, -0.3, 0.3))
    return net.eval()


def image(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def assert_same(net: nn.Module, folded: nn.Module, x: Tensor) -> None:
    """Equal outputs and equal input gradients, on the first call (checked) and on the second (fast)."""
    for _ in range(2):
        results = []
        for model in (net, folded):
            free = x.clone().requires_grad_(True)
            out = model(free)
            (gradient,) = torch.autograd.grad(out.sin().sum(), free)
            results.append((out.detach(), gradient))
        torch.testing.assert_close(results[1][0], results[0][0], **CLOSE)
        torch.testing.assert_close(results[1][1], results[0][1], **CLOSE)


NETS: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "resnet18": (torchvision.models.resnet18, (2, 3, 32, 32), 20),
    "densenet121": (torchvision.models.densenet121, (1, 3, 32, 32), 59),
    "torchxrayvision": (lambda: xrv.models.DenseNet(weights=None).features, (1, 1, 32, 32), 59),
}


@pytest.mark.parametrize(
    "name", ["resnet18", *(pytest.param(n, marks=pytest.mark.slow) for n in ("densenet121", "torchxrayvision"))]
)
def test_folded_network_equals_the_original(name: str) -> None:
    build, shape, count = NETS[name]
    torch.manual_seed(0)
    net = settle(build()).double()  # in single precision a value at a ReLU's kink turns the gradient
    before = copy.deepcopy(net.state_dict())
    folded = fold(net)
    assert folded_count(folded) == count
    assert_same(net, folded, image(*shape).double())
    assert folded_count(folded) == count  # no first call disagreed
    assert folded_count(net) == 0
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    assert folded.state_dict().keys() == net.state_dict().keys()


@pytest.mark.slow
def test_autoencoder_methods_are_folded_too() -> None:
    torch.manual_seed(0)
    net = settle(
        xrv.autoencoders._ResNetAE(xrv.autoencoders.Bottleneck, xrv.autoencoders.DeconvBottleneck, [1, 1, 1, 1], 1)
    )
    folded = fold(net)
    norms = sum(isinstance(part, nn.BatchNorm2d) for part in net.modules())
    x = image(1, 1, 224, 224)
    with torch.no_grad():
        for _ in range(2):
            z = net.encode(x)
            torch.testing.assert_close(folded.encode(x), z, **CLOSE)
            torch.testing.assert_close(folded.decode(z), net.decode(z), **CLOSE)
    assert folded_count(folded) == norms


class Pad(nn.Conv2d):
    """A convolution of a user's own kind: still one convolution for the tracer."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(input, (1, 1, 1, 1)))


class Doubled(nn.Conv2d):
    """A convolution whose output is not that of a convolution."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).abs()


class Shared(nn.Module):
    """One normalisation after two convolutions, one convolution read twice, one with and without its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 1)
        self.shared, self.last = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        both = self.shared(self.a(x)) * self.shared(self.b(x))
        raw = self.c(both)
        return self.last(raw) + raw.tanh()


class Branching(nn.Module):
    """Cannot be traced: looks at its values, and reaches into its parts from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        if float(x.detach().mean()) > 2:
            return self.block(x)
        seen = [x]
        for layer in self.block:
            seen.append(layer(seen[-1]))
        return self.block(x) + seen[1].abs() + self.block[0](x)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + torch.randn(3, 1, 1) * 0.001


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor, raw: bool = False) -> Tensor:
        return self.conv(x) if raw else self.norm(self.conv(x))


ODD: dict[str, tuple[Any, int]] = {
    "own kind of convolution": (lambda: nn.Sequential(Pad(2, 3, 3, bias=False), nn.BatchNorm2d(3)), 1),
    "something after the convolution": (lambda: nn.Sequential(Doubled(2, 3, 3), nn.BatchNorm2d(3)), 0),
    "shared and read twice": (Shared, 1),
    "not traceable": (Branching, 1),
    "activation between": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)), 0),
    "no stored statistics": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)),
        0,
    ),
    "no affine part": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, affine=False)), 1),
    "reflected border": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(3)),
        1,
    ),
    "noise": (Noisy, 0),
    "weight norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3)), nn.BatchNorm2d(3)),
        0,
    ),
    "optional argument": (Optional, 1),
}


@pytest.mark.parametrize("name", [name for name in ODD if name != "noise"])
def test_odd_networks_keep_their_numbers(name: str) -> None:
    torch.manual_seed(0)
    build, count = ODD[name]
    net = settle(build())
    folded = fold(net)
    assert_same(net, folded, image(2, 2, 6, 6))
    assert folded_count(folded) == count


def test_random_numbers_are_not_frozen() -> None:
    net = fold(settle(Noisy()))
    x = image(1, 2, 6, 6)
    assert folded_count(net) == 0
    assert not torch.equal(net(x), net(x))


def test_optional_arguments_go_to_the_original() -> None:
    net = settle(Optional())
    folded = fold(net)
    x = image(1, 2, 6, 6)
    folded(x)
    torch.testing.assert_close(folded(x, raw=True), net.conv(x))


@given(
    groups=st.sampled_from([1, 2]),
    stride=st.integers(1, 2),
    transposed=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_fused_parameters_are_one_convolution(
    groups: int, stride: int, transposed: bool, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    conv = kind(4, 6, 3, stride=stride, groups=groups, bias=bias)
    net = settle(nn.Sequential(conv, nn.BatchNorm2d(6)), seed)
    weight, shift = fused_parameters(conv.weight, conv.bias, net[1], transposed=transposed, groups=groups)
    one = copy.deepcopy(conv)
    one.weight, one.bias = nn.Parameter(weight), nn.Parameter(shift)
    x = image(2, 4, 7, 7, seed=seed)
    torch.testing.assert_close(one(x), net(x), **CLOSE)


def small() -> nn.Module:
    torch.manual_seed(0)
    return settle(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU()))


def test_a_hook_gets_its_layer_back() -> None:
    net = fold(small())
    x = image(1, 2, 6, 6)
    net(x), net(x)
    seen: list[Tensor] = []
    handle = net[0].register_forward_hook(lambda module, given, out: seen.append(out))
    net(x)
    assert len(seen) == 1 and folded_count(net) == 0
    handle.remove()
    net(x)
    assert len(seen) == 1 and folded_count(net) == 1


@pytest.mark.parametrize("where", ["in place", "replaced", "statistics", "training"])
def test_changed_layers_are_used(where: str) -> None:
    folded = fold(small())
    x = image(4, 2, 6, 6)
    before = folded(x)
    layers: Any = list(folded)
    with torch.no_grad():
        if where == "in place":
            layers[0].weight.mul_(2)
        elif where == "replaced":
            layers[1].weight = nn.Parameter(layers[1].weight * 3)
        elif where == "statistics":
            layers[1].running_mean.add_(1)
        else:
            folded.train()
    expected = x
    for layer in copy.deepcopy(layers):
        expected = layer(expected)
    torch.testing.assert_close(folded(x), expected)
    assert not torch.allclose(before, expected)


def test_a_copy_of_the_copy_uses_its_own_layers() -> None:
    folded: Any = fold(small())
    twin: Any = copy.deepcopy(folded)
    with torch.no_grad():
        twin[0].weight.zero_()
    x = image(1, 2, 6, 6)
    torch.testing.assert_close(twin(x), twin[2](twin[1](twin[0](x))))
    assert folded_count(twin) == 0 and folded_count(folded) == 1


def test_the_fold_can_be_taken_back() -> None:
    folded: Any = fold(small())
    call = folded.forward
    unfold(folded)
    x = image(1, 2, 6, 6)
    torch.testing.assert_close(folded(x), call(x))
    assert folded_count(folded) == 0 and "forward" not in vars(folded)


def test_disagreement_keeps_the_original(caplog: pytest.LogCaptureFixture) -> None:
    net: Any = small()
    folded: Any = fold(net)
    folded._folded_bias_0 += 1
    x = image(1, 2, 6, 6)
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(folded(x), net(x))
    assert "differs from the original" in caplog.text and folded_count(folded) == 0
    torch.testing.assert_close(folded(x), net(x))


def chain(depth: int) -> nn.Module:
    """Convolutions and normalisations with nothing between them."""
    return settle(nn.Sequential(*[layer for _ in range(depth) for layer in (nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))]))


@pytest.mark.parametrize("depth", [2, 5])
def test_a_normalisation_right_before_the_next_convolution_is_folded(depth: int) -> None:
    net = chain(depth)
    quick = fold(net)
    assert folded_count(quick) == depth
    with torch.no_grad():
        torch.testing.assert_close(quick(image(2, 3, 24, 24)), net(image(2, 3, 24, 24)), **CLOSE)
        torch.testing.assert_close(quick(image(2, 3, 24, 24)), net(image(2, 3, 24, 24)), **CLOSE)


def test_half_precision_does_not_decide(caplog: pytest.LogCaptureFixture) -> None:
    """Under autocast the original runs; the comparison waits for a call in full precision."""
    net, films = chain(6), image(2, 3, 24, 24)
    quick = fold(net)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(quick(films), net(films), rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(quick(films), net(films), **CLOSE)
        torch.testing.assert_close(quick(films), net(films), **CLOSE)
    assert not caplog.records
