"""Random weights: which layers, that they come back, and the laws of the cascade."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from gifsplain.errors import ModelError
from gifsplain.evaluate import correlation, randomisation
from gifsplain.evaluate.layers import autoencoder_features, classifier_features, layers_in_order, randomised
from gifsplain.explain import attribution
from gifsplain.models import wrap
from gifsplain.models.protocols import Pair

from .tiny import SIZE, tiny_images, tiny_pair


class Odd(nn.Module):
    """A layer with bare parameters and no reset_parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(1, 2, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale.mean()


def test_layers_come_in_the_order_of_the_forward_pass() -> None:
    net = attribution.network_of(tiny_pair().classifier)
    found = layers_in_order(net, lambda: net(torch.rand(1, 1, SIZE, SIZE)))
    assert [layer.name for layer in found] == ["stem", "body", "norm", "head"]
    backwards = nn.ModuleDict({"late": nn.Linear(3, 2), "early": nn.Linear(4, 3), "odd": Odd()})
    order = layers_in_order(
        backwards, lambda: backwards["late"](backwards["odd"](backwards["early"](torch.rand(1, 4))))
    )
    assert [layer.name for layer in order] == ["early", "odd", "late"]
    with pytest.raises(ModelError, match="network with parameters"):
        layers_in_order(nn.ReLU(), lambda: None)


def test_weights_change_inside_and_are_back_outside_even_after_an_error() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), Odd()).eval()
    net[1].running_mean.fill_(3.0)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    layers = layers_in_order(net, lambda: net(torch.rand(2, 4)))

    def same() -> list[bool]:
        return [torch.equal(before[key], value) for key, value in net.state_dict().items()]

    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError, match="division"), randomised(layers, [1, 2, 3]):  # noqa: PT012
        changed = dict(zip(before, same(), strict=True))
        first = net[0].weight.clone()
        assert not changed["0.weight"] and not changed["1.running_mean"] and not changed["2.scale"]
        _ = 1 / 0
    assert all(same()) and torch.equal(torch.get_rng_state(), state)
    with randomised(layers[:1], [1]):
        assert torch.equal(net[0].weight, first) and torch.equal(net[2].scale, before["2.scale"])


@pytest.mark.parametrize(("count", "steps", "expected"), [(4, 10, [1, 2, 3, 4]), (9, 3, [1, 5, 9]), (1, 5, [1])])
def test_depths(count: int, steps: int, expected: list[int]) -> None:
    assert randomisation.depths_of(count, steps) == expected


class Textured(nn.Module):
    """Several layers on images with edges: deep enough for the laws below."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (1, 8, 8, 8, 8)
        self.body = nn.Sequential(
            *(
                layer
                for before, after in pairwise(sizes)
                for layer in (nn.Conv2d(before, after, 3, padding=1), nn.ReLU())
            )
        )
        self.head = nn.Linear(8 * SIZE * SIZE, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).flatten(1))


def test_the_cascade_decorrelates_gradients_and_guided_backpropagation_least() -> None:
    """Adebayo 2018 and figure 5: guided backpropagation draws the image's edges whatever the upper weights are."""
    torch.manual_seed(1)
    model = wrap.classifier(Textured(), name="textured", targets=("a", "b", "c"), size=SIZE)
    pair = Pair(model, tiny_pair().autoencoder)
    images = torch.zeros(6, 1, SIZE, SIZE)
    for k, image in enumerate(images):
        image[0, 2 + k : 8 + k, 3:10] = 1.0
    layers = layers_in_order(attribution.network_of(model), lambda: model.logits(images))
    found = {}
    for name in ("grad", "guided"):
        before = attribution.MAPS[name](pair, images, 0)
        with randomised(layers[-2:], [5, 6]):
            after = attribution.MAPS[name](pair, images, 0)
        pairs = zip(before.numpy(), after.numpy(), strict=True)
        found[name] = sum(correlation.spearman(a, b) for a, b in pairs) / len(images)
    assert found["grad"] < 0.75 and found["guided"] > found["grad"]


def test_features() -> None:
    pair, images = tiny_pair(), tiny_images()
    net = attribution.network_of(pair.classifier)
    features = classifier_features(pair.classifier, images)
    assert torch.allclose(net.head(features), pair.classifier.logits(images), atol=1e-5)
    latents = autoencoder_features(pair.autoencoder, images)
    assert torch.allclose(latents[:, 0], images.mean(dim=(1, 2, 3)), atol=1e-6)
    assert not net.head._forward_pre_hooks
