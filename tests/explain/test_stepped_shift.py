"""Latent Shift in gradient steps, against a slow walk of one image and the laws of its path."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from gifsplain.errors import InputError
from gifsplain.explain import methods
from gifsplain.explain.compose import Composition
from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.methods import explain_with
from gifsplain.explain.run import explain
from gifsplain.explain.settings import Settings
from gifsplain.explain.stepped_shift import SteppedLatentShift
from gifsplain.models import wrap
from gifsplain.models.protocols import Pair
from gifsplain.types import Picture, Stop

from .fakes import SIZE, pair, picture

PLAIN = Composition.RECONSTRUCTION


class Valley(nn.Module):
    """A logit that answers a first direction only a little, and beyond that a second one, which the first opens."""

    def forward(self, images: Tensor) -> Tensor:
        first, second = (images.flatten(1)[:, i] - 0.5 for i in range(2))
        return torch.stack([torch.tanh(20 * first) * 0.6 - 80 * first * second], 1)


class Pixels(nn.Module):
    """Latents that are the pixels."""

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, latents: Tensor) -> Tensor:
        return latents


def valley() -> Pair:
    return wrap.pair(
        wrap.classifier(Valley(), name="valley", targets=("A",), size=SIZE),
        wrap.autoencoder(Pixels(), name="pixels", size=SIZE),
    )


def slow_walk(models: Pair, image: Tensor, target: int, side: int, finder: SteppedLatentShift) -> list[Tensor]:
    """The path of one side of one image, written down from the words of the method."""
    start = models.autoencoder.encode(image[None])
    base = models.autoencoder.decode(start).clamp(0, 1)

    def look(shift: Tensor) -> tuple[float, float, Tensor, float]:
        z = (start + shift).detach().requires_grad_(True)
        drawn = models.autoencoder.decode(z)
        shown = drawn + (drawn.clamp(0, 1) - drawn).detach()
        logit = models.classifier.logits(shown)[0, target]
        (gradient,) = torch.autograd.grad(logit, z)
        change = float((shown - base).detach().abs().mean())
        logit = logit.detach()
        return float(logit), float(models.classifier.link(logit[None, None])), gradient / gradient.norm(), change

    here = torch.zeros_like(start)
    best, score, direction, _ = look(here)
    length = float(1e-3 * start.norm())
    for _ in range(2):
        drawn = (models.autoencoder.decode(start + length * direction) - models.autoencoder.decode(start)).abs().mean()
        length = float(min(length * finder.drawn / drawn, 0.5 * start.norm()))
    aim = score - 0.30 - 0.0025 if side < 0 else score + 0.05 + 0.0025
    path, shortest, far = [here], length / 16, False
    for _ in range(finder.steps):
        ahead = here + side * length * direction
        logit, there, gradient, change = look(ahead)
        if side * (logit - best) > 0:
            here, best, score, far = ahead, logit, there, change > finder.settings.pixel_limit
            onward = gradient + finder.momentum * direction
            direction = onward / onward.norm()
            path.append(here)
        else:
            length /= 2
        if side * (score - aim) >= 0 or far or length < shortest:
            break
    return path


@pytest.mark.parametrize("seed", range(4))
def test_paths_are_those_of_a_slow_walk(seed: int) -> None:
    models, finder = pair(seed), SteppedLatentShift(Settings())
    images = torch.stack([picture(seed + 10 * i).pixels for i in range(3)])
    latents = models.autoencoder.encode(images)
    made = finder.find(models, images, latents, 1, PLAIN)
    for image, (move,) in zip(images, made.moves, strict=True):
        for side, stored in ((-1, move.lower), (1, move.higher)):  # type: ignore[attr-defined]
            slow = torch.cat(slow_walk(models, image, 1, side, finder))
            torch.testing.assert_close(stored, slow, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("composition", list(Composition))
def test_the_score_never_turns_along_the_path(composition: Composition) -> None:
    models = pair(3)
    for seed in range(5):
        images = picture(seed).pixels[None]
        latents = models.autoencoder.encode(images)
        (move,) = SteppedLatentShift(Settings()).find(models, images, latents, 0, composition).moves[0]
        for path, side in ((move.lower, -1), (move.higher, 1)):  # type: ignore[attr-defined]
            assert len(path) > 1
            drawn = models.autoencoder.decode(latents + path)
            base = models.autoencoder.decode(latents)
            frames = drawn if composition is PLAIN else images + drawn - base
            scores = models.classifier.scores(frames.clamp(0, 1))[:, 0]
            assert (side * scores.diff() > 0).all()


def test_a_turned_path_reaches_what_the_straight_one_does_not() -> None:
    models, pictures = valley(), [picture(0)]
    pictures[0].pixels.fill_(0.5)
    wanted = Settings(pixel_limit=0.05)
    straight, stepped = (
        explain_with(name, models, pictures, ["A"], wanted)[0] for name in ("latentshift", "latentshift-steps")
    )
    assert straight.stop_lower is not Stop.REACHED and stepped.stop_lower is Stop.REACHED
    fall = float(stepped.frame_scores[stepped.baseline] - stepped.frame_scores[0])
    assert 0.30 <= fall <= 0.305 + 1e-6
    first, second = (float(stepped.frames[0].flatten()[i]) - 0.5 for i in range(2))
    assert first < 0 and second < -0.02  # the second direction, which the gradient at the start does not know
    assert abs(float(straight.frames[0].flatten()[1]) - 0.5) < 1e-6
    advice = next(check for check in straight.checks if check.name == "wanted_change").text
    assert "latentshift-steps" in advice


def test_auto_takes_steps_only_where_the_line_does_not_reach_and_steps_do() -> None:
    models, shown = valley(), [picture(i) for i in range(3)]
    for i, (first, second) in enumerate([(0.5, 0.5), (0.5, 0.3), (0.5, 0.5)]):
        shown[i].pixels.fill_(0.5)
        shown[i].pixels.flatten()[:2] = torch.tensor([first, second])  # the second film's slope is steep from the start
    wanted = Settings(pixel_limit=0.05)
    line, steps, auto = (
        explain_with(name, models, shown, ["A"], wanted, cases=["a", "b", "c"])
        for name in ("latentshift", "latentshift-steps", "auto")
    )
    assert [one.stop is Stop.REACHED for one in line] == [False, True, False]
    assert all(one.stop is Stop.REACHED for one in steps)
    assert [(one.case, one.method) for one in auto] == [
        ("a", "latentshift-steps"), ("b", "latentshift"), ("c", "latentshift-steps")
    ]  # fmt: skip
    for chosen, like in zip(auto, [steps[0], line[1], steps[2]], strict=True):
        torch.testing.assert_close(chosen.frames, like.frames)
    narrow = replace(wanted, pixel_limit=1e-5)  # nobody reaches: the published method's own answer stays
    assert {one.method for one in explain_with("auto", models, shown, ["A"], narrow)} == {"latentshift"}
    published = replace(wanted, policy="latentshift-0.0.6")
    assert {one.method for one in explain_with("auto", models, shown, ["A"], published)} == {"latentshift"}


def test_auto_tries_steps_where_the_line_finds_a_rise_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    models, shown = valley(), [picture(0)]
    (line,) = explain_with("latentshift", models, shown, ["A"], Settings(pixel_limit=0.05))
    rising = replace(
        line, frames=line.frames[line.baseline :], strengths=line.strengths[line.baseline :],
        frame_scores=line.frame_scores[line.baseline :], counterfactual=len(line.strengths) - line.baseline - 1,
        stop_lower=Stop.TURNED, stop_higher=Stop.REACHED,
    )  # fmt: skip
    monkeypatch.setitem(methods.METHODS, "latentshift", SimpleNamespace(explain=lambda *_: [rising]))  # type: ignore[arg-type]
    (auto,) = explain_with("auto", models, shown, ["A"], Settings(pixel_limit=0.05))
    assert auto.method == "latentshift-steps"


class OfMean(nn.Module):
    """A logit that is a function of how far the mean lies above a half, in thousandths; a first step is four of them."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(1000 * (images.flatten(1).mean(1, keepdim=True) - 0.5))


def of_mean(function: Callable[[Tensor], Tensor]) -> tuple[Pair, Picture]:
    shown = picture(0)
    shown.pixels.fill_(0.5)
    return wrap.pair(
        wrap.classifier(OfMean(function), name="mean", targets=("A",), size=SIZE),
        wrap.autoencoder(Pixels(), name="pixels", size=SIZE),
    ), shown


def test_a_side_that_cannot_move_leaves_the_other_alone() -> None:
    models, shown = of_mean(lambda u: (u + 1e-2).abs())
    made = explain_with("latentshift-steps", models, [shown], ["A"])[0]
    assert (made.stop_lower, made.stop_higher) == (Stop.TURNED, Stop.REACHED)
    assert float(made.frame_scores[-1] - made.frame_scores[0]) >= 0.05


def test_a_saturated_score_still_moves() -> None:
    """At logit 18 the score is 1 in single precision; the logit tells which way it goes."""
    models, shown = of_mean(lambda u: 18 + u)
    made = explain_with("latentshift-steps", models, [shown], ["A"], Settings(rise=0.0, pixel_limit=0.2))[0]
    assert made.stop_lower is Stop.REACHED and 0.30 <= 1 - float(made.frame_scores[0]) <= 0.305


def test_a_valley_is_left_half_a_step_at_a_time() -> None:
    """Steps that would overshoot the least logit are halved; the stop says that the score turns."""
    models, shown = of_mean(lambda u: 0.02 * (u + 37.3).square() - 0.5)
    images = shown.pixels[None]
    (move,) = SteppedLatentShift(Settings(drop=0.9, pixel_limit=0.5)).find(models, images, images, 0, PLAIN).moves[0]
    places = move.lower.flatten(1).mean(1) * 1000  # type: ignore[attr-defined]
    assert places[1].item() == pytest.approx(-4.0, rel=0.01)
    assert float(places.diff()[-1].abs()) < 1.1 and float(places[-1]) == pytest.approx(-37.3, abs=0.3)
    assert move.end(-1)[1] is Stop.TURNED  # type: ignore[attr-defined]


def test_no_step_is_taken_uphill_at_the_pixel_limit() -> None:
    models = pair(3)
    settings = Settings(pixel_limit=0.0065)
    images = torch.stack([picture(seed).pixels for seed in range(6)])
    latents = models.autoencoder.encode(images)
    for (move,), latent in zip(
        SteppedLatentShift(settings).find(models, images, latents, 0, PLAIN).moves, latents, strict=True
    ):
        scores = models.classifier.scores(models.autoencoder.decode(latent + move.lower))[:, 0]  # type: ignore[attr-defined]
        assert (scores.diff() < 0).all()


def test_costs_are_counted_image_by_image() -> None:
    models, counted = of_mean(lambda u: torch.tanh(u / 100))[0], []
    images = torch.stack([torch.full((1, SIZE, SIZE), level) for level in (0.5, 0.55, 0.65)])
    latents = models.autoencoder.encode(images)
    together = SteppedLatentShift(Settings()).find(models, images, latents, 0, PLAIN)
    for i in range(3):
        part = slice(i, i + 1)
        counted.append(SteppedLatentShift(Settings()).find(models, images[part], latents[part], 0, PLAIN).costs(0))
    assert [together.costs(i) for i in range(3)] == counted and len(set(counted)) > 1
    for (move,), (gradients, _) in zip(together.moves, counted, strict=True):
        assert gradients >= 1 + move.end(-1)[0] + move.end(1)[0]  # type: ignore[attr-defined]


def test_images_without_a_gradient_do_not_stop_the_others() -> None:
    models, _ = of_mean(lambda u: u.clamp_min(0) + (u > 0))
    pictures = [picture(0, name="still"), picture(1, name="moving")]
    for shown, level in zip(pictures, (0.3, 0.51), strict=True):
        shown.pixels.fill_(level)
    still, moving = explain_with("latentshift-steps", models, pictures, ["A"], Settings(pixel_limit=0.5))
    assert still.stop_lower is Stop.ZERO_GRADIENT and moving.stop_higher is not Stop.ZERO_GRADIENT
    assert len(moving.frames) > 1


def test_a_linear_model_is_walked_straight() -> None:
    models = wrap.pair(pair().classifier, wrap.autoencoder(Pixels(), name="pixels", size=SIZE))
    images = 0.3 + 0.4 * picture(1).pixels[None]
    found = [
        f.find(models, images, images, 0, PLAIN).moves[0][0] for f in (LatentShift(), SteppedLatentShift(Settings()))
    ]
    line = found[0].direction.flatten() / found[0].direction.norm()  # type: ignore[attr-defined]
    path = found[1].lower.flatten(1)  # type: ignore[attr-defined]
    torch.testing.assert_close(path, (path @ line)[:, None] * line, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("settings", [Settings(), Settings(composition=Composition.RESIDUAL), Settings(drop=0.0)])
def test_a_batch_equals_one_by_one(settings: Settings) -> None:
    models, pictures = pair(), [picture(seed, name=f"case {seed}") for seed in range(4)]
    together = explain_with("latentshift-steps", models, pictures, ["A", "B"], settings)
    alone = [explain_with("latentshift-steps", models, [p], [t], settings)[0] for p in pictures for t in ("A", "B")]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a.frames, b.frames, rtol=0, atol=1e-4)
        torch.testing.assert_close(models.classifier.scores(a.frames), a.target_scores, atol=1e-6, rtol=1e-5)
        assert (a.stop_lower, a.stop_higher) == (b.stop_lower, b.stop_higher)
        assert a.method == "latentshift-steps" and "gradient steps" in a.strength_unit


def test_a_prediction_without_a_gradient_stands_still() -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1).sum(1, keepdim=True) * 0

    models = wrap.pair(wrap.classifier(Constant(), name="c", targets=("A",), size=SIZE), pair().autoencoder)
    made = explain(models, SteppedLatentShift(Settings()), [picture(1)], ["A"])[0]
    assert made.stop_lower is Stop.ZERO_GRADIENT and len(made.frames) == 1


def test_given_strengths_count_steps() -> None:
    settings = Settings(strengths=(-3.0, 2.0), frames=6)
    made = explain_with("latentshift-steps", pair(), [picture(2)], ["A"], settings)[0]
    assert made.strengths.tolist() == [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0]
    sizes = [float((frame - made.frames[3]).abs().mean()) for frame in made.frames]
    assert math.isclose(sizes[2], 0.004, rel_tol=0.1) and sizes[0] > 2 * sizes[2]


def test_published_schedules_are_refused() -> None:
    with pytest.raises(InputError, match="policy paper-2021 is a schedule of the method latentshift"):
        explain_with("latentshift-steps", pair(), [picture(2)], ["A"], Settings(policy="paper-2021"))
