"""Targets as people type them, and experiments that have nothing to measure."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from gifsplain.cli import app, groups
from gifsplain.errors import InputError, TargetError
from gifsplain.evaluate import cases, config, randomisation
from gifsplain.evaluate.config import Setup
from gifsplain.evaluate.curves import CurvesConfig
from gifsplain.evaluate.experiments import EXPERIMENTS, perform
from gifsplain.evaluate.localisation import OverlapConfig
from gifsplain.evaluate.randomisation import RandomisationConfig
from gifsplain.evaluate.sheets import SheetsConfig
from gifsplain.evaluate.sheets import run as write_sheets
from gifsplain.models.protocols import Pair

from .test_experiments import CONFIGS
from .tiny import tiny_pair

World = Callable[..., Setup]
OF_A_TARGET = [name for name in EXPERIMENTS if name != "shortcut"]
"""The shortcut's finding is a label of the manifest, not an output of a classifier."""


@pytest.mark.parametrize("name", OF_A_TARGET)
def test_an_unknown_target_is_refused_before_anything_is_written(world: World, name: str) -> None:
    setup = world(targets=("Mass", "Typo"))
    with pytest.raises(TargetError, match="tiny has no target 'Typo'; it has Mass, Effusion, Nodule"):
        perform(name, CONFIGS[name](setup))
    assert not setup.out.exists()


def test_sheets_refuse_an_unknown_target(world: World) -> None:
    with pytest.raises(TargetError, match="no target 'Typo'"):
        write_sheets(SheetsConfig(world(targets=("Typo",))))


def test_case_does_not_matter(world: World) -> None:
    first = perform("curves", CurvesConfig(world(targets=("Mass",), limit=1), points=3))
    again = perform("curves", CurvesConfig(world(targets=("mASS", "mass"), limit=1), points=3))  # the same folder
    pd.testing.assert_frame_equal(again.rows, first.rows)


def test_only_some_classifiers_need_to_know_a_target(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*targets: str, untrained: tuple[str, ...] = ()) -> Pair:
        pair = tiny_pair()
        card = replace(pair.classifier.card, targets=targets, untrained=untrained)
        return replace(pair, classifier=replace(pair.classifier, card=card))

    pairs = {
        "one": called("Mass", "Effusion", "Nodule"),
        "two": called("Hernia", "MASS", "Edema", untrained=("Edema",)),
    }
    monkeypatch.setattr(config, "load_models", lambda name, autoencoder, *, resize=False: pairs[name])

    def opened(*targets: str, classifiers: tuple[str, ...] = ("one", "two")) -> tuple[str, ...]:
        setup, found = world(targets=targets, classifiers=classifiers).opened()
        assert found == {name: pairs[name] for name in classifiers}
        return setup.targets

    assert opened("hernia", "mass") == ("Hernia", "Mass", "MASS")
    assert opened() == ()
    with pytest.raises(TargetError, match="no target 'Fracture'"):
        opened("Fracture")
    with pytest.raises(TargetError, match="never trained"):
        opened("edema", classifiers=("two",))


@pytest.mark.parametrize("name", [name for name in OF_A_TARGET if name not in ("reconstruction", "models")])
def test_an_experiment_without_a_case_says_so_and_claims_no_folder(world: World, name: str) -> None:
    setup = world(targets=("Effusion",))
    table = pd.read_csv(setup.manifest)
    table["labels"] = "Mass"
    table.to_csv(setup.manifest, index=False)
    setup.box_file.write_text("path,label,x,y,w,h\n")
    setup.mask_file.unlink()
    with pytest.raises(InputError, match="expected cases .* for Effusion, got none in split 'val' of all sources"):
        perform(name, CONFIGS[name](setup))
    assert not setup.out.exists()


def test_reconstruction_without_labels_says_so(world: World) -> None:
    setup = world()
    table = pd.read_csv(setup.manifest)
    table.assign(labels="").to_csv(setup.manifest, index=False)
    with pytest.raises(InputError, match="expected cases with labels for any target, got none"):
        perform("reconstruction", CONFIGS["reconstruction"](setup))


def test_marks_in_the_split_of_the_threshold_alone_are_no_result(world: World) -> None:
    setup = world(targets=("Mass",), split="test", methods=("grad",))
    boxes = pd.read_csv(setup.box_file)
    boxes[boxes["path"].str.startswith("val")].to_csv(setup.box_file, index=False)
    with pytest.raises(InputError, match="with an expert's mark for Mass, got none in split 'test'"):
        perform("overlap", OverlapConfig(setup))


def test_marks_without_labels_have_no_auc(world: World) -> None:
    setup = world(targets=("Mass",), limit=1, methods=("grad",))
    table = pd.read_csv(setup.manifest)
    table.assign(labels="").to_csv(setup.manifest, index=False)
    result = perform("overlap", OverlapConfig(setup))
    assert set(result.tables["IoU at the expert's area and AUC (tables 1 and E.1)"]["one AUC"]) == {"–"}


def test_a_run_in_which_every_case_failed_names_the_first_reason(world: World) -> None:
    setup = world(targets=("Mass",), limit=2)
    for path in setup.manifest.parent.glob("val-*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"got none; the first failed: .*val-"):
        perform("curves", CurvesConfig(setup))
    assert len(pd.read_csv(setup.out / "curves" / "failed.csv")) == 2


def test_sources_need_their_column(world: World) -> None:
    setup = world(sources=("nih",))
    pd.read_csv(setup.manifest).drop(columns="source").to_csv(setup.manifest, index=False)
    with pytest.raises(InputError, match=r"metadata\.csv has no column source to look for nih in"):
        cases.load_cases(setup)


def test_the_efficient_test_can_be_asked_alone(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    setup = world()
    arguments = ["evaluate", "randomisation", str(setup.manifest), "-o", str(setup.out), "--classifier", "one"]
    arguments += ["-t", "mass", "--limit", "2", "--method", "grad", "--kind", "efficient"]
    assert groups.run(app, arguments) == 0
    assert "Efficient test" in capsys.readouterr().out
    alone = pd.read_csv(setup.out / "randomisation" / "summary.csv")
    both = perform("randomisation", RandomisationConfig(
        replace(setup, out=setup.out / "both", targets=("Mass",), limit=2, methods=("grad",)), ("efficient", "independent"), steps=1
    )).summary  # fmt: skip
    efficient = both[both["kind"] == "efficient"]
    assert alone["mean"].tolist() == pytest.approx(efficient["mean"].tolist()) and alone["n"].tolist() == [2]


def test_a_kind_that_needs_similarity_has_no_rise() -> None:
    rows = pd.DataFrame(
        {"classifier": "one", "target": "Mass", "method": "grad", "kind": "cascading", "randomised": 1.0,
         "similarity": [0.2, 0.4]}
    )  # fmt: skip
    assert randomisation.summarise(rows)["mean"].tolist() == pytest.approx([0.3])
