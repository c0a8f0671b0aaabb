"""Captum's conventions: all target forms, tuples, extra arguments, batch sizes, types, its robustness search."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum._utils.common import _select_targets
from captum.attr import GradientAttribution, Saliency
from captum.robust import MinParamPerturbation
from torch import Tensor, nn

from gifsplain.errors import InputError
from gifsplain.explain.captum_api import CaptumLatentShift, LatentShiftPerturbation


class Pool(nn.Module):
    """Halves and doubles the resolution."""

    def encode(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 2)

    def decode(self, z: Tensor) -> Tensor:
        return nn.functional.interpolate(z, scale_factor=2.0)


class Net(nn.Module):
    """Five outputs as `b 5` or, with `grid`, as `b 5 2`; further inputs and arguments are added in."""

    def __init__(self, *, grid: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(inplace=True), nn.Linear(12, 10))
        self.grid = grid

    def forward(self, x: Tensor, other: Tensor | None = None, scale: Any = None) -> Tensor:
        out = self.body(x if other is None else x + 0.5 * other)
        out = out.view(-1, 5, 2) if self.grid else out[:, :5]
        if isinstance(scale, Tensor):
            return out * scale.view(-1, *[1] * (out.ndim - 1))
        return out * (scale or 1)


def images(count: int = 4, **changes: Any) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1)).to(**changes)


def slow(forward: Callable[[Tensor], Tensor], x: Tensor, low: float, high: float, frames: int) -> Tensor:
    """One example, by eqs. 1 and 2: gradient by autograd, unit of one root mean square, largest absolute change."""
    drawer = Pool()
    z = drawer.encode(x[None]).requires_grad_()
    (g,) = torch.autograd.grad(forward(drawer.decode(z)), z)
    step = g / g.norm() * z.detach().square().mean().sqrt()
    below = max(min(round((frames - 1) * -low / (high - low)), frames - 2), 1)
    grid = [low * (1 - k / below) for k in range(below + 1)] + [
        high * k / (frames - 1 - below) for k in range(1, frames - below)
    ]
    base = drawer.decode(z)
    return torch.stack([(drawer.decode(z + s * step) - base).abs()[0] for s in grid]).amax(0).detach()


@pytest.mark.parametrize(
    ("grid", "target"),
    [
        (False, 2),
        (False, torch.tensor(2)),
        (False, torch.tensor([2])),
        (False, [2, 0, 4, 1]),
        (False, torch.tensor([2, 0, 4, 1])),
        (True, (2, 1)),
        (True, [(2, 1), (0, 0), (4, 1), (1, 0)]),
    ],
    ids=str,
)
def test_every_form_of_target_equals_the_slow_version(grid: bool, target: Any) -> None:
    net, x = Net(grid=grid), images()
    maps = CaptumLatentShift(net, Pool()).attribute(x, target, strengths=(-1.0, 0.5), frames=7)
    each = target if isinstance(target, list) else [target] * 4
    if isinstance(target, Tensor) and target.numel() > 1:
        each = target.tolist()
    for k in range(4):
        single = _select_targets(net(x), target)[k]
        place = each[k] if isinstance(each[k], int | tuple) else int(each[k])

        def forward(image: Tensor, place: Any = place) -> Tensor:
            return net(image)[(0, *(place if isinstance(place, tuple) else (place,)))]

        assert torch.allclose(single, forward(x[k : k + 1]))
        assert torch.allclose(maps[k], slow(forward, x[k], -1.0, 0.5, 7), atol=1e-6)


def test_no_target_for_a_scalar_output() -> None:
    def forward(x: Tensor) -> Tensor:
        return x.flatten(1).square().sum(1)

    method = CaptumLatentShift(forward, Pool())
    assert torch.equal(method.attribute(images(), drop=0.5), method.attribute(images(), None, drop=0.5))
    assert float(method.attribute(images(), drop=0.5).max()) > 0


def test_it_is_a_gradient_attribution_and_leaves_inputs_and_model_alone(capsys: pytest.CaptureFixture[str]) -> None:
    net, x = Net(), images()
    before, method = x.clone(), CaptumLatentShift(net, Pool())
    assert isinstance(method, GradientAttribution) and not method.multiplies_by_inputs
    maps = method.attribute(x, 1)
    assert maps.shape == x.shape and maps.dtype == x.dtype and not maps.requires_grad and float(maps.min()) >= 0
    assert torch.equal(x, before) and not x.requires_grad and x.grad is None
    assert all(p.grad is None and p.requires_grad for p in net.parameters()) and net.training
    assert capsys.readouterr() == ("", "")
    y = x.clone().requires_grad_()
    assert torch.equal(method.attribute(y, 1), maps) and y.requires_grad and y.grad is None


def test_tuples_move_together_and_come_back_as_tuples() -> None:
    net, x, y = Net(), images(), images().flip(0)
    method = CaptumLatentShift(net, Pool())
    maps = method.attribute((x, y), 1, strengths=(-1.0, 1.0), frames=3)
    assert isinstance(maps, tuple) and [m.shape for m in maps] == [x.shape, y.shape]
    gradients = Saliency(net).attribute((x.clone().requires_grad_(), y.clone().requires_grad_()), 1)
    assert torch.allclose(maps[1], 0.5 * maps[0], atol=1e-6) and gradients[0].shape == maps[0].shape
    two = CaptumLatentShift(net, (Pool(), Pool())).attribute((x, y), 1, strengths=(-1.0, 1.0), frames=3)
    assert all(torch.equal(a, b) for a, b in zip(maps, two, strict=True))
    single = CaptumLatentShift(net, Pool()).attribute((x,), 1)
    assert isinstance(single, tuple) and len(single) == 1
    with pytest.raises(InputError, match="one for each of 1 inputs"):
        CaptumLatentShift(net, (Pool(), Pool())).attribute(x, 1)


def test_extra_arguments_go_with_their_examples() -> None:
    net, x = Net(), images()
    scale = torch.tensor([1.0, 5.0, -2.0, 0.5])
    method = CaptumLatentShift(lambda image, s: net(image, None, s), Pool())
    together = method.attribute(x, 1, scale, drop=0.2)
    alone = torch.cat([method.attribute(x[k : k + 1], 1, scale[k : k + 1], drop=0.2) for k in range(4)])
    assert torch.allclose(together, alone, atol=1e-5)
    plain = CaptumLatentShift(lambda image, s, t: net(image, None, s * t), Pool())
    assert torch.allclose(
        plain.attribute(x, 1, (2.0, 1.5), drop=0.3), method.attribute(x, 1, torch.full((4,), 3.0)), atol=1e-5
    )


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_internal_batch_size_changes_nothing_and_is_kept(size: int) -> None:
    net, x, seen = Net(), images(), []

    def forward(image: Tensor) -> Tensor:
        seen.append(image.shape[0])
        return net(image)

    whole = CaptumLatentShift(net, Pool()).attribute(x, [0, 1, 2, 3])
    parts = CaptumLatentShift(forward, Pool()).attribute(x, [0, 1, 2, 3], internal_batch_size=size)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert max(seen) <= size
    with pytest.raises(InputError, match="internal_batch_size"):
        CaptumLatentShift(net, Pool()).attribute(x, 0, internal_batch_size=0)


def test_double_precision_stays_double() -> None:
    net, x = Net().double(), images(dtype=torch.float64)
    maps = CaptumLatentShift(net, Pool()).attribute(x, 0)
    assert maps.dtype == torch.float64
    single = CaptumLatentShift(Net(), Pool()).attribute(x.float(), 0)
    assert torch.allclose(maps.float(), single, atol=1e-3)


def test_the_search_reaches_the_wanted_change() -> None:
    found = CaptumLatentShift(Net(), Pool()).sweep(images(), 1, drop=0.03, rise=0.02, frames=9)
    start = CaptumLatentShift(Net(), Pool()).sweep(images(), 1, strengths=(-1e-9, 1e-9), frames=3).outputs[:, 1]
    assert torch.allclose(start - found.outputs[:, 0], torch.full((4,), 0.03), atol=0.001)
    assert torch.allclose(found.outputs[:, -1] - start, torch.full((4,), 0.02), atol=0.001)
    assert bool((found.strengths.diff(dim=1) > 0).all()) and bool((found.strengths == 0).any(dim=1).all())


def test_a_zero_gradient_gives_a_map_of_zeros() -> None:
    maps = CaptumLatentShift(lambda x: 0 * x.flatten(1), Pool()).attribute(images(), 0)
    assert float(maps.abs().max()) == 0


def test_min_param_perturbation_finds_the_strength_that_flips() -> None:
    net, x = Net(), images(1)
    label = int(net(x).argmax())
    attack = LatentShiftPerturbation(net, Pool())
    assert torch.allclose(attack(x, strength=0.0, target=label), x)
    search = MinParamPerturbation(net, attack, "strength", 0.0, 12.0, 0.05, mode="linear")
    flipped, strength = search.evaluate(x, target=label, perturbations_per_eval=1, attack_kwargs={"target": label})
    assert strength is not None and int(net(flipped).argmax()) != label
    assert int(net(attack(x, strength=strength - 0.1, target=label)).argmax()) == label
    scores = [float(net(attack(x, strength=s, target=label))[0, label].detach()) for s in (0.0, 0.2, 0.4)]
    assert scores[0] > scores[1] > scores[2]
