"""Finders on models in which the right direction is known; counts against the formulas; batched against one by one."""

import hashlib
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from gifsplain.errors import InputError, ModelError, WeightsError
from gifsplain.explain import attfind, directions, effects, eigenfind, fits, population, probe
from gifsplain.explain.compose import Composition
from gifsplain.explain.effects import Aim, Ranked
from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.methods import explain_with
from gifsplain.explain.optimise import LatentOptimisation
from gifsplain.explain.run import explain
from gifsplain.explain.settings import Settings
from gifsplain.explain.stepped_shift import SteppedLatentShift
from gifsplain.models import styleex, wrap, xrv
from gifsplain.models.protocols import Pair
from gifsplain.render.record import record_of, to_json
from gifsplain.types import Picture, Provenance, ScoreMeaning, Stop, Verdict

from . import planted


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a @ b) / (a.norm() * b.norm()))


def test_eigen_directions_are_eigenvectors_of_the_gram_matrix():
    matrix = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    found = eigenfind.eigen_directions(matrix, 4)
    _, vectors = torch.linalg.eigh(matrix.T @ matrix)
    for k in range(4):
        assert abs(cosine(found[k], vectors[:, -1 - k])) == pytest.approx(1, abs=1e-4)


def test_eigenfind_finds_the_planted_direction_and_counts_its_forwards():
    pair, vector = planted.eigen_pair(3)
    z = planted.latents(30)
    steps = eigenfind.style_directions(pair.autoencoder, 6) * 0.05
    found = effects.measure_moves(pair, z, steps, Aim(0, raises=True))
    best = effects.rank(found.gains, 3)[0]
    assert abs(cosine(steps[best.index], vector)) == pytest.approx(1, abs=1e-3)
    assert cosine(steps[best.index] * best.sign, vector) > 0
    assert found.forwards == 30 + 2 * 6 * len(found.images)
    assert 0 < len(found.images) < 30


def test_jacobian_directions_are_the_singular_vectors_of_a_linear_decoder():
    pair, _ = planted.eigen_pair()
    model = pair.autoencoder
    found = eigenfind.jacobian_directions(model, torch.zeros(6), 4, rounds=30)
    exact = torch.linalg.svd(model.draw @ model.affine)[2]
    for k in range(4):
        assert abs(cosine(found[k], exact[k])) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(found @ found.T, torch.eye(4), atol=1e-4, rtol=0)


def test_attfind_finds_the_planted_coordinate_and_counts_its_forwards():
    pair = planted.coordinate_pair(5)
    styles = pair.autoencoder.styles(planted.latents(12))
    extremes = attfind.Extremes.of(styles, 8)
    table = attfind.style_table(pair.autoencoder, pair.classifier, styles, extremes)
    assert table.forwards == 12 * (1 + 2 * 8)
    for raises in (True, False):
        gains = table.effects(Aim(0, raises)).gains
        for ranking in (
            effects.rank(gains),
            effects.rank_greedily(gains, 0.05),
            effects.rank_accumulating(gains, 0.05),
        ):
            assert ranking[0].index == 5
            assert ranking[0].sign == (1 if raises else -1)


def _small_style_pair(condition: str = "none") -> tuple[Pair, torch.Tensor]:
    from gifsplain.models import wrap
    from gifsplain.models.protocols import ModelCard
    from gifsplain.models.small import SmallClassifier, SmallConfig
    from gifsplain.models.stylegan import StyleConfig, StyleNet

    torch.manual_seed(0)
    config = StyleConfig(size=32, widths=(6, 6, 5, 4), w_dim=5, mapping_layers=2, condition=condition)
    classifier = SmallClassifier(SmallConfig(targets=config.targets, size=32, widths=(4, 4, 4, 4))).eval()
    net = StyleNet(config).eval().requires_grad_(False)
    card = ModelCard("tiny", "autoencoder", 32)
    first = wrap.classifier(classifier, name="tiny", targets=config.targets, size=32)
    return wrap.pair(first, styleex.StyleAutoencoder(card, net, classifier)), torch.randn(3, 5)


@pytest.mark.parametrize("condition", ["none", "concat"])
@pytest.mark.parametrize(
    "finder", [LatentShift(), SteppedLatentShift(Settings(), steps=3), LatentOptimisation(steps=3)]
)
def test_what_explains_by_w_leaves_the_condition_alone(finder, condition):
    """The condition is the image's own answer; only label flip may change it."""
    pair, _ = _small_style_pair(condition)
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = pair.autoencoder.encode(images)
    assert z.shape[1] == (7 if condition == "concat" else 5)
    for (move,), latent in zip(finder.find(pair, images, z, 0, Composition.RECONSTRUCTION).moves, z, strict=True):
        moved = move.apply(latent, torch.tensor([-1.0, 1.0])) - latent
        assert bool((moved[:, 5:] == 0).all()) and bool((moved[:, :5] != 0).all())


def test_reusing_activations_and_batching_change_no_number():
    pair, w = _small_style_pair()
    model = pair.autoencoder
    styles = model.styles(w)
    extremes = attfind.Extremes.of(styles, sum(model.searched))
    fast = attfind.style_table(model, pair.classifier, styles, extremes, shift=2.0)
    for options in ({"reuse": False}, {"batch": 3}):
        slow = attfind.style_table(model, pair.classifier, styles, extremes, shift=2.0, **options)
        torch.testing.assert_close(fast.moved, slow.moved, atol=2e-6, rtol=1e-4)
    j, sign = 7, 1
    edited = attfind.apply_coordinates(styles[1], extremes, ((j, sign),), shift=2.0)
    one = pair.classifier.scores(model.decode_styles(edited[None]).clamp(0, 1))
    torch.testing.assert_close(fast.moved[1, j, 1], one[0], atol=2e-6, rtol=1e-4)


def test_screening_keeps_the_planted_coordinate():
    pair = planted.coordinate_pair(5)
    styles = pair.autoencoder.styles(planted.latents(12))
    extremes = attfind.Extremes.of(styles, 8)
    kept = attfind.screened_coordinates(pair.autoencoder, pair.classifier, styles, extremes, target=0, count=1)
    assert (kept == 5).all()


def test_coordinates_are_named_by_layer_and_channel():
    model = planted.coordinate_pair().autoencoder
    assert [attfind.coordinate_name(model, j) for j in (0, 2, 3, 7)] == [
        "layer 0 channel 0",
        "layer 0 channel 2",
        "layer 1 channel 0",
        "layer 1 channel 4",
    ]
    with pytest.raises(IndexError, match="0"):
        attfind.coordinate_name(model, 8)


def test_a_move_whose_both_signs_help_is_inconsistent():
    gains = torch.tensor([[[0.4, 0.5], [-0.1, 0.2], [0.0, 0.3]]])
    assert [r.index for r in effects.rank(gains)] == [2, 1]
    assert effects.rank_greedily(gains, 1.0)[0] == Ranked(2, 1, pytest.approx(0.3))


gain_tables = st.integers(0, 2**31).map(
    lambda seed: torch.randn(7, 5, 2, generator=torch.Generator().manual_seed(seed))
)


@given(gain_tables, st.integers(1, 5))
def test_cover_counts_each_image_once_and_all_that_any_move_flips(gains, count):
    ranking = effects.rank(gains, count)
    flips = gains > 0.8
    found = effects.cover(flips, ranking)
    taken = [i for rows in found.images for i in rows]
    assert len(taken) == len(set(taken))
    any_flip = {i for r in ranking for i in range(7) if flips[i, r.index, (r.sign + 1) // 2]}
    assert set(taken) == any_flip
    assert found.share == pytest.approx(len(any_flip) / 7)


@given(gain_tables)
def test_greedy_ranking_is_the_algorithm_of_the_paper(gains):
    left, expected, used = set(range(7)), [], set()
    while left and len(expected) < 4:
        best = None
        for j in range(5):
            means = [sum(float(gains[i, j, s]) for i in left) / len(left) for s in (0, 1)]
            if j in used or (means[0] > 0 and means[1] > 0):
                continue
            for s in (0, 1):
                if means[s] > 0 and (best is None or means[s] > best[0]):
                    best = (means[s], j, s)
        if best is None:
            break
        expected.append((best[1], (-1, 1)[best[2]]))
        used.add(best[1])
        left = {i for i in left if float(gains[i, best[1], best[2]]) <= 0.8}
    assert [(r.index, r.sign) for r in effects.rank_greedily(gains, 0.8, 4)] == expected


def test_merged_ranking_adds_gains_of_opposite_signs():
    merged = effects.merge_aims([Ranked(1, 1, 0.3), Ranked(2, -1, 0.35)], [Ranked(1, -1, 0.2)])
    assert [(r.index, r.sign) for r in merged] == [(1, 1), (2, -1)]
    assert merged[0].gain == pytest.approx(0.5)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([-1, 1]), st.floats(0.01, 1)), unique_by=lambda t: t[0]),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([-1, 1]), st.floats(0.01, 1)), unique_by=lambda t: t[0]),
)
def test_merged_ranking_has_one_sign_a_move_and_it_is_the_better_one(raising, lowering):
    gain = {(index, sign): 0.0 for index in range(5) for sign in (-1, 1)}
    for index, sign, value in raising:
        gain[index, sign] += value
    for index, sign, value in lowering:
        gain[index, -sign] += value
    merged = effects.merge_aims(*([Ranked(*item) for item in ranking] for ranking in (raising, lowering)), 3)
    best = sorted((max(gain[index, sign] for sign in (-1, 1)) for index in range(5)), reverse=True)
    assert [r.gain for r in merged] == pytest.approx([value for value in best if value > 0][:3])
    assert len({r.index for r in merged}) == len(merged)
    assert all(r.gain == pytest.approx(gain[r.index, r.sign]) for r in merged)


def test_subset_leaves_out_what_does_not_help_and_stops_at_the_flip():
    worth = {0: 0.2, 1: -0.1, 2: 0.3, 3: 0.4}
    calls = []

    def score(moves):
        calls.append(len(moves))
        return 0.1 + sum(worth[m.index] for m in moves)

    kept, end = effects.subset([Ranked(j, 1, 0.0) for j in range(4)], 0.1, Aim(0), score)
    assert [m.index for m in kept] == [0, 2]
    assert end == pytest.approx(0.6)
    assert len(calls) == 3


def test_independent_selection_orders_by_the_own_effect():
    gains = torch.tensor([[0.0, 0.1], [0.0, 0.7], [0.4, 0.0]])
    ranking = [Ranked(0, 1, 0.9), Ranked(1, 1, 0.5), Ranked(2, -1, 0.1)]
    assert [r.index for r in effects.independent(gains[:, :], ranking, 2)] == [1, 2]


def test_mean_gradient_and_probe_find_the_planted_direction():
    pair, _ = planted.eigen_pair(3)
    z = planted.latents(200)
    truth = pair.autoencoder.affine.T @ pair.autoencoder.draw.T @ pair.classifier.weight[0]
    assert cosine(directions.mean_gradient(pair, z, 0), truth) == pytest.approx(1, abs=1e-4)
    logits = pair.classifier.logits(pair.autoencoder.decode(z))[:, 0]
    for kind in ("ridge", "logistic"):
        assert cosine(probe.probe_direction(z, logits, kind=kind, penalty=0.01), truth) > 0.95


def test_ridge_probe_is_the_same_in_both_spaces():
    torch.manual_seed(0)
    features, wanted = torch.randn(9, 9, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    wide = torch.cat([features, torch.zeros(9, 1, dtype=torch.float64)], 1)  # d > n: the other branch
    torch.testing.assert_close(probe._ridge(wide, wanted, 0.5)[:9], probe._ridge(features, wanted, 0.5))


PAIR, SELECTION = planted.coordinate_pair(5), planted.latents(8)
GAINS = torch.randn(7, 5, 2, generator=torch.Generator().manual_seed(0))


def _fitted_attfind():
    settings = fits.FitSettings(attfind_images=4, cover=0.01)
    found, _ = fits._fit_attfind(PAIR, SELECTION, PAIR.autoencoder, settings)
    return found["wanted"].steps


@pytest.mark.parametrize(
    "work",
    [
        lambda: probe.probe_direction(GAINS[:, :, 0], GAINS[:, 0, 1]),
        lambda: probe.probe_direction(GAINS[:4, :, 0], GAINS[:4, 0, 1]),
        lambda: effects.rank_greedily(GAINS, 0.5), lambda: effects.rank_accumulating(GAINS, 0.5),
        lambda: effects.cover(GAINS > 0.5, effects.rank(GAINS)), _fitted_attfind,
    ],
    ids=["ridge", "ridge, more numbers than images", "greedy", "accumulating", "cover", "AttFind's fit"],
)  # fmt: skip
def test_what_is_fitted_stays_on_the_device_of_the_models(work):
    """Another default device is a trap for every tensor that is not put where the latents are."""
    expected = work()
    with torch.device("meta"):
        found = work()
    if isinstance(found, torch.Tensor):
        torch.testing.assert_close(found, expected)
    else:
        assert found == expected


def test_probe_refuses_what_it_cannot_learn_from():
    with pytest.raises(InputError, match="at least 4"):
        probe.probe_direction(torch.rand(3, 2), torch.rand(3))
    with pytest.raises(InputError, match="both sides"):
        probe.probe_direction(torch.rand(5, 2), torch.ones(5), kind="logistic")


def test_principal_directions_equal_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    z = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7)
    ours, theirs = directions.principal_directions(z, 3), torch.from_numpy(PCA(3).fit(z.numpy()).components_)
    for a, b in zip(ours, theirs, strict=True):
        assert abs(cosine(a, b)) == pytest.approx(1, abs=1e-4)


def test_random_directions_are_orthonormal_and_repeat():
    found = directions.random_directions((3, 4), 5, seed=2)
    flat = found.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(5), atol=1e-5, rtol=0)
    assert torch.equal(found, directions.random_directions((3, 4), 5, seed=2))
    assert not torch.equal(found, directions.random_directions((3, 4), 5, seed=3))


def test_population_finder_proposes_the_planted_direction_first_and_signed():
    pair, vector = planted.eigen_pair(3)
    z = planted.latents(5, seed=9)
    steps = eigenfind.style_directions(pair.autoencoder, 6) * 0.02
    known = {"wanted": population.Directions(steps, tuple(f"v{k}" for k in range(6)))}
    images = pair.autoencoder.decode(z)
    for select in ("independent", "subset"):
        finder = population.PopulationFinder("eigenfind", known, select=select)
        proposal = finder.find(pair, images, z, 0, Composition.RECONSTRUCTION)
        assert proposal.decodes >= 1 + 2 * 6
        for i, moves in enumerate(proposal.moves):
            assert cosine(moves[0].direction, vector) == pytest.approx(1, abs=2e-3)
            drawn = pair.autoencoder.decode(moves[0].apply(z[i], torch.tensor([-2.0, 0.0, 2.0])))
            low, middle, high = pair.classifier.scores(drawn)[:, 0].tolist()
            assert low < middle < high
            slope = float(torch.logit(torch.tensor(high)) - torch.logit(torch.tensor(low))) / 4
            if select == "independent":
                assert moves[0].slope == pytest.approx(slope, rel=1e-2)


POINTS = torch.tensor([0.1, 0.5])  # operating points: a score of 0.5 is a probability of 0.1
LINKS = {
    ScoreMeaning.PROBABILITY: (torch.sigmoid, 0.0),
    ScoreMeaning.CALIBRATED: (xrv.calibrated(POINTS), float(torch.logit(POINTS[0]))),
    ScoreMeaning.LOGIT: (lambda logits: logits, 0.0),
}
"""Score of logits, and the logit where a prediction turns."""


@dataclass(frozen=True, eq=False)
class Linked(planted.LinearClassifier):
    """Scores of any meaning; `bend` lowers the logit on both sides of the middle."""

    bend: float = 0.0

    def logits(self, images):
        straight = (images.flatten(1) - 0.5) @ self.weight.T
        return straight - self.bend * (images.flatten(1) - 0.5).square().sum(1, keepdim=True) + self.bias

    def link(self, logits):
        return LINKS[self.card.meaning][0](logits)

    def scores(self, images):
        return self.link(self.logits(images))


def linked_pair(meaning, distance, bend=0.0):
    """The target's logit is `distance` from where its prediction turns, and three directions raise it by 1.2, 0.8, 0.4."""
    pair, _ = planted.eigen_pair()
    steps = torch.linalg.svd(pair.autoencoder.affine)[2][:3] * 0.02
    drawn = steps @ (pair.autoencoder.draw @ pair.autoencoder.affine).T
    weight = torch.linalg.pinv(drawn) @ torch.tensor([0.6, 0.4, 0.2])
    bias = torch.tensor([LINKS[meaning][1] + distance, 0.0])
    card = replace(pair.classifier.card, meaning=meaning)
    model = Linked(torch.stack([weight, weight]), bias, card, bend)
    return replace(pair, classifier=model), {"wanted": population.Directions(steps, ("first", "second", "third"))}


@pytest.mark.parametrize("meaning", list(LINKS))
@pytest.mark.parametrize(
    ("distance", "kept"),
    [(-1.0, "first"), (-1.5, "first + second"), (-9.0, "first + second + third"), (1.0, "first"), (2.2, "first + second + third")],
)  # fmt: skip
def test_a_subset_is_added_up_until_the_score_crosses_one_half(meaning, distance, kept):
    pair, known = linked_pair(meaning, distance)
    z = torch.zeros(1, 6)
    finder = population.PopulationFinder("pca", known, select="subset")
    (move,) = finder.find(pair, pair.autoencoder.decode(z), z, 0, Composition.RECONSTRUCTION).moves[0]
    assert move.name == f"pca: {kept}"
    raised = {"first": 1.2, "first + second": 2.0, "first + second + third": 2.4}[kept]  # logits at strength 2
    assert move.slope == pytest.approx(raised / 2, rel=1e-3)
    end = pair.classifier.scores(pair.autoencoder.decode(move.apply(z[0], torch.tensor([-2.0, 2.0]))))[:, 0]
    middle = 0.0 if meaning is ScoreMeaning.LOGIT else 0.5
    assert bool(end[0] < middle < end[1]) == (abs(distance) < raised)


@pytest.mark.parametrize("meaning", list(LINKS))
@pytest.mark.parametrize("select", ["subset", "independent"])
def test_where_no_direction_helps_that_is_said_and_not_a_zero_gradient(meaning, select):
    pair, known = linked_pair(meaning, -2.0, bend=1e4)
    if select == "independent":
        known = {"wanted": replace(known["wanted"], steps=torch.zeros(3, 6))}
    finder = population.PopulationFinder("pca", known, select=select)
    case = Picture(torch.full((1, 4, 4), 0.5), Provenance("x", "", "array", (4, 4), 8))
    (made,) = explain(pair, finder, [case], ["wanted"], Settings(drop=0.2, rise=0.2))
    assert made.stop_lower is made.stop_higher is Stop.NO_DIRECTION and not made.has_sweep
    found = {check.name: check for check in made.checks}
    assert found["gradient"].verdict is found["wanted_change"].verdict is Verdict.FAIL
    assert "another method may find one" in found["gradient"].text
    assert "nothing to explain" not in found["gradient"].text and "gradient is zero" not in found["wanted_change"].text


@dataclass(frozen=True, eq=False)
class Crooked(planted.LinearClassifier):
    """Raised by w 0 more than lowered, lowered by w 1 more than raised; the second target is constant."""

    def logits(self, images):
        first, second = ((images.flatten(1) - 0.5) @ self.weight[k] for k in (0, 1))
        bent = first + 0.8 * first.abs() + second - 0.8 * second.abs()
        return torch.stack([bent, torch.zeros_like(bent)], 1) + self.bias

    def link(self, logits):
        return LINKS[self.card.meaning][0](logits)

    def scores(self, images):
        return self.link(self.logits(images))


def crooked_pair(meaning, bias):
    model = planted.LinearStyles(torch.eye(8, 6), planted.orthonormal(planted.PIXELS, 8, 3), (3, 5))
    card = replace(planted.PLANTED, meaning=meaning)
    return Pair(Crooked(model.draw[:, :2].T * 4, torch.tensor([bias, 0.0]), card), model)


@pytest.mark.parametrize(("meaning", "bias", "best"), [
    (ScoreMeaning.LOGIT, 0.3, 1), (ScoreMeaning.LOGIT, -0.3, 0), (ScoreMeaning.PROBABILITY, 0.3, 1),
])  # fmt: skip
def test_directions_are_ranked_on_images_on_the_wrong_side_of_where_a_prediction_turns(meaning, bias, best):
    pair = crooked_pair(meaning, bias)
    images = pair.autoencoder.decode(planted.latents(20))
    settings = fits.FitSettings(candidates=6, kept=1, degree=1.0, attfind_images=20, cover=1.0)
    fit = fits.fit_pair(pair, images, replace(settings, kept=6))
    assert fit.of("attfind")["wanted"].labels[0] == f"layer 0 channel {best}"
    (place,) = fit.of("eigenfind")["wanted"].steps[0].nonzero()[:, 0]
    assert place == best


def test_a_score_that_nothing_moves_has_no_directions_and_not_nan_ones(tmp_path):
    pair, _ = planted.eigen_pair()
    constant = Pair(planted.LinearClassifier(torch.zeros(2, planted.PIXELS), torch.ones(2)), pair.autoencoder)
    images = pair.autoencoder.decode(planted.latents(10))
    for models, pictures in ((constant, images), (pair, images[:1].expand(10, -1, -1, -1))):  # and one image ten times
        fit = fits.fit_pair(models, pictures, fits.FitSettings(candidates=4, attfind_images=4))
        steps = [known.steps for by_target in fit.directions.values() for known in by_target.values()]
        assert len(steps) >= 4 and all(bool(one.isfinite().all()) for one in steps)
    fit = fits.fit_pair(constant, images, fits.FitSettings(candidates=4, attfind_images=0))
    for method in ("probe", "mean-gradient"):
        finder = population.PopulationFinder(method, fit.of(method))
        case = Picture(images[0], Provenance("x", "", "array", (4, 4), 8))
        (made,) = explain(constant, finder, [case], ["wanted"], Settings())
        assert made.stop_lower is Stop.NO_DIRECTION


@dataclass(frozen=True, eq=False)
class Broken(planted.LinearClassifier):
    """No number for the first target wherever a pixel is brighter than `limit`."""

    limit: float = 0.62

    def logits(self, images):
        lost = (images.flatten(1).amax(1, keepdim=True) > self.limit) & torch.tensor([True, False])
        return super().logits(images).masked_fill(lost, torch.nan)


def test_scores_that_are_no_numbers_rank_nothing():
    pair, _ = planted.eigen_pair()
    z = planted.latents(40)
    broken = replace(pair, classifier=Broken(pair.classifier.weight, pair.classifier.bias))
    styles = pair.autoencoder.styles(z)
    far = attfind.Extremes(styles[:, :8].min(0).values, styles[:, :8].max(0).values * 50)
    known = {"wanted": population.Directions(torch.eye(6)[:2], ("a", "b"))}
    finder, images = population.PopulationFinder("pca", known), pair.autoencoder.decode(z[:1] * 0)
    for work in (
        lambda: effects.measure_table(broken, z, torch.eye(6) * 0.01),
        lambda: effects.measure_moves(broken, z * 0, torch.eye(6), Aim(0)),
        lambda: attfind.style_table(pair.autoencoder, broken.classifier, styles[:2] * 0, far),
        lambda: fits.target_directions(broken, z, fits.FitSettings()),
        lambda: finder.find(broken, images, z[:1] * 0, 0, Composition.RECONSTRUCTION),
    ):
        with pytest.raises(ModelError, match="planted gives no finite number for wanted on a picture"):
            work()
    untrained = replace(broken.classifier, card=replace(planted.PLANTED, untrained=("wanted",)))
    table = effects.measure_table(replace(broken, classifier=untrained), z, torch.eye(6) * 0.01)
    assert bool(table.moved[..., 1].isfinite().all())


def test_population_finder_names_the_target_it_was_not_fitted_for():
    pair, _ = planted.eigen_pair()
    finder = population.PopulationFinder("pca", {"wanted": population.Directions(torch.rand(1, 6), ("a",))})
    with pytest.raises(ModelError, match="no direction for 'other'"):
        finder.find(pair, torch.rand(1, 1, 4, 4), planted.latents(1), 1, Composition.RECONSTRUCTION)


def test_fit_is_saved_read_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pair, vector = planted.eigen_pair(3)
    with pytest.raises(WeightsError, match="directions fit"):
        fits.load(pair)
    images = pair.autoencoder.decode(planted.latents(40))
    fit = fits.fit_pair(pair, images, fits.FitSettings(candidates=6, kept=3, degree=1.0, attfind_images=10, cover=0.01))
    fits.save(fit, fits.cache_path(pair))
    read = fits.load(pair)
    assert set(read.directions) == {"eigenfind", "pca", "random", "mean-gradient", "probe", "attfind"}
    assert read.facts["forwards"]["eigenfind"] == 40 * (1 + 2 * 6)
    assert read.facts["forwards"]["attfind"] == 10 * (1 + 2 * 8)
    assert cosine(read.of("eigenfind")["wanted"].steps[0], vector) == pytest.approx(1, abs=2e-3)
    view = styleex.style_view(pair.autoencoder)
    assert fits.load(Pair(pair.classifier, view)).facts["key"] == fits.pair_key(pair)
    with pytest.raises(InputError, match="no 'label-flip'"):
        read.of("label-flip")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e8])
def test_a_fit_keeps_directions_of_latents_of_any_scale(scale, tmp_path):
    pair, _ = planted.eigen_pair(3)
    scaled = replace(pair, autoencoder=replace(pair.autoencoder, affine=pair.autoencoder.affine / scale))
    fit = fits.fit_pair(scaled, pair.autoencoder.decode(planted.latents(20)), fits.FitSettings(candidates=4))
    fits.save(fit, tmp_path / "fit.safetensors")
    read = fits.read(tmp_path / "fit.safetensors")
    for method in ("eigenfind", "pca", "mean-gradient", "probe"):
        for made, kept in zip(fit.of(method)["wanted"].steps, read.of(method)["wanted"].steps, strict=True):
            torch.testing.assert_close(kept / made.norm(), made / made.norm(), atol=1e-3, rtol=0)
    with safe_open(tmp_path / "fit.safetensors", framework="pt") as file:
        assert file.get_tensor("pca/wanted").dtype is (torch.half if scale == 1 else torch.float32)


@pytest.mark.parametrize(
    "wrong", [{"kept": 0}, {"candidates": 0}, {"batch": 0}, {"degree": 0.0}, {"attfind_shift": -1.0}, {"attfind_images": -1}]
)  # fmt: skip
def test_fits_that_would_hold_nothing_are_refused(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))}.*must be"):
        fits.FitSettings(**wrong)


def test_a_fit_is_kept_by_the_weights_and_not_by_the_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pair, _ = planted.eigen_pair()
    seen = replace(pair.classifier.card, sha256="")

    def mine(seed):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(planted.PIXELS, 2))
        return Pair(wrap.classifier(net, name="mine", targets=seen.targets, size=seen.size), pair.autoencoder)

    images = pair.autoencoder.decode(planted.latents(10))
    fits.save(fits.fit_pair(mine(0), images, fits.FitSettings(attfind_images=0)), fits.cache_path(mine(0)))
    assert fits.load(mine(0)).facts["key"] == fits.pair_key(mine(0)) != fits.pair_key(mine(1))
    with pytest.raises(WeightsError, match="directions fit"):
        fits.load(mine(1))
    hidden = replace(pair, classifier=replace(pair.classifier, card=seen))
    assert fits.fit_pair(hidden, images, fits.FitSettings(attfind_images=0)).facts["key"] == ""
    for reuse in (fits.load, fits.cache_path):
        with pytest.raises(WeightsError, match="shows no checksum or network"):
            reuse(hidden)


def test_the_record_tells_two_fits_of_one_pair_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pair, _ = planted.eigen_pair(3)
    images = pair.autoencoder.decode(planted.latents(40))
    case = Picture(images[0], Provenance("x", "", "array", (4, 4), 8))
    for method in ("pca", "attfind"):
        records = []
        for count in (40, 30):
            fit = fits.fit_pair(pair, images[:count], fits.FitSettings(degree=1.0, attfind_images=10, cover=0.01))
            fits.save(fit, fits.cache_path(pair))
            (made,) = explain_with(method, pair, [case], ["wanted"], Settings(strengths=(-1, 1), frames=3))
            found = made.record["fit"]
            assert found["sha256"] == hashlib.sha256(fits.cache_path(pair).read_bytes()).hexdigest()
            assert (found["images"], found["key"]) == (count, fits.pair_key(pair))
            assert found["settings"]["attfind_images"] == 10
            records.append(to_json(record_of(made))["record"])
        assert records[0] != records[1]
        assert {key for key in records[0] if records[0][key] != records[1][key]} <= {"fit", "move"}
    (made,) = explain_with("latentshift", pair, [case], ["wanted"], Settings(strengths=(-1, 1), frames=3))
    assert "fit" not in made.record


def test_the_key_of_models_with_checksums_is_the_published_one():
    pair, _ = planted.eigen_pair()
    assert fits.pair_key(pair) == hashlib.sha256(b"planted:p:4|linear:l:4").hexdigest()[:16]
    assert fits.pair_key(styleex.load_styleex()) == "2ed91be45b9e3da6"  # the file that ships


def test_strength_one_is_one_standard_deviation():
    pair, _ = planted.eigen_pair()
    z = planted.latents(40)
    fit = fits.fit_pair(pair, pair.autoencoder.decode(z), fits.FitSettings(candidates=6, attfind_images=0))
    for step in fit.of("pca")["wanted"].steps:
        assert float((z @ (step / step.norm())).std()) == pytest.approx(float(step.norm()), rel=1e-3)


def test_methods_that_need_styles_refuse_an_autoencoder_without_them():
    from gifsplain.explain.optimise import pixel_pair

    pair, _ = planted.eigen_pair()
    with pytest.raises(ModelError, match="style tensor"):
        styleex.style_view(pixel_pair(pair).autoencoder)


def test_fit_refuses_too_few_images():
    pair, _ = planted.eigen_pair()
    with pytest.raises(InputError, match="at least 8"):
        fits.fit_pair(pair, torch.rand(3, 1, 4, 4))
