"""The scripts that make the built-in StyleEx and its page."""

import importlib.util
import json
from types import ModuleType

import pandas as pd
import pytest

from gifsplain.evaluate import directions_cost, directions_report
from gifsplain.evaluate.directions import Cost
from gifsplain.models import builtin
from gifsplain.train.small_classifier import SmallTraining
from gifsplain.train.styleex import StyleExConfig


@pytest.fixture
def load(request):
    def script(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, request.config.rootpath / "examples" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return script


def test_configurations_point_at_the_folders_of_the_run(load, tmp_path):
    make = load("make_styleex")
    small = make.read(SmallTraining, "small-classifier-64.yaml", tmp_path / "data", tmp_path / "out", [])
    config = make.read(
        StyleExConfig, "styleex-64.yaml", tmp_path / "data", tmp_path / "out", ["model.condition=concat"]
    )
    for source in (*small.data.sources, *config.data.sources):
        assert source.manifest.startswith(str(tmp_path / "data"))
    assert config.classifier == tmp_path / "out" / "small-classifier" / "classifier.safetensors"
    assert config.model.condition == "concat"
    assert config.model.targets == small.explained


def rows():
    """Three patients; EigenFind explains two, its controls one, AttFind two."""
    made = []
    for method, hits in (("attfind", 2), ("eigenfind", 2), ("pca", 1), ("random", 1)):
        for i in range(3):
            common = {"method": method, "selection": "independent", "target": "Mass", "raises": True, "image": i,
                      "patient": i, "explained": i < hits, "change": 0.01}  # fmt: skip
            made += [common | {"by": "length", "at": 1.0}, common | {"by": "budget", "at": directions_cost.LIMIT}]
    return pd.DataFrame(made)


def test_results_become_the_page_and_the_card(load, tmp_path):
    tables = load("styleex_tables")
    quality = pd.DataFrame(
        [
            {"method": method, "images": 1, "forwards": forwards, "seconds": seconds, "target": "Mass", "raises": True,
             "image": i, "explained": i < 2}
            for method, forwards, seconds in (("attfind", 90, 9.0), ("eigenfind", 10, 1.0))
            for i in range(3)
        ]
    )  # fmt: skip
    costs = [Cost("attfind", 1, 90, 0, 9.0), Cost("eigenfind", 1, 10, 0, 1.0)]
    report = directions_report.make(rows(), costs, quality, kept=8)
    directions_report.write(report, rows(), quality, tmp_path / "directions")
    text = tables.directions(tmp_path)
    assert "3 held-out radiographs of 3 patients, 3 changes of side" in text
    assert "9 times the forwards and 9 times the seconds" in text
    assert tables.jacobian(tmp_path).endswith("**neither is kept**.")
    assert tables.share_explained(tmp_path)["eigenfind"][0] == pytest.approx(0.67)
    page = "before\n<!-- directions:begin -->\nold\n<!-- directions:end -->\nafter\n"
    assert tables.between(page, "directions", "new") == (
        "before\n<!-- directions:begin -->\n\nnew\n\n<!-- directions:end -->\nafter\n"
    )
    with pytest.raises(SystemExit, match="no marks"):
        tables.between(page, "model", "new")
    card = json.loads((builtin.weights_folder() / "styleex-64.json").read_text())
    assert str(card["targets_measured"]["Effusion"]["auc"]) in tables.model(card)
    marks = tables.PAGE.read_text()
    assert all(f"<!-- {name}:begin -->" in marks for name in ("model", "directions", "concat", "jacobian"))
