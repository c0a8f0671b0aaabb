"""The caller's modes of torch: an explanation is the same in all of them, and none of them is changed."""

import contextlib
import inspect
from collections.abc import Iterator

import pytest
import torch
from threads import failures_of_three
from torch import Tensor, nn

from gifsplain import LatentShift, Picture, load_models
from gifsplain.errors import InputError, ModelError, TargetError
from gifsplain.explain.run import target_index
from gifsplain.io.images import load_image
from gifsplain.models import builtin, wrap
from gifsplain.models.protocols import Pair
from gifsplain.types import Explanation, Provenance

PIXELS = torch.rand(1, 12, 10, generator=torch.Generator().manual_seed(0))


class Drawer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(64, 6), nn.Linear(6, 64)

    def encode(self, images: Tensor) -> Tensor:
        return self.down(images.flatten(1))

    def decode(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(self.up(latents)).view(-1, 1, 8, 8)


@pytest.fixture(scope="module")
def pair() -> Pair:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        drawer = Drawer()
    return load_models(
        wrap.classifier(net, name="c", targets=("left", "right"), size=8), wrap.autoencoder(drawer, name="d", size=8)
    )


def explained(pair: Pair) -> Explanation:
    return LatentShift(pair).explain(Picture(PIXELS.clone(), Provenance("p", "", "test", (12, 10), 8)), "left")


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "another default device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("mode", MODES)
def test_an_explanation_is_the_same_in_every_mode_of_the_caller(pair: Pair, mode: str) -> None:
    plain = explained(pair)
    with MODES[mode]():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        made = explained(pair)
        after = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    assert made.frames.dtype == torch.float32 and before == after
    assert torch.equal(made.frames, plain.frames) and torch.equal(made.map, plain.map)
    assert not made.frames.is_inference()


def test_a_network_in_half_precision_keeps_the_autocast_that_runs_it(pair: Pair) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).bfloat16()
    half = load_models(wrap.classifier(net, name="h", targets=("left", "right"), size=8), pair.autoencoder)
    with torch.autocast("cpu", torch.bfloat16):
        assert explained(half).frame_scores.isfinite().all()


@contextlib.contextmanager
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("mode", [contextlib.nullcontext, torch.inference_mode, double])
def test_loading_leaves_random_state_and_gives_float32_that_can_be_differentiated(monkeypatch, mode) -> None:
    monkeypatch.setattr(builtin, "read_weights", lambda *given: ({}, {}))
    monkeypatch.setattr(builtin.networks.ClassifierConfig, "from_dict", lambda values: None)
    monkeypatch.setattr(builtin.networks.AutoencoderConfig, "from_dict", lambda values: None)
    monkeypatch.setattr(builtin.networks, "build_classifier", lambda config: _bare(nn.Linear(4, 2)))
    monkeypatch.setattr(builtin.networks, "build_autoencoder", lambda config: _bare(Drawer()))
    state = torch.get_rng_state()
    with mode():
        dtype = torch.get_default_dtype()
        pair = load_models()
        assert torch.get_default_dtype() == dtype
    assert torch.equal(torch.get_rng_state(), state)
    for net in (pair.classifier.net, pair.autoencoder.net):
        assert all(value.dtype == torch.float32 and not value.is_inference() for value in net.parameters())


def _bare(net: nn.Module) -> nn.Module:
    net.load_state_dict = lambda state: None  # type: ignore[method-assign]
    return net


@pytest.mark.parametrize("given", [None, 5, PIXELS, PIXELS.numpy(), b"x.png"])
def test_what_is_no_path_and_no_picture_is_refused(given: object) -> None:
    with pytest.raises(InputError, match=f"expected the path of an image file, got {type(given).__name__}; make a"):
        load_image(given)  # type: ignore[arg-type]


def test_lists_and_names_that_are_none(pair: Pair) -> None:
    picture = Picture(PIXELS, Provenance("p", "", "test", (12, 10), 8))
    with pytest.raises(InputError, match=r"got the text 'left'; write \['left'\]"):
        LatentShift(pair).explain_all([picture], "left")
    with pytest.raises(InputError, match="expected a list of pictures, got one"):
        LatentShift(pair).explain_all(picture, ["left"])  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="c has no target None; it has left, right"):
        inspect.unwrap(target_index)(pair.classifier.card, None)  # type: ignore[arg-type]


def test_models_that_are_not_wrapped_or_change_places_are_refused(pair: Pair) -> None:
    with pytest.raises(
        ModelError, match="classifier: got Linear, which lacks card, logits, link, scores; use models.wrap"
    ):
        load_models(nn.Linear(2, 2), pair.autoencoder)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="classifier: got ImageAutoencoder, which lacks logits"):
        load_models(pair.autoencoder, pair.classifier)  # type: ignore[arg-type]


def test_threads_may_wrap_and_use_networks_at_once() -> None:
    """torch.fx, which folds them, changes `nn.Module` for the whole process while it traces."""
    net = nn.Sequential(
        *[nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)) for _ in range(3)], nn.Flatten()
    )
    images = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    call = nn.Module.__call__

    def wrap_again() -> None:
        for _ in range(3):
            targets = [str(number) for number in range(64)]
            wrap.classifier(net, name="n", targets=targets, size=8).logits(images)

    assert failures_of_three(wrap_again) == [] and nn.Module.__call__ is call
