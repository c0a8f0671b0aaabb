"""Baselines that only draw a map: Captum's attributions of a target's logit, and two controls that look at no model.

Every method has one shape, `(pair, images, target) -> maps`. Maps are non-negative (absolute values, mean over
channels, as in
Cohen 2021, 3.3 and H.1) except Grad-CAM, which is rectified by definition. Models are left as found: no hook stays, no
parameter, flag or mode of a network is touched, images are copied.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gifsplain.errors import ModelError
from gifsplain.models.protocols import Classifier, Pair
from gifsplain.models.wrap import ImageClassifier, ResizedClassifier
from gifsplain.types import Images

Maps = Float[Tensor, "b h w"]
MapMethod = Callable[[Pair, Images, int], Maps]

_BATCH = 16
"""Forward batches that a method builds itself stay at or below this many images."""
INTEGRATION_STEPS = 25
PUBLISHED_STEPS = 100
"""Steps of the code published with the paper; `integrated-100` takes them."""
DELETE_ROUNDS = 20
DELETE_SHARE = 0.02
"""Share of all pixels that each round of iterative delete removes: the paper only says "the top first order gradients";
its code takes what lies above the 98th percentile."""
SMOOTH_SAMPLES = 20
SMOOTH_NOISE = 0.1
"""Standard deviation of SmoothGrad's noise, in units of the whole grey range."""
OCCLUSION_PARTS = 7
"""The occluding square is the image side divided by this; it moves by half of its own side."""


def _captum() -> Any:
    """Captum's attributions, loaded by the first method that needs them: they pull in matplotlib's pyplot."""
    from captum import attr

    return attr


def network_of(classifier: Classifier) -> nn.Module:
    """The network inside a wrapped classifier.

    Raises:
        ModelError: When the classifier hides its layers.
    """
    inner = classifier
    while isinstance(inner, ResizedClassifier):
        inner = inner.inner
    if isinstance(inner, ImageClassifier) and inner.net is not None:
        return inner.net
    raise ModelError(
        f"{classifier.card.name} shows no layers, which this method needs; wrap its nn.Module with "
        "models.wrap.classifier"
    )


def native_zero(classifier: Classifier) -> float:
    """Where a network's own 0 lies in [0, 1]: 0.5 for [-1024, 1024]; black where 0 is outside its range."""
    low, high = classifier.card.value_range
    return min(max(-low / (high - low), 0.0), 1.0)


def _leaf(images: Images) -> Images:
    return images.detach().clone().requires_grad_()


def _flat(attributions: Tensor) -> Maps:
    return attributions.detach().abs().mean(dim=1)


def gradient(pair: Pair, images: Images, target: int) -> Maps:
    """Absolute gradient of the logit with respect to the input (Simonyan 2014)."""
    return _flat(_captum().Saliency(pair.classifier.logits).attribute(_leaf(images), target=target, abs=False))


class _GuidedReLU(torch.autograd.Function):
    """ReLU, or ReLU6 with `high` 6, whose backward also drops negative gradients (Springenberg 2015)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, high: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < high))
        return x.clamp(0, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (active,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * active, None


_RELUS = {F.relu: inf, torch.relu: inf, Tensor.relu: inf, F.relu6: 6.0}
_RELUS_IN_PLACE = {torch.relu_, Tensor.relu_, F.relu_}
_HARDTANHS = {F.hardtanh: False, F.hardtanh_: True}


class _GuidedMode(TorchFunctionMode):
    """Replaces every ReLU that runs inside it, module or function, in place or not; the network itself is not changed.

    Captum's GuidedBackprop hooks ReLU modules only: it misses the functional ReLU at the end of a torchvision
    DenseNet, and
    every ReLU6 (which PyTorch runs as a hardtanh from 0).
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        gate = _gate(func, args, kwargs)
        if gate is None:
            return func(*args, **kwargs)
        self.seen += 1
        x = args[0] if args else kwargs["input"]
        high, in_place = gate
        return x.copy_(_GuidedReLU.apply(x.clone(), high)) if in_place else _GuidedReLU.apply(x, high)


def _gate(func: Any, args: Any, kwargs: Any) -> tuple[float, bool] | None:
    """Upper bound and whether it works in place, when the call is a ReLU of some kind."""
    if func in _RELUS_IN_PLACE:
        return inf, True
    if func in _RELUS:
        return _RELUS[func], bool(kwargs.get("inplace", args[1] if len(args) > 1 else False))
    if func in _HARDTANHS:
        low, high, in_place = (
            kwargs.get(name, args[place] if len(args) > place else default)
            for place, (name, default) in enumerate((("min_val", -1.0), ("max_val", 1.0), ("inplace", False)), start=1)
        )
        return (float(high), bool(in_place) or _HARDTANHS[func]) if low == 0 else None
    return None


def guided_backprop(pair: Pair, images: Images, target: int) -> Maps:
    """Absolute guided gradient: negative gradients are dropped at every ReLU (Springenberg 2015).

    Raises:
        ModelError: When no ReLU runs, since the result would silently be the plain gradient.
    """
    with _GuidedMode() as mode:
        attributions = _captum().Saliency(pair.classifier.logits).attribute(_leaf(images), target=target, abs=False)
    if mode.seen == 0:
        raise ModelError(f"guided backpropagation needs ReLUs, {pair.classifier.card.name} runs none; use grad instead")
    return _flat(attributions)


def integrated_gradients(
    pair: Pair, images: Images, target: int, *, baseline: float | None = None, steps: int = INTEGRATION_STEPS
) -> Maps:
    """Absolute integrated gradients from a constant image (Sundararajan 2017).

    Args:
        pair: Only its classifier is used.
        images: In [0, 1].
        target: Index.
        baseline: Grey value in [0, 1]; by default the network's own 0 as in Cohen 2021, 3.3, which is mid-grey for
            torchxrayvision's [-1024, 1024].
        steps: Gauss-Legendre points of the straight line; `integration_error` says what they leave out.
    """
    return _flat(_integrate(pair, images, target, baseline, steps))


def integration_error(
    pair: Pair, images: Images, target: int, *, baseline: float | None = None, steps: int = INTEGRATION_STEPS
) -> Float[Tensor, " b"]:
    """Convergence delta: sum of the signed attributions less the change of the logit, for each image; 0 is exact."""
    start = torch.full_like(images, native_zero(pair.classifier) if baseline is None else baseline)
    with torch.no_grad():
        change = pair.classifier.logits(images)[:, target] - pair.classifier.logits(start)[:, target]
    total: Float[Tensor, " b"] = _integrate(pair, images, target, baseline, steps).detach().flatten(1).sum(dim=1)
    return total - change


def _integrate(pair: Pair, images: Images, target: int, baseline: float | None, steps: int) -> Tensor:
    start = native_zero(pair.classifier) if baseline is None else baseline
    method = _captum().IntegratedGradients(pair.classifier.logits)
    how: dict[str, Any] = {"n_steps": steps, "internal_batch_size": max(_BATCH, images.shape[0])}
    attributions: Tensor = method.attribute(_leaf(images), baselines=start, target=target, **how)
    return attributions


def iterative_delete(
    pair: Pair, images: Images, target: int, *, rounds: int = DELETE_ROUNDS, share: float = DELETE_SHARE
) -> Maps:
    """Order in which pixels go when the top first-order gradients are removed round by round (Bordes 2018).

    Each round sets the `share` of pixels with the largest absolute gradient to the network's own 0 and looks again. A
    pixel removed in round r (from 0) gets `rounds - r` plus its gradient relative to the round's largest; the rest get
    the latter alone. A pixel without any gradient stays: a score that nothing moves has a map of zeros.
    """
    current = images.detach().clone()
    b, _, h, w = images.shape
    count = max(1, round(share * h * w))
    maps = images.new_zeros(b, h * w)
    gone = torch.zeros(b, h * w, dtype=torch.bool, device=images.device)
    for turn in range(rounds):
        slopes = gradient(pair, current, target).flatten(1).masked_fill(gone, -1.0)
        relative = slopes.clamp(min=0) / slopes.amax(dim=1, keepdim=True).clamp(min=torch.finfo(slopes.dtype).tiny)
        maps = torch.where(gone, maps, relative)
        top = slopes.topk(count, dim=1).indices
        taken = torch.zeros_like(gone).scatter_(1, top, True) & ~gone & (slopes > 0)
        maps = maps + taken * float(rounds - turn)
        gone |= taken
        current = torch.where(gone.view(b, 1, h, w), torch.full_like(current, native_zero(pair.classifier)), current)
    return maps.view(b, h, w)


def _last_spatial_layer(network: nn.Module, run: Callable[[], object]) -> nn.Module:
    """The last module, in order of completion, that runs once and gives more than one pixel a channel."""
    calls: list[tuple[nn.Module, bool]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        spatial = isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] > 1 and output.shape[3] > 1
        calls.append((module, spatial))

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    once = [m for m, spatial in calls if spatial and sum(m is other for other, _ in calls) == 1 and m is not network]
    if not once:
        raise ModelError("Grad-CAM needs a layer with a spatial output (b c h w); use occlusion for this network")
    return once[-1]


def grad_cam(pair: Pair, images: Images, target: int) -> Maps:
    """Grad-CAM of the last spatial layer, bilinearly enlarged; evidence for the target only (Selvaraju 2017)."""
    classifier = pair.classifier
    layer = _last_spatial_layer(network_of(classifier), lambda: classifier.logits(images[:1]))
    method = _captum().LayerGradCam(classifier.logits, layer)
    small = method.attribute(_leaf(images), target=target, relu_attributions=True)
    return F.interpolate(small.detach(), size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0].clamp(
        min=0
    )


def occlusion(pair: Pair, images: Images, target: int) -> Maps:
    """Absolute change of the logit when a square is set to the network's own 0 (Zeiler 2014); overlaps are averaged."""
    channels, side = images.shape[1], images.shape[-1]
    window = max(2, side // OCCLUSION_PARTS)
    step = max(1, window // 2)
    with torch.no_grad():
        changes = (
            _captum()
            .Occlusion(pair.classifier.logits)
            .attribute(
                images.detach().clone(),
                target=target,
                baselines=native_zero(pair.classifier),
                sliding_window_shapes=(channels, window, window),
                strides=(channels, step, step),
                perturbations_per_eval=max(1, _BATCH // images.shape[0]),
            )
        )
    return _flat(changes)


def smoothgrad(pair: Pair, images: Images, target: int) -> Maps:
    """Absolute mean gradient over noisy copies (Smilkov 2017): 20 samples, noise 0.1 of the grey range.

    The noise is drawn for each image from its own bytes, so that the map does not depend on the batch.
    """
    method = _captum().NoiseTunnel(_captum().Saliency(pair.classifier.logits))
    maps = []
    for image in images:
        with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
            torch.manual_seed(_seed_of(image, target))
            maps.append(
                method.attribute(
                    _leaf(image[None]),
                    nt_type="smoothgrad",
                    nt_samples=SMOOTH_SAMPLES,
                    stdevs=SMOOTH_NOISE,
                    target=target,
                    abs=False,
                )
            )
    return _flat(torch.cat(maps))


def _seed_of(image: Float[Tensor, "c h w"], target: int) -> int:
    data = image.detach().cpu().contiguous().numpy().tobytes() + target.to_bytes(4, "little")
    return int.from_bytes(hashlib.blake2b(data, digest_size=7).digest(), "little")


def random_map(pair: Pair, images: Images, target: int) -> Maps:
    """Control: uniform noise, drawn from the image's own bytes and the target: independent of the batch."""
    maps = []
    for image in images:
        generator = torch.Generator().manual_seed(_seed_of(image, target))
        maps.append(torch.rand(image.shape[-2:], generator=generator))
    return torch.stack(maps).to(images)


def centre_prior(pair: Pair, images: Images, target: int) -> Maps:
    """Control: the same Gaussian about the centre for every image, standard deviation a quarter of the side."""
    h, w = images.shape[-2:]
    y = (torch.arange(h) + 0.5) / h - 0.5
    x = (torch.arange(w) + 0.5) / w - 0.5
    hill = torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * 0.25**2))
    return hill.to(images).expand(images.shape[0], h, w).clone()


MAPS: Mapping[str, MapMethod] = {
    "grad": gradient,
    "guided": guided_backprop,
    "integrated": integrated_gradients,
    "integrated-100": partial(integrated_gradients, steps=PUBLISHED_STEPS),
    "integrated-black": partial(integrated_gradients, baseline=0.0),
    "iterative-delete": iterative_delete,
    "grad-cam": grad_cam,
    "occlusion": occlusion,
    "smoothgrad": smoothgrad,
    "random-map": random_map,
    "centre-prior": centre_prior,
}
"""Map-only methods by the name that the command line takes; the first three as the paper calls them."""
