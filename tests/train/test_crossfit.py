"""Out-of-fold logits: no classifier knows the patients that it is asked about, and nothing is mixed up on the way."""

import csv
import json
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gifsplain.errors import ConfigurationError, InputError
from gifsplain.models import trained
from gifsplain.train import config as configuration
from gifsplain.train import crossfit, data, identity, losses, out_of_fold
from gifsplain.train.augment import AugmentConfig
from gifsplain.train.classifier import ClassifierTask, ClassifierTraining, train_classifier
from gifsplain.train.config import LoopConfig
from gifsplain.train.crossfit import cross_fit, fold_of
from gifsplain.train.hardening import Hardening, check_hardening
from gifsplain.train.loop import SilentReporter
from gifsplain.train.machine import make_fabric
from gifsplain.train.mixing import Mixture
from gifsplain.train.pretraining import Pretraining, pretrain_body
from gifsplain.train.records import read_history
from gifsplain.train.rows import DataConfig, SourceConfig

from . import phantoms

SIZE = 32
BIG, SPOT = range(2)


def training(manifest: Path) -> ClassifierTraining:
    rows = DataConfig(
        (SourceConfig(str(manifest)),), targets=phantoms.TARGETS, size=SIZE, cache=manifest.parent / "cache"
    )
    return ClassifierTraining(
        data=rows,
        backbone="small",
        width=4,
        dropout=0.1,
        loop=LoopConfig(accelerator="cpu", log_every=1, checkpoint_minutes=60, deterministic=True, monitor="val/auc"),
        augment=AugmentConfig(rotation=3, zoom=0.05, shift=0.03),
        epochs=2,
        batch_size=8,
        rate=3e-3,
        warmup=2,
        average=0.5,
    )


@pytest.fixture
def config(tmp_path: Path) -> ClassifierTraining:
    return training(phantoms.write(tmp_path / "films", count=60))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClassifierTraining, Path]:
    """Three folds, finished."""
    folder = tmp_path_factory.mktemp("fitted")
    settings = training(phantoms.write(folder / "films", count=60))
    assert cross_fit(settings, 3, folder / "out") == folder / "out" / "crossfit.npz"
    return settings, folder / "out"


def lines(settings: ClassifierTraining) -> list[dict[str, str]]:
    with Path(settings.data.sources[0].manifest).open(newline="") as file:
        return list(csv.DictReader(file))


def rewritten(settings: ClassifierTraining, rows: list[dict[str, str]], name: str = "other.csv") -> ClassifierTraining:
    """The training on other lines, in a manifest beside the first."""
    path = Path(settings.data.sources[0].manifest).with_name(name)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return replace(settings, data=replace(settings.data, sources=(SourceConfig(str(path)),)))


def imitating(settings: ClassifierTraining, *folders: Path) -> ClassifierTraining:
    return replace(settings, hardening=replace(settings.hardening, crossfit=folders, imitation=2.0))


def read(folder: Path, settings: ClassifierTraining) -> tuple[data.Dataset, np.ndarray]:
    dataset = data.open_dataset(settings.data)
    return dataset, out_of_fold.read((folder,), dataset, settings.data.targets)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return trained.load_classifier_net(folder)[0].state_dict()


@given(st.lists(st.text(st.characters(), min_size=1), min_size=1), st.integers(2, 12))
def test_a_patient_is_in_one_fold(patients: list[str], folds: int) -> None:
    found = [fold_of(patient, folds) for patient in patients]
    assert all(0 <= fold < folds for fold in found)
    assert found == [fold_of(patient, folds) for patient in patients]


def test_folds_are_about_as_large_and_know_nothing_of_the_split() -> None:
    from gifsplain.train.patients import hashed_split

    names = [f"p{i}" for i in range(3000)]
    counts = np.bincount([fold_of(name, 5) for name in names])
    assert counts.shape == (5,) and counts.min() > 500
    val = [fold_of(name, 5) for name in names if hashed_split(name, (0.1, 0.2)) == "val"]
    assert np.bincount(val, minlength=5).min() > 30


def test_no_batch_of_a_fold_has_its_patients_and_val_stays(
    config: ClassifierTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[str]] = {}
    held: dict[str, set[str]] = {}

    def spying(settings: ClassifierTraining, folder: Path, *, dataset: data.Dataset, **rest: object) -> Path:
        task = ClassifierTask(settings, dataset, make_fabric(settings.loop))
        rows = [row for step in range(2 * task.steps) for row in task._rows(step)]
        seen[folder.name] = {str(dataset.table.patients[row]) for row in rows}
        held[folder.name] = set(dataset.table.patients[task.val].tolist())
        return train_classifier(settings, folder, dataset=dataset, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(crossfit, "train_classifier", spying)
    cross_fit(replace(config, epochs=0.5), 3, tmp_path / "out")
    everybody = {split: {r["patient_id"] for r in lines(config) if r["split"] == split} for split in ("train", "val")}
    assert list(seen) == ["fold-0", "fold-1", "fold-2"]
    for fold in range(3):
        ours = {patient for patient in everybody["train"] if fold_of(patient, 3) == fold}
        assert ours and seen[f"fold-{fold}"] == everybody["train"] - ours
        assert held[f"fold-{fold}"] == everybody["val"]


def test_each_logit_is_of_the_classifier_without_that_patient(fitted: tuple[ClassifierTraining, Path]) -> None:
    """By hand: one film at a time, from the fold's weights, calibrated with what the card says."""
    settings, folder = fitted
    dataset, logits = read(folder, settings)
    card = json.loads((folder / "crossfit.json").read_text())
    offset, temperature = (np.asarray(card["calibration"][name]) for name in ("offset", "temperature"))
    nets = [trained.load_classifier_net(folder / f"fold-{fold}")[0] for fold in range(3)]
    for row, (patient, split) in enumerate(zip(dataset.table.patients, dataset.table.splits, strict=True)):
        if split != "train":
            assert np.isnan(logits[row]).all()
            continue
        with torch.no_grad():
            images = dataset.images(np.asarray([row]))
            raw = [net.head(net.feature_maps(images).mean((2, 3)))[0].double().numpy() for net in nets]
        np.testing.assert_allclose(logits[row] * temperature + offset, raw[fold_of(patient, 3)], atol=1e-4)
    train = dataset.rows("train")
    assert card["folds"] == np.bincount([fold_of(dataset.table.patients[row], 3) for row in train]).tolist()
    positive, negative = (logits[train, BIG][dataset.table.labels[train, BIG] == kind] for kind in (1, 0))
    pairs = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    assert card["auc"]["Big"] == pytest.approx(pairs)


def test_a_films_own_label_does_not_reach_its_logit(fitted: tuple[ClassifierTraining, Path], tmp_path: Path) -> None:
    """But for the two numbers of the calibration: the classifier of its fold is the same to the last bit, others are not."""
    settings, folder = fitted
    rows = lines(settings)
    flipped = next(row for row in rows if row["split"] == "train" and row["labels"] == "Big")
    own = fold_of(flipped["patient_id"], 3)
    flipped["labels"] = "Spot"
    cross_fit(rewritten(settings, rows), 3, tmp_path / "out")
    for fold in range(3):
        before, after = weights(folder / f"fold-{fold}"), weights(tmp_path / "out" / f"fold-{fold}")
        assert all(torch.equal(value, after[name]) for name, value in before.items()) == (fold == own)


def test_several_processes_make_what_one_does(fitted: tuple[ClassifierTraining, Path], tmp_path: Path) -> None:
    settings, folder = fitted
    assert cross_fit(settings, 3, tmp_path / "out", only=2) is None
    assert cross_fit(settings, 3, tmp_path / "out", only=0) is None
    with pytest.raises(ConfigurationError, match=r"fold-0 already holds a training; add --resume"):
        cross_fit(settings, 3, tmp_path / "out", only=0)
    with pytest.raises(ConfigurationError, match=r"fold-0 already holds a training; add --resume"):
        cross_fit(settings, 3, tmp_path / "out")
    (tmp_path / "out" / "fold-0" / "last.ckpt").unlink()  # as the pages allow
    with pytest.raises(ConfigurationError, match=r"fold-0 already holds a training; add --resume to keep it"):
        cross_fit(settings, 3, tmp_path / "out", only=0)
    assert not (tmp_path / "out" / "fold-1" / "last.ckpt").exists()  # refused before it trains anything
    written = cross_fit(settings, 3, tmp_path / "out", only=1)
    assert written == tmp_path / "out" / "crossfit.npz"
    assert written.read_bytes() == (folder / "crossfit.npz").read_bytes()
    assert (tmp_path / "out" / "crossfit.json").read_text() == (folder / "crossfit.json").read_text()
    written.unlink()
    stamps = [(tmp_path / "out" / f"fold-{k}" / "classifier.safetensors").stat().st_mtime_ns for k in range(3)]
    for only in (None, 1):  # what is there is not trained again
        assert cross_fit(settings, 3, tmp_path / "out", only=only, resume=True) == written
    assert stamps == [(tmp_path / "out" / f"fold-{k}" / "classifier.safetensors").stat().st_mtime_ns for k in range(3)]


class Killed(Exception):
    pass


class KillIn(SilentReporter):
    """Ends the run without warning in the middle of one of its trainings."""

    def __init__(self, number: int) -> None:
        self.left = number

    def start(self, step: int, steps: int) -> None:
        self.left -= 1

    def update(self, step: int, losses: object) -> None:
        if self.left < 0 and step == 4:
            raise Killed


def test_killed_in_the_middle_of_a_fold_it_goes_on_to_the_same_file(
    fitted: tuple[ClassifierTraining, Path], tmp_path: Path
) -> None:
    settings, folder = fitted
    often = replace(settings, loop=replace(settings.loop, checkpoint_minutes=0))
    with pytest.raises(Killed):
        cross_fit(often, 3, tmp_path / "out", reporter=KillIn(1))
    assert (tmp_path / "out" / "fold-0" / "classifier.json").exists()
    assert (tmp_path / "out" / "fold-1" / "last.ckpt").exists()
    assert not (tmp_path / "out" / "fold-1" / "classifier.json").exists()
    with pytest.raises(ConfigurationError, match=r"fold-1 already holds a training; add --resume to continue it"):
        cross_fit(often, 3, tmp_path / "out", only=1)
    written = cross_fit(settings, 3, tmp_path / "out", resume=True)
    assert written is not None and written.read_bytes() == (folder / "crossfit.npz").read_bytes()


def test_processes_that_end_at_once_write_the_same_file(
    fitted: tuple[ClassifierTraining, Path], tmp_path: Path
) -> None:
    """Whoever reads meanwhile sees a whole one."""
    settings, folder = fitted
    out = Path(shutil.copytree(folder, tmp_path / "out"))
    (out / "crossfit.npz").unlink()
    expected, dataset = (folder / "crossfit.npz").read_bytes(), data.open_dataset(settings.data)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(cross_fit, settings, 3, out, only=fold, resume=True) for fold in (0, 1, 2) * 3]
        while not all(call.done() for call in calls):
            if (out / "crossfit.npz").exists():
                assert (out / "crossfit.npz").read_bytes() == expected
                out_of_fold.read((out,), dataset, phantoms.TARGETS)
        assert {call.result() for call in calls} == {out / "crossfit.npz"}
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in folder.iterdir())


def test_of_processes_that_begin_at_once_one_decides(config: ClassifierTraining, tmp_path: Path) -> None:
    def begin(folds: int) -> int:
        try:
            crossfit._bind(crossfit.CrossFit(folds, "films", config), tmp_path / "out")
        except ConfigurationError:
            return 0
        return folds

    with ThreadPoolExecutor(8) as pool:
        kept = set(pool.map(begin, range(2, 34))) - {0}
    assert len(kept) == 1 and configuration.read_yaml(tmp_path / "out" / "crossfit.yaml")["folds"] in kept


def test_other_settings_are_refused_before_anything_is_trained(config: ClassifierTraining, tmp_path: Path) -> None:
    short = replace(config, epochs=0.5)
    train_classifier(short, tmp_path / "first")
    begun = replace(short, init=str(tmp_path / "first"))
    cross_fit(begun, 3, tmp_path / "out", only=0)
    for resume in (False, True):
        with pytest.raises(ConfigurationError, match=r"init: '.*first' there, '' now"):
            cross_fit(short, 3, tmp_path / "out", only=1, resume=resume)
    (tmp_path / "out" / "fold-0" / "classifier.json").rename(tmp_path / "kept.json")  # as if it were still at work
    with pytest.raises(ConfigurationError, match=r"out was trained .* \(training\.init: '.*first' there, '' now\)"):
        cross_fit(short, 3, tmp_path / "out", only=1)
    with pytest.raises(ConfigurationError, match=r"\(folds: 3 there, 2 now\); use another folder"):
        cross_fit(begun, 2, tmp_path / "out", only=1)
    changed = lines(config)
    next(row for row in changed if row["split"] == "train" and row["labels"] == "Big")["labels"] = "Spot"
    path = Path(config.data.sources[0].manifest)
    before = path.read_text()
    rewritten(config, changed, path.name)
    with pytest.raises(ConfigurationError, match=r"begun with other films, patients, splits or labels"):
        cross_fit(begun, 3, tmp_path / "out", only=1)
    path.write_text(before)
    weights = tmp_path / "first" / "classifier.safetensors"
    first = weights.read_bytes()
    weights.write_bytes(first + b" ")  # trained anew
    with pytest.raises(ConfigurationError, match=r"was begun with another content of init=.*first than is there now"):
        cross_fit(begun, 3, tmp_path / "out", only=1)
    weights.write_bytes(first)
    assert not list((tmp_path / "out").glob("fold-[12]/*"))
    (tmp_path / "kept.json").rename(tmp_path / "out" / "fold-0" / "classifier.json")
    free = replace(begun, loop=replace(begun.loop, checkpoint_minutes=1))
    assert cross_fit(free, 3, tmp_path / "out", only=1) is None


def test_a_fold_from_elsewhere_is_refused(fitted: tuple[ClassifierTraining, Path], tmp_path: Path) -> None:
    """Put into a folder by hand, as from another machine: of other settings, or of another number of folds."""
    settings, folder = fitted
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fold-1").symlink_to(folder / "fold-1")
    with pytest.raises(ConfigurationError, match=r"fold-1 was trained .*\(rate: 0\.003 there, 0\.1 now\)"):
        cross_fit(replace(settings, rate=0.1), 3, tmp_path / "out", only=0)
    with pytest.raises(ConfigurationError, match=r"fold-1 was trained on \d+ films, without fold 1 of 2 there are \d+"):
        cross_fit(settings, 2, tmp_path / "out", only=0)
    assert not (tmp_path / "out" / "fold-0").exists()


@pytest.mark.parametrize(
    ("folds", "only", "change", "words"),
    [
        (1, None, {}, r"expected 2 or more folds, counted from 0, got 1 and fold None"),
        (3, 3, {}, r"got 3 and fold 3"),
        (3, None, {"loop": LoopConfig(devices=2)}, r"one device, got loop\.devices=2, .* --fold"),
        (3, None, {"hardening": Hardening(crossfit=(Path("x"),), imitation=1.0)}, r"leave it out of cross-fit"),
        (3, None, {"hardening": Hardening(imitation=1.0)}, r"goes together with hardening\.teachers or"),
        (3, None, {"hardening": Hardening(teachers=("a",), crossfit=(Path("b"),), imitation=1.0)}, "not both"),
    ],
)
def test_what_cannot_be_cross_fitted_is_refused(
    config: ClassifierTraining, tmp_path: Path, folds: int, only: int | None, change: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        cross_fit(replace(config, **change), folds, tmp_path / "out", only=only)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_fold_without_patients_is_refused(config: ClassifierTraining, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"have no training patient; use fewer than 40 folds"):
        cross_fit(config, 40, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_has_learnt_already_is_warned_of(
    fitted: tuple[ClassifierTraining, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings, folder = fitted
    begun = replace(settings, epochs=0.2, init=str(folder / "fold-0"))
    cross_fit(begun, 3, tmp_path / "out", only=0)
    assert "fold-0 must not have learnt from the labels that are left out here" in caplog.text


def test_a_body_that_no_label_taught_is_not_warned_of(
    config: ClassifierTraining, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    films = Pretraining(
        config.data, "small", width=4, view_size=SIZE, loop=config.loop, epochs=0.2, batch_size=8, projection=(8, 4)
    )
    pretrain_body(replace(films, loop=replace(films.loop, monitor="")), tmp_path / "body")
    cross_fit(replace(config, epochs=0.2, init=str(tmp_path / "body")), 3, tmp_path / "out", only=0)
    assert "must not have learnt" not in caplog.text


def test_a_folder_is_not_bound_to_films_that_cannot_be_trained_on(config: ClassifierTraining, tmp_path: Path) -> None:
    rows = [line | {"split": "train"} for line in lines(config)]
    with pytest.raises(InputError, match="no row is in split 'val'"):
        cross_fit(rewritten(config, rows), 3, tmp_path / "out", only=0)
    assert not (tmp_path / "out" / crossfit.SETTINGS).exists()


@pytest.mark.parametrize("turned", [False, True])
def test_a_finding_whose_positives_or_negatives_are_in_one_fold_is_not_known(
    config: ClassifierTraining, tmp_path: Path, turned: bool
) -> None:
    """That fold's classifier never saw one, and the others can be held against none; the other finding is known."""
    rows = lines(config)
    for row in rows:
        spot = (row["split"] != "train" or fold_of(row["patient_id"], 3) == 1) != turned
        names = {name for name in row["labels"].split("|") if name == "Big"} | ({"Spot"} if spot else set())
        row["labels"] = "|".join(sorted(names)) or "No Finding"
    settings = rewritten(replace(config, epochs=0.5), rows)
    cross_fit(settings, 3, tmp_path / "out")
    dataset, logits = read(tmp_path / "out", settings)
    train = dataset.rows("train")
    assert np.isnan(logits[train, SPOT]).all() and not np.isnan(logits[train, BIG]).any()
    card = json.loads((tmp_path / "out" / "crossfit.json").read_text())
    assert card["auc"]["Spot"] is None and 0 <= card["auc"]["Big"] <= 1
    assert card["calibration"]["offset"][SPOT] == 0 and card["calibration"]["temperature"][SPOT] == 1


def test_films_are_found_again_in_another_manifest(
    fitted: tuple[ClassifierTraining, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """With other lines in another order, one film more, and one that two lines could be."""
    settings, folder = fitted
    caplog.set_level(logging.INFO)
    dataset, logits = read(folder, settings)
    assert "knows 40 of 40 training films" in caplog.text
    rows = lines(settings)[::-1]
    new = {**next(row for row in rows if row["split"] == "train"), "path": "new.png"}
    phantoms.draw(np.random.default_rng(5), big=True, spot=False).save(
        Path(settings.data.sources[0].manifest).with_name("new.png")
    )
    other, found = read(folder, rewritten(settings, [new, *rows]))
    assert "knows 40 of 41 training films" in caplog.text
    assert np.isnan(found[0]).all() and other.table.facts["path"][0] == "new.png"
    ours = dict(zip(dataset.table.facts["path"], logits, strict=True))
    for path, row in zip(other.table.facts["path"][1:], found[1:], strict=True):
        np.testing.assert_array_equal(row, ours[path])


def test_a_name_that_two_films_share_finds_neither(fitted: tuple[ClassifierTraining, Path], tmp_path: Path) -> None:
    """Two sources may both have a film 0.png of patient p0."""
    settings, folder = fitted
    phantoms.write(tmp_path / "films", count=60, seed=9)
    rows = lines(settings)
    twin = next(row for row in rows if row["split"] == "train")
    second = rewritten(training(tmp_path / "films" / "manifest.csv"), [twin])
    both = replace(settings, data=replace(settings.data, sources=(*settings.data.sources, *second.data.sources)))
    dataset, logits = read(folder, both)
    unknown = np.isnan(logits).all(1) & (dataset.table.splits == "train")
    assert [dataset.table.facts["path"][row] for row in np.flatnonzero(unknown)] == [twin["path"]] * 2


def test_films_without_a_path_are_found_by_their_pixels(config: ClassifierTraining, tmp_path: Path) -> None:
    """In an .npz file, where a new first line would give every film the name of the one before."""
    rows = lines(config)
    dataset = data.open_dataset(config.data)
    arrays = np.asarray(dataset.pixels)[:, 0]

    def settings(name: str, order: list[int]) -> ClassifierTraining:
        kept = [{key: value for key, value in rows[i].items() if key != "path"} for i in order]
        made = rewritten(replace(config, epochs=0.2), kept, f"{name}.csv")
        np.savez(tmp_path / f"{name}.npz", images=arrays[order])
        source = replace(made.data.sources[0], images=tmp_path / f"{name}.npz")
        return replace(made, data=replace(made.data, sources=(source,)))

    first, turned = settings("first", list(range(60))), settings("turned", [59, *range(59)])
    cross_fit(first, 2, tmp_path / "out")
    before, after = read(tmp_path / "out", first)[1], read(tmp_path / "out", turned)[1]
    np.testing.assert_array_equal(after, before[[59, *range(59)]])
    assert np.isfinite(after).any()
    with pytest.raises(InputError, match=r"knows 0 of 40 training films and has 40; .* by their pixels at data\.size"):
        read(tmp_path / "out", replace(first, data=replace(first.data, size=16)))


@pytest.mark.parametrize("case", ["other films", "another split", "another target", "no file", "damaged", "old"])
def test_files_that_do_not_fit_are_refused(fitted: tuple[ClassifierTraining, Path], tmp_path: Path, case: str) -> None:
    settings, folder = fitted
    rows = lines(settings)
    words = {
        "other films": r"knows 0 of 40 training films and has 40; it does not know .*line 2 \(000\.png\)",
        "another split": r"trained on 2 films of val or test, such as .*; cross-fit with the same split",
        "another target": r"knows \['Big', 'Spot'\], expected \['Mass'\] as well",
        "no file": r"cannot read .*crossfit\.npz.*make it with gifsplain train cross-fit",
        "damaged": r"cannot read .*crossfit\.npz",
        "old": r"cannot read .*crossfit\.npz: .*films",
    }[case]
    if case == "other films":
        settings = rewritten(settings, [row | {"patient_id": f"q{row['patient_id']}"} for row in rows])
    elif case == "another split":
        moved = next(row["patient_id"] for row in rows if row["split"] == "train")
        settings = rewritten(settings, [row | ({"split": "val"} if row["patient_id"] == moved else {}) for row in rows])
    elif case == "another target":
        settings = replace(settings, data=replace(settings.data, targets=("Mass",), unions={"Mass": ("Big",)}))
    else:
        folder = tmp_path
        if case == "damaged":
            (tmp_path / "crossfit.npz").write_bytes(b"PK\x03\x04")
        elif case == "old":
            np.savez(tmp_path / "crossfit.npz", names=["a"], targets=["Big"], logits=[[0.0]])
    with pytest.raises(InputError, match=words):
        read(folder, settings)


def test_two_files_are_averaged(fitted: tuple[ClassifierTraining, Path], tmp_path: Path) -> None:
    settings, folder = fitted
    with np.load(folder / "crossfit.npz") as content:
        values = dict(content)
    values["logits"], values["films"], values["targets"] = (
        values["logits"][1:] + 4,
        values["films"][1:],
        ["Spot", "Big"],
    )
    np.savez(tmp_path / "crossfit.npz", **values)
    dataset, one = read(folder, settings)
    both = out_of_fold.read((folder, tmp_path / "crossfit.npz"), dataset, phantoms.TARGETS)
    train = dataset.rows("train")
    assert np.isnan(both[train[0]]).all()
    np.testing.assert_allclose(both[train[1:]], (one[train[1:]] + one[train[1:]][:, ::-1] + 4) / 2)


def slow_imitation(ours: torch.Tensor, theirs: torch.Tensor, counted: Callable[[int], bool]) -> float:
    """Kullback-Leibler divergence of each known score of a counted row, in mean."""
    costs = []
    for row in range(len(ours)):
        for target in range(ours.shape[1]):
            if counted(row) and not theirs[row, target].isnan():
                q, p = (float(one[row, target].double().sigmoid()) for one in (ours, theirs))
                costs.append(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    return float(np.mean(costs)) if costs else 0.0


@given(st.integers(0, 10**6))
def test_imitation_counts_what_is_known(seed: int) -> None:
    """Against a slow version, mixed and not; the gradient is finite, and zero where nothing is known."""
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = (torch.randn(6, 3, generator=generator) * 2 for _ in range(2))
    theirs[torch.rand(6, 3, generator=generator) < 0.3] = torch.nan
    edited = torch.rand(6, generator=generator) < 0.3
    mixture = Mixture(0.7, torch.randperm(6, generator=generator))
    mixed = mixture.of_logits(theirs)
    for wanted, exempt in ((theirs, edited), (mixed, edited | edited[mixture.other])):
        logits = ours.clone().requires_grad_()
        found = losses.same_scores(logits, wanted, ~exempt)
        found.backward()
        slow = slow_imitation(ours, wanted, lambda row, exempt=exempt: not exempt[row])
        assert float(found.detach()) == pytest.approx(slow, abs=1e-5)
        assert logits.grad is not None and logits.grad.isfinite().all()
        assert (logits.grad[wanted.isnan() | exempt[:, None]] == 0).all()
    for row in range(6):
        for target in range(3):
            a, b = (theirs[i, target].double().sigmoid() for i in (row, int(mixture.other[row])))
            score = 0.7 * a + 0.3 * b
            torch.testing.assert_close(mixed[row, target].double().sigmoid(), score, equal_nan=True, atol=1e-5, rtol=0)


def test_given_logits_are_imitated_row_by_row(
    fitted: tuple[ClassifierTraining, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reaches the term is the file's logits of the batch's rows; a film that the file does not know counts for nothing."""
    settings, folder = fitted
    with np.load(folder / "crossfit.npz") as content:
        values = dict(content)
    values["logits"][::3] = np.nan
    values["films"], values["logits"] = values["films"][:-4], values["logits"][:-4]
    np.savez(tmp_path / "crossfit.npz", **values)
    task = ClassifierTask(
        imitating(replace(settings, average=0.0), tmp_path),
        data.open_dataset(settings.data),
        make_fabric(settings.loop),
    )
    asked: list[tuple[torch.Tensor, ...]] = []
    same_scores = losses.same_scores
    monkeypatch.setattr(losses, "same_scores", lambda *given: (asked.append(given), same_scores(*given))[1])
    known = dict(zip(values["films"].tolist(), values["logits"], strict=True))
    names = identity.films(task.dataset)
    for step in range(4):
        rows, terms = task._rows(step), task.step(step)
        logits, given_logits, chosen = asked[step]
        wanted = np.asarray([known.get(names[row], np.full(2, np.nan)) for row in rows])
        np.testing.assert_allclose(given_logits.numpy(), wanted, rtol=1e-6)
        assert chosen.all() and np.isnan(wanted).any()
        slow = slow_imitation(logits.detach(), torch.from_numpy(wanted), lambda _: True)
        assert float(terms["imitation"]) == pytest.approx(slow, rel=1e-4)
        assert float(terms["loss"]) == pytest.approx(float(terms["bce"]) + 2 * float(terms["imitation"]), rel=1e-5)


def test_a_training_without_them_draws_the_same(fitted: tuple[ClassifierTraining, Path], tmp_path: Path) -> None:
    """Logits that are all unknown change no batch and no weight."""
    settings, folder = fitted
    mixing = replace(settings, hardening=Hardening(mixup=0.4, adversarial=0.01))
    with np.load(folder / "crossfit.npz") as content:
        values = dict(content)
    np.savez(tmp_path / "crossfit.npz", **(values | {"logits": np.full_like(values["logits"], np.nan)}))
    train_classifier(mixing, tmp_path / "plain")
    train_classifier(imitating(mixing, tmp_path), tmp_path / "told")
    curve = [{k: v for k, v in row.items() if k != "imitation"} for row in read_history(tmp_path / "told")]
    assert curve == read_history(tmp_path / "plain")
    assert {row.get("imitation", 0.0) for row in read_history(tmp_path / "told")} == {0.0}


def test_imitation_learns_what_the_file_says(fitted: tuple[ClassifierTraining, Path], tmp_path: Path) -> None:
    """With the labels of Big turned around in the file, the student that heeds the file more learns it the wrong way round."""
    settings, folder = fitted
    with np.load(folder / "crossfit.npz") as content:
        values = dict(content)
    dataset = data.open_dataset(settings.data)
    values["logits"] = (0.5 - dataset.table.labels[dataset.rows("train")]) * 6
    np.savez(tmp_path / "crossfit.npz", **values)
    longer = replace(imitating(settings, tmp_path), epochs=10, loop=replace(settings.loop, monitor=""))
    longer = replace(longer, hardening=replace(longer.hardening, imitation=20.0))
    train_classifier(longer, tmp_path / "student")
    areas = [row["val/auc/Big"] for row in read_history(tmp_path / "student") if "val/auc/Big" in row]
    assert areas[-1] < 0.3


def test_imitation_asks_for_somebody_to_imitate() -> None:
    check_hardening(Hardening(crossfit=(Path("a"),), imitation=1.0), phantoms.TARGETS, boxes=False)
    with pytest.raises(ConfigurationError, match=r"imitation goes together with"):
        check_hardening(Hardening(crossfit=(Path("a"),)), phantoms.TARGETS, boxes=False)
