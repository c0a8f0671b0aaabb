"""Terms that make a classifier fit to be explained, against laws and finite differences."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from gifsplain.errors import ConfigurationError
from gifsplain.models import deform, trained
from gifsplain.models.backbones import Classifier, ClassifierConfig, build_classifier
from gifsplain.models.networks import AutoencoderConfig, build_autoencoder
from gifsplain.train import edits, losses, outline
from gifsplain.train.evidence import Evidence, Films, Wide
from gifsplain.train.frame import FrameConfig, fit_frame
from gifsplain.train.hardening import BELIEVABLE, Hardener, Hardening, check_hardening
from gifsplain.train.rows import DataConfig, SourceConfig

SIZE = 32
SENSITIVE = 12000.0
"""Makes the logits of a network with random weights move by whole numbers."""
ROWS = DataConfig((SourceConfig("none.csv"),), targets=("Big", "Spot"), size=SIZE)
TINY = AutoencoderConfig(size=SIZE, patch=2, widths=(8, 16), blocks=(0, 1), decoder_blocks=(0, 1), bottleneck=(8, 4, 4))


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished autoencoder with a frame."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("drawing")
    net = fit_frame(build_autoencoder(TINY).eval(), torch.randn(20, 8, 4, 4), FrameConfig("local"))
    card = {"name": "tiny", "kind": "autoencoder", "size": SIZE, "channels": 1}
    trained.save(folder, trained.AUTOENCODER, net, net.config.to_dict(), card)
    return folder


@pytest.fixture
def layered(tmp_path: Path) -> Path:
    """A finished autoencoder with shading and deformation."""
    torch.manual_seed(6)
    net = fit_frame(build_autoencoder(TINY).eval(), torch.randn(20, 8, 4, 4), FrameConfig("local", layered=True))
    card = {"name": "tiny", "kind": "autoencoder", "size": SIZE, "channels": 1}
    trained.save(tmp_path, trained.AUTOENCODER, net, net.config.to_dict(), card)
    return tmp_path


@pytest.fixture
def judge() -> Classifier:
    torch.manual_seed(2)
    return build_classifier(ClassifierConfig(ROWS.targets, "small", SIZE, 1, 0.0, 8)).eval()


def boxes(count: int) -> torch.Tensor:
    """Left upper quarter for the first target, nothing for the second."""
    masks = torch.zeros(count, 2, SIZE, SIZE)
    masks[:, 0, : SIZE // 2, : SIZE // 2] = 1
    return masks


def films(images: torch.Tensor, masks: torch.Tensor | None) -> Films:
    """All of one source; the first half has the first target, nobody the second."""
    labels = torch.zeros(len(images), 2)
    labels[: (len(images) + 1) // 2, 0] = 1
    return Films(images, labels, masks, torch.zeros(len(images), dtype=torch.int64))


def misplaced(hardener: Hardener, judge: Classifier, evidence: Evidence) -> torch.Tensor:
    return hardener.explained(judge, evidence)["misplaced"]


def make(config: Hardening, judge: Classifier) -> Hardener:
    return Hardener(config, ROWS, judge, Fabric(accelerator="cpu", devices=1))


def test_energy_inside_is_least_for_an_even_fill_and_knows_chance() -> None:
    region = torch.zeros(1, 4, 4)
    region[0, :2, :2] = 1
    even = losses.energy_inside(region * 3, region, evenness=0.25)
    assert float(even) == pytest.approx(0.25 * math.log(4), abs=1e-4)
    flat = losses.energy_inside(torch.ones(1, 4, 4), region, evenness=0)
    assert float(flat) == pytest.approx(math.log(4), abs=1e-4)  # a quarter of the energy is inside
    peak = torch.zeros(1, 4, 4)
    peak[0, 0, 0] = 1
    assert float(losses.energy_inside(peak, region)) > float(even)
    assert losses.energy_inside(torch.zeros(1, 4, 4), region).isfinite()


def test_gradient_comes_into_the_boxes(drawing: Path, judge: Classifier) -> None:
    hardener = make(Hardening(str(drawing), localise=1.0, localised=3), judge)
    images = torch.rand(6, 1, SIZE, SIZE)
    torch.manual_seed(3)
    evidence = hardener.evidence(films(images, boxes(6)))
    assert evidence is not None and evidence.latents.shape[0] == 3
    assert (evidence.targets == 0).all()  # the only boxed target
    assert torch.equal(evidence.regions[0], boxes(1)[0, 0, ::8, ::8])
    before = float(misplaced(hardener, judge, evidence).detach())
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        misplaced(hardener, judge, evidence).backward()
        optimizer.step()
    assert float(misplaced(hardener, judge, evidence).detach()) < before - 0.3


def test_misplaced_is_the_energy_of_the_code_that_the_decoder_gets(drawing: Path, judge: Classifier) -> None:
    """Against finite differences of the logit, one number of the latent at a time."""
    judge = judge.double()
    hardener = make(Hardening(str(drawing), localise=1.0), judge)
    net = hardener.autoencoder.net.double()
    evidence = hardener.evidence(films(torch.rand(1, 1, SIZE, SIZE).double(), boxes(1)))
    assert evidence is not None
    evidence = evidence._replace(latents=evidence.latents.double())
    flat, step = evidence.latents.flatten(), 1e-4
    with torch.no_grad():
        moved = flat + step * torch.eye(len(flat), dtype=torch.double)
        apart = flat - step * torch.eye(len(flat), dtype=torch.double)
        logits = [judge.raw_logits(net.decode(z.view(-1, 8, 4, 4)))[:, 0] for z in (moved, apart)]
        gradient = ((logits[0] - logits[1]) / (2 * step)).view(1, 8, 4, 4)
        code = net.frame.from_frame(gradient) - net.frame.mean.view(8, 4, 4)
        wanted = losses.energy_inside(code.square().sum(1), evidence.regions)
    assert float(misplaced(hardener, judge, evidence).detach()) == pytest.approx(float(wanted), rel=0.02)


def test_confined_step_leaves_boxes_alone(drawing: Path, judge: Classifier) -> None:
    images, labels = torch.rand(4, 1, SIZE, SIZE), torch.tensor([[1.0, 0.0]] * 4)
    still = Hardening(str(drawing), 1.0)
    stepping = replace(still, visible_step=0.2, step_chance=1.0, confine_step=True)
    everywhere = torch.ones(4, 2, SIZE, SIZE)

    def drawn(config: Hardening, masks: torch.Tensor | None) -> torch.Tensor:
        torch.manual_seed(4)
        return make(config, judge).harden(images, labels, masks)[0]

    reconstructed = drawn(still, everywhere)
    assert torch.allclose(drawn(stepping, everywhere), reconstructed, atol=1e-6)
    assert not torch.allclose(drawn(stepping, boxes(4)), reconstructed, atol=1e-3)
    free = replace(stepping, confine_step=False)
    assert not torch.allclose(drawn(free, everywhere), reconstructed, atol=1e-3)


def test_confined_step_moves_the_code_outside_the_boxes_only(drawing: Path, judge: Classifier) -> None:
    """The frame blurs over places; the step is cut where it counts, in the code that the decoder gets."""
    hardener = make(Hardening(str(drawing), 1.0, visible_step=0.2, step_chance=1.0, confine_step=True), judge)
    net, codes = hardener.autoencoder.net, []
    handle = net.decoder.register_forward_pre_hook(lambda _, inputs: codes.append(inputs[0].detach()))
    torch.manual_seed(4)
    hardener.harden(torch.rand(4, 1, SIZE, SIZE), torch.tensor([[1.0, 0.0]] * 4), boxes(4))
    handle.remove()
    moved = (codes[-1] - codes[0]).abs().amax((0, 1))
    assert moved[:2, :2].max() < 1e-4 < 1e-3 < moved[2:, 2:].max()


def test_a_fall_in_proportion_costs_nothing() -> None:
    wanted = torch.tensor([1.0, 1.0, 1.0, 1.0])
    falls = torch.tensor([1.0, 2.0, 0.25, 3.0])
    assert float(losses.proportionate(falls, wanted)) == pytest.approx((0.75 + 1.0) / 4)


def test_response_is_the_fall_of_the_logit_for_what_is_drawn(drawing: Path, judge: Classifier) -> None:
    """Against a slow walk: the share drawn by torch's generator, of the length that draws a believable change."""
    with torch.no_grad():
        judge.head.weight *= SENSITIVE
    hardener = make(Hardening(str(drawing), localise=1.0, localised=2, response=1.0, falls=(3.0, 1.0)), judge)
    net = hardener.autoencoder.net
    torch.manual_seed(7)
    evidence = hardener.evidence(films(torch.rand(2, 1, SIZE, SIZE), boxes(2)))
    assert evidence is not None
    torch.manual_seed(8)
    found = float(hardener.explained(judge, evidence)["response"].detach())
    torch.manual_seed(8)
    shares = torch.rand(2)
    costs = []
    for latent, share in zip(evidence.latents.detach(), shares.tolist(), strict=True):
        start = latent[None].requires_grad_(True)
        logit = judge.raw_logits(net.decode(start))[0, 0]
        direction = -torch.autograd.grad(logit, start)[0]
        with torch.no_grad():
            direction /= direction.norm()
            slope = (net.decode(start + 1e-2 * direction) - net.decode(start - 1e-2 * direction)) / 2e-2
            square = torch.nn.functional.avg_pool2d(slope, SIZE // 28).abs().max()
            length = min(BELIEVABLE[0] / float(square), BELIEVABLE[1] / float(slope.abs().mean()))
            ends = [net.decode(start + t * direction).clamp(0, 1) for t in (0.0, share * length)]
            fall = float(judge.raw_logits(ends[0])[0, 0] - judge.raw_logits(ends[1])[0, 0])
        costs.append(max(0.0, share * 3.0 - fall, fall - 2 * share * 3.0))
    assert found == pytest.approx(sum(costs) / 2, rel=0.02, abs=1e-3) and found > 0.1


def test_logits_learn_to_answer(drawing: Path, judge: Classifier) -> None:
    hardener = make(Hardening(str(drawing), localise=1.0, localised=4, response=1.0, falls=(2.5, 2.5)), judge)
    evidence = hardener.evidence(films(torch.rand(4, 1, SIZE, SIZE), boxes(4)))
    assert evidence is not None

    def cost() -> torch.Tensor:
        torch.manual_seed(9)
        return hardener.explained(judge, evidence)["response"]

    before = float(cost().detach())
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        cost().backward()
        optimizer.step()
    assert float(cost().detach()) < 0.5 * before


def test_step_raises_the_loss_and_draws_no_more_than_asked(drawing: Path, judge: Classifier) -> None:
    images = torch.rand(8, 1, SIZE, SIZE)
    still = make(Hardening(str(drawing), 1.0), judge)
    stepping = make(Hardening(str(drawing), 1.0, visible_step=0.02, step_chance=1.0), judge)
    labels = torch.tensor([[1.0, 0.0]] * 8)
    torch.manual_seed(5)
    before = still.harden(images, labels)[0]
    torch.manual_seed(5)
    after = stepping.harden(images, labels)[0]
    peaks = torch.nn.functional.avg_pool2d(after - before, SIZE // 28).abs().amax((1, 2, 3))
    assert (peaks < 0.03).all() and peaks.max() > 0.005  # each step has its own part of the largest
    costs = [losses.masked_bce(judge.raw_logits(drawn), labels) for drawn in (before, after)]
    assert float(costs[1].detach()) > float(costs[0].detach())


def test_layers_are_each_asked_to_stay_inside(judge: Classifier, layered: Path) -> None:
    """The three energies of a layered latent, against a slow version from finite differences of the drawn image."""
    hardener = make(Hardening(str(layered), localise=1.0), judge)
    net = trained.load_autoencoder_net(layered)[0]
    evidence = hardener.evidence(films(torch.rand(1, 1, SIZE, SIZE), boxes(1)))
    assert evidence is not None and evidence.latents.shape == (1, 11, 4, 4)
    found = misplaced(hardener, judge, evidence)
    found.backward()
    assert judge.head.weight.grad is not None and judge.head.weight.grad.any()
    latents = evidence.latents.detach().requires_grad_(True)
    drawn = net.decode_first_order(latents)  # bilinear sampling has a kink at rest
    (gradient,) = torch.autograd.grad(judge.raw_logits(drawn)[:, 0].sum(), latents)
    move = (net.frame.from_frame(gradient) - net.frame.mean).detach()
    step = 1e-3 / move[:, 9:].abs().max()
    rest = latents.detach()
    moving = step * move * (torch.arange(11) >= 9)[:, None, None]
    sides = [net.decode(net.frame.to_frame(net.frame.from_frame(rest) + sign * moving)) for sign in (1, -1)]
    change = (sides[0] - sides[1]) / (2 * step)
    energies = [move[:, :8].square().sum(1), move[:, 8].square()]
    energies.append(torch.nn.functional.avg_pool2d(change.square(), 8)[:, 0])
    slow = sum(float(losses.energy_inside(energy, evidence.regions)) for energy in energies) / 3
    assert float(found.detach()) == pytest.approx(slow, rel=0.05)


def middle(count: int) -> torch.Tensor:
    """Where the widened target lies when no expert said."""
    masks = torch.zeros(count, SIZE, SIZE)
    masks[:, 8:24, 6:26] = 1
    return masks


def outlining(folder: Path, judge: Classifier, count: int) -> tuple[Hardener, Evidence]:
    """Evidence of `count` boxed images of the first target and as many outlines of the second, unboxed one."""
    hardener = make(Hardening(str(folder), localise=1.0, localised=count, outline=1.0, outlined=count), judge)
    images = torch.nn.functional.avg_pool2d(torch.rand(count, 1, SIZE + 4, SIZE + 4), 5, 1)
    evidence = hardener.evidence(films(images, boxes(count)), Wide(1, middle(count)))
    assert evidence is not None
    return hardener, evidence


def by_hand(judge: Classifier, layered: Path, evidence: Evidence) -> tuple[torch.Tensor, ...]:
    """What the step draws and what its code draws, by finite differences; and the edit that makes hearts narrower."""
    net = trained.load_autoencoder_net(layered)[0]
    latents = evidence.latents.detach()[1:].requires_grad_(True)
    (gradient,) = torch.autograd.grad(judge.raw_logits(net.decode_first_order(latents))[:, 1].sum(), latents)
    move, rest = -(net.frame.from_frame(gradient) - net.frame.mean).detach(), latents.detach()
    drawn = net.decode(rest)

    def change(layer: slice) -> torch.Tensor:
        part = torch.zeros_like(move)
        part[:, layer] = move[:, layer]
        part = part * 1e-2 / part.abs().max().clamp_min(1e-12)
        ends = [net.decode(net.frame.to_frame(net.frame.from_frame(rest) + sign * part)) for sign in (1, -1)]
        return (ends[0] - ends[1]) / 2e-2 * (move[:, layer].abs().max())

    narrower = [edits.rescaled(drawn, middle(1), torch.tensor([factor])) for factor in (0.99, 1 / 0.99)]
    return change(slice(8, 9)) + change(slice(9, 11)), change(slice(0, 8)), narrower[0] - narrower[1]


def apart(seen: torch.Tensor, hidden: float, wanted: torch.Tensor) -> float:
    """1 - cosine, with a part of `seen` that is at a right angle to all."""
    length = math.sqrt(float(seen.square().sum()) + hidden) * float(wanted.norm())
    return 1 - float((seen * wanted).sum()) / length


def test_outline_compares_what_is_drawn_with_a_narrowing(judge: Classifier, layered: Path) -> None:
    hardener, evidence = outlining(layered, judge, 1)
    assert evidence.targets.tolist() == [0, 1] and evidence.narrowing is not None
    assert not evidence.narrowing[0].any()  # no outline is asked of the boxed one
    seen, hidden, wanted = by_hand(judge, layered, evidence)
    energy = float(hidden.square().sum())
    whole = apart(seen, energy, wanted)
    assert float(hardener.explained(judge, evidence)["outline"].detach()) == pytest.approx(whole, abs=0.03)
    hardener.config = replace(hardener.config, outline_sides=True)
    middle_column = slice(None, 16), slice(16, None)  # the box of `middle` lies around it
    halves = [apart(seen[..., part], energy / 2, wanted[..., part]) for part in middle_column]
    assert abs(halves[0] - halves[1]) > 0.05
    found = float(hardener.explained(judge, evidence)["outline"].detach())
    assert found == pytest.approx((whole + 2 * max(halves)) / 3, abs=0.03)


def test_a_logit_learns_to_mean_the_outline(judge: Classifier, layered: Path) -> None:
    hardener, evidence = outlining(layered, judge, 3)
    before = float(hardener.explained(judge, evidence)["outline"].detach())
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        hardener.explained(judge, evidence)["outline"].backward()
        optimizer.step()
    assert float(hardener.explained(judge, evidence)["outline"].detach()) < before - 0.2


def healed(layered: Path, judge: Classifier, brightened: tuple[str, ...] = ()) -> tuple[Hardener, Evidence]:
    """Evidence of a boxed film of the first target beside one of the second, widened one; two healthy films to learn from."""
    config = Hardening(
        str(layered),
        localise=1.0,
        localised=1,
        outline=1.0,
        outlined=1,
        heal=1.0,
        healed=("Big",),
        brightened=brightened,
    )
    hardener = make(config, judge)
    images = torch.nn.functional.avg_pool2d(torch.rand(4, 1, SIZE + 4, SIZE + 4), 5, 1)
    masks = boxes(4)
    masks[2:] = 0
    evidence = hardener.evidence(films(images, masks), Wide(1, middle(4)))
    assert evidence is not None and evidence.healing is not None
    return hardener, evidence


def test_lowering_a_finding_is_compared_with_its_cure(judge: Classifier, layered: Path) -> None:
    hardener, evidence = healed(layered, judge)
    assert evidence.targets.tolist() == [0, 1] and evidence.healing is not None
    assert (
        not evidence.healing[1].any() and float(evidence.healing[0].max()) <= 0
    )  # the outline tells; a cure is darker
    net = trained.load_autoencoder_net(layered)[0]
    latents = evidence.latents.detach()[:1].requires_grad_(True)
    (gradient,) = torch.autograd.grad(judge.raw_logits(net.decode_first_order(latents))[0, 0], latents)
    move, rest = -(net.frame.from_frame(gradient) - net.frame.mean).detach(), latents.detach()

    def change(layer: slice) -> torch.Tensor:
        part = torch.zeros_like(move)
        part[:, layer] = move[:, layer]
        part = part * 1e-2 / part.abs().max()
        ends = [net.decode(net.frame.to_frame(net.frame.from_frame(rest) + sign * part)) for sign in (1, -1)]
        return (ends[0] - ends[1]).detach() / 2e-2 * move[:, layer].abs().max()

    seen, hidden = change(slice(8, 9)) + change(slice(9, 11)), change(slice(0, 8))
    slow = apart(seen, float(hidden.square().sum()), evidence.healing[:1])
    assert float(hardener.explained(judge, evidence)["healing"].detach()) == pytest.approx(slow, abs=0.03)


@pytest.mark.parametrize("brightened", [("Big",), ()])
def test_the_sign_of_a_cure_is_learned(judge: Classifier, layered: Path, brightened: tuple[str, ...]) -> None:
    """The logit of a finding that is air comes to fall when its place is made brighter, of others when it gets darker."""
    hardener, evidence = healed(layered, judge, brightened)
    assert evidence.healing is not None
    cure = evidence.healing[0] if brightened else -evidence.healing[0]
    assert float(cure.min()) >= 0 < float(cure.max())
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    before = float(hardener.explained(judge, evidence)["healing"].detach())
    for _ in range(40):
        optimizer.zero_grad()
        hardener.explained(judge, evidence)["healing"].backward()
        optimizer.step()
    assert float(hardener.explained(judge, evidence)["healing"].detach()) < min(before - 0.2, 0.8)


def test_terms_survive_mixed_precision(judge: Classifier, layered: Path) -> None:
    """Fabric halves the evidence on its way into the objective; the terms stay what they are."""
    hardener, evidence = healed(layered, judge)
    hardener.config = replace(hardener.config, response=1.0, falls=(1.0, 1.0))
    halved = Evidence(
        *(part.bfloat16() if part is not None and part.is_floating_point() else part for part in evidence)
    )
    asked = []
    for within in (True, False):  # the backward pass may run inside autocast or not
        judge.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = hardener.explained(judge, halved)
            if within:
                (rough["outline"] + rough["healing"]).backward()
        if not within:
            (rough["outline"] + rough["healing"]).backward()
        asked.append(next(iter(judge.body.parameters())).grad.clone())  # type: ignore[union-attr]
    torch.testing.assert_close(asked[0], asked[1], rtol=0, atol=0.01 * float(asked[1].abs().max()))
    exact = hardener.explained(judge, evidence)
    assert rough.keys() == exact.keys() == {"misplaced", "outline", "healing", "response"}
    for name in ("misplaced", "outline", "healing"):
        assert float(rough[name].detach()) == pytest.approx(float(exact[name].detach()), rel=0.1)


def test_a_teacher_may_know_more(judge: Classifier, tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = ClassifierConfig(targets=("Spot", "Other", "Big"), backbone="small", size=SIZE, width=4)
    teacher = build_classifier(config).eval()
    trained.save(
        tmp_path,
        "classifier",
        teacher,
        config.to_dict(),
        {"name": "wide", "kind": "classifier", "size": SIZE, "channels": 1},
    )
    images = torch.rand(2, 1, SIZE, SIZE)
    taught = make(Hardening(teachers=(str(tmp_path),), imitation=1.0), judge).imitated(images)
    torch.testing.assert_close(taught, teacher.raw_logits(images).detach()[:, [2, 0]], atol=1e-5, rtol=1e-4)
    other = build_classifier(replace(config, targets=("Spot", "Other"))).eval()
    trained.save(tmp_path, "classifier", other, other.config.to_dict(), {"name": "narrow", "size": SIZE, "channels": 1})
    with pytest.raises(ConfigurationError, match=r"teacher .* knows .*, expected \['Big'\] as well"):
        make(Hardening(teachers=(str(tmp_path),), imitation=1.0), judge)


def test_changes_are_alike_up_to_size() -> None:
    ours, other = torch.rand(2, 1, 4, 4) - 0.5, torch.rand(2, 1, 4, 4) - 0.5
    nothing = torch.zeros(2)
    assert losses.unlike(ours, 3 * ours, nothing).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert losses.unlike(ours, -ours, nothing).tolist() == pytest.approx([2, 2])
    assert (
        losses.unlike(0 * ours, other, nothing).tolist() == losses.unlike(ours, 0 * other, nothing).tolist() == [1, 1]
    )
    hidden = torch.tensor([0.3, 2.0])
    slow = []
    for a, b, part in zip(ours, other, hidden.tolist(), strict=True):
        whole = torch.cat([a.flatten(), torch.tensor([math.sqrt(part)])])  # the hidden part has a place of its own
        wanted = torch.cat([b.flatten(), torch.zeros(1)])
        slow.append(1 - float(torch.nn.functional.cosine_similarity(whole, wanted, dim=0)))
    assert losses.unlike(ours, other, hidden).tolist() == pytest.approx(slow, abs=1e-5)


def test_a_shift_is_no_half_of_a_narrowing() -> None:
    """A shift is right on one side and wrong on the other, an idle side is as bad as no change."""
    fields = outline.narrowing(1, middle(1))
    left, right = outline.side_weights(fields)
    torch.testing.assert_close(left**2 + right**2, torch.ones_like(left))
    assert left[0, 0, 15, 8] == 1 and right[0, 0, 15, 8] == 0 and right[0, 0, 15, 24] == 1
    drawn, nothing = torch.rand(1, 1, SIZE, SIZE), torch.zeros(1)
    wanted = deform.change_first_order(drawn, fields)
    for made, each in ((fields.abs(), (2, 0)), (fields.clamp(min=0), (1, 0))):
        ours = deform.change_first_order(drawn, made)
        both = [float(losses.unlike(ours * part, wanted * part, nothing)) for part in (left, right)]
        assert both == [pytest.approx(value, abs=0.01) for value in each]


def test_shading_step_moves_nothing_and_asks_the_widened_target_only(judge: Classifier, layered: Path) -> None:
    hardener = make(Hardening(str(layered), 1.0, visible_step=0.2, step_chance=1.0, shade_chance=1.0), judge)
    whole, cost, latents, asked = hardener.autoencoder, hardener._cost, [], []
    hardener.autoencoder = replace(whole, decoder=lambda z: (latents.append(z.detach()), whole.decoder(z))[1])
    hardener._cost = lambda images, labels: (asked.append(labels), cost(images, labels))[1]
    torch.manual_seed(4)
    hardener.harden(torch.rand(4, 1, SIZE, SIZE), torch.tensor([[1.0, 0.0]] * 4), boxes(4), 1)
    moved = (latents[-1] - latents[-2]).abs().amax((0, 2, 3))  # what is drawn at last, against where it started
    assert moved[-2:].max() == 0 < 1e-4 < moved[8]
    assert asked[0][:, 0].isnan().all() and (asked[0][:, 1] == 0).all()


@pytest.mark.parametrize("asked", [{"outline": 1.0}, {"heal": 1.0, "healed": ("Big",)}, {"shade_chance": 0.5}])
def test_an_outline_needs_layers(judge: Classifier, drawing: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"need an autoencoder with shading and deformation"):
        make(Hardening(str(drawing), 0.5, localise=1.0, **asked), judge)


def test_nothing_to_localise_without_boxes(drawing: Path, judge: Classifier) -> None:
    config = Hardening(str(drawing), localise=1.0)
    assert make(config, judge).evidence(films(torch.rand(2, 1, SIZE, SIZE), torch.zeros(2, 2, SIZE, SIZE))) is None
    assert make(config, judge).evidence(films(torch.rand(2, 1, SIZE, SIZE), None)) is None
    with pytest.raises(ConfigurationError, match="need boxes"):
        check_hardening(config, ROWS.targets, boxes=False)
    with pytest.raises(ConfigurationError, match=r"need hardening\.autoencoder"):
        check_hardening(Hardening(localise=1.0), ROWS.targets, boxes=True)
    with pytest.raises(ConfigurationError, match=r"one of hardening\.falls for each of 2 targets, got 1"):
        check_hardening(replace(config, response=1.0, falls=(1.0,)), ROWS.targets, boxes=True)
    drawing = Hardening("cxr", 0.5, localise=1.0, visible_step=0.1, outline=1.0, shade_chance=0.5)
    check_hardening(drawing, ROWS.targets, boxes=True, widened=True)
    with pytest.raises(ConfigurationError, match=r"shade_chance needs .* edits\.widened_share"):
        check_hardening(replace(drawing, outline=0.0), ROWS.targets, boxes=True)
    with pytest.raises(
        ConfigurationError, match=r"heal and hardening\.healed go together, and need hardening\.localise"
    ):
        check_hardening(Hardening(heal=1.0, healed=("Big",)), ROWS.targets, boxes=True)
    with pytest.raises(ConfigurationError, match=r"heal and hardening\.healed go together"):
        check_hardening(replace(config, heal=1.0), ROWS.targets, boxes=True)
    with pytest.raises(ConfigurationError, match=r"healed must be some of \('Big', 'Spot'\), got \('Lung',\)"):
        check_hardening(replace(config, heal=1.0, healed=("Lung",)), ROWS.targets, boxes=True)
    with pytest.raises(ConfigurationError, match=r"brightened must be some of \('Big',\), got \('Spot',\)"):
        check_hardening(replace(config, heal=1.0, healed=("Big",), brightened=("Spot",)), ROWS.targets, boxes=True)
    with pytest.raises(ConfigurationError, match=r"outline needs .* edits\.widened_share"):
        check_hardening(replace(drawing, shade_chance=0.0), ROWS.targets, boxes=True)
