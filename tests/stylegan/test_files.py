"""From a folder of pictures to a StyleEx that explains: files, commands, resume."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from gifsplain.cli import app
from gifsplain.errors import ConfigurationError, InputError, WeightsError
from gifsplain.explain import fits
from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.models import styleex
from gifsplain.models.load import load_models
from gifsplain.models.small import SmallClassifier, SmallConfig
from gifsplain.models.stylegan import StyleConfig
from gifsplain.train import checkpoints, data, styleex_card
from gifsplain.train import config as configuration
from gifsplain.train.config import LoopConfig
from gifsplain.train.rows import DataConfig, SourceConfig
from gifsplain.train.small_classifier import SmallTraining
from gifsplain.train.styleex import StyleExConfig
from gifsplain.train.styleex_run import load_data, train_styleex
from gifsplain.types import Picture, Provenance

TARGETS = ("Cardiomegaly", "Effusion")


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """36 pictures of two sources; a bright spot marks each finding."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    lines = ["path,patient_id,split,source,labels"]
    for i in range(36):
        pixels = generator.integers(60, 120, (32, 32))
        names = [t for j, t in enumerate(TARGETS) if (i >> j) & 1]
        for j, target in enumerate(TARGETS):
            if target in names:
                pixels[8:16, 4 + 14 * j : 14 + 14 * j] = 230
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{i}.png")
        split = ("train", "val", "test")[i % 3]
        source = "many" if i < 30 else "few"
        lines.append(f"{i}.png,p{i},{split},{source},{'|'.join(names) or 'No Finding'}")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def settings(manifest, tmp_path):
    torch.manual_seed(0)
    net = SmallClassifier(SmallConfig(TARGETS, 32, widths=(4, 4, 4, 4)))
    weights = tmp_path / "classifier.safetensors"
    header = {"config": json.dumps(net.config.to_dict())}
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, weights, metadata=header)
    return StyleExConfig(
        model=StyleConfig(size=32, widths=(6, 6, 5, 4), w_dim=5, mapping_layers=2, targets=TARGETS),
        loop=LoopConfig(accelerator="cpu", checkpoint_minutes=0, log_every=1),
        steps=2, warmup=1, batch=4, evaluate_every=2, classifier=weights, chances={"many": 2.0, "few": 0.0},
        data=DataConfig((SourceConfig(str(manifest)),), TARGETS, size=32),
    )  # fmt: skip


def test_chances_decide_what_is_drawn_and_watched(settings):
    found = load_data(settings, data.open_dataset(settings.data))
    assert len(found.images) == 10  # two of the twelve training images are of a source that is never drawn
    assert found.chances.tolist() == [2.0] * 10
    assert len(found.held) == 10
    heavier = DataConfig((dataclasses.replace(settings.data.sources[0], weight=3.0),), TARGETS, size=32)
    weighed = load_data(settings, data.open_dataset(heavier))
    assert weighed.chances.tolist() == [6.0] * 10


def test_a_training_leaves_weights_pictures_and_history_and_goes_on(settings, tmp_path):
    folder = tmp_path / "run"
    train_styleex(settings, folder)
    assert {p.name for p in (folder / "pictures").iterdir()} == {"samples-000002.png", "reconstructions-000002.png"}
    pair = load_models(str(folder), str(folder))
    assert pair.targets == TARGETS
    assert pair.autoencoder.card.details["steps"] == 2
    assert pair.autoencoder.card.details["measured_on"] == "10 held-out images, split test"
    with pytest.raises(ConfigurationError, match="--resume"):
        train_styleex(settings, folder)
    outcome = train_styleex(dataclasses.replace(settings, steps=3), folder, resume=True)
    assert outcome.step == 3
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert sum("pixel_error" in row for row in rows) == 2
    with pytest.raises(ConfigurationError, match="another configuration"):
        train_styleex(dataclasses.replace(settings, batch=5), folder, resume=True)


def test_classifier_of_other_targets_is_refused(settings, tmp_path):
    other = dataclasses.replace(settings, model=dataclasses.replace(settings.model, targets=("Mass",)))
    with pytest.raises(ConfigurationError, match="change one of them"):
        train_styleex(other, tmp_path / "run")


@pytest.mark.parametrize(
    ("place", "values", "message"),
    [("data", {"size": 64}, "data has 64 px and 1 channels, model 32 px and 1"), ("data", {"channels": 3}, "3 channels"),
     ("model", {"channels": 3}, "explains .* 1 channels.* change one of them"),
     ("data", {"targets": TARGETS[:1]}, "lacks .'Effusion'. of model.targets")],
)  # fmt: skip
def test_data_that_the_model_does_not_fit_are_refused_before_anything_is_read(
    place, values, message, settings, tmp_path
):
    other = dataclasses.replace(settings, **{place: dataclasses.replace(getattr(settings, place), **values)})
    with pytest.raises(ConfigurationError, match=message):
        train_styleex(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_source_that_no_row_is_of_is_refused(settings):
    with pytest.raises(ConfigurationError, match="chances names mnay, sources of the rows are few, many"):
        load_data(dataclasses.replace(settings, chances={"mnay": 4.0}), data.open_dataset(settings.data))


def test_too_few_held_out_images_are_refused_before_the_training(settings, manifest):
    first, *rest = manifest.read_text().split(",val,")
    manifest.write_text(f"{first},val," + ",train,".join(rest))
    with pytest.raises(InputError, match="2 validation images, got 19 and 1"):
        load_data(settings, data.open_dataset(settings.data))


def test_the_card_takes_labels_by_the_name_of_the_target(settings):
    """Whatever the order of `data.targets`, which may hold other findings too."""
    mixed = dataclasses.replace(settings.data, targets=("No Finding", *TARGETS[::-1]))
    plain = styleex_card.split_images(data.open_dataset(settings.data), settings, "test")
    found = styleex_card.split_images(data.open_dataset(mixed), dataclasses.replace(settings, data=mixed), "test")
    assert torch.equal(plain[0], found[0]) and torch.equal(plain[1], found[1])
    assert found[1].shape[1] == 2 and not torch.equal(found[1], found[1].flip(1))


@pytest.mark.parametrize("condition", ["none", "concat"])
def test_what_ships_loads_measures_and_explains(condition, settings, tmp_path):
    settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, condition=condition))
    train_styleex(settings, tmp_path / "run")
    net = styleex.StyleNet(settings.model)
    net.load_state_dict(checkpoints.read_checkpoint(tmp_path / "run" / checkpoints.CHECKPOINT)["trainee"]["averaged"])
    dataset = data.open_dataset(settings.data)
    about = styleex_card.Shipped("tiny", 2, "phantoms", "none", "a test", "pytest")
    classifier = styleex.read_small_classifier(settings.classifier)
    pair = styleex_card.write_model(net, classifier, settings, dataset, about, stem=tmp_path / "ship" / "tiny")
    card = json.loads((tmp_path / "ship" / "tiny.json").read_text())
    assert card["sha256"] == pair.autoencoder.card.sha256
    images, _ = styleex_card.split_images(dataset, settings, "test")
    made = pair.autoencoder.decode(pair.autoencoder.encode(images)).clamp(0, 1)
    assert card["reconstruction_mae"] == pytest.approx(float((made - images).abs().mean()), abs=1e-4)
    agreement = ((pair.classifier.scores(made) > 0.5) == (pair.classifier.scores(images) > 0.5)).float().mean(0)
    for j, target in enumerate(TARGETS):
        assert card["targets_measured"][target]["same_side_of_0.5"] == pytest.approx(float(agreement[j]), abs=1e-3)
    one_class = styleex_card.measure(pair, images, torch.ones(len(images), len(TARGETS)))
    assert one_class["targets_measured"][TARGETS[0]]["auc"] is None  # NaN is no JSON

    fit = fits.fit_pair(pair, images, fits.FitSettings(candidates=3, kept=2, attfind_images=2, cover=0.0))
    fits.save(fit, fits.cache_path(pair))
    assert ("label-flip" in fit.directions) == (condition == "concat")
    picture = Picture(images[0], Provenance("x", "", "array", (32, 32), 8))
    for method in ("latentshift", "attfind" if "attfind" in fit.directions else "pca", "mean-gradient"):
        known = fit.directions.get(method, {TARGETS[0]: None})
        target = next(iter(known))
        (found,) = explain_with(method, pair, [picture], [target], Settings(strengths=(-1, 1), frames=5))
        drawn = pair.classifier.scores(found.frames)[:, TARGETS.index(target)]
        torch.testing.assert_close(drawn, found.frame_scores, atol=1e-5, rtol=1e-4)


def test_shipping_replaces_weights_card_and_directions(settings, tmp_path):
    train_styleex(settings, tmp_path / "run")
    dataset = data.open_dataset(settings.data)
    about = styleex_card.Shipped("tiny", 2, "phantoms", "none", "a test", "pytest")
    stem = tmp_path / "weights" / "tiny"
    first = styleex_card.ship(tmp_path / "run", settings, dataset, about, stem)
    (directions,) = stem.parent.glob("directions-*.safetensors")
    assert fits.read(directions).facts["key"] == fits.pair_key(first)
    other = stem.parent / "directions-of-another-pair.safetensors"
    other.write_bytes(b"")
    more = dataclasses.replace(settings, steps=3)
    train_styleex(more, tmp_path / "run", resume=True)
    second = styleex_card.ship(tmp_path / "run", more, dataset, about, stem)
    assert fits.pair_key(second) != fits.pair_key(first)
    assert {path.name for path in stem.parent.glob("directions-*")} == {
        f"directions-{fits.pair_key(second)}.safetensors", other.name,
    }  # fmt: skip


def test_damaged_weights_are_refused(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"name": "x", "sha256": "0", "size": 32, "channels": 1, "targets": []}))
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="damaged"):
        styleex.load_styleex(folder=tmp_path, stem="x")


def test_small_classifier_command_learns_the_spots(manifest, tmp_path):
    settings = SmallTraining(
        data=DataConfig((SourceConfig(str(manifest)),), (*TARGETS, "No Finding"), size=32),
        explained=TARGETS, widths=(6, 8, 8, 8), epochs=40, batch=6, evaluate_every=20,
        loop=LoopConfig(accelerator="cpu", monitor="val/auc", log_every=10),
    )  # fmt: skip
    configuration.save(settings, tmp_path / "small.yaml")
    done = CliRunner().invoke(
        app, ["train", "small-classifier", str(tmp_path / "small.yaml"), "-o", str(tmp_path / "small")]
    )
    assert done.exit_code == 0, done.output
    net = styleex.read_small_classifier(tmp_path / "small" / "classifier.safetensors")
    dataset = data.open_dataset(settings.data)
    rows = dataset.rows("test")
    with torch.no_grad():
        right = (net(dataset.images(rows)) > 0) == (dataset.labels(rows)[:, :2] > 0.5)
    assert net.config.targets == TARGETS
    assert float(right.float().mean()) > 0.8


def test_styleex_command_trains(settings, tmp_path):
    configuration.save(settings, tmp_path / "styleex.yaml")
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["train", "styleex", str(tmp_path / "styleex.yaml"), "-o", str(out), "--set", "steps=1", "--threads", "1"]
    )
    assert done.exit_code == 0, done.output
    assert "after 1 steps" in done.output


@pytest.mark.parametrize("name", ["styleex-64.yaml", "small-classifier-64.yaml"])
def test_examples_are_valid(name, request):
    kind = StyleExConfig if name.startswith("styleex") else SmallTraining
    found = configuration.load(kind, request.config.rootpath / "examples" / name)
    assert found.data.size == 64
