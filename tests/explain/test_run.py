"""The one `explain`: batch equals one by one, the drawn score is the classifier's, and nothing is left changed."""

from dataclasses import replace

import pytest
import torch

from gifsplain.errors import InputError, ModelError, TargetError
from gifsplain.explain.compose import Composition, native_frame
from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.methods import METHODS, explain_with
from gifsplain.explain.run import explain
from gifsplain.explain.settings import Settings
from gifsplain.models import wrap
from gifsplain.models.identity import identity
from gifsplain.models.protocols import Pair
from gifsplain.types import Explanation, ScoreMeaning, Stop

from .fakes import SIZE, Linear, pair, picture

RESIDUAL = Settings(composition=Composition.RESIDUAL)


def one(
    settings: Settings = Settings(), *, seed: int = 0, target: str = "A", models: Pair | None = None
) -> Explanation:
    return explain(models or pair(), LatentShift(), [picture(seed)], [target], settings)[0]


@pytest.mark.parametrize(
    "settings", [Settings(), RESIDUAL, Settings(policy="paper-2021"), Settings(policy="latentshift-0.0.6")]
)
def test_a_batch_equals_one_by_one(settings: Settings) -> None:
    models, pictures = pair(), [picture(seed, name=f"case {seed}") for seed in range(5)]
    together = explain_with("latentshift", models, pictures, ["A", "B"], settings)
    alone = [explain_with("latentshift", models, [p], [t], settings)[0] for p in pictures for t in ("A", "B")]
    assert [(e.case, e.target) for e in together] == [(e.case, e.target) for e in alone]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a.strengths, b.strengths, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(a.frames, b.frames, rtol=0, atol=1e-5)
        torch.testing.assert_close(a.map, b.map, rtol=0, atol=1e-5)
        assert (a.stop_lower, a.stop_higher) == (b.stop_lower, b.stop_higher)


@pytest.mark.parametrize("settings", [Settings(), RESIDUAL, Settings(policy="paper-2021")])
@pytest.mark.parametrize("method", ["latentshift", "grad"])
def test_the_stored_score_is_the_classifier_on_the_stored_frame(settings: Settings, method: str) -> None:
    models = pair()
    made = explain_with(method, models, [picture(2)], ["B"], settings)[0]
    scores = models.classifier.scores(made.frames)
    torch.testing.assert_close(made.target_scores, scores)
    torch.testing.assert_close(made.frame_scores, scores[:, 1])
    assert made.scores.input == pytest.approx(float(models.classifier.scores(made.image[None])[0, 1]))
    assert made.scores.reconstruction == pytest.approx(float(models.classifier.scores(made.reconstruction[None])[0, 1]))


def test_the_wanted_change_is_met_on_both_sides() -> None:
    for seed in range(20):
        made = one(seed=seed)
        start = float(made.frame_scores[made.baseline])
        if made.stop_lower is Stop.REACHED:
            assert 0.30 <= start - float(made.frame_scores[0]) <= 0.305 + 1e-6
        if made.stop_higher is Stop.REACHED:
            assert 0.05 <= float(made.frame_scores[-1]) - start <= 0.055 + 1e-6
        assert made.strengths.diff().min() > 0
        assert made.frames.shape[0] == 21
        assert float(made.strengths[made.baseline]) == 0


def test_the_residual_equals_the_input_at_strength_zero() -> None:
    made = one(RESIDUAL, seed=4)
    assert torch.equal(made.frames[made.baseline], made.image)
    assert float(made.frame_scores[made.baseline]) == pytest.approx(made.scores.input)


def test_the_direction_is_eq_1_by_finite_differences() -> None:
    models = pair()
    made = one(seed=1, models=models)
    z = models.autoencoder.encode(made.image[None]).double()
    weights = {k: v.double() for k, v in models.classifier.net.state_dict().items()}
    up = models.autoencoder.net.up.double()

    def score(latent: torch.Tensor) -> float:
        image = torch.sigmoid(latent @ up / 4)
        return float(torch.sigmoid((image - 0.5) @ weights["weights"] + weights["bias"])[0, 0])

    h = 1e-5
    slow = torch.tensor([(score(z + h * e) - score(z - h * e)) / (2 * h) for e in torch.eye(z.shape[1]).double()])
    lam = made.record["move"]["lambda_per_strength"] * float(made.strengths[0])
    expected = models.autoencoder.decode((z + lam * slow).float())
    torch.testing.assert_close(made.frames[:1], expected, atol=1e-4, rtol=0)


def test_inputs_and_models_stay_as_they_were() -> None:
    models, case = pair(), picture()
    before = [p.clone() for net in (models.classifier.net, models.autoencoder.net) for p in net.parameters()]
    pixels = case.pixels.clone()
    explain(models, LatentShift(), [case], ["A"])
    after = [p for net in (models.classifier.net, models.autoencoder.net) for p in net.parameters()]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, after, strict=True))
    assert torch.equal(case.pixels, pixels)
    assert case.pixels.grad is None


def test_evaluations_that_become_frames_are_not_repeated() -> None:
    made = one(seed=3)
    assert made.cost.encodes == 1
    assert made.cost.gradients == 1
    assert made.cost.decodes <= 21 + 10


def test_a_byte_budget_makes_batches_smaller_and_changes_nothing() -> None:
    pictures = [picture(seed) for seed in range(5)]
    free = explain(pair(), LatentShift(), pictures, ["A", "B"], Settings(frames=5))
    tight, models = Settings(frames=5, memory=100_000), pair()
    held = explain(models, LatentShift(), pictures, ["A", "B"], tight)
    assert models.budget.measured > 0 and models.budget.size == max(1, 100_000 // models.budget.measured)
    for one, other in zip(free, held, strict=True):
        assert (one.case, one.target) == (other.case, other.target)
        torch.testing.assert_close(one.frames, other.frames, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one.map, other.map, atol=1e-5, rtol=1e-4)


def test_fixed_strengths_are_not_searched() -> None:
    made = one(Settings(strengths=(-2.0, 1.0), frames=7))
    assert made.stop is Stop.NOT_SEARCHED
    assert made.strengths.tolist() == [-2, -1.5, -1, -0.5, 0, 0.5, 1]


@pytest.mark.parametrize("method", ["latentshift", "grad"])
def test_every_method_refuses_names_that_do_not_fit_the_pictures(method: str) -> None:
    for cases in (["one"], ["one", "two", "three"]):
        with pytest.raises(InputError, match=f"expected one case name for each of 2 pictures, got {len(cases)}"):
            explain_with(method, pair(), [picture(), picture(1)], ["A"], cases=cases)
    with pytest.raises(InputError, match="at least one picture and one target, got 0 and 1"):
        explain_with(method, pair(), [], ["A"])


def test_the_record_names_models_without_a_checksum_by_their_weights() -> None:
    models = pair()
    made = explain(models, LatentShift(), [picture()], ["A"], Settings(frames=3))[0].record
    assert made["classifier"]["sha256"] == "" and made["classifier"]["identity"] == identity(models.classifier) != ""
    known = replace(models.classifier, card=replace(models.classifier.card, sha256="c"))
    made = explain(replace(models, classifier=known), LatentShift(), [picture()], ["A"], Settings(frames=3))[0].record
    assert made["classifier"]["sha256"] == "c" and "identity" not in made["classifier"]


def test_a_zero_gradient_is_said_and_not_drawn() -> None:
    models = pair()
    with torch.no_grad():
        models.classifier.net.weights.zero_()
    made = one(models=models)
    assert made.stop is Stop.ZERO_GRADIENT
    assert not made.has_sweep
    assert {c.name: c.verdict.value for c in made.checks}["gradient"] == "fail"


def scored(net: torch.nn.Module, meaning: ScoreMeaning = ScoreMeaning.PROBABILITY) -> Pair:
    return replace(pair(), classifier=wrap.classifier(net, name="own", targets=("A", "B"), size=SIZE, meaning=meaning))


@pytest.mark.parametrize("method", ["latentshift", "latentshift-steps"])
@pytest.mark.parametrize("place", [-6.0, 0.1, 6.0])
def test_logits_have_no_bounds(method: str, place: float) -> None:
    net = Linear()
    torch.nn.init.constant_(net.bias, place)
    (made,) = explain_with(method, scored(net, ScoreMeaning.LOGIT), [picture(3)], ["A"], Settings(drop=1.5, rise=0.5))
    assert (made.stop_lower, made.stop_higher) == (Stop.REACHED, Stop.REACHED)
    falls = made.baseline_score - float(made.frame_scores[0])
    rises = float(made.frame_scores[-1]) - made.baseline_score
    assert falls == pytest.approx(1.5, abs=0.01) if method == "latentshift" else falls >= 1.5
    assert rises == pytest.approx(0.5, abs=0.01) if method == "latentshift" else rises >= 0.5


def test_a_saturated_classifier_is_explained() -> None:
    net = Linear()
    with torch.no_grad():
        net.weights *= 12
        net.bias += 20 - net(pair().autoencoder.decode(pair().autoencoder.encode(picture().pixels[None])))[0]
    made = one(Settings(pixel_limit=1.0), models=scored(net))
    assert made.baseline_score == 1.0  # exactly, in single precision
    assert made.stop is Stop.REACHED
    assert float(made.frame_scores[0]) == pytest.approx(0.6975, abs=0.003)


class Broken(Linear):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) * float("nan")


class Steep(Linear):
    """Finite logits with a gradient that is not: the square root of 0."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) + (images.flatten(1) * 0).sum(1, keepdim=True).sqrt()


def test_a_map_of_values_that_are_no_numbers_is_refused() -> None:
    with pytest.raises(ModelError, match="case: grad draws a map with values that are no numbers for A"):
        explain_with("grad", scored(Steep()), [picture()], ["A"])


@pytest.mark.parametrize("method", ["latentshift", "latentshift-steps", "latent-optimisation", "grad"])
def test_scores_that_are_no_numbers_are_refused(method: str) -> None:
    with pytest.raises(ModelError, match="case: own gives nan for B on the image, expected a finite score"):
        explain_with(method, scored(Broken()), [picture()], ["B"])


def test_pixels_that_are_no_numbers_are_refused() -> None:
    broken = picture()
    broken.pixels[0, 0, :3] = torch.tensor([float("nan"), float("inf"), 0.5])
    with pytest.raises(InputError, match="case: 2 pixels are nan or infinite"):
        explain_with("latentshift", pair(), [broken], ["A"])


def test_changes_are_measured_from_strength_zero_where_the_sweep_leaves_it_out() -> None:
    models, policy = pair(), Settings(policy="paper-2021", composition=Composition.RESIDUAL)
    made = one(policy, models=models)
    assert not (made.strengths == 0).any()
    torch.testing.assert_close(made.baseline_frame, made.image)  # of a residual
    torch.testing.assert_close(made.baseline_scores, models.classifier.scores(made.image[None])[0])
    assert made.baseline_score == pytest.approx(made.scores.input)
    assert made.baseline_score != pytest.approx(float(made.frame_scores[made.baseline]), abs=1e-3)
    wanted = made.scores.counterfactual - made.scores.input
    assert {c.name: c.value for c in made.checks}["wanted_change"] == pytest.approx(wanted, abs=1e-6)
    index = made.counterfactual
    torch.testing.assert_close(native_frame(made, index), made.frames[index].clamp(0, 1), rtol=0, atol=1e-5)


def test_every_map_has_its_definition() -> None:
    made = one(seed=5)
    base, frames = made.frames[made.baseline, 0], made.frames[:, 0]
    slow = {
        "max": torch.stack([(f - base).abs() for f in frames]).max(0).values,
        "mean": sum((f - base).abs() for f in frames) / len(frames),
        "minmax": (frames[-1] - frames[0]).abs(),
        "sliding": sum((frames[k + 1] - frames[k]).abs() for k in range(20)) / 20,
        "extreme-2021": (frames[0] - base).abs(),
    }
    for name, expected in slow.items():
        torch.testing.assert_close(one(Settings(map=name), seed=5).map, expected)


def test_native_frames_change_only_the_square_that_the_models_saw() -> None:
    case = picture(6, height=40, width=64)
    made = explain(pair(), LatentShift(), [case], ["A"], RESIDUAL)[0]
    frame = native_frame(made, 0)
    assert frame.shape == case.pixels.shape
    assert torch.equal(frame[:, :, :12], case.pixels[:, :, :12])
    assert torch.equal(frame[:, :, 52:], case.pixels[:, :, 52:])
    assert not torch.equal(frame, case.pixels)
    assert torch.equal(native_frame(made, made.baseline), case.pixels)


def test_native_size_needs_the_residual() -> None:
    with pytest.raises(InputError, match="needs composition 'residual'"):
        native_frame(one(), 0)


def test_unknown_and_untrained_targets_are_refused_by_name() -> None:
    models = pair()
    with pytest.raises(TargetError, match="no target 'C'; it has A, B"):
        one(target="C", models=models)
    card = replace(models.classifier.card, untrained=("B",))
    untrained = replace(models, classifier=replace(models.classifier, card=card))
    with pytest.raises(TargetError, match="'B' of linear was never trained"):
        one(target="B", models=untrained)


def test_wrong_settings_say_what_is_wrong() -> None:
    with pytest.raises(InputError, match="drop must be 0 or more"):
        Settings(drop=-1)
    with pytest.raises(InputError, match=r"drop and rise must lie in \[0, 1\] for probabilities, got 2 and 0.05"):
        one(Settings(drop=2))
    for two_sided in ({}, {"strengths": (-1.0, 1.0)}):
        with pytest.raises(InputError, match="frames must be 3 or more where both sides are shown"):
            Settings(frames=2, **two_sided)
    with pytest.raises(InputError, match="map must be one of max"):
        Settings(map="nose")
    with pytest.raises(InputError, match="no method is called 'nose'"):
        explain_with("nose", pair(), [picture()], ["A"])


@pytest.mark.parametrize(
    "name", ["latentshift", "grad", "integrated", "smoothgrad", "random-map", "centre-prior", "occlusion"]
)
def test_every_method_gives_the_one_result(name: str) -> None:
    made = METHODS[name].explain(pair(), [picture()], ["A", "B"], Settings(), None)
    assert [e.target for e in made] == ["A", "B"]
    for e in made:
        assert e.map.shape == (SIZE, SIZE)
        assert float(e.map.min()) >= 0
        assert e.has_sweep == (name == "latentshift")
        assert e.checks
