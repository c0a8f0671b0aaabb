"""`evaluate directions` and the pages, on models in which the answer is known."""

import dataclasses

import pytest
import torch

from gifsplain.errors import InputError
from gifsplain.evaluate import directions, directions_report
from gifsplain.explain import fits
from gifsplain.explain.methods import METHODS, explain_with
from gifsplain.explain.optimise import LatentOptimisation, PathMove
from gifsplain.explain.settings import Settings
from gifsplain.render import direction_pages
from gifsplain.types import Picture, Provenance

from . import planted

PLAN = directions.DirectionsPlan(
    strengths=(1.0, 4.0, 8.0), shifts=(1.0, 3.0), rank_at=2.0, candidates=6, kept=3, attfind_images=6
)


@pytest.fixture(scope="module")
def pair():
    return planted.eigen_pair(3)[0]


@pytest.fixture(scope="module")
def measured(pair):
    images = pair.autoencoder.decode(planted.latents(40))
    return directions.measure(pair, images[:24], images[24:], PLAN)


def test_every_method_is_measured_with_its_controls(measured):
    tried, costs = measured
    assert {t.method for t in tried} == {"eigenfind", "pca", "random", "mean-gradient", "probe", "gradient", "attfind"}
    by_name = {cost.method: cost for cost in costs}
    assert by_name["eigenfind"].forwards == 24 * (1 + 2 * 6)
    assert by_name["attfind"].forwards == 6 * (1 + 2 * 8)


def test_explained_is_what_the_classifier_says_of_the_drawn_picture(pair, measured):
    tried, _ = measured
    held = planted.latents(40)[24:]
    item = next(t for t in tried if t.method == "mean-gradient" and t.target == "wanted" and t.raises)
    z = pair.autoencoder.encode(pair.autoencoder.decode(planted.latents(40)[:24]))
    sigma = directions.common_spread(z, 6)
    step = fits.target_directions(pair, z, fits.FitSettings())["mean-gradient"]["wanted"].steps[0]
    moved = held[item.images] + 4.0 * sigma * step / step.norm()
    frames = pair.autoencoder.decode(moved).clamp(0, 1)
    truth = pair.classifier.scores(frames)[:, 0] > 0.5
    assert torch.equal(item.flipped[:, 0, 1] > 0, truth)
    change = (frames - pair.autoencoder.decode(held[item.images]).clamp(0, 1)).abs().mean((1, 2, 3))
    torch.testing.assert_close(item.change[:, 0, 1], change, atol=1e-6, rtol=1e-3)


def test_planted_direction_beats_random_ones_at_equal_length(measured):
    rows = directions.case_rows(measured[0])
    rows = rows[(rows["target"] == "wanted") & (rows["selection"] == "best") & (rows["by"] == "length")]
    share = rows.groupby(["method", "at"])["explained"].mean()
    assert share["eigenfind", 1.0] > share["random", 1.0]
    assert share["eigenfind", 8.0] == pytest.approx(share["gradient", 8.0], abs=0.13)


def test_budget_rows_are_the_least_change_that_explains():
    flipped = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    change = torch.tensor([[0.01, 0.03], [0.02, 0.05]])
    found = directions._of_image(flipped, change, (1.0, 2.0), (0.01, 0.02))
    assert [(f["by"], f["at"], f["explained"]) for f in found] == [
        ("length", 1.0, True), ("length", 2.0, True), ("budget", 0.01, False), ("budget", 0.02, True),
    ]  # fmt: skip
    assert [f["change"] for f in found[:2]] == pytest.approx([0.02, 0.03])


def test_report_is_written_with_ratios_and_words(measured, tmp_path):
    tried, costs = measured
    rows = directions.case_rows(tried)
    rows["patient"] = rows["image"].astype(str)
    report = directions_report.make(rows, costs)
    directions_report.write(report, rows, tmp_path)
    ratio = report.costs.set_index("method").loc["attfind", "forwards_by_eigenfind"]
    assert ratio == pytest.approx((1 + 2 * 8) / (1 + 2 * 6))
    assert any("random directions" in sentence for sentence in report.words)
    assert {p.name for p in tmp_path.iterdir()} == {
        "rows.csv", "shares.csv", "costs.csv", "tables.md", "words.txt", "directions.png",
    }  # fmt: skip


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
    move = PathMove(torch.tensor([[0.0], [-1.0], [-3.0]]), torch.tensor([[0.0], [2.0], [3.0]]), "path")
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
    assert "<textarea" in html
    assert "research only" in html
    assert html.count("data:image/gif") == 2


def test_pages_refuse_a_method_without_directions(pair, tmp_path):
    with pytest.raises(InputError, match="no directions of its own"):
        direction_pages.write_pages(pair, torch.rand(1, 1, 4, 4), "latentshift", ("wanted",), tmp_path)


def test_same_split_for_both_is_refused(tmp_path):
    from gifsplain.evaluate.config import Setup

    config = directions_report.DirectionsConfig(Setup(tmp_path / "m.csv", tmp_path, split="val"))
    with pytest.raises(InputError, match="rank on val, explain on test"):
        directions_report.run(config)
    assert dataclasses.is_dataclass(config)
