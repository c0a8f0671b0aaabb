"""The baselines against slow versions written from their papers, and the promise that models are left as found."""

import gc
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import GuidedBackprop
from torch import nn

from gifsplain.errors import ModelError
from gifsplain.explain import attribution
from gifsplain.explain.attribution import MAPS
from gifsplain.models import wrap
from gifsplain.models.protocols import Pair

from .tiny import SIZE, TARGETS, tiny_images, tiny_pair

CLOSE = 1e-5


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_non_negative_and_one_by_one_equals_the_batch(name: str) -> None:
    pair, images = tiny_pair(), tiny_images()
    before = images.clone()
    maps = MAPS[name](pair, images, 1)
    assert maps.shape == (3, SIZE, SIZE) and maps.dtype == torch.float32 and not maps.requires_grad
    assert float(maps.min()) >= 0 and bool(torch.isfinite(maps).all())
    single = torch.cat([MAPS[name](pair, image[None], 1) for image in images])
    assert relative(single, maps) < CLOSE
    assert torch.equal(images, before) and images.grad is None


@pytest.mark.parametrize("name", MAPS)
def test_models_are_left_as_found(name: str) -> None:
    pair, images = tiny_pair(), tiny_images()
    net = attribution.network_of(pair.classifier)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    random_state = torch.get_rng_state()
    with torch.no_grad():
        MAPS[name](pair, images, 0)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())
    for module in net.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks
        assert not module.training and getattr(module, "inplace", True)
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())


def test_gradient_is_that_of_autograd() -> None:
    pair, images = tiny_pair(), tiny_images().requires_grad_()
    (expected,) = torch.autograd.grad(pair.classifier.logits(images)[:, 2].sum(), images)
    assert relative(attribution.gradient(pair, images, 2), expected.abs()[:, 0]) < CLOSE


def module_only_pair() -> Pair:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    net(torch.zeros(1, 1, SIZE, SIZE))
    model = wrap.classifier(net, name="modules", targets=TARGETS, size=SIZE)
    return Pair(model, tiny_pair().autoencoder)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_guided_equals_captum_where_captum_sees_every_relu() -> None:
    pair, images = module_only_pair(), tiny_images()
    net = attribution.network_of(pair.classifier)
    expected = GuidedBackprop(net).attribute(images.clone().requires_grad_(), target=1).abs()[:, 0]
    maps = attribution.guided_backprop(pair, images, 1)
    assert relative(maps, expected) < CLOSE
    assert relative(maps, attribution.gradient(pair, images, 1)) > 0.01


def test_guided_reaches_functional_relus_in_place() -> None:
    """By hand: y = w . relu(relu(x) - c), guided gradient is w where both ReLUs are open and w positive."""

    class Net(nn.Module):
        weight = torch.tensor([2.0, -3.0, 1.0, 5.0])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.nn.functional.relu(x.flatten(1) * 1.0, inplace=True) - 0.25
            torch.relu_(hidden)
            return (hidden * self.weight).sum(1, keepdim=True)

    model = wrap.classifier(Net(), name="hand", targets=("a",), size=2)
    images = torch.tensor([[[[0.5, 0.9], [0.1, 0.3]]]])
    maps = attribution.guided_backprop(Pair(model, tiny_pair().autoencoder), images, 0)
    assert maps.flatten().tolist() == [2.0, 0.0, 0.0, 5.0]


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_gates_relu6(inplace: bool) -> None:
    """Bounded above as well: no gradient where the unit is saturated; a hardtanh that is no ReLU stays as it is."""

    class Net(nn.Module):
        weight = torch.tensor([2.0, -3.0, 1.0, 5.0])

        def __init__(self) -> None:
            super().__init__()
            self.act, self.tanh = nn.ReLU6(inplace=inplace), nn.Hardtanh(-100, 100, inplace=inplace)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.tanh(self.act(x.flatten(1) * 10 - 1))
            return (hidden * self.weight).sum(1, keepdim=True)

    model = wrap.classifier(Net(), name="hand", targets=("a",), size=2)
    images = torch.tensor([[[[0.5, 0.4], [0.05, 0.9]]]])
    pair = Pair(model, tiny_pair().autoencoder)
    assert attribution.guided_backprop(pair, images, 0).flatten().tolist() == [20.0, 0.0, 0.0, 0.0]
    assert attribution.gradient(pair, images, 0).flatten().tolist() == [20.0, 30.0, 0.0, 0.0]


def test_guided_refuses_a_network_without_relu() -> None:
    model = wrap.classifier(nn.Sequential(nn.Flatten(), nn.Linear(256, 3)), name="flat", targets=TARGETS, size=SIZE)
    pair = Pair(model, tiny_pair().autoencoder)
    with pytest.raises(ModelError, match="needs ReLUs"):
        attribution.guided_backprop(pair, tiny_images(), 0)
    with pytest.raises(ModelError, match="spatial output"):
        attribution.grad_cam(pair, tiny_images(), 0)


@pytest.mark.parametrize(("name", "baseline"), [("integrated", 0.5), ("integrated-black", 0.0)])
def test_integrated_gradients_add_up_to_the_change_of_the_logit(name: str, baseline: float) -> None:
    """Slow version: 200 midpoints of the straight line, in float64 sums."""
    pair, images = tiny_pair(), tiny_images(2)
    total = torch.zeros_like(images, dtype=torch.float64)
    for k in range(200):
        point = (baseline + (k + 0.5) / 200 * (images - baseline)).requires_grad_()
        total += torch.autograd.grad(pair.classifier.logits(point)[:, 1].sum(), point)[0]
    slow = (images - baseline) * total / 200
    maps = MAPS[name](pair, images, 1)
    assert relative(maps, slow.abs()[:, 0].float()) < 0.05
    change = pair.classifier.logits(images)[:, 1] - pair.classifier.logits(torch.full_like(images, baseline))[:, 1]
    assert torch.allclose(slow.sum((1, 2, 3)).float(), change, atol=1e-3)


def test_integration_error_is_what_the_attributions_leave_out() -> None:
    """Against a sum by hand at a step count so low that there is an error, and small with many steps."""
    pair, images = tiny_pair(), tiny_images(2)
    coarse = attribution.integration_error(pair, images, 1, steps=2)
    fine = attribution.integration_error(pair, images, 1, steps=200)
    assert float(fine.abs().max()) < 0.02 * float(coarse.abs().max())
    points, weights = np.polynomial.legendre.leggauss(2)
    total = torch.zeros_like(images)
    for point, weight in zip(points, weights, strict=True):
        x = (0.5 + (point + 1) / 2 * (images - 0.5)).float().requires_grad_()
        total += weight / 2 * torch.autograd.grad(pair.classifier.logits(x)[:, 1].sum(), x)[0]
    change = pair.classifier.logits(images)[:, 1] - pair.classifier.logits(torch.full_like(images, 0.5))[:, 1]
    by_hand = ((images - 0.5) * total).sum((1, 2, 3)) - change
    assert torch.allclose(coarse, by_hand, atol=1e-4)


def test_native_zero_is_mid_grey_for_torchxrayvision() -> None:
    assert attribution.native_zero(tiny_pair(value_range=(-1024.0, 1024.0)).classifier) == 0.5
    assert attribution.native_zero(tiny_pair(value_range=(0.0, 1.0)).classifier) == 0.0
    assert attribution.native_zero(tiny_pair(value_range=(1.0, 3.0)).classifier) == 0.0


def test_iterative_delete_takes_no_pixel_that_moves_nothing() -> None:
    """A score that is constant has an even map, as with every other method, and not the order in which ties are sorted."""
    pair, images = tiny_pair(), tiny_images(2)
    flat = replace(pair.classifier, forward=lambda native: (native * 0).flatten(1)[:, :3] + 1.0)
    assert not attribution.iterative_delete(replace(pair, classifier=flat), images, 0).any()
    left = replace(pair.classifier, forward=lambda native: native[..., :2].square().mean((2, 3)).expand(-1, 3))
    maps = attribution.iterative_delete(replace(pair, classifier=left), images, 0)
    assert (maps[..., :2] > 0).all() and not maps[..., 2:].any()


def test_iterative_delete_against_a_loop() -> None:
    pair, image = tiny_pair(), tiny_images(1)
    rounds, count = 5, 12
    current, gone, order = image[0, 0].numpy().copy(), set(), {}
    for turn in range(rounds):
        x = torch.from_numpy(current)[None, None].requires_grad_()
        slope = torch.autograd.grad(pair.classifier.logits(x)[0, 1], x)[0].abs()[0, 0].numpy()
        ranked = [p for p in np.argsort(-slope, axis=None, kind="stable") if p not in gone][:count]
        for place in ranked:
            gone.add(place)
            order[place] = turn
            current.flat[place] = 0.5
    maps = attribution.iterative_delete(pair, image, 1, rounds=rounds, share=count / SIZE**2).flatten()
    assert {p for p in range(SIZE**2) if maps[p] > 1} == gone
    for place, turn in order.items():
        assert rounds - turn <= float(maps[place]) <= rounds - turn + 1


def test_occlusion_against_a_loop() -> None:
    pair, image = tiny_pair(), tiny_images(1)
    window, step = 2, 1
    total, seen = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    score = float(pair.classifier.logits(image)[0, 0])
    for top in range(0, SIZE - window + 1, step):
        for left in range(0, SIZE - window + 1, step):
            hidden = image.clone()
            hidden[..., top : top + window, left : left + window] = 0.5
            total[top : top + window, left : left + window] += score - float(pair.classifier.logits(hidden)[0, 0])
            seen[top : top + window, left : left + window] += 1
    maps = attribution.occlusion(pair, image, 0)[0]
    assert np.allclose(maps.numpy(), np.abs(total / seen), atol=1e-4)


def test_grad_cam_against_its_formula() -> None:
    pair, images = tiny_pair(), tiny_images(2)
    net = attribution.network_of(pair.classifier)
    native = images * 8 - 4
    activations = net.norm(net.body(torch.relu(net.stem(native)))).detach().requires_grad_()
    score = net.head(torch.relu(activations).mean((2, 3)))[:, 1].sum()
    weights = torch.autograd.grad(score, activations)[0].mean((2, 3), keepdim=True)
    expected = (weights * activations).sum(1, keepdim=True).clamp(min=0)
    expected = nn.functional.interpolate(expected, size=(SIZE, SIZE), mode="bilinear")[:, 0].detach()
    maps = attribution.grad_cam(pair, images, 1)
    assert float(expected.max()) > 0
    after = (weights * torch.relu(activations)).sum(1, keepdim=True).clamp(min=0)
    after = nn.functional.interpolate(after, size=(SIZE, SIZE), mode="bilinear")[:, 0].detach()
    assert min(relative(maps, expected), relative(maps, after)) < CLOSE


def test_random_map_differs_between_targets_and_repeats() -> None:
    pair, images = tiny_pair(), tiny_images()
    first = attribution.random_map(pair, images, 0)
    assert torch.equal(first, attribution.random_map(pair, images, 0))
    assert not torch.equal(first, attribution.random_map(pair, images, 1))


def test_a_classifier_without_layers_is_refused_by_name() -> None:
    class Hidden:
        card = tiny_pair().classifier.card

        def logits(self, images: torch.Tensor) -> torch.Tensor:
            return images.sum((1, 2, 3))[:, None].expand(-1, 3)

        scores = link = logits

    with pytest.raises(ModelError, match="tiny shows no layers"):
        attribution.grad_cam(Pair(Hidden(), tiny_pair().autoencoder), tiny_images(), 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_calls_do_not_grow() -> None:
    pair, images = tiny_pair(), tiny_images(1)
    names = ("grad", "guided", "grad-cam")
    for name in names * 50:
        MAPS[name](pair, images, 0)
    gc.collect()
    objects, memory = len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for call in range(10_000):
        MAPS[names[call % 3]](pair, images, call % 3)
    gc.collect()
    assert len(gc.get_objects()) - objects < 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 20_000
