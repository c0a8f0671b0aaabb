"""Models of one name are told apart by their weights; checksums stay what they were."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gifsplain.models import wrap
from gifsplain.models.identity import identity, pair_identity
from gifsplain.models.protocols import ModelCard, Pair

SIZE = 4


class Net(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.last = nn.Linear(SIZE * SIZE, 2)
        self.register_buffer("mean", torch.zeros(2), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(images.flatten(1)) - self.mean


def mine(seed: int = 0, edit: Callable[[Net], object] = lambda net: None, **changes: Any) -> wrap.ImageClassifier:
    net = Net(seed)
    with torch.no_grad():
        edit(net)
    return wrap.classifier(net, **({"name": "mine", "targets": ("a", "b"), "size": SIZE} | changes))


@dataclass(frozen=True, eq=False)
class Hidden:
    """A classifier that shows nothing of its network."""

    card: ModelCard
    logits: Callable[[Tensor], Tensor]

    def link(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def scores(self, images: Tensor) -> Tensor:
        return self.link(self.logits(images))


def test_the_same_weights_have_the_same_identity_each_time_they_are_loaded() -> None:
    assert identity(mine()) == identity(mine()) != ""
    assert identity(mine(name="another name")) == identity(mine())


@pytest.mark.parametrize(
    "other",
    [
        mine(1), mine(0, lambda net: net.last.bias[0].add_(1e-6)), mine(0, lambda net: net.mean.add_(1)),
        mine(0, lambda net: net.add_module("act", nn.ReLU())), mine(value_range=(0.0, 255.0)),
        mine(output="softmax_logits"), mine(targets=("b", "a")),
    ],
    ids=["weights", "one number", "a buffer", "a layer", "value range", "output", "targets"],
)  # fmt: skip
def test_whatever_decides_the_numbers_decides_the_identity(other: wrap.ImageClassifier) -> None:
    assert identity(other) != identity(mine())


def test_shape_type_and_place_count_where_the_bytes_are_equal() -> None:
    def of(*values: Tensor) -> str:
        net = nn.Module()
        for i, value in enumerate(values):
            net.register_buffer(f"v{i}", value)
        return identity(replace(mine(), net=net))

    zeros = torch.zeros(2, 3)
    found = {of(zeros), of(zeros.T), of(zeros.int()), of(zeros, zeros), of(zeros.bfloat16()), of(torch.zeros(()))}
    assert len(found) == 6
    number = torch.arange(6.0).reshape(2, 3)
    assert of(number.T) == of(number.T.contiguous()) != of(number.reshape(3, 2))


def test_a_network_that_is_changed_afterwards_is_another() -> None:
    model = mine()
    before = identity(model)
    with torch.no_grad():
        model.net.last.weight.mul_(2)  # type: ignore[union-attr]
    assert identity(model) != before


def test_a_parameter_at_the_address_of_one_that_is_gone_is_another() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    model, seen = wrap.classifier(net, name="mine", targets=("a",), size=2), set()
    for value in range(40):
        model.net[1].weight = None  # gone before the next one is made
        model.net[1].weight = nn.Parameter(torch.full((1, 4), float(value)))
        seen.add(identity(model))
    assert len(seen) == 40


def test_a_checksum_is_taken_as_it_is() -> None:
    model = mine()
    known = replace(model, card=replace(model.card, sha256="c" * 64))
    assert identity(known) == "c" * 64
    assert identity(wrap.resized(known, 8)) == "c" * 64
    assert identity(wrap.resized(model, 8)) == identity(model)


def test_what_shows_no_network_has_no_identity() -> None:
    model = mine()
    hidden = Hidden(model.card, model.logits)
    assert identity(hidden) == identity(replace(model, net=None)) == ""
    drawer = replace(mine(), card=replace(model.card, kind="autoencoder"))
    assert pair_identity(Pair(hidden, drawer)) == ""  # type: ignore[arg-type]
    both = pair_identity(Pair(model, drawer))  # type: ignore[arg-type]
    assert both == identity(model) + identity(drawer)


def test_an_identity_is_a_checksum() -> None:
    assert len(identity(mine())) == len(hashlib.sha256().hexdigest())
