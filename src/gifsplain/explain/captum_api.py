"""Latent Shift behind Captum's own interfaces, for any forward function in its own range: no cards, no [0, 1].

`CaptumLatentShift` is an attribution method; `LatentShiftPerturbation` an attack that `MinParamPerturbation`
can search.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any, Protocol, runtime_checkable

import torch
from captum.attr import GradientAttribution
from captum.robust import Perturbation
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.explain.search import Goal, Limits, Measurement, drive, higher_goal, lower_goal, search
from gifsplain.explain.strengths import spaced

Inputs = Tensor | tuple[Tensor, ...]
Target = int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None
_LATENT_LIMIT = 2.0
"""Largest latent distance in norms of the latent, as in `Settings.latent_limit`."""
_PIXEL_LIMIT = 0.1
"""Largest mean absolute change, as a share of the span of the reconstruction's values."""


@runtime_checkable
class Drawer(Protocol):
    """An autoencoder in the range of the forward function's input."""

    def encode(self, x: Tensor) -> Tensor: ...

    def decode(self, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Sweep:
    """Frames of every example; `strengths` in root mean squares of its latent, lowest first."""

    frames: tuple[Float[Tensor, "n k ..."], ...]
    """One tensor for each input."""
    baselines: tuple[Float[Tensor, "n ..."], ...]
    strengths: Float[Tensor, "n k"]
    outputs: Float[Tensor, "n k"]
    """The selected output for each frame."""


@dataclass(frozen=True)
class _Batch:
    """Some examples with everything that belongs to them."""

    inputs: tuple[Tensor, ...]
    target: Target
    extra: tuple[Any, ...]

    def __len__(self) -> int:
        return self.inputs[0].shape[0]

    def take(self, index: Sequence[int]) -> "_Batch":
        """The examples at `index`, in that order, with their own targets and arguments."""
        count, place = len(self), torch.as_tensor(list(index), dtype=torch.long)
        inputs = tuple(tensor[place.to(tensor.device)] for tensor in self.inputs)
        target = self.target
        if isinstance(target, list):
            target = [target[i] for i in index]  # type: ignore[assignment]
        elif isinstance(target, Tensor) and target.numel() > 1:
            target = target[place.to(target.device)]
        extra = tuple(
            value[place.to(value.device)]
            if isinstance(value, Tensor) and value.ndim and value.shape[0] == count
            else value
            for value in self.extra
        )
        return _Batch(inputs, target, extra)


def _tuple_of(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


class _Model:
    """The forward function through the autoencoders, and the directions that it gives."""

    def __init__(
        self, forward_func: Callable[..., Tensor], drawers: tuple[Drawer, ...], gradient: Callable[..., Any]
    ) -> None:
        self.forward_func = forward_func
        self.drawers = drawers
        self.gradient = gradient

    def encode(self, batch: _Batch) -> tuple[Tensor, ...]:
        return tuple(d.encode(x).detach() for d, x in zip(self._drawers(batch), batch.inputs, strict=True))

    def decode(self, batch: _Batch, latents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(d.decode(z) for d, z in zip(self._drawers(batch), latents, strict=True))

    def _drawers(self, batch: _Batch) -> tuple[Drawer, ...]:
        if len(self.drawers) not in (1, len(batch.inputs)):
            raise InputError(
                f"expected one autoencoder, or one for each of {len(batch.inputs)} inputs, got {len(self.drawers)}"
            )
        return self.drawers * (len(batch.inputs) // len(self.drawers))

    def outputs(self, batch: _Batch, images: tuple[Tensor, ...]) -> Tensor:
        """The selected output of each example, in Captum's meaning of `target`."""
        found = self.forward_func(*images, *batch.extra)
        if batch.target is None:
            return found.reshape(found.shape[0], -1)[:, 0] if found.ndim > 1 and found[0].numel() == 1 else found
        if isinstance(batch.target, Tensor) and batch.target.numel() == 1:
            return found[:, int(batch.target.item())]
        if isinstance(batch.target, int):
            return found[:, batch.target]
        if isinstance(batch.target, tuple):
            index: Any = (slice(None), *batch.target)
            return found[index]
        places: list[Any] = [int(t) if isinstance(t, Tensor) else t for t in batch.target]
        return torch.stack([found[i][place] for i, place in enumerate(places)])

    def directions(self, batch: _Batch, latents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Gradient of the output by all latents of an example, scaled to one root mean square of them; eq. 1."""
        leaves = tuple(z.detach().clone().requires_grad_() for z in latents)

        def through(*values: Any) -> Tensor:
            own, extra = values[: len(leaves)], values[len(leaves) :]
            found: Tensor = self.forward_func(*self.decode(batch, own), *extra)
            return found

        gradients = self.gradient(through, leaves, batch.target, batch.extra or None)
        norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
        count = sum(z[0].numel() for z in latents)
        rms = (torch.stack([z.flatten(1).square().sum(1) for z in latents]).sum(0) / count).sqrt()
        scale = torch.where(norm > 0, rms / norm.clamp(min=torch.finfo(norm.dtype).tiny), torch.zeros_like(norm))
        return tuple((g * scale.view(-1, *[1] * (g.ndim - 1))).detach() for g in gradients)


class CaptumLatentShift(GradientAttribution):
    """Latent Shift as a Captum attribution method (Cohen 2021).

    Args:
        forward_func: As for every Captum method.
        autoencoder: `encode` and `decode` in the range of the inputs; a tuple with one for each input, or one for all.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> class Identity:
        ...     def encode(self, x): return x
        ...     def decode(self, z): return z
        >>> CaptumLatentShift(net, Identity()).attribute(torch.rand(3, 1, 2, 2), target=1).shape
        torch.Size([3, 1, 2, 2])
    """

    def __init__(self, forward_func: Callable[..., Tensor], autoencoder: Drawer | tuple[Drawer, ...]) -> None:
        super().__init__(forward_func)
        self.drawers = _tuple_of(autoencoder)

    def attribute(
        self,
        inputs: Inputs,
        target: Target = None,
        additional_forward_args: Any = None,
        *,
        drop: float = 0.30,
        rise: float = 0.05,
        frames: int = 21,
        strengths: tuple[float, float] | None = None,
        internal_batch_size: int | None = None,
    ) -> Any:
        """latentshift-max of every input: largest absolute difference of any frame from the reconstruction.

        Args:
            inputs: Tensor or tuple of tensors, first axis the examples.
            target: All of Captum's forms.
            additional_forward_args: Passed on; tensors as long as the batch go with their examples.
            drop: Wanted fall of the selected output, in its own unit.
            rise: Wanted rise.
            frames: Of the sweep.
            strengths: Lowest and highest strength in root mean squares of the latent; given, nothing is searched.
            internal_batch_size: Most examples, and most frames, that pass through at once.

        Returns:
            Non-negative, in the form, shape, type and place of `inputs`; zeros where the gradient is zero.
        """
        swept = self.sweep(
            inputs, target, additional_forward_args, drop=drop, rise=rise, frames=frames, strengths=strengths,
            internal_batch_size=internal_batch_size,
        )  # fmt: skip
        maps = tuple((f - b.unsqueeze(1)).abs().amax(dim=1) for f, b in zip(swept.frames, swept.baselines, strict=True))
        return maps if isinstance(inputs, tuple) else maps[0]

    def sweep(
        self,
        inputs: Inputs,
        target: Target = None,
        additional_forward_args: Any = None,
        *,
        drop: float = 0.30,
        rise: float = 0.05,
        frames: int = 21,
        strengths: tuple[float, float] | None = None,
        internal_batch_size: int | None = None,
    ) -> Sweep:
        """The frames themselves; arguments as in `attribute`."""
        if internal_batch_size is not None and internal_batch_size < 1:
            raise InputError(f"internal_batch_size must be 1 or more, got {internal_batch_size}")
        whole = _Batch(_tuple_of(inputs), target, _tuple_of(additional_forward_args))
        model = _Model(self.forward_func, self.drawers, self.gradient_func)
        size = internal_batch_size or len(whole)
        found = []
        for part in _parts(range(len(whole)), size):
            sweep = _Sweeper(model, whole.take(part), internal_batch_size or inf)
            bounds = [strengths] * len(part) if strengths else sweep.search(drop, rise)
            found.append(sweep.draw(bounds, frames))
        return Sweep(
            frames=tuple(torch.cat(parts) for parts in zip(*(f.frames for f in found), strict=True)),
            baselines=tuple(torch.cat(parts) for parts in zip(*(f.baselines for f in found), strict=True)),
            strengths=torch.cat([f.strengths for f in found]),
            outputs=torch.cat([f.outputs for f in found]),
        )


def _parts(index: Sequence[int], size: float) -> Iterator[Sequence[int]]:
    step = len(index) if size == inf else int(size)
    for start in range(0, len(index), max(step, 1)):
        yield index[start : start + step]


class _Sweeper:
    """Search and frames for one batch of examples."""

    def __init__(self, model: _Model, batch: _Batch, limit: float) -> None:
        self.model, self.batch, self.limit = model, batch, limit
        with torch.no_grad():
            self.latents = model.encode(batch)
        self.directions = model.directions(batch, self.latents)
        self.places = [(i, 0.0) for i in range(len(batch))]
        self.baselines, self.starts = self.evaluate(self.places)

    def evaluate(self, asked: Sequence[tuple[int, float]]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Images and outputs of examples at strengths, at most `limit` at once."""
        images: list[tuple[Tensor, ...]] = []
        outputs: list[Tensor] = []
        for part in _parts(range(len(asked)), self.limit):
            index = [asked[k][0] for k in part]
            own = self.batch.take(index)
            steps = torch.tensor([asked[k][1] for k in part], dtype=torch.float64)
            moved = [
                z[index] + steps.to(z).view(-1, *[1] * (z.ndim - 1)) * d[index]
                for z, d in zip(self.latents, self.directions, strict=True)
            ]
            with torch.no_grad():
                drawn = self.model.decode(own, moved)
                outputs.append(self.model.outputs(own, drawn).detach())
            images.append(tuple(image.detach() for image in drawn))
        return tuple(torch.cat(column) for column in zip(*images, strict=True)), torch.cat(outputs)

    def search(self, drop: float, rise: float) -> list[tuple[float, float]]:
        """Lowest and highest strength of every example."""
        end = _LATENT_LIMIT * sqrt(sum(z[0].numel() for z in self.latents))
        goals: list[tuple[int, Goal]] = []
        for i, start in enumerate(self.starts.double().tolist()):
            if not any(bool(d[i].any()) for d in self.directions):
                continue
            goals += [(i, lower_goal(start, drop, floor=-inf, tolerance=0.01 * drop))] if drop > 0 else []
            goals += [(i, higher_goal(start, rise, ceiling=inf, tolerance=0.01 * rise))] if rise > 0 else []

        def measure(asked: list[tuple[int, float]]) -> list[Measurement]:
            places = [(goals[k][0], strength) for k, strength in asked]
            images, outputs = self.evaluate(places)
            changes = self._changes(images, [i for i, _ in places])
            rows = zip(places, outputs.double().tolist(), changes, strict=True)
            return [Measurement(strength, output, change) for (_, strength), output, change in rows]

        ends = drive([search(goal, Limits(end, _PIXEL_LIMIT), end / 50) for _, goal in goals], measure)
        bounds = {(i, goal.sign): found.at.strength for (i, goal), found in zip(goals, ends, strict=True)}
        return [(bounds.get((i, -1), 0.0), bounds.get((i, 1), 0.0)) for i in range(len(self.batch))]

    def _changes(self, images: tuple[Tensor, ...], index: list[int]) -> list[float]:
        """Mean absolute change in spans of the reconstruction's values, the largest of all inputs."""
        shares = []
        for drawn, base in zip(images, self.baselines, strict=True):
            own = base[index]
            span = (own.flatten(1).amax(1) - own.flatten(1).amin(1)).clamp(min=torch.finfo(own.dtype).tiny)
            shares.append((drawn - own).abs().flatten(1).mean(1) / span)
        return [float(value) for value in torch.stack(shares).amax(0)]

    def draw(self, bounds: Sequence[tuple[float, float]], frames: int) -> Sweep:
        """The frames between the bounds, 0 among them."""
        count = max(frames, 2)
        grids = [spaced(low, high, count) if (low, high) != (0.0, 0.0) else torch.zeros(count) for low, high in bounds]
        asked = [(i, float(s)) for i, grid in enumerate(grids) for s in grid]
        images, outputs = self.evaluate(asked)
        n = len(self.batch)
        return Sweep(
            frames=tuple(image.view(n, count, *image.shape[1:]) for image in images),
            baselines=self.baselines,
            strengths=torch.stack(grids).to(outputs),
            outputs=outputs.view(n, count),
        )


class LatentShiftPerturbation(Perturbation):
    """An attack on the data manifold: moving the latent lowers the selected output; strength 0 changes nothing.

    Search `strength` with `captum.robust.MinParamPerturbation(..., arg_name="strength")` for the smallest move that
    changes the decision. The result is `x + D(z - strength * direction) - D(z)`, or without `residual`
    the decoded image.
    """

    def __init__(
        self, forward_func: Callable[..., Tensor], autoencoder: Drawer | tuple[Drawer, ...], *, residual: bool = True
    ) -> None:
        self.method = CaptumLatentShift(forward_func, autoencoder)
        self.residual = residual

    def perturb(
        self, inputs: Inputs, strength: float = 1.0, target: Target = None, additional_forward_args: Any = None
    ) -> Any:
        """Perturbed inputs in the form of `inputs`; `strength` in root mean squares of the latent, 0 or more."""
        batch = _Batch(_tuple_of(inputs), target, _tuple_of(additional_forward_args))
        model = _Model(self.method.forward_func, self.method.drawers, self.method.gradient_func)
        sweeper = _Sweeper(model, batch, inf)
        images, _ = sweeper.evaluate([(i, -float(strength)) for i in range(len(batch))])
        if self.residual:
            images = tuple(x + (d - b) for x, d, b in zip(batch.inputs, images, sweeper.baselines, strict=True))
        return images if isinstance(inputs, tuple) else images[0]
