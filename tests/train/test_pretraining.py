"""Pre-training on phantoms: views and pasted findings are what they claim, nothing but training films is learnt from."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from gifsplain.errors import ConfigurationError, InputError, WeightsError
from gifsplain.models import backbones, trained
from gifsplain.train import classifier, data, imagenet, machine, pasting
from gifsplain.train import config as configuration
from gifsplain.train.augment import NO_AUGMENTATION, AugmentConfig, draw_crops
from gifsplain.train.classifier import ClassifierTraining, train_classifier
from gifsplain.train.pasting import Findings, draw_recipe, paste
from gifsplain.train.pretraining import Pretraining, PretrainTask, check, pretrain_body
from gifsplain.train.records import read_history
from gifsplain.train.rows import DataConfig, SourceConfig

from . import phantoms
from .runs import CPU, assert_resumes, losses, state

SIZE = 32
EXAMPLE = Path(__file__).parents[2] / "examples" / "training" / "pretrain.yaml"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Pretraining:
    folder = tmp_path_factory.mktemp("phantoms")
    manifest, boxes = phantoms.box(phantoms.write(folder, count=80))
    targets = ("No Finding", *phantoms.TARGETS)
    rows = DataConfig((SourceConfig(str(manifest)),), targets=targets, size=40, cache=folder / "cache")
    return Pretraining(
        rows,
        backbone="small",
        width=8,
        loop=CPU,
        view_size=SIZE,
        projection=(32, 16),
        pasted=8,
        boxes=boxes,
        epochs=12,
        batch_size=16,
        rate=3e-3,
        warmup=5,
    )


@pytest.fixture
def folder(plan: Pretraining, tmp_path: Path) -> Path:
    """A short pre-training that has ended."""
    pretrain_body(replace(plan, epochs=0.5), tmp_path / "pre")
    return tmp_path / "pre"


def task(plan: Pretraining, dataset: data.Dataset | None = None) -> PretrainTask:
    return PretrainTask(plan, dataset or data.open_dataset(plan.data), Fabric(accelerator="cpu", devices=1))


def test_both_losses_fall_and_the_card_says_what_was_done(plan: Pretraining, tmp_path: Path) -> None:
    path = pretrain_body(long := replace(plan, epochs=40), tmp_path / "pre")
    history = read_history(tmp_path / "pre")
    rows = [row for row in history if "loss" in row]
    first, last = rows[0], rows[-1]
    assert last["contrast"] < 0.8 * first["contrast"] and last["partner"] > first["partner"]
    assert last["pasted"] < first["pasted"] and last["told"] > 0.6
    assert losses(tmp_path / "pre")[-1] == pytest.approx(last["contrast"] + 2 * last["pasted"], rel=1e-5)
    body, described, card = trained.load_pretrained(tmp_path / "pre")
    assert (described.backbone, described.channels, described.width, described.targets) == ("small", 1, 8, ())
    assert path == tmp_path / "pre" / "pretrained.safetensors" and set(state(path)) == set(body.state_dict())
    assert card["terms"] == {name: value for name, value in last.items() if name != "step"}
    assert card["validation"] == {"val/partner": history[-1]["val/partner"]} and card["steps"] == last["step"]
    assert card["backbone"] == "small" and card["pasted"]["boxes"].keys() == set(phantoms.TARGETS)
    assert configuration.from_dict(Pretraining, card["training"]) == long


def test_resumed_pretraining_is_bitwise_the_uninterrupted_one(plan: Pretraining, tmp_path: Path) -> None:
    often = replace(plan, epochs=3, evaluate_epochs=1, loop=replace(plan.loop, checkpoint_minutes=0))
    assert_resumes(pretrain_body, often, tmp_path, steps=4)


def test_without_boxes_no_label_is_needed(plan: Pretraining, tmp_path: Path) -> None:
    manifest = Path(plan.data.sources[0].manifest)
    bare = manifest.with_name("bare.csv")
    bare.write_text("path\n" + "".join(f"{line.split(',')[0]}\n" for line in manifest.read_text().splitlines()[1:]))
    rows = replace(plan.data, sources=(SourceConfig(str(bare)),), fractions=(0.0, 0.0))
    alone = replace(plan, data=rows, pasted=0, boxes=None, epochs=0.5)
    pretrain_body(alone, tmp_path / "pre")
    assert {name for row in read_history(tmp_path / "pre") for name in row} == {"step", "loss", "contrast", "partner"}
    card = json.loads((tmp_path / "pre" / "pretrained.json").read_text())
    assert card["rows"] == {"train": 80, "val": 0} and card["validation"] == {} and "pasted" not in card
    known = replace(rows, sources=(replace(rows.sources[0], knows=("Spot",)),))  # as in a classifier's configuration
    pretrain_body(replace(alone, data=known), tmp_path / "other")
    with pytest.raises(ConfigurationError, match="needs films in the split val"):
        pretrain_body(replace(alone, loop=replace(plan.loop, monitor="val/partner")), tmp_path / "monitored")


def test_crops_show_the_asked_share_of_the_film_upright_and_unmirrored() -> None:
    torch.manual_seed(0)
    geometry = AugmentConfig(rotation=15, zoom=0, aspect=0.15, shift=0)
    affines = draw_crops(500, geometry, 0.35)
    shares = torch.linalg.det(affines[:, :, :2])
    assert 0.35 - 1e-4 <= float(shares.min()) < 0.4 and 0.95 < float(shares.max()) <= 1 + 1e-4
    assert (affines[:, 0, 0] > 0).all() and (affines[:, 1, 1] > 0).all()
    plain = draw_crops(500, NO_AUGMENTATION, 0.35)
    corners = plain @ torch.tensor([[-1.0, 1.0], [-1.0, 1.0], [1.0, 1.0]])
    assert corners.abs().max() <= 1 + 1e-5 < 1.01 < corners.abs().max() + 0.05  # inside, and up to the edge


@dataclass(frozen=True)
class Watched(data.Dataset):
    """Notes which rows are looked at, and may show something else in their place."""

    seen: list[int] = field(default_factory=list)
    shown: Callable[[int], torch.Tensor] | None = None

    def images(self, rows: data.Rows, device: torch.device | str = "cpu") -> torch.Tensor:
        self.seen.extend(rows.tolist())
        return torch.stack([self.shown(row) for row in rows.tolist()]) if self.shown else super().images(rows, device)


def watched(plan: Pretraining, shown: Callable[[int], torch.Tensor] | None = None) -> Watched:
    opened = data.open_dataset(plan.data)
    return Watched(opened.table, opened.pixels, shown=shown)


def test_views_are_two_of_each_film_and_never_mirrored(plan: Pretraining) -> None:
    """Films that are brighter to the right, each in its own degree."""
    slope = torch.linspace(0.25, 0.75, 40).expand(1, 40, 40)
    quiet = replace(plan.views, gamma=0, contrast=0, brightness=0, noise_chance=0)
    dataset = watched(plan, lambda row: slope * (0.5 + row / 160))
    drawing = task(replace(plan, views=quiet), dataset)
    for seed in range(8):
        torch.manual_seed(seed)
        rows = drawing.train[:12]
        views = drawing.draw_views(rows)
        assert views.shape == (24, 1, SIZE, SIZE)
        assert (views[..., SIZE // 2 :].mean((1, 2, 3)) > views[..., : SIZE // 2].mean((1, 2, 3)) + 0.02).all()
        ours, theirs = views.flatten(1).amax(1).chunk(2)
        assert not torch.equal(ours, theirs)
        upper = torch.from_numpy(0.75 * (0.5 + rows / 160)).float()
        assert (ours <= upper + 1e-5).all() and (ours > 0.6 * upper).all()  # the same film, so not brighter than it
        assert (theirs <= upper + 1e-5).all() and (theirs > 0.6 * upper).all()


def test_validation_and_test_films_never_enter_a_batch(plan: Pretraining) -> None:
    dataset = watched(plan)
    training = task(replace(plan, pasted=16), dataset)
    for step in range(12):
        machine.seed_step(0, step)
        training.step(step)
    splits = dataset.table.splits
    assert set(dataset.seen) == set(np.flatnonzero(splits == "train").tolist())
    dataset.seen.clear()
    training.evaluate(12)
    assert set(dataset.seen) == set(np.flatnonzero(splits == "val").tolist())


def test_looking_at_val_changes_nothing(plan: Pretraining) -> None:
    training = task(plan)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    assert 0 <= training.evaluate(0)["val/partner"] <= 1 and training.metrics == ("val/partner",)
    assert all(torch.equal(value, before[name]) for name, value in training.model.state_dict().items())
    training.step(0)
    assert training.model.training
    moved = training.model.state_dict()
    assert not torch.equal(moved["body.0.1.running_mean"], before["body.0.1.running_mean"])


def findings() -> Findings:
    """Two sources of ten films: 0 to 4 healthy, the others with a box of the first kind; 9 and 19 of the second as well."""
    rows = np.asarray([5, 6, 7, 8, 9, 15, 16, 17, 18, 19, 9, 19])
    edges = np.stack([rows / 40, rows / 40, rows / 40 + 0.25, rows / 40 + 0.25], 1)
    healthy = np.asarray([0, 1, 2, 3, 4, 10, 11, 12, 13, 14])
    weights = np.where(healthy < 10, 1.0, 3.0)
    return Findings(("a", "b"), rows, np.repeat([0, 1], [10, 2]), edges, healthy, weights, np.arange(20) // 10)


def test_a_recipe_pairs_each_finding_with_health_in_the_same_box() -> None:
    known, kinds, backgrounds = findings(), [], []
    for seed in range(40):
        torch.manual_seed(seed)
        recipe = draw_recipe(known, 12)
        assert recipe.labels.tolist() == [1.0, 0.0] * 6
        for i in range(0, 12, 2):
            sick, well = int(recipe.givers[i]), int(recipe.givers[i + 1])
            assert recipe.places[i] == recipe.places[i + 1] == [(0, *np.asarray([0, 0, 10, 10]) / 40 + sick / 40)]
            assert recipe.kinds[i] == recipe.kinds[i + 1] and (recipe.kinds[i] == 0 or sick in (9, 19))
            assert sick in known.rows and well in known.healthy and sick // 10 == well // 10
        assert np.isin(recipe.backgrounds, known.healthy).all() and (recipe.backgrounds != recipe.givers).all()
        kinds += recipe.kinds[::2].tolist()
        backgrounds += recipe.backgrounds[::2].tolist()
    assert np.mean(kinds) == pytest.approx(2**0.5 / (2**0.5 + 10**0.5), abs=0.1)
    assert np.mean(np.asarray(backgrounds) >= 10) == pytest.approx(0.75, abs=0.1)


def test_a_pasted_film_is_the_background_outside_and_the_giver_inside() -> None:
    """Inside, up to brightness and contrast, which along the border become those of the background."""
    size, generator = 96, torch.Generator().manual_seed(3)
    backgrounds = 0.4 + 0.1 * torch.rand(3, 1, size, size, generator=generator)
    givers = 0.5 + torch.tensor([0.05, 0.2, 0.4])[:, None, None, None] * torch.rand(
        3, 1, size, size, generator=generator
    )
    places = torch.zeros(3, size, size)
    inside = [(slice(40, 64), slice(30 + 4 * i, 60)) for i in range(3)]
    for i, (down, across) in enumerate(inside):
        places[i, down, across] = 1
    made = paste(backgrounds, givers, places)
    for i, (down, across) in enumerate(inside):
        far = torch.ones(size, size, dtype=torch.bool)
        far[down.start - 26 : down.stop + 26, across.start - 26 : across.stop + 26] = False
        assert torch.equal(made[i, 0][far], backgrounds[i, 0][far]) and far.any()
        deep = slice(down.start + 6, down.stop - 6), slice(across.start + 6, across.stop - 6)
        theirs, ours = givers[i, 0][deep].flatten().double(), made[i, 0][deep].flatten().double()
        slope, level = np.polyfit(theirs.numpy(), ours.numpy(), 1)
        torch.testing.assert_close(ours, slope * theirs + level, atol=1e-4, rtol=0)
        assert slope == pytest.approx([2.0, 0.5, 0.5][i], rel=0.1)
        assert float(ours.mean()) == pytest.approx(0.45, abs=0.06)


def test_pasted_films_hold_what_their_labels_say(plan: Pretraining) -> None:
    """Givers with a finding are white all over, healthy ones grey with a little noise; backgrounds too."""
    opened = data.open_dataset(plan.data)
    healthy = opened.table.labels[:, 0] == 1
    generator = torch.Generator().manual_seed(4)
    grey = 0.45 + 0.1 * torch.rand(1, 40, 40, generator=generator)
    ramp = torch.where(torch.arange(40) % 2 == 0, 0.2, 0.9).expand(1, 40, 40)  # stripes: contrast survives the fit
    quiet = replace(plan, pasted=16, views=NO_AUGMENTATION, placement=NO_AUGMENTATION, view_size=40)
    drawing = task(quiet, watched(plan, lambda row: grey if healthy[row] else ramp))
    torch.manual_seed(0)
    pasted = drawing.draw_pasted()
    assert pasted is not None and pasted.images.shape == (16, 1, 40, 40)
    middles = {0: (slice(17, 25), slice(18, 28)), 1: (slice(8, 14), slice(10, 16))}  # of Big and Spot
    for image, kind, label in zip(pasted.images, pasted.kinds.tolist(), pasted.labels.tolist(), strict=True):
        change = image[0][middles[kind]].diff(dim=-1)
        striped = float((change[:, :-1] * change[:, 1:] < 0).float().mean())
        assert (striped == 1.0) == bool(label)


def test_only_the_logit_of_the_boxs_finding_is_asked(plan: Pretraining) -> None:
    """Against a sum row by row; and the other finding's weights get no gradient."""
    training = task(plan)
    torch.manual_seed(0)
    pasted = training.draw_pasted()
    assert pasted is not None
    logits = torch.randn(8, 2, requires_grad=True)
    terms = training._terms(torch.randn(32, 16), torch.arange(16), logits, pasted)
    costs = []
    for row, kind, label in zip(logits.detach().double(), pasted.kinds, pasted.labels, strict=True):
        chance = 1 / (1 + np.exp(-float(row[kind])))
        costs.append(-np.log(chance if label else 1 - chance))
    assert float(terms["pasted"].detach()) == pytest.approx(np.mean(costs), rel=1e-5)
    terms["loss"].backward()
    asked = torch.zeros(8, 2, dtype=torch.bool).scatter(1, pasted.kinds[:, None], True)
    assert torch.equal(logits.grad != 0, asked)
    assert float(terms["loss"].detach() - terms["contrast"]) == pytest.approx(2 * float(terms["pasted"].detach()))


def test_findings_are_of_training_films_from_sources_with_healthy_ones(plan: Pretraining) -> None:
    assert plan.boxes is not None
    manifest = plan.data.sources[0].manifest
    sick = replace(plan.data.sources[0], where=("labels=Big|Spot",))
    both = replace(plan.data, sources=(sick, SourceConfig(manifest)))
    dataset = data.open_dataset(replace(both, bad_rows="report"))  # the second source holds the first one's films again
    found = pasting.read_findings(plan.boxes, dataset, both, "No Finding", SIZE)
    table = dataset.table
    assert (table.splits[found.rows] == "train").all() and (table.splits[found.healthy] == "train").all()
    assert (table.labels[found.healthy, 0] == 1).all() and len(found.healthy) == len(set(found.healthy.tolist()))
    assert set(table.parts[found.rows]) == {1} and (table.parts == 0).any()
    assert (table.labels[found.rows, found.kinds + 1] == 1).all()
    ill = data.open_dataset(replace(both, sources=(replace(both.sources[0], where=("labels=Big|Spot",)),)))
    with pytest.raises(InputError, match="two training films with 'No Finding' or more, got 0"):
        pasting.read_findings(plan.boxes, ill, both, "No Finding", SIZE)
    hearts = plan.boxes.with_name("hearts.csv")
    hearts.write_text("".join(f"{line}\n" for line in plan.boxes.read_text().splitlines() if "Spot" not in line))
    with pytest.raises(InputError, match="no box of Spot in a training film"):
        pasting.read_findings(hearts, dataset, both, "No Finding", SIZE)


def classifying(plan: Pretraining, init: Path, **changes: Any) -> ClassifierTraining:
    rows = replace(plan.data, targets=phantoms.TARGETS, size=SIZE)
    made = ClassifierTraining(rows, backbone="small", width=8, init=str(init), loop=CPU, epochs=0.5, batch_size=8)
    return replace(made, **changes)


def test_a_classifier_starts_from_the_body_with_a_fresh_head(plan: Pretraining, folder: Path, tmp_path: Path) -> None:
    config = classifying(plan, folder)
    start = classifier.ClassifierTask(config, data.open_dataset(config.data), Fabric(accelerator="cpu", devices=1))
    body = state(folder / "pretrained.safetensors")
    for net in (start.model, start.average.module):
        assert all(torch.equal(value, body[name]) for name, value in net.body.state_dict().items())
        assert net.head.out_features == 2
    assert all(value.requires_grad for value in start.model.parameters())
    assert start.average.state_dict()["updates"] == 0
    train_classifier(config, tmp_path / "cl")
    earlier = replace(config, init=str(tmp_path / "cl"))
    later = classifier.ClassifierTask(earlier, data.open_dataset(config.data), Fabric(accelerator="cpu", devices=1))
    assert later.average.state_dict()["updates"] == 60
    assert trained.classifier(tmp_path / "cl").card.targets == phantoms.TARGETS


def test_a_body_of_another_kind_is_refused(plan: Pretraining, folder: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"backbone": "efficientnet-lite0"}, "body of small for 1 channels, this training is efficientnet-lite0 for 1"),
        (
            {"data": replace(classifying(plan, folder).data, channels=3)},
            "is small for 3; make backbone and data.channels",
        ),
        ({"width": 16}, "has width 8, this training 16"),
        ({"backbone": "timm:resnet10t"}, "is a body for a built-in backbone, got timm:resnet10t"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            train_classifier(classifying(plan, folder, **changes), tmp_path / message[:9])
    with pytest.raises(WeightsError, match=r"no pretrained\.json; expected a folder that `gifsplain train pretrain`"):
        trained.load_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"no classifier\.json"):
        trained.classifier(folder)
    damaged = folder / "pretrained.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="expected sha256"):
        trained.load_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "timm:resnet10t"}, "needs a built-in backbone, got timm:resnet10t"),
        ({"init": "somewhere"}, "init must be imagenet or empty, got 'somewhere'"),
        ({"init": "imagenet"}, "init imagenet needs one of"),
        ({"batch_size": 1}, "batch_size must be 2 or more"),
        ({"batch_size": 1000}, "batch_size 1000 is more than the .* training films"),
        ({"least_area": 0.0}, r"least_area must lie in \(0, 1\]"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"pasted": 7}, "pasted must be even and 0 or more, got 7"),
        ({"pasted": -2}, "pasted must be even and 0 or more, got -2"),
        ({"boxes": None}, "pasted needs boxes"),
        ({"pasted": 0}, "boxes are for pasted findings"),
        ({"view_size": 24}, "view_size must be 32 or more, got 24"),
        ({"healthy": "Fine"}, "pasted needs data.targets with 'Fine' and the findings"),
    ],
)
def test_refusals(plan: Pretraining, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        pretrain_body(replace(plan, **changes), tmp_path / "pre")


def test_imagenet_is_the_body_of_a_classifier_that_starts_there(plan: Pretraining) -> None:
    made = task(replace(plan, backbone="efficientnet-lite0", init="imagenet"))
    net = backbones.build_classifier(backbones.ClassifierConfig(("a",)))
    backbones.load_lite_imagenet(net, imagenet.lite_weights("efficientnet-lite0"))
    ours = made.model.body.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in net.body.state_dict().items())


def test_the_example_is_complete() -> None:
    config = configuration.load(Pretraining, EXAMPLE)
    assert check(config) == config and config.pasted and config.init == "imagenet"
