"""Terms about a latent gradient hand the same on to the weights as when the gradient itself is differentiated."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gifsplain.models import trained
from gifsplain.models.backbones import Backbone, Classifier, ClassifierConfig, build_classifier
from gifsplain.models.networks import AutoencoderConfig, build_autoencoder
from gifsplain.models.protocols import Autoencoder
from gifsplain.train.frame import FrameConfig, fit_frame
from gifsplain.train.latent_gradient import latent_gradient

SIZE = 32
TINY = AutoencoderConfig(size=SIZE, patch=2, widths=(8, 16), blocks=(0, 1), decoder_blocks=(0, 1), bottleneck=(8, 4, 4))


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> Autoencoder:
    """With shading and deformation, in double precision."""
    torch.manual_seed(6)
    folder = tmp_path_factory.mktemp("layered")
    net = fit_frame(build_autoencoder(TINY).eval(), torch.randn(20, 8, 4, 4), FrameConfig("local", layered=True))
    card = {"name": "tiny", "kind": "autoencoder", "size": SIZE, "channels": 1}
    trained.save(folder, trained.AUTOENCODER, net, net.config.to_dict(), card)
    made = trained.autoencoder(folder)
    assert isinstance(made.net, nn.Module)
    made.net.double()
    return made


def judge(backbone: Backbone) -> Classifier:
    """In training, with statistics and dropout that would show."""
    torch.manual_seed(2)
    net = build_classifier(ClassifierConfig(("Big", "Spot", "Air"), backbone, SIZE, 1, 0.5, 8)).double()
    net(torch.rand(8, 1, SIZE, SIZE).double())
    return net.train()


def term(gradient: Tensor, wanted: Tensor) -> Tensor:
    """Not linear in the gradient, as the terms of a training are not."""
    return (
        1 - nn.functional.cosine_similarity(gradient.flatten(1), wanted.flatten(1))
    ).mean() + gradient.square().sum()


@pytest.mark.parametrize("backbone", ["small", "efficientnet-lite0"])
def test_weights_get_what_double_backward_gives(layered: Autoencoder, backbone: Backbone) -> None:
    net, targets = judge(backbone), torch.tensor([0, 2, 1])
    first = next(iter(net.body.children()))
    first.requires_grad_(False)
    latents = layered.encode(torch.rand(3, 1, SIZE, SIZE).double()).detach()
    wanted = torch.randn_like(latents)
    gradient, drawn = latent_gradient(layered, net, latents, targets)
    assert all(part.training for part in net.modules())
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    fast = torch.autograd.grad(term(gradient, wanted), weights, allow_unused=True)
    net.eval()
    free = latents.clone().requires_grad_(True)
    slow_drawn = layered.net.decode_first_order(free)  # type: ignore[attr-defined]
    chosen = net.raw_logits(slow_drawn).gather(1, targets[:, None]).sum()
    (slow,) = torch.autograd.grad(chosen, free, create_graph=True)
    torch.testing.assert_close(gradient, slow)
    torch.testing.assert_close(drawn, slow_drawn.detach())
    exact = torch.autograd.grad(term(slow, wanted), weights, allow_unused=True)
    moved = 0
    for ours, theirs in zip(fast, exact, strict=True):
        there = torch.zeros(()) if theirs is None else theirs
        torch.testing.assert_close(torch.zeros_like(there) if ours is None else ours, there, atol=1e-9, rtol=1e-6)
        moved += bool(there.any())
    assert moved > 5


@settings(deadline=None, max_examples=5)
@given(scale=st.floats(0.1, 10))
def test_what_is_handed_on_is_linear_in_what_is_asked(layered: Autoencoder, scale: float) -> None:
    net = judge("small")
    latents = layered.encode(torch.rand(1, 1, SIZE, SIZE).double()).detach()
    wanted = torch.randn_like(latents)
    gradient, _ = latent_gradient(layered, net, latents, torch.tensor([1]))
    asked = (gradient * wanted).sum()
    once = torch.autograd.grad(asked, net.head.weight, retain_graph=True)[0]
    more = torch.autograd.grad(scale * asked, net.head.weight)[0]
    torch.testing.assert_close(more, scale * once)
