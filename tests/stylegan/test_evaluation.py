"""`evaluate directions` and the pages, on models in which the answer is known."""

import dataclasses
import json
import math

import pandas as pd
import pytest
import torch
from PIL import Image

from gifsplain.errors import ConfigurationError, InputError, TargetError
from gifsplain.evaluate import config, directions, directions_cost, directions_report, directions_verdict
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.movers import OwnMover, StepMover
from gifsplain.explain import fits
from gifsplain.explain.methods import METHODS, explain_with
from gifsplain.explain.moves import PathMove
from gifsplain.explain.optimise import LatentOptimisation
from gifsplain.explain.settings import Settings
from gifsplain.render import direction_pages
from gifsplain.types import Picture, Provenance, ScoreMeaning

from . import planted

PLAN = directions.DirectionsPlan(
    strengths=(1.0, 4.0, 8.0), shifts=(1.0, 3.0), rank_at=2.0, candidates=6, kept=3, attfind_images=6, local=4
)


@pytest.fixture(scope="module")
def pair():
    return planted.eigen_pair(3)[0]


@pytest.fixture(scope="module")
def measured(pair):
    images = pair.autoencoder.decode(planted.latents(40))
    return directions.measure(pair, images[:24], images[24:], PLAN)


def test_every_method_is_measured_with_its_controls(measured):
    methods = {"eigenfind", "eigenfind-local", "pca", "random", "mean-gradient", "probe", "gradient", "attfind"}
    assert {t.method for t in measured.tried} == methods
    by_name = {cost.method: cost for cost in measured.costs}
    assert len(by_name) == len(measured.costs)
    assert by_name["eigenfind"].forwards == 24 * (1 + 2 * 6)
    assert by_name["attfind"].forwards == 6 * (1 + 2 * 8)


def test_explained_is_what_the_classifier_says_of_the_drawn_picture(pair, measured):
    held = planted.latents(40)[24:]
    item = next(t for t in measured.tried if t.method == "mean-gradient" and t.target == "wanted" and t.raises)
    z = pair.autoencoder.encode(pair.autoencoder.decode(planted.latents(40)[:24]))
    sigma = directions.common_spread(z, 6)
    step = fits.target_directions(pair, z, fits.FitSettings())["mean-gradient"]["wanted"].steps[0]
    moved = held[item.images] + 4.0 * sigma * step / step.norm()
    frames = pair.autoencoder.decode(moved).clamp(0, 1)
    truth = pair.classifier.scores(frames)[:, 0] > 0.5
    assert torch.equal(item.flipped[:, 0, 1] > 0, truth)
    change = (frames - pair.autoencoder.decode(held[item.images]).clamp(0, 1)).abs().mean((1, 2, 3))
    torch.testing.assert_close(item.change[:, 0, 1], change, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("held", [1, 12])
def test_own_directions_are_as_long_as_the_shared_ones(pair, held):
    """In a linear model each image's own gradient is the mean gradient, so both draw the same pictures at every length."""
    images = pair.autoencoder.decode(torch.cat([planted.latents(20), planted.latents(held, seed=1, scale=0.05)]))
    measured = directions.measure(pair, images[:20], images[20:], dataclasses.replace(PLAN, attfind_images=0))
    tried = {(t.method, t.target, t.raises): t for t in measured.tried}
    for target in pair.targets:
        for raises in (True, False):
            own, mean = (tried[method, target, raises] for method in ("gradient", "mean-gradient"))
            torch.testing.assert_close(own.change, mean.change, atol=1e-5, rtol=1e-3)
            assert torch.equal(own.flipped, mean.flipped)
    z = pair.autoencoder.encode(images)
    (item,) = (t for t in directions._local(pair, z[:20], z[20:], PLAN) if t.target == "wanted")
    lengths = item.mover.steps.flatten(2).norm(dim=2)
    torch.testing.assert_close(
        lengths, torch.full_like(lengths, directions.common_spread(z[:20], 6)), rtol=1e-4, atol=0
    )


class Logits(planted.LinearClassifier):
    """Logits as scores."""

    def link(self, logits):
        return logits

    def scores(self, images):
        return self.logits(images)


def test_logits_are_explained_where_they_cross_zero(pair):
    """The same network, once with probabilities and once with logits as scores, is explained by the same pictures."""
    first = planted.LinearClassifier(pair.classifier.weight, torch.tensor([0.2, 0.0]))
    card = dataclasses.replace(planted.PLANTED, meaning=ScoreMeaning.LOGIT)
    second = Logits(first.weight, first.bias, card)
    images = pair.autoencoder.decode(planted.latents(40))
    plan = dataclasses.replace(PLAN, attfind_images=0, local=0, targets=("wanted",))
    both = [directions.measure(dataclasses.replace(pair, classifier=c), images[:24], images[24:], plan).tried
            for c in (first, second)]  # fmt: skip
    compared = 0
    for one, other in zip(*both, strict=True):
        if one.method in ("gradient", "mean-gradient"):
            assert torch.equal(one.images, other.images) and torch.equal(one.flipped, other.flipped)
            compared += len(one.images)
    assert compared == 2 * 16


def test_a_finder_that_ranks_no_direction_stays_in_the_tables(pair):
    constant = planted.LinearClassifier(torch.zeros(2, planted.PIXELS), torch.tensor([1.0, -1.0]))
    images = pair.autoencoder.decode(planted.latents(20))
    measured = directions.measure(dataclasses.replace(pair, classifier=constant), images[:10], images[10:], PLAN)
    rows = directions.case_rows(measured.tried)
    shares = rows.groupby(["method", "selection"])["explained"].mean()
    assert {(m, s) for m in ("eigenfind", "attfind", "pca", "random") for s in ("best", "independent", "subset")} <= {
        *shares.index
    }
    assert (shares == 0).all() and rows["change"].notna().all()


def test_planted_direction_beats_random_ones_at_equal_length(measured):
    rows = directions.case_rows(measured.tried)
    rows = rows[(rows["target"] == "wanted") & (rows["selection"] == "best") & (rows["by"] == "length")]
    share = rows.groupby(["method", "at"])["explained"].mean()
    assert share["eigenfind", 1.0] > share["random", 1.0]
    assert share["eigenfind", 8.0] == pytest.approx(share["gradient", 8.0], abs=0.13)


def test_moves_that_cancel_are_no_move(pair):
    """Running sums step by step, each as long as the first step; a sum of nothing but rounding stays where it is."""
    z = planted.latents(2)
    steps = torch.randn(3, *z.shape[1:], generator=torch.Generator().manual_seed(0))
    moves = ((0, 1), (0, -1), (1, 1), (2, -1), (1, -1), (2, 1))
    shared = StepMover(pair, z, steps, (0.5, 2.0))
    own = OwnMover(pair, z, torch.stack([-steps, steps]), (0.5, 2.0))
    total = torch.zeros_like(z[0], dtype=torch.float64)
    for mover in (shared, own):
        codes = mover.together(1, moves)
        assert codes.shape == (2, 6, *z.shape[1:])
        total.zero_()
        for k, (index, sign) in enumerate(moves):
            total += sign * steps[index].double()
            length = float(total.norm())
            step = total * float(steps[0].norm()) / length if length > 1e-5 else torch.zeros_like(total)
            for row, stretch in enumerate((0.5, 2.0)):
                expected = (z[1].double() + stretch * step).float()
                torch.testing.assert_close(codes[row, k], expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(shared.together(0, moves)[:, 1], z[0].expand(2, *z.shape[1:]))


def test_a_target_without_directions_counts_as_unexplained():
    known = {"selection": "best", "by": "budget", "at": 0.03, "raises": True, "image": 0}
    rows = pd.DataFrame(
        [
            {**known, "method": method, "target": target, "explained": True, "change": 0.01}
            for method, target in (("pca", "a"), ("pca", "b"), ("random", "a"))
        ]
    )
    full = directions_report.complete(rows)
    assert full.groupby("method")["explained"].mean().to_dict() == {"pca": 1.0, "random": 0.5}
    assert len(full) == 4
    assert math.isinf(full[full["method"] == "random"]["change"].max())


def test_budget_rows_are_the_least_change_that_explains():
    flipped = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    change = torch.tensor([[0.01, 0.03], [0.02, 0.05]])
    found = directions._of_image(flipped, change, (1.0, 2.0), (0.01, 0.02))
    assert [(f["by"], f["at"], f["explained"]) for f in found] == [
        ("length", 1.0, True), ("length", 2.0, True), ("budget", 0.01, False), ("budget", 0.02, True),
    ]  # fmt: skip
    assert [f["change"] for f in found[:2]] == pytest.approx([0.02, 0.03])


def test_report_is_written_with_ratios_and_words(measured, tmp_path):
    rows = directions.case_rows(measured.tried)
    rows["patient"] = rows["image"].astype(str)
    quality = directions_cost.quality_rows(measured.found, measured.stage, ("wanted", "other"), limit=0.1)
    report = directions_report.make(rows, measured.costs, quality, kept=PLAN.kept)
    legend = {text.get_text() for text in report.figure.legends[0].get_texts()}
    assert {"pca, any of 3", "eigenfind, any of 3", "gradient"} <= legend
    directions_report.write(report, rows, quality, tmp_path)
    ratio = report.costs.set_index("method").loc["attfind", "forwards_by_eigenfind"]
    assert ratio == pytest.approx((1 + 2 * 8) / (1 + 2 * 6))
    assert any("random directions" in sentence for sentence in report.words)
    assert {p.name for p in tmp_path.iterdir()} == {
        "rows.csv", "shares.csv", "costs.csv", "quality.csv", "equal.csv", "tables.md", "words.txt", "directions.png",
    }  # fmt: skip


def test_own_eigenvectors_of_a_linear_decoder_are_those_of_the_affine_map(measured):
    """With the Jacobian the same everywhere, each image's own eigenvectors explain what the shared ones do."""
    by_method = {
        method: next(t for t in measured.tried if (t.method, t.target, t.raises) == (method, "wanted", True))
        for method in ("eigenfind", "eigenfind-local")
    }
    shared, own = (item.flipped.amax(1) for item in by_method.values())
    assert torch.equal(shared[:, -1], own[:, -1])


def test_targets_can_be_chosen_and_unknown_ones_are_refused(pair):
    images = pair.autoencoder.decode(planted.latents(20))
    plan = dataclasses.replace(PLAN, targets=("OTHER",), attfind_images=0, local=0)
    assert {t.target for t in directions.measure(pair, images[:8], images[8:], plan).tried} == {"other"}
    with pytest.raises(TargetError, match="no target 'Mass'; it has wanted, other"):
        directions.measure(pair, images[:8], images[8:], dataclasses.replace(plan, targets=("Mass",)))


def test_a_smaller_budget_is_a_fit_on_fewer_images(pair, measured):
    """Rankings from the first n rows of the table, explained images by drawing each move anew."""
    found = next(item for item in measured.found if item.method == "eigenfind")
    rows = directions_cost.quality_rows([found], measured.stage, ("wanted",), limit=0.05)
    assert sorted(rows["images"].unique()) == [1, 2, 4, 8, 16, 24]
    part = rows[(rows["images"] == 4) & rows["raises"]]
    assert part["forwards"].unique().tolist() == [4 * (1 + 2 * 6)]
    held = planted.latents(40)[24:]
    ranking = directions.Table(found.table.base[:4], found.table.moved[:4], 0).rank_both(0, PLAN.kept)
    for image, explained in zip(part["image"], part["explained"], strict=True):
        z = pair.autoencoder.encode(pair.autoencoder.decode(held[image][None]))
        before = pair.autoencoder.decode(z).clamp(0, 1)
        hits = []
        for item in ranking:
            for length in PLAN.strengths:
                drawn = pair.autoencoder.decode(z + length * item.sign * found.mover.steps[item.index]).clamp(0, 1)
                near = float((drawn - before).abs().mean()) <= 0.05
                hits.append(near and float(pair.classifier.scores(drawn)[0, 0]) > 0.5)
        assert any(hits) == explained


def curve(**shares):
    """Budgets of 1, 2, 4 images; AttFind's image costs 100 forwards and 10 s, others' 5 forwards and 0.5 s."""
    rows = [
        {"method": method, "images": n, "forwards": n * (100 if method == "attfind" else 5),
         "seconds": n * (10.0 if method == "attfind" else 0.5), "share": share}
        for method, values in shares.items()
        for n, share in zip((1, 2, 4), values, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_costs_are_compared_at_the_share_that_both_finders_reach():
    table = directions_cost.equal_quality(
        curve(attfind=(0.2, 0.6, 0.6), eigenfind=(0.5, 0.5, 0.9), random=(0.1, 0.2, 0.3), pca=(0.6, 0.6, 0.6))
    ).set_index("method")
    assert table["level"].unique().tolist() == [0.6]
    assert table.loc["attfind", ["images", "forwards", "seconds"]].tolist() == [2, 200, 20]
    assert table.loc["eigenfind", ["images", "forwards", "seconds"]].tolist() == [4, 20, 2]
    assert table.loc["attfind", ["forwards_by_eigenfind", "seconds_by_eigenfind"]].tolist() == [10, 10]
    assert table.loc["random", "forwards":"seconds"].isna().all()
    assert table.loc["pca", "forwards"] == 5
    words = directions_cost.sentence(table.reset_index())
    assert "10 times the forwards and 10 times the seconds" in words
    assert "random never gets there (at most 0.30)" in words
    assert "pca needs 1 image, 5 forwards" in words


def judged(**explained):
    """40 patients with one image each, explained from a given one on or not, within 0.03."""
    rows = [
        {"method": method, "selection": "best" if method == "gradient" else "independent", "by": "budget", "at": 0.03,
         "target": "Mass", "raises": True, "image": i, "patient": str(i), "explained": i < count}
        for method, count in explained.items()
        for i in range(40)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_finder_earns_its_place_only_above_both_controls():
    rows = judged(eigenfind=30, random=10, pca=15, gradient=38)
    interval = directions_verdict.paired(rows, "eigenfind", "random", 0.03)
    assert interval.value == pytest.approx(0.5)
    assert directions_verdict.earns_its_place(rows, "eigenfind", 0.03)
    assert not directions_verdict.earns_its_place(judged(eigenfind=16, random=10, pca=15), "eigenfind", 0.03)
    assert not directions_verdict.earns_its_place(judged(eigenfind=30, random=10), "eigenfind", 0.03)
    (said,) = directions_verdict.sentences(rows, 0.03)
    assert "less gradient -0.20" in said
    assert said.endswith(": above both controls.")
    (said,) = directions_verdict.sentences(judged(eigenfind=5, random=10, pca=30), 0.03)  # told apart: it is worse
    assert "less pca -0.62" in said and said.endswith(": not above both controls.")


def test_costs_are_not_compared_where_nothing_is_explained():
    table = directions_cost.equal_quality(curve(attfind=(0.0, 0.0, 0.0), eigenfind=(0.5, 0.5, 0.9)))
    assert table[["forwards", "forwards_by_eigenfind"]].isna().all(axis=None)
    assert "cannot be compared" in directions_cost.sentence(table)
    assert directions_cost.sentence(directions_cost.equal_quality(curve(eigenfind=(0.5, 0.5, 0.9)))) == ""


def test_planted_coordinate_costs_attfind_the_forwards_of_all_coordinates():
    """The score looks at one style coordinate: one image is enough for AttFind, and it costs 1 + 2 S forwards."""
    pair = planted.coordinate_pair(5)
    images = pair.autoencoder.decode(planted.latents(40, scale=0.05))
    plan = dataclasses.replace(PLAN, targets=("wanted",), local=0)
    measured = directions.measure(pair, images[:24], images[24:], plan)
    quality = directions_cost.quality_rows(measured.found, measured.stage, ("wanted",), limit=0.2)
    table = directions_cost.equal_quality(directions_cost.quality_curve(quality)).set_index("method")
    assert table.loc["attfind", "level"] > 0.5
    assert table.loc["attfind", "forwards"] == (1 + 2 * 8) * table.loc["attfind", "images"]
    assert table.loc["attfind", "images"] <= 2


def test_too_small_sets_are_refused(pair):
    with pytest.raises(InputError, match="8 selection images"):
        directions.measure(pair, torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4), PLAN)


@pytest.fixture
def fitted(pair, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images = pair.autoencoder.decode(planted.latents(30, scale=0.03))
    settings = fits.FitSettings(candidates=6, kept=3, degree=1.0, attfind_images=8, cover=0.01)
    fits.save(fits.fit_pair(pair, images, settings), fits.cache_path(pair))
    return images


@pytest.mark.parametrize(
    "method",
    ["eigenfind", "eigenfind-subset", "attfind", "attfind-subset", "pca", "random", "mean-gradient", "probe",
     "latent-optimisation", "pixel-optimisation"],
)  # fmt: skip
def test_every_finder_explains_through_the_one_table(method, pair, fitted):
    pictures = [Picture(image, Provenance("x", "", "array", (4, 4), 8)) for image in fitted[:2]]
    settings = Settings(drop=0.02, rise=0.02, frames=5, pixel_limit=1.0)
    results = explain_with(method, pair, pictures, ["wanted"], settings)
    assert len(results) == 2
    for result in results:
        assert result.method == method
        drawn = pair.classifier.scores(result.frames)[:, 0]
        torch.testing.assert_close(drawn, result.frame_scores, atol=1e-5, rtol=1e-4)
        if method != "random":
            assert result.frame_scores[0] < result.frame_scores[-1]
    assert METHODS[method].summary


def test_paths_go_down_on_one_side_and_up_on_the_other():
    move = PathMove(torch.tensor([[0.0], [-1.0], [-3.0]]), torch.tensor([[0.0], [2.0], [3.0]]), "path", "steps")
    found = move.apply(torch.tensor([10.0]), torch.tensor([-2.0, -1.5, 0.0, 0.5, 9.0]))
    assert found[:, 0].tolist() == pytest.approx([7.0, 8.0, 10.0, 11.0, 13.0])


def test_optimisation_counts_its_gradients_and_does_not_mix_images(pair):
    z = planted.latents(3)
    images = pair.autoencoder.decode(z)
    finder = LatentOptimisation(steps=4)
    from gifsplain.explain.compose import Composition

    together = finder.find(pair, images, z, 0, Composition.RECONSTRUCTION)
    alone = finder.find(pair, images[1:2], z[1:2], 0, Composition.RECONSTRUCTION)
    assert together.gradients == 8
    torch.testing.assert_close(together.moves[1][0].lower, alone.moves[0][0].lower, atol=1e-6, rtol=1e-4)


def test_pages_show_the_scores_of_their_pictures(pair, fitted, tmp_path):
    index = direction_pages.write_pages(pair, fitted, "eigenfind", ("wanted",), tmp_path / "pages", shown=2)
    text = index.read_text()
    pages = sorted(p for p in index.parent.glob("*.html") if p.name != "index.html")
    assert pages
    assert all(page.name in text for page in pages)
    known = fits.load(pair).of("eigenfind")["wanted"]
    page = direction_pages.make_page(pair, fitted, "eigenfind", "wanted", known, rank=0, shown=2)
    html = direction_pages.page_html(page)
    for example in page.examples:
        assert f"{float(example.frame_scores[-1]):.2f}" in html
        assert f"Input: <strong>{float(example.scores.input):.2f}<" in html
    assert "<textarea" in html
    assert "research only" in html
    assert html.count("data:image/gif") == 2


def test_pages_refuse_a_method_without_directions(pair, tmp_path):
    with pytest.raises(InputError, match="no directions of its own"):
        direction_pages.write_pages(pair, torch.rand(1, 1, 4, 4), "latentshift", ("wanted",), tmp_path)


@pytest.fixture
def setup(pair, tmp_path, monkeypatch):
    """A manifest of 36 drawn pictures, and the planted pair under the name `planted`."""
    rows = ["path,labels,split"]
    for n, image in enumerate(pair.autoencoder.decode(planted.latents(36)).clamp(0, 1)):
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(tmp_path / f"{n}.png")
        rows.append(f"{n}.png,,{'val' if n < 24 else 'test'}")
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    card = dataclasses.replace(pair.classifier.card, sha256="f" * 64)
    named = dataclasses.replace(pair, classifier=dataclasses.replace(pair.classifier, card=card))
    monkeypatch.setattr(config, "load_models", lambda *names, resize=False: named)
    return Setup(
        tmp_path / "m.csv", tmp_path / "out", classifiers=("planted",), split="test", seed=4, targets=("WANTED",)
    )


def test_a_run_says_what_it_measured_and_claims_its_folder(setup):
    plan = dataclasses.replace(PLAN, attfind_images=0, local=0, kept=2, strengths=(4.0,), targets=("Wanted",))
    directions_report.run(directions_report.DirectionsConfig(setup, plan))
    folder = setup.out / "directions"
    said = json.loads((folder / "config.json").read_text())
    assert (said["config"]["setup"]["seed"], said["config"]["setup"]["split"]) == (4, "test")
    assert said["config"]["setup"]["classifiers"] == ["planted"] and "f" * 64 in said["models"]
    assert said["config"]["selection_split"] == "val" and said["config"]["plan"]["kept"] == 2
    assert said["config"]["plan"]["targets"] == said["config"]["setup"]["targets"] == ["wanted"]
    other = directions_report.DirectionsConfig(setup, dataclasses.replace(plan, kept=1))
    before = (folder / "rows.csv").read_bytes()
    with pytest.raises(ConfigurationError, match=r"plan\.kept differ"):
        directions_report.run(other)
    assert (folder / "rows.csv").read_bytes() == before
    with pytest.raises(InputError, match="one pair at a time, got 2"):
        directions_report.run(directions_report.DirectionsConfig(dataclasses.replace(setup, classifiers=("a", "b"))))


@pytest.mark.parametrize("how", ["split all", "no split column", "one patient in both"])
def test_a_patient_who_ranks_directions_is_not_explained_by_them(how, setup):
    lines = setup.manifest.read_text().splitlines()
    config = directions_report.DirectionsConfig(setup, PLAN, selection_split="all" if how == "split all" else "val")
    if how == "no split column":
        lines = [line.rsplit(",", 1)[0] for line in lines]
    if how == "one patient in both":
        lines = [
            f"{line},{'patient_id' if not n else f'p{n % 24}' if n > 35 else f'p{n}'}" for n, line in enumerate(lines)
        ]
    setup.manifest.write_text("\n".join(lines) + "\n")
    said = (
        "has no column split" if how == "no split column" else r"which ranks directions, such as \w+.*share no patient"
    )
    with pytest.raises(InputError, match=said):
        directions_report.run(config)
    assert not (setup.out / "directions").exists()


@pytest.mark.parametrize(
    "wrong", [{"strengths": ()}, {"strengths": (-4.0,)}, {"strengths": (4.0, 1.0)}, {"shifts": (0.0,)}, {"kept": 0},
              {"kept": -1}, {"candidates": 0}, {"attfind_images": -1}, {"local": -1}],
)  # fmt: skip
def test_plans_that_measure_nothing_or_backwards_are_refused(wrong):
    with pytest.raises(InputError, match="must be"):
        dataclasses.replace(PLAN, **wrong)


def test_too_small_a_selection_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="8 or more images that rank directions, got -1"):
        directions_report.DirectionsConfig(Setup(tmp_path / "m.csv", tmp_path), selection=-1)


def test_same_split_for_both_is_refused(tmp_path):
    same = directions_report.DirectionsConfig(Setup(tmp_path / "m.csv", tmp_path, split="val"))
    with pytest.raises(InputError, match="rank on val, explain on test"):
        directions_report.run(same)
    assert dataclasses.is_dataclass(same)
