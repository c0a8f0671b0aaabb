"""Losses against their formulas, exact resume, the guards, and what a card says."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from gifsplain.errors import ConfigurationError, WeightsError
from gifsplain.models import styleex
from gifsplain.models.small import SmallClassifier, SmallConfig, normalised_difference
from gifsplain.models.stylegan import Mapping, StyleConfig
from gifsplain.train import loop, machine, styleex_losses
from gifsplain.train.config import LoopConfig
from gifsplain.train.rows import DataConfig
from gifsplain.train.small_classifier import SmallTask, SmallTraining, operating_point
from gifsplain.train.styleex import (
    StyleExConfig,
    StyleExData,
    StyleExTrainee,
    StyleExWeights,
    augment_images,
    critic_turn,
    rate_factor,
)
from gifsplain.train.styleex_guards import alarms

MODEL = StyleConfig(size=32, widths=(6, 6, 5, 4), w_dim=5, mapping_layers=2)


def config(condition: str = "none", **changes: object) -> StyleExConfig:
    base = StyleExConfig(
        model=dataclasses.replace(MODEL, condition=condition),  # type: ignore[arg-type]
        loop=LoopConfig(accelerator="cpu", checkpoint_minutes=0, log_every=1),
        weights=StyleExWeights(path=0.5),
        batch=4, warmup=1, r1_every=2, path_every=2, latent_every=2,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def classifier() -> SmallClassifier:
    torch.manual_seed(5)
    return SmallClassifier(SmallConfig(targets=MODEL.targets, size=32, widths=(4, 5, 6, 7))).eval()


def trainee(settings: StyleExConfig) -> tuple[StyleExTrainee, Fabric]:
    fabric = Fabric(accelerator="cpu")
    images = torch.randint(0, 256, (12, 1, 32, 32), generator=torch.Generator().manual_seed(1)).byte()
    data = StyleExData(images, torch.ones(12), images[:6])
    return StyleExTrainee(settings, data, classifier(), fabric), fabric


def losses_of(folder, settings, steps, monkeypatch):
    task, fabric = trainee(settings)
    seen = []
    step = task.step

    def watch(number):
        found = step(number)
        seen.append((number, {name: float(value) for name, value in found.items()}))
        return found

    monkeypatch.setattr(task, "step", watch)
    folder.mkdir(exist_ok=True)
    loop.run(task, fabric, folder, settings.loop, plan=loop.Plan(steps))
    return seen, task


def test_resume_repeats_the_uninterrupted_run(tmp_path, monkeypatch):
    settings = config()
    whole, one = losses_of(tmp_path / "whole", settings, 5, monkeypatch)
    losses_of(tmp_path / "parts", settings, 3, monkeypatch)
    rest, other = losses_of(tmp_path / "parts", settings, 5, monkeypatch)
    assert [number for number, _ in rest] == [3, 4]
    assert whole[3:] == rest
    for a, b in zip(one.averaged.parameters(), other.averaged.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("condition", ["none", "concat"])
def test_every_loss_is_logged_apart_and_every_network_learns(condition):
    task, _ = trainee(config(condition, warmup=2))
    before = {k: v.clone() for k, v in task.net.state_dict().items()}
    machine.seed_step(0, 4)
    found = task.step(4)  # the discriminator's third: R1 and path length join
    assert set(found) == {
        "pixel",
        "perceptual",
        "classifier",
        "adversarial",
        "latent",
        "critic",
        "real",
        "fake",
        "r1",
        "path",
    }
    assert all(math.isfinite(float(value)) for value in found.values())
    moved = {k for k, v in task.net.state_dict().items() if not torch.equal(v, before[k])}
    assert {k.split(".")[0] for k in moved} == {"mapping", "synthesis", "encoder"}


def test_reconstruction_alone_during_warm_up():
    task, _ = trainee(config(warmup=10))
    critic = [p.clone() for p in task.critic.parameters()]
    machine.seed_step(0, 1)
    assert set(task.step(1)) == {"pixel", "perceptual", "classifier"}
    assert all(torch.equal(a, b) for a, b in zip(critic, task.critic.parameters(), strict=True))


def test_reconstruction_alone_between_the_turns_of_the_discriminator():
    settings = config(warmup=4, adversarial_every=3)
    assert [critic_turn(settings, step) for step in range(12)] == [
        None, None, None, None, 0, None, None, 1, None, None, 2, None,
    ]  # fmt: skip
    task, _ = trainee(settings)
    machine.seed_step(0, 5)
    assert set(task.step(5)) == {"pixel", "perceptual", "classifier"}
    machine.seed_step(0, 7)
    assert {"critic", "adversarial"} <= set(task.step(7))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"batch": 1}, "batch must be 2"), ({"latent_every": 0}, "latent_every"), ({"steps": 0}, "steps"), ({"warmup": -1}, "warmup"),
     ({"condition_dropout": 1.5}, "condition_dropout"), ({"average": 1.0}, "average")],
)  # fmt: skip
def test_trainings_that_cannot_run_are_refused(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        config(**wrong)


def test_rates_fall_to_a_twentieth_at_the_end():
    settings = config(steps=100, decay_from=0.6)
    factors = [rate_factor(settings, step) for step in range(100)]
    assert factors[:60] == [1.0] * 60
    assert factors[99] == pytest.approx(0.05)
    assert factors[79] == pytest.approx(1 - 0.95 / 2)
    assert [rate_factor(config(steps=100), step) for step in (0, 99)] == [1.0, 1.0]


def test_noise_is_given_the_mean_and_covariance_of_what_is_encoded():
    torch.manual_seed(0)
    mapping = Mapping(MODEL)
    codes = torch.randn(3000, 5) @ torch.randn(5, 5) + torch.tensor([3.0, -1.0, 0.0, 0.5, 2.0])
    mapping.match(codes)
    drawn = mapping(torch.randn(20000, 5)).detach()
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.1, rtol=0)
    scale = float(torch.cov(codes.T).diagonal().max())
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(codes.T), atol=0.08 * scale, rtol=0)
    before = mapping.layers[-1].weight.clone()
    mapping.match(codes)
    torch.testing.assert_close(mapping.layers[-1].weight, before, atol=1e-3, rtol=1e-3)


def test_training_matches_noise_when_the_discriminator_starts():
    task, _ = trainee(config(warmup=2))
    images = task.data.images.float() / 255
    for step in range(3):
        machine.seed_step(0, step)
        task.step(step)
    wanted = task.averaged.encoder(images).mean(0)
    drawn = task.averaged.mapping(torch.randn(4000, 5, generator=torch.Generator().manual_seed(0)))
    spread = task.averaged.encoder(images).std(0)
    assert ((drawn.mean(0) - wanted).abs() < 3 * spread + 0.01).all()


def test_guards_say_what_is_wrong():
    fine = {"spread_fakes": 1.0, "agreement": 0.9, "condition_effect": 0.1}
    assert alarms(fine) == ()
    assert "collapsed" in alarms(fine | {"spread_fakes": 0.05})[0]
    assert "apart in W" in alarms(fine | {"spread_fakes": 4.5})[0]
    assert "side of 0.5" in alarms(fine | {"agreement": 0.55})[0]
    assert "ignores its condition" in alarms(fine | {"condition_effect": 0.0})[0]
    assert len(alarms({"spread_fakes": 0.0, "agreement": 0.4})) == 2


def test_classifier_stays_as_it_is():
    task, _ = trainee(config())
    before = [v.clone() for v in task.classifier.state_dict().values()]
    machine.seed_step(0, 2)
    task.step(2)
    assert all(torch.equal(a, b) for a, b in zip(before, task.classifier.state_dict().values(), strict=True))


def test_guards_see_the_condition_and_the_collapse():
    task, _ = trainee(config("concat"))
    found = task.evaluate(0)
    assert set(task.metrics) == set(found)
    assert found["condition_effect"] > 0
    assert 0 <= found["agreement"] <= 1
    with torch.no_grad():
        for affine in (*task.averaged.synthesis.affines, *task.averaged.synthesis.image_affines):
            affine.weight.zero_()
    collapsed = task.evaluate(0)
    assert collapsed["condition_effect"] == 0
    assert collapsed["spread_fakes"] == pytest.approx(0, abs=1e-6)


def test_average_follows_slowly():
    task, _ = trainee(config())
    with torch.no_grad():
        for p in task.net.parameters():
            p.add_(1)
    old = [p.clone() for p in task.averaged.parameters()]
    task.follow(99)
    for before, now, then in zip(old, task.averaged.parameters(), task.net.parameters(), strict=True):
        torch.testing.assert_close(now, before * 0.99 + then * 0.01, atol=1e-6, rtol=1e-4)


def test_augmentation_never_mirrors():
    torch.manual_seed(0)
    left = torch.zeros(64, 1, 32, 32)
    left[..., 4:12] = 1  # a band on the left half
    moved = augment_images(left, 1.0)
    assert (moved[..., :16].sum((1, 2, 3)) > 2 * moved[..., 16:].sum((1, 2, 3))).all()
    assert not torch.equal(moved, left)
    assert torch.equal(augment_images(left, 0.0).round(), left)


def test_losses_are_their_formulas():
    real, fake = torch.tensor([0.3, -1.0]), torch.tensor([0.5, 2.0])
    expected = np.mean(np.log1p(np.exp(-real.numpy()))) + np.mean(np.log1p(np.exp(fake.numpy())))
    assert float(styleex_losses.discriminator_loss(real, fake)) == pytest.approx(expected, abs=1e-6)
    zero = torch.zeros(3)
    assert float(styleex_losses.discriminator_loss(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(styleex_losses.adversarial_loss(zero)) == pytest.approx(math.log(2))


def test_divergence_is_that_of_bernoulli_outputs():
    a, b = torch.tensor([[0.2, -1.0]]), torch.tensor([[1.5, 0.3]])
    p, q = torch.sigmoid(b).double(), torch.sigmoid(a).double()
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert float(styleex_losses.bernoulli_divergence(a, b)) == pytest.approx(float(expected), abs=1e-6)
    assert float(styleex_losses.bernoulli_divergence(b, b)) == pytest.approx(0, abs=1e-7)


def test_gradient_penalty_of_a_linear_critic():
    weight = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images = torch.rand(3, 1, 4, 4, requires_grad=True)
    penalty = styleex_losses.gradient_penalty((images * weight).sum((1, 2, 3)), images)
    assert float(penalty) == pytest.approx(float(weight.square().sum()) / 4, rel=1e-5)  # [-1, 1] is twice as wide


def test_path_length_of_a_linear_generator():
    torch.manual_seed(0)
    matrix = torch.randn(16, 5)
    codes = torch.randn(4000, 5, requires_grad=True)
    lengths = styleex_losses.path_lengths((codes @ matrix.T).reshape(-1, 1, 4, 4), codes)
    expected = 4 * matrix.square().sum() / 16  # E |J^T n|^2 for n of variance 1 / (H W); [-1, 1] is twice as wide
    assert float(lengths.square().mean()) == pytest.approx(float(expected), rel=0.05)


def test_normalised_difference_has_no_unit():
    a, b = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    one = normalised_difference([a, 10 * a], [b, 10 * b])
    assert float(one) == pytest.approx(float((a - b).abs().mean() / b.mean()), rel=1e-5)


def test_small_classifier_halves_the_side_with_each_stage():
    maps = classifier().maps(torch.rand(2, 1, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 16, 16), (5, 8, 8), (6, 4, 4), (7, 2, 2)]


def test_operating_point_balances_sensitivity_and_specificity():
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert operating_point(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), labels) == 3.0
    assert operating_point(np.array([1.0, 2.0]), np.array([0, 0])) == 0.0


@pytest.mark.parametrize(("lost", "mean"), [((), 0.875), ((1,), 1.0), ((0, 1), math.nan)])
def test_the_best_small_classifier_is_chosen_by_the_findings_that_have_both_kinds_of_rows(lost, mean):
    labels = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    labels[:, list(lost)] = 0
    task = object.__new__(SmallTask)
    shape = DataConfig((), ("a", "b"))
    task.config, task.val = SmallTraining(data=shape, explained=("a", "b")), np.arange(4)
    task.predict = lambda rows: (np.array([[0.0, 2.0], [1.0, 1.0], [0.5, 2.5], [2.0, 3.0]]), labels)
    found = task.evaluate(0)
    assert set(task.metrics) == set(found)
    assert found["val/auc"] == pytest.approx(mean, nan_ok=True)
    assert np.isnan([found["val/auc/a"], found["val/auc/b"]]).sum() == len(lost)


def test_weights_of_something_else_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="found none"):
        styleex.read_small_classifier(tmp_path / "none.safetensors")
