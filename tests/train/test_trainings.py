"""Trainings on phantoms: loss falls, resume equals uninterrupted, 0.5 is the operating point, weights load again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gifsplain.errors import ConfigurationError, InputError, WeightsError
from gifsplain.models import trained
from gifsplain.models.networks import AutoencoderConfig, build_autoencoder
from gifsplain.train import calibration, checkpoints, data, frame, identity, machine
from gifsplain.train import config as configuration
from gifsplain.train.augment import AugmentConfig
from gifsplain.train.autoencoder import AutoencoderLoss, AutoencoderTask, AutoencoderTraining, train_autoencoder
from gifsplain.train.classifier import ClassifierTask, ClassifierTraining, train_classifier
from gifsplain.train.crossfit import CrossFit, cross_fit
from gifsplain.train.features import FeatureConfig, open_features
from gifsplain.train.frame import FrameConfig
from gifsplain.train.hardening import Hardening
from gifsplain.train.join import join_classifiers
from gifsplain.train.mixing import draw_mixture
from gifsplain.train.records import read_history
from gifsplain.train.rows import DataConfig, SourceConfig

from . import phantoms
from .runs import CPU, KillAfter, Killed, assert_resumes, losses, state

SIZE = 32
TINY = AutoencoderConfig(
    size=SIZE, patch=2, widths=(8, 16), blocks=(0, 1), decoder_blocks=(0, 1), bottleneck=(16, 4, 4)
)
MILD = AugmentConfig(rotation=3, zoom=0.05, shift=0.03)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    folder = tmp_path_factory.mktemp("phantoms")
    source = SourceConfig(str(phantoms.write(folder, count=80)))
    return DataConfig((source,), targets=phantoms.TARGETS, size=SIZE, cache=folder / "cache")


@pytest.fixture
def autoencoding(rows: DataConfig) -> AutoencoderTraining:
    loss = AutoencoderLoss(edges=0.5, noise=0.1)
    return AutoencoderTraining(
        data=rows,
        model=TINY,
        loop=replace(CPU, monitor="val/mae_error"),
        loss=loss,
        epochs=8,
        batch_size=8,
        warmup=5,
        average=0.9,
    )


@pytest.fixture
def classifying(rows: DataConfig) -> ClassifierTraining:
    return ClassifierTraining(
        data=rows,
        backbone="small",
        width=8,
        dropout=0.1,
        loop=replace(CPU, monitor="val/auc", patience=0),
        augment=MILD,
        epochs=10,
        batch_size=8,
        rate=3e-3,
        warmup=5,
        average=0.8,
        evaluate_epochs=2,
    )


def test_autoencoder_learns_and_loads_again(autoencoding: AutoencoderTraining, tmp_path: Path) -> None:
    path = train_autoencoder(autoencoding, tmp_path / "ae")
    curve = losses(tmp_path / "ae")
    assert np.mean(curve[-2:]) < 0.7 * curve[0]
    model = trained.autoencoder(tmp_path / "ae")
    dataset = data.open_dataset(autoencoding.data)
    images = dataset.images(dataset.rows("val"))
    error = float((model.decode(model.encode(images)).clamp(0, 1) - images).abs().mean())
    card = json.loads((tmp_path / "ae" / "autoencoder.json").read_text())
    assert error == pytest.approx(card["validation"]["val/mae_error"], abs=1e-5)
    assert error == pytest.approx(
        min(r["val/mae_error"] for r in read_history(tmp_path / "ae") if "val/mae_error" in r), abs=1e-5
    )
    assert card["rows"] == {"train": int((dataset.table.splits == "train").sum()), "val": len(images)}
    norms = model.encode(images).flatten(1).norm(dim=1).numpy()
    usual = model.card.details["latent_norm_percentiles"]
    assert usual["p95"] == pytest.approx(float(np.percentile(norms, 95)), rel=1e-4)
    assert model.card.details["reconstruction_mae_percentiles"]["p50"] < card["validation"]["val/mae_error"] * 1.5
    assert model.card.sha256 and path.exists()


def test_resumed_autoencoder_is_bitwise_the_uninterrupted_one(
    autoencoding: AutoencoderTraining, tmp_path: Path
) -> None:
    often = replace(autoencoding, epochs=3, loop=replace(autoencoding.loop, checkpoint_minutes=0))
    whole = train_autoencoder(often, tmp_path / "whole")
    with pytest.raises(Killed):
        train_autoencoder(often, tmp_path / "parts", reporter=KillAfter(7))
    with pytest.raises(ConfigurationError, match="add --resume"):
        train_autoencoder(often, tmp_path / "parts")
    with pytest.raises(ConfigurationError, match=r"another configuration \(rate: 0.002 there, 0.1 now\)"):
        train_autoencoder(replace(often, rate=0.1), tmp_path / "parts", resume=True)
    parts = train_autoencoder(often, tmp_path / "parts", resume=True)
    theirs = state(whole)
    assert all(torch.equal(value, theirs[name]) for name, value in state(parts).items())
    assert read_history(tmp_path / "parts") == read_history(tmp_path / "whole")


def test_halved_weights_keep_statistics_exact(tmp_path: Path) -> None:
    net = build_autoencoder(TINY)
    trained.save(tmp_path, "autoencoder", net, TINY.to_dict(), {"name": "x"}, half=True)
    for name, value in state(tmp_path / "autoencoder.safetensors").items():
        assert value.dtype == (torch.float16 if value.ndim > 1 else net.state_dict()[name].dtype), name


def test_frame_changes_coordinates_but_no_image(autoencoding: AutoencoderTraining, tmp_path: Path) -> None:
    short = replace(autoencoding, epochs=2)
    train_autoencoder(short, tmp_path / "plain")
    for name, layered in (("framed", False), ("layered", True)):
        train_autoencoder(replace(short, frame=FrameConfig("local", passes=1, layered=layered)), tmp_path / name)
    plain, framed, layered_one = (trained.autoencoder(tmp_path / name) for name in ("plain", "framed", "layered"))
    dataset = data.open_dataset(short.data)
    images = dataset.images(dataset.rows("train"))
    drawn = plain.decode(plain.encode(images))
    torch.testing.assert_close(framed.decode(framed.encode(images)), drawn, atol=1e-4, rtol=0)
    shaded = layered_one.decode(layered_one.encode(images))
    assert (shaded - images).abs().mean() < (drawn - images).abs().mean()  # coarse brightness is the image's own


def test_local_frame_is_the_product_of_channel_covariance_and_a_gaussian() -> None:
    """A gradient in the frame, decoded, moves the code along C (x) K times the gradient in the code."""
    codes = (
        torch.randn(400, 16, 4, 4, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 3, 16)[:, None, None]
    )
    framed = frame.fit_frame(build_autoencoder(TINY), codes, FrameConfig("local", power=0.5, blur=0.8, floor=0.0))
    assert framed.frame is not None
    inner = codes - codes.mean(0) - (codes - codes.mean(0)).mean((2, 3), keepdim=True)
    covariance = np.cov(inner.transpose(0, 1).reshape(16, -1).numpy(), bias=True)
    covariance /= np.linalg.eigvalsh(covariance).max()
    squared = torch.stack(
        [framed.frame.shift(framed.frame.shift(one)).flatten() for one in torch.eye(256).view(256, 1, 16, 4, 4)]
    )
    pulse = squared.view(16, 16, 16, 16)[:, 5, :, 5].numpy()  # from and to the same place: C times a number
    np.testing.assert_allclose(pulse / pulse[0, 0], covariance / covariance[0, 0], atol=1e-3)


def test_smoothing_is_a_gaussian_away_from_the_edge() -> None:
    """Its square, applied to a pulse in the middle of a large grid, against the Gaussian's formula."""
    side, sigma = 41, 2.5
    basis, gains = frame.waves((side, side)), frame.smoothing((side, side), sigma).float()
    torch.testing.assert_close(basis.T @ basis, torch.eye(side**2), atol=1e-4, rtol=0)
    pulse = torch.zeros(side, side)
    pulse[20, 20] = 1
    spread = (basis @ (gains.square() * (basis.T @ pulse.flatten()))).view(side, side)
    y, x = np.mgrid[0:side, 0:side] - 20
    gaussian = np.exp(-(y**2 + x**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    np.testing.assert_allclose(spread.numpy(), gaussian, atol=1e-5)


class Stripes(torch.nn.Module):
    """Draws the first channel as brightness of its places and the second as fine stripes of the same size."""

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        wide = torch.nn.functional.interpolate(codes, scale_factor=16, mode="bicubic")
        stripes = (torch.arange(wide.shape[-1]) % 2) * 2.0 - 1
        return wide[:, :1] + wide[:, 1:] * stripes


def test_smooth_frame_damps_channels_that_draw_stripes() -> None:
    codes = torch.randn(30, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    config = FrameConfig(kind="smooth", damping=10, blur=1.0, cutoff=4)
    length = frame.smoothness(Stripes(), codes, config)  # type: ignore[arg-type]
    assert float(length[1, 1]) == pytest.approx(1 + config.damping, rel=0.1)  # all fine
    assert float(length[0, 0]) == pytest.approx(1, abs=0.6)  # nearly all smooth
    assert abs(float(length[0, 1])) < 0.1


def test_classifier_learns_and_half_is_its_operating_point(classifying: ClassifierTraining, tmp_path: Path) -> None:
    train_classifier(classifying, tmp_path / "cl")
    curve = losses(tmp_path / "cl")
    assert np.mean(curve[-2:]) < 0.8 * curve[0]
    model = trained.classifier(tmp_path / "cl")
    dataset = data.open_dataset(classifying.data)
    val = dataset.rows("val")
    scores, labels = model.scores(dataset.images(val)).numpy(), dataset.table.labels[val]
    card = json.loads((tmp_path / "cl" / "classifier.json").read_text())
    assert card["validation"]["val/auc/Big"] > 0.9
    assert model.card.targets == phantoms.TARGETS and model.card.meaning.value == "calibrated probability"
    for t in range(2):
        found = [_youden(labels[:, t], scores[:, t] >= cut) for cut in np.unique(scores[:, t])]
        assert _youden(labels[:, t], scores[:, t] >= 0.5) > 0.7 * max(found)


def test_temperatures_are_fitted_with_the_spread_that_is_asked(
    classifying: ClassifierTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fit(labels: np.ndarray, logits: np.ndarray, spread: float, point: str) -> tuple[np.ndarray, np.ndarray]:
        asked.append((spread, point))
        return np.zeros(labels.shape[1]), np.full(labels.shape[1], spread)

    monkeypatch.setattr(calibration, "fit", fit)
    train_classifier(replace(classifying, epochs=0.1, spread=0.25, operating_point="counted"), tmp_path / "cl")
    card = json.loads((tmp_path / "cl" / "classifier.json").read_text())
    assert asked == [(0.25, "counted")] and card["calibration"]["temperature"] == [0.25, 0.25]
    assert card["calibration"]["point"] == "largest sensitivity + specificity on val"
    join_classifiers((tmp_path / "cl", tmp_path / "cl"), (1, 1), tmp_path / "joined")
    assert asked == [(0.25, "counted")] * 4  # each member, and the whole


def test_the_operating_point_is_of_single_precision(
    classifying: ClassifierTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the finished model computes: scores in half precision would put 0.5 a little beside it."""
    calls: list[bool] = []
    predict = ClassifierTask.predict

    def counted(task: ClassifierTask, rows: data.Rows, *, exact: bool = False) -> np.ndarray:
        calls.append(exact)
        if exact:
            monkeypatch.setattr(task.fabric, "autocast", lambda: pytest.fail("computed in mixed precision"))
        return predict(task, rows, exact=exact)

    monkeypatch.setattr(ClassifierTask, "predict", counted)
    short = replace(classifying, epochs=0.1, loop=replace(classifying.loop, monitor=""))
    monkeypatch.setattr(ClassifierTask, "evaluate", lambda task, step: {})
    train_classifier(short, tmp_path / "cl")
    assert calls == [True]


def _youden(labels: np.ndarray, called: np.ndarray) -> float:
    return float(called[labels == 1].mean() - called[labels == 0].mean())


def test_resumed_classifier_is_bitwise_the_uninterrupted_one(classifying: ClassifierTraining, tmp_path: Path) -> None:
    often = replace(classifying, epochs=3, loop=replace(classifying.loop, checkpoint_minutes=0))
    assert_resumes(train_classifier, often, tmp_path, steps=8)


def test_labels_of_unknown_rows_do_not_reach_the_weights(classifying: ClassifierTraining, tmp_path: Path) -> None:
    """Trained on a source that knows nothing of Spot, the head for Spot has learnt nothing but decay."""
    source = replace(classifying.data.sources[0], knows=("Big",))
    short = replace(
        classifying, epochs=1, weight_decay=0.0, average=0.0, data=replace(classifying.data, sources=(source,))
    )
    train_classifier(short, tmp_path / "cl")
    first = checkpoints.read_checkpoint(tmp_path / "cl" / checkpoints.CHECKPOINT)["trainee"]
    moments = first["optimizer"]["state"].values()
    heads = [m["exp_avg"] for m in moments if m["exp_avg"].shape[0] == 2]
    assert heads and all(not head[1].any() and head[0].any() for head in heads)
    card = json.loads((tmp_path / "cl" / "classifier.json").read_text())
    assert card["untrained"] == ["Spot"] and trained.classifier(tmp_path / "cl").card.untrained == ("Spot",)
    del card["untrained_of"]  # as earlier cards were, whose targets had been learnt: val had no positive
    (tmp_path / "cl" / "classifier.json").write_text(json.dumps(card))
    assert trained.classifier(tmp_path / "cl").card.untrained == ()


def test_what_can_be_monitored_is_what_is_told(
    classifying: ClassifierTraining, autoencoding: AutoencoderTraining
) -> None:
    dataset, fabric = data.open_dataset(classifying.data), machine.make_fabric(classifying.loop)
    for task in (ClassifierTask(classifying, dataset, fabric), AutoencoderTask(autoencoding, dataset, fabric)):
        assert set(task.metrics) == set(task.evaluate(0))


def test_what_val_cannot_say_is_told(
    classifying: ClassifierTraining, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Spot is learnt, but no film of val has it."""
    dataset = data.open_dataset(classifying.data)
    labels = dataset.table.labels.copy()
    labels[dataset.rows("val"), 1] = 0
    told = replace(dataset, table=replace(dataset.table, labels=labels))
    short = replace(classifying, epochs=0.2)
    train_classifier(short, tmp_path / "cl", dataset=told)
    assert "val knows no positive or no negative of Spot: 0.5 means nothing there" in caplog.text
    text = (tmp_path / "cl" / "classifier.json").read_text()
    card = json.loads(text)
    assert "NaN" not in text and card["validation"]["val/auc/Spot"] is None
    assert "untrained" not in card and card["calibration"]["none"] == ["Spot"]
    assert trained.classifier(tmp_path / "cl").card.untrained == ()  # it has been learnt
    waiting = replace(short, loop=replace(short.loop, monitor="val/auc/Spot"))
    with pytest.raises(ConfigurationError, match=r"monitor val/auc/Spot can never be known: val has no positive or no"):
        train_classifier(waiting, tmp_path / "spot", dataset=told)
    labels[dataset.rows("val"), 0] = np.nan
    with pytest.raises(ConfigurationError, match=r"monitor val/auc can never be known: .* of Big, Spot"):
        train_classifier(short, tmp_path / "none", dataset=told)


def test_a_training_does_not_go_on_with_other_labels(classifying: ClassifierTraining, tmp_path: Path) -> None:
    short = replace(classifying, epochs=0.2)
    dataset = data.open_dataset(classifying.data)
    train_classifier(short, tmp_path / "cl", dataset=dataset)
    other = replace(dataset, table=replace(dataset.table, labels=1 - dataset.table.labels))
    with pytest.raises(ConfigurationError, match="was begun with other films, patients, splits or labels"):
        train_classifier(short, tmp_path / "cl", resume=True, dataset=other)
    train_classifier(short, tmp_path / "cl", resume=True, dataset=dataset)


def test_a_training_does_not_go_on_with_a_teacher_trained_anew(classifying: ClassifierTraining, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    train_classifier(replace(classifying, epochs=0.2), teacher)
    hardening = Hardening(teachers=(str(teacher),), imitation=0.5)
    taught = replace(classifying, epochs=0.2, hardening=hardening)
    train_classifier(taught, tmp_path / "cl")
    train_classifier(taught, tmp_path / "cl", resume=True)
    shutil.rmtree(teacher)
    train_classifier(replace(classifying, epochs=0.4), teacher)
    with pytest.raises(
        ConfigurationError, match=rf"another content of hardening\.teachers={teacher} than is there now"
    ):
        train_classifier(taught, tmp_path / "cl", resume=True)


def test_a_configuration_built_in_python_is_checked_as_one_that_is_read(
    autoencoding: AutoencoderTraining, classifying: ClassifierTraining, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="batch_size must be 1 or more, got 0"):
        train_classifier(replace(classifying, batch_size=0), tmp_path / "none")
    with pytest.raises(ConfigurationError, match=r"loop\.log_every must be 1 or more, got 0"):
        train_autoencoder(replace(autoencoding, loop=replace(autoencoding.loop, log_every=0)), tmp_path / "none")
    hardening = Hardening(teachers=["cl"], imitation=1.0)  # type: ignore[arg-type]
    with pytest.raises(
        ConfigurationError, match=r"hardening\.teachers must be written \('cl',\) in Python, got \['cl'\]"
    ):
        train_classifier(replace(classifying, hardening=hardening), tmp_path / "none")
    with pytest.raises(ConfigurationError, match=r"loop must be written LoopConfig"):
        train_classifier(replace(classifying, loop={"seed": 1}), tmp_path / "none")  # type: ignore[arg-type]
    configuration.verify(replace(classifying, rate=np.float64(0.1)))
    assert configuration.to_dict(replace(classifying, rate=np.float64(0.1)))["rate"] == 0.1
    source = replace(classifying.data.sources[0], options={"views": ("PA", "AP")})
    configuration.verify(replace(classifying, data=replace(classifying.data, sources=(source,))))
    with pytest.raises(ConfigurationError, match=r"rate must be written 0\.1 in Python, got '0\.1'"):
        train_classifier(replace(classifying, rate="0.1"), tmp_path / "none")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="batch_size must be 1 or more, got 0"):
        cross_fit(replace(classifying, batch_size=0), 2, tmp_path / "none")
    with pytest.raises(ConfigurationError, match=r"operating_point must be one of .*, got 'guessed'"):
        train_classifier(replace(classifying, operating_point="guessed"), tmp_path / "none")  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()


def test_a_training_of_an_earlier_version_keeps_its_rule(classifying: ClassifierTraining, tmp_path: Path) -> None:
    """Its file does not say where 0.5 lies: it was the counted point."""
    short = replace(classifying, epochs=0.2, operating_point="counted")
    train_classifier(short, tmp_path / "cl")
    path = tmp_path / "cl" / "config.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "operating_point" not in line))
    train_classifier(short, tmp_path / "cl", resume=True)
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "operating_point" not in line))
    with pytest.raises(ConfigurationError, match="operating_point: 'counted' there, 'smoothed' now"):
        train_classifier(replace(short, operating_point="smoothed"), tmp_path / "cl", resume=True)
    kept = {"folds": 2, "films": "", "training": {"data": configuration.to_dict(classifying.data)}}
    assert configuration.kept(CrossFit, kept).training.operating_point == "counted"


def test_an_origin_has_every_file_that_a_configuration_names(
    classifying: ClassifierTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, folds = data.open_dataset(classifying.data), tmp_path / "folds"
    folds.mkdir()
    for file in (tmp_path / "boxes.csv", folds / "crossfit.npz"):
        file.write_text("1")
    hardening = Hardening(crossfit=(folds, folds), autoencoder="cxr")
    config = replace(classifying, boxes=tmp_path / "boxes.csv", hardening=hardening)
    for name in ("small", "Big"):  # of the same name as a backbone and a target
        train = tmp_path / name
        train.mkdir()
        (train / "classifier.safetensors").write_text("1")
    monkeypatch.chdir(tmp_path)
    before = identity.origin(config, dataset)
    boxes, logits = f"boxes={tmp_path / 'boxes.csv'}", f"hardening.crossfit={folds}"
    assert set(before) == {checkpoints.DATA, boxes, logits}
    (folds / "crossfit.npz").write_text("2")
    after = identity.origin(config, dataset)
    assert {name for name in before if before[name] != after[name]} == {logits}


def test_hardened_classifier_and_perceptual_autoencoder(
    autoencoding: AutoencoderTraining, classifying: ClassifierTraining, tmp_path: Path
) -> None:
    """The two commands use each other's results: every term is finite, counted and logged."""
    short = replace(classifying, epochs=1)
    train_classifier(short, tmp_path / "cl")
    loss = AutoencoderLoss(perceptual=1, scores=1, smoothness=1, decorrelation=1)
    seeing = replace(
        autoencoding, epochs=1, loss=loss, features=FeatureConfig(str(tmp_path / "cl"), layers=(1, 3), images=4)
    )
    train_autoencoder(seeing, tmp_path / "ae")
    names = {name for row in read_history(tmp_path / "ae") for name in row}
    assert {"perceptual", "scores", "smoothness", "decorrelation"} <= names
    hardening = Hardening(
        str(tmp_path / "ae"),
        0.5,
        latent_noise=0.1,
        visible_step=0.05,
        adversarial=0.01,
        mixup=0.3,
        teachers=(str(tmp_path / "cl"),),
        imitation=0.5,
    )
    train_classifier(replace(short, hardening=hardening, init=str(tmp_path / "cl"), frozen=2), tmp_path / "hard")
    assert "imitation" in {name for row in read_history(tmp_path / "hard") for name in row}
    first, later = (state(tmp_path / name / "classifier.safetensors") for name in ("cl", "hard"))
    for name, value in first.items():  # frozen layers keep weights and statistics, the others do not
        if name.startswith("body"):
            assert torch.equal(value, later[name]) == (name < "body.2"), name
    for broken, message in (
        (replace(hardening, autoencoder=""), "need hardening.autoencoder"),
        (replace(hardening, teachers=()), "goes together"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            train_classifier(replace(short, hardening=broken), tmp_path / "none")


def test_mixture_is_mostly_its_own_and_unknown_where_either_is() -> None:
    torch.manual_seed(0)
    images = torch.eye(4).reshape(4, 1, 2, 2)
    labels = torch.tensor([[1.0], [0.0], [torch.nan], [1.0]])
    for _ in range(20):
        mixture = draw_mixture(4, 0.3)
        mixed, changed = mixture.of(images), mixture.of(labels)
        assert (mixed.flatten(1).argmax(1) == torch.arange(4)).all()
        torch.testing.assert_close(mixed.sum((1, 2, 3)), torch.ones(4))
        assert changed[2].isnan() and changed.isnan().sum() <= 2
        known = changed[~changed.isnan()]
        assert ((known >= 0) & (known <= 1)).all()
        scores = mixture.of(torch.tensor([[0.1], [0.9], [0.5], [0.7]]))  # a teacher's are mixed as labels are
        torch.testing.assert_close(
            mixture.of_logits(torch.tensor([[0.1], [0.9], [0.5], [0.7]]).logit()).sigmoid(), scores
        )


def test_boxes_tell_the_classifier_where_to_look(classifying: ClassifierTraining, tmp_path: Path) -> None:
    """With boxes in a corner, the class activation map moves to that corner."""
    source = Path(classifying.data.sources[0].manifest)
    lines = source.read_text().splitlines()
    sized = [lines[0] + ",width,height"] + [line + ",40,40" for line in lines[1:]]
    (source.parent / "sized.csv").write_text("\n".join(sized) + "\n")
    boxed = ["path,label,x,y,w,h"] + [f"{line.split(',')[0]},Big,0,0,10,10" for line in lines[1:] if "Big" in line]
    (tmp_path / "boxes.csv").write_text("\n".join(boxed) + "\n")
    looking = replace(
        classifying,
        epochs=4,
        boxes=tmp_path / "boxes.csv",
        box_weight=1.0,
        data=replace(classifying.data, size=64, sources=(SourceConfig(str(source.parent / "sized.csv")),)),
    )
    train_classifier(looking, tmp_path / "cl")
    curve = [row["boxes"] for row in read_history(tmp_path / "cl") if "boxes" in row]
    assert curve[-1] < 0.9 * curve[0]


@pytest.mark.parametrize("backbone", ["torchvision:resnet18", "timm:test_vit"])
def test_other_backbones_train_and_load(classifying: ClassifierTraining, tmp_path: Path, backbone: str) -> None:
    size = 160 if "vit" in backbone else SIZE
    short = replace(classifying, backbone=backbone, epochs=0.2, data=replace(classifying.data, size=size))
    train_classifier(short, tmp_path / "cl")
    model = trained.classifier(tmp_path / "cl")
    assert model.scores(torch.rand(2, 1, size, size)).shape == (2, 2)


def test_refusals(autoencoding: AutoencoderTraining, classifying: ClassifierTraining, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="model takes 1 x 32 pixels, data gives 1 x 64"):
        train_autoencoder(replace(autoencoding, data=replace(autoencoding.data, size=64)), tmp_path / "a")
    with pytest.raises(ConfigurationError, match="targets is empty"):
        train_classifier(replace(classifying, data=replace(classifying.data, targets=())), tmp_path / "b")
    with pytest.raises(ConfigurationError, match="size must be 32 or more for the backbone small, got 16"):
        train_classifier(replace(classifying, data=replace(classifying.data, size=16)), tmp_path / "b")
    with pytest.raises(ConfigurationError, match="boxes need a built-in backbone"):
        train_classifier(replace(classifying, boxes=Path("b.csv"), backbone="timm:resnet18"), tmp_path / "c")
    with pytest.raises(ConfigurationError, match=r"spread must be 0\.001 or more, got 0\.0"):
        train_classifier(replace(classifying, spread=0.0), tmp_path / "c")
    with pytest.raises(WeightsError, match=r"holds no classifier\.json"):
        trained.classifier(tmp_path)
    only = replace(classifying.data, sources=(replace(classifying.data.sources[0], where=("split=train",)),))
    with pytest.raises(InputError, match="no row is in split 'val'"):
        train_classifier(replace(classifying, data=only), tmp_path / "d")
    saved = configuration.load(ClassifierTraining, tmp_path / "d" / "config.yaml")
    assert saved.data.sources[0].where == ("split=train",)


@pytest.fixture
def two(classifying: ClassifierTraining, tmp_path: Path) -> tuple[Path, Path]:
    """Two trainings that differ in the seed."""
    folders = tmp_path / "first", tmp_path / "second"
    for seed, folder in enumerate(folders):
        train_classifier(replace(classifying, epochs=4, loop=replace(classifying.loop, seed=seed)), folder)
    return folders


def test_joined_classifiers_give_the_mean_of_their_calibrated_logits(
    classifying: ClassifierTraining, two: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = two
    alone = [trained.load_classifier_net(folder)[0] for folder in (first, second)]
    steep, words = trained.load_classifier_net(first)
    steep.calibration_temperature.mul_(0.1)  # its own calibration, however it came about, decides nothing
    trained.save(first, trained.CLASSIFIER, steep, steep.config.to_dict(), words)
    one, other = phantoms.TARGETS
    join_classifiers((first, second), (1, 3), tmp_path / "joined", of_targets={other: (4, 1)})
    net, card = trained.load_classifier_net(tmp_path / "joined")
    dataset = data.open_dataset(classifying.data)
    images = dataset.images(dataset.rows("val"))
    shares = torch.tensor([0.25, 0.8])  # of the first, in each target
    wanted = net.calibrate_logits(shares * alone[0](images) + (1 - shares) * alone[1](images))
    torch.testing.assert_close(net(images), wanted, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(
        trained.classifier(tmp_path / "joined").scores(images), wanted.sigmoid(), atol=1e-3, rtol=0
    )
    assert [part["name"] for part in card["joined"]] == ["first", "second"]
    assert card["joined"][0]["share"] == pytest.approx({one: 0.25, other: 0.8})
    assert card["joined"][1]["share"] == pytest.approx({one: 0.75, other: 0.2})
    assert "validation" not in card  # of the second alone
    balanced = [(net(images)[:, t] > 0).double().mean().item() for t in range(len(phantoms.TARGETS))]
    assert all(0 < share < 1 for share in balanced)  # calibrated: neither all nor none above 0.5


def test_weights_whose_card_says_nothing_of_their_training_are_joined_with_a_warning(
    two: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card = json.loads((two[0] / "classifier.json").read_text())
    del card["training"]  # as in weights of an old release
    (two[0] / "classifier.json").write_text(json.dumps(card))
    join_classifiers(two, (1, 1), tmp_path / "joined")
    assert "first was trained on unknown data" in caplog.text
    made = json.loads((tmp_path / "joined" / "classifier.json").read_text())["joined"]
    assert [member["training"] is None for member in made] == [True, False]


@pytest.mark.parametrize(
    ("shares", "own", "words"),
    [
        ((1, 1, 1), {}, r"expected 2 shares, none negative and not all 0, got \(1, 1, 1\)"),
        ((1, -1), {}, "none negative"),
        ((1, 0), {}, "every classifier needs a share in some target"),
        ((1, 1), {"Mumps": (1, 1)}, r"shares are given for \['Mumps'\]"),
        ((1, 1), {phantoms.TARGETS[0]: (0, 0)}, f"not all 0, got .* for {phantoms.TARGETS[0]}"),
    ],
)
def test_shares_that_weigh_nothing_are_refused(
    classifying: ClassifierTraining, tmp_path: Path, shares: tuple[float, ...], own: dict[str, Any], words: str
) -> None:
    first = tmp_path / "first"
    train_classifier(replace(classifying, epochs=0.2), first)
    with pytest.raises(ConfigurationError, match=words):
        join_classifiers((first, first), shares, tmp_path / "joined", of_targets=own)
    assert not (tmp_path / "joined").exists()


def test_features_of_a_joined_classifier_are_those_of_its_members(two: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = two
    join_classifiers((first, second), (1, 1), tmp_path / "joined")
    images = torch.rand(3, 1, SIZE, SIZE)
    one, two, both = (
        open_features(FeatureConfig(str(tmp_path / name), layers=(1, 3)))(images)
        for name in ("first", "second", "joined")
    )
    for ours, a, b in zip(both.maps, one.maps, two.maps, strict=True):
        torch.testing.assert_close(ours, torch.cat([a, b], 1), atol=1e-3, rtol=1e-3)
    net, _ = trained.load_classifier_net(tmp_path / "joined")
    torch.testing.assert_close(both.logits, net(images), atol=1e-3, rtol=1e-3)


def test_a_joined_classifier_is_trained_on_with_frozen_layers_in_each_body(
    classifying: ClassifierTraining, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    train_classifier(replace(classifying, epochs=1), first)
    join_classifiers((first, first), (1, 1), tmp_path / "joined")
    train_classifier(replace(classifying, epochs=1, init=str(tmp_path / "joined"), frozen=2), tmp_path / "on")
    before, after = (state(tmp_path / name / "classifier.safetensors") for name in ("joined", "on"))
    weights = [name for name in before if before[name].ndim > 1]  # body.bodies.MEMBER.LAYER. ..., and head.weight
    moved = {name for name in weights if not torch.equal(before[name], after[name])}
    assert moved == {name for name in weights if name == "head.weight" or name.split(".")[3] not in ("0", "1")}


def test_a_start_for_other_channels_is_refused(classifying: ClassifierTraining, tmp_path: Path) -> None:
    train_classifier(replace(classifying, epochs=0.1), tmp_path / "grey")
    colour = replace(classifying, init=str(tmp_path / "grey"), data=replace(classifying.data, channels=3))
    with pytest.raises(ConfigurationError, match=r"grey takes 1 channel\(s\), this training's data have 3"):
        train_classifier(colour, tmp_path / "colour")


def test_only_like_classifiers_are_joined(classifying: ClassifierTraining, tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    train_classifier(replace(classifying, epochs=1), first)
    train_classifier(replace(classifying, epochs=1, width=4), other)
    with pytest.raises(ConfigurationError, match="only like can be joined"):
        join_classifiers((first, other), (1, 1), tmp_path / "wrong")
    with pytest.raises(ConfigurationError, match="expected two or more classifiers, got 1"):
        join_classifiers((first,), (1,), tmp_path / "wrong")
    join_classifiers((first, first), (1, 1), tmp_path / "two")
    with pytest.raises(ConfigurationError, match="one built-in backbone each"):
        join_classifiers((tmp_path / "two", tmp_path / "two"), (1, 1), tmp_path / "wrong")
    with pytest.raises(ConfigurationError, match="already holds a classifier"):
        join_classifiers((first, first), (1, 1), other)
    assert not (tmp_path / "wrong").exists()


def test_layers_are_not_trained_but_added(autoencoding: AutoencoderTraining, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.framed and model\.layered must be false"):
        train_autoencoder(replace(autoencoding, model=replace(TINY, layered=True)), tmp_path / "a")
    with pytest.raises(ConfigurationError, match=r"frame\.layered needs a frame"):
        train_autoencoder(replace(autoencoding, frame=FrameConfig(layered=True)), tmp_path / "b")
