"""Trust checks: each verdict from an explanation that was made to deserve it."""

from dataclasses import replace

import pytest
import torch

from gifsplain.evaluate.model_figures import explanation_row
from gifsplain.explain import checks
from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.run import explain
from gifsplain.models.protocols import ModelCard
from gifsplain.types import Explanation, ScoreMeaning, Scores, Stop, Verdict

from .fakes import pair, picture

BASE = explain(pair(), LatentShift(), [picture(1)], ["A"])[0]
CARD = ModelCard("ae", "autoencoder", 8, details={"reconstruction_mae_percentiles": {"p95": 0.03, "p99": 0.05}})


def still(error: float) -> Explanation:
    return replace(BASE, image=torch.full((1, 8, 8), 0.5), reconstruction=torch.full((1, 8, 8), 0.5 + error))


@pytest.mark.parametrize(("gap", "verdict"), [(-0.05, "pass"), (-0.2, "warn"), (0.2, "warn"), (-0.5, "fail")])
def test_the_autoencoder_alone(gap: float, verdict: str) -> None:
    found = checks.autoencoder_gap(replace(BASE, scores=Scores(0.6, 0.6 + gap, 0.1)))
    assert found.verdict.value == verdict
    assert found.value == pytest.approx(gap)


@pytest.mark.parametrize(("gap", "verdict"), [(-0.5, "pass"), (1.0, "warn"), (-2.5, "fail")])
def test_a_gap_of_logits_is_compared_with_the_wanted_change(gap: float, verdict: str) -> None:
    asked = replace(BASE, meaning=ScoreMeaning.LOGIT, record={"settings": {"drop": 2.0}})
    assert checks.autoencoder_gap(replace(asked, scores=Scores(3.0, 3.0 + gap, 1.0))).verdict.value == verdict


@pytest.mark.parametrize(("error", "verdict"), [(0.02, "pass"), (0.04, "warn"), (0.06, "fail")])
def test_reconstruction_error_against_the_card(error: float, verdict: str) -> None:
    assert checks.reconstruction_error(still(error), CARD).verdict.value == verdict


def test_a_card_without_percentiles_is_no_pass() -> None:
    assert checks.reconstruction_error(still(0.01), ModelCard("ae", "autoencoder", 8)).verdict is Verdict.WARN


@pytest.mark.parametrize("stop", list(Stop))
def test_every_stop_has_a_sentence(stop: Stop) -> None:
    found = checks.wanted_change(replace(BASE, stop_lower=stop, stop_higher=stop))
    assert found.verdict is (
        Verdict.PASS if stop is Stop.REACHED
        else Verdict.WARN if stop in (Stop.SCORE_BOUND, Stop.NOT_SEARCHED) else Verdict.FAIL
    )  # fmt: skip
    assert found.text.endswith(".")


@pytest.mark.parametrize("stop", [Stop.PIXEL_LIMIT, Stop.TURNED, Stop.BUDGET])
def test_a_rise_does_not_stand_for_the_fall_that_was_not_found(stop: Stop) -> None:
    rising = replace(
        BASE, frames=BASE.frames[BASE.baseline :], strengths=BASE.strengths[BASE.baseline :],
        frame_scores=BASE.frame_scores[BASE.baseline :], counterfactual=len(BASE.strengths) - BASE.baseline - 1,
        stop_lower=stop, stop_higher=Stop.REACHED,
    )  # fmt: skip
    assert rising.stop is stop
    assert not explanation_row(rising)["reached"]  # a card counts falls
    found = checks.wanted_change(rising)
    assert found.verdict is Verdict.FAIL
    assert found.text.startswith("No image with a lower score was found: ") and "raises it" in found.text
    asked_for = checks.wanted_change(replace(rising, stop_lower=Stop.NOT_SEARCHED))  # settings.drop 0: only a rise
    assert asked_for.verdict is Verdict.PASS
    lowest = replace(rising, stop_lower=Stop.SCORE_BOUND)  # a score of 0 cannot fall, and the rise is what was wanted
    assert lowest.stop is Stop.REACHED and checks.wanted_change(lowest).verdict is Verdict.PASS
    turned = checks.wanted_change(replace(lowest, stop_higher=Stop.TURNED))
    assert turned.verdict is Verdict.FAIL and turned.text.startswith("The wanted change was not reached")
    nothing = replace(BASE, counterfactual=BASE.baseline, stop_lower=Stop.SCORE_BOUND, stop_higher=Stop.NOT_SEARCHED)
    assert nothing.stop is Stop.SCORE_BOUND  # only the fall was asked for


@pytest.mark.parametrize(
    ("drop", "meaning", "told"),
    [(0.9, ScoreMeaning.PROBABILITY, True), (0.1, ScoreMeaning.PROBABILITY, False), (9.0, ScoreMeaning.LOGIT, False)],
)
def test_a_score_without_room_says_what_to_ask(drop: float, meaning: ScoreMeaning, told: bool) -> None:
    asked = replace(BASE, meaning=meaning, record={"settings": {"drop": drop}}, stop_lower=Stop.PIXEL_LIMIT)
    assert ("cannot fall by" in checks.wanted_change(asked).text) is told
    assert f"drop {BASE.baseline_score / 2:.2f}" in checks.wanted_change(asked).text or not told


def test_steps_back_are_found() -> None:
    scores = torch.linspace(0.1, 0.9, BASE.frames.shape[0])
    assert checks.monotone(replace(BASE, frame_scores=scores)).verdict is Verdict.PASS
    scores[5] -= 0.2
    assert checks.monotone(replace(BASE, frame_scores=scores)).verdict is Verdict.WARN


def test_a_slow_decline_is_a_step_back_too() -> None:
    scores = torch.cat([torch.linspace(0.2, 0.6, 10), torch.linspace(0.59, 0.5, 10)])  # each step is within the wiggle
    check = checks.monotone(replace(BASE, frame_scores=scores))
    assert check.verdict is Verdict.WARN and check.value == pytest.approx(0.1, abs=1e-6)


def test_a_change_that_cannot_be_seen_is_called_adversarial() -> None:
    frames = BASE.frames[BASE.baseline].repeat(BASE.frames.shape[0], 1, 1, 1)
    frames[BASE.counterfactual, 0, 0, 0] += 0.5
    found = checks.visible_change(replace(BASE, frames=frames))
    assert found.verdict is Verdict.FAIL
    assert "adversarial" in found.text
    frames[BASE.counterfactual] += 0.1
    assert checks.visible_change(replace(BASE, frames=frames)).verdict is Verdict.PASS


def test_all_checks_are_named_once() -> None:
    names = [c.name for c in BASE.checks]
    assert sorted(names) == sorted({
        "autoencoder_gap", "reconstruction_error", "wanted_change", "monotone", "visible_change", "gradient", "trained_target",
    })  # fmt: skip


@pytest.mark.parametrize("stop", [Stop.PIXEL_LIMIT, Stop.TURNED, Stop.ZERO_GRADIENT])
def test_a_search_that_found_nothing_has_failed(stop: Stop) -> None:
    """One frame is left, as of a method that draws a map alone; that one has searched nothing."""
    one = replace(
        BASE, frames=BASE.frames[:1], strengths=torch.zeros(1), frame_scores=BASE.frame_scores[:1], counterfactual=0,
        stop_lower=stop, stop_higher=stop,
    )  # fmt: skip
    cards = {"autoencoder": CARD, "classifier": CARD}
    found = {check.name: check.verdict for check in checks.run(one, cards)}
    assert found["wanted_change"] is Verdict.FAIL and "autoencoder_gap" in found
    drawn = replace(one, stop_lower=Stop.NOT_SEARCHED, stop_higher=Stop.NOT_SEARCHED)
    assert {check.name for check in checks.run(drawn, cards)} == {"reconstruction_error", "trained_target"}


def test_a_published_schedule_has_a_goal_of_its_own() -> None:
    asked = {"settings": {"policy": "paper-2021", "drop": 0.9}}
    found = checks.wanted_change(replace(BASE, method="latentshift", record=asked, stop_lower=Stop.TURNED))
    assert found.verdict is Verdict.FAIL and "The schedule paper-2021 ended" in found.text
    assert "auto" not in found.text and "cannot fall" not in found.text
