"""The bottleneck experiment on phantoms, and what is made of its points."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gifsplain.errors import ConfigurationError, InputError
from gifsplain.evaluate import bottleneck as figures
from gifsplain.evaluate.bottleneck import Point
from gifsplain.explain.settings import Settings
from gifsplain.train import bottleneck as experiment
from gifsplain.train import config as configuration
from gifsplain.train import given
from gifsplain.train.augment import NO_AUGMENTATION
from gifsplain.train.autoencoder import AutoencoderTraining
from gifsplain.train.classifier import ClassifierTraining, train_classifier
from gifsplain.train.config import LoopConfig
from gifsplain.train.rows import DataConfig, SourceConfig

from . import phantoms

POINTS = [
    Point(18, "32x2x2", 128, 1.0, 0.10, 0.2, 0.0, 0.3),
    Point(18, "32x2x2", 128, 2.0, 0.05, 0.3, 0.5, 0.6),
    Point(50, "8x2x2", 32, 2.0, 0.07, 0.25, 1.0, 0.7),
]


def test_points_survive_a_file(tmp_path: Path) -> None:
    figures.write_points(POINTS, tmp_path / "points.csv")
    assert figures.read_points(tmp_path / "points.csv") == POINTS
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="must have the columns"):
        figures.read_points(tmp_path / "other.csv")


def test_table_shows_the_end_of_each_training() -> None:
    lines = figures.table(POINTS).splitlines()
    assert lines[2:] == [
        "| 18 | 32x2x2 | 128 | 2 | 0.0500 | 0.300 | 50% | 0.60 |",
        "| 50 | 8x2x2 | 32 | 2 | 0.0700 | 0.250 | 100% | 0.70 |",
    ]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_figure_is_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"curves.{suffix}"
    figures.draw(POINTS, path, random_iou=0.1)
    assert path.stat().st_size > 5000


@pytest.mark.slow
def test_experiment_trains_all_and_resumes_without_training_again(tmp_path: Path) -> None:
    source = phantoms.write(tmp_path / "d", count=40)
    lines = source.read_text().splitlines()
    source.write_text("\n".join([lines[0] + ",width,height"] + [line + ",40,40" for line in lines[1:]]) + "\n")
    boxed = [f"{line.split(',')[0]},Big,13,15,20,20" for line in lines[1:] if "Big" in line]
    (tmp_path / "boxes.csv").write_text("\n".join(["path,label,x,y,w,h", *boxed]) + "\n")
    rows = DataConfig((SourceConfig(str(source)),), targets=("Big",), size=32, cache=tmp_path / "cache")
    loop = LoopConfig(accelerator="cpu", log_every=5)
    train_classifier(
        ClassifierTraining(
            data=rows,
            backbone="small",
            width=8,
            loop=loop,
            epochs=8,
            batch_size=8,
            rate=3e-3,
            augment=NO_AUGMENTATION,
            average=0.8,
        ),
        tmp_path / "cl",
    )
    config = experiment.BottleneckExperiment(
        training=AutoencoderTraining(data=rows, loop=loop, epochs=4, evaluate_epochs=2, batch_size=8, average=0.8),
        boxes=tmp_path / "boxes.csv",
        bottlenecks=((4, 1, 1), (16, 4, 4)),
        depths=(18,),
        width=4,
        classifier=str(tmp_path / "cl"),
        target="Big",
        images=3,
        settings=Settings(frames=5, evaluations=8),
    )
    points = experiment.run_bottlenecks(config, tmp_path / "out")
    assert [(p.bottleneck, p.epoch) for p in points] == [("4x1x1", 2), ("4x1x1", 4), ("16x4x4", 2), ("16x4x4", 4)]
    assert all(np.isfinite([p.mae, p.iou, p.reached, p.scored]).all() for p in points)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "points.csv",
        "table.md",
        "curves.png",
        "curves.svg",
    }
    before = (tmp_path / "out" / "resnet18-4x1x1" / "last.ckpt").stat().st_mtime_ns
    assert experiment.run_bottlenecks(config, tmp_path / "out") == points
    assert (tmp_path / "out" / "resnet18-4x1x1" / "last.ckpt").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="none of 25 boxes is of a row's path and a target"):
        experiment.run_bottlenecks(replace(config, target="Spot"), tmp_path / "none")


def test_configuration_of_the_docs_is_whole() -> None:
    """The file in examples/training is read, and options change it."""
    path = Path(__file__).parents[2] / "examples" / "training" / "bottleneck.yaml"
    chosen = {"boxes": Path("b.csv"), "bottlenecks": ["8x1x1"], "depths": [18], "classifier": None, "target": "Mass"}
    options = given.Given(config=path, size=32, overrides=("training.epochs=2",))
    made = given.experiment(experiment.BottleneckExperiment, options, chosen)
    assert (made.boxes, made.bottlenecks, made.depths, made.target) == (Path("b.csv"), ((8, 1, 1),), (18,), "Mass")
    assert made.training.epochs == 2 and made.training.data.size == 32
    assert configuration.from_dict(experiment.BottleneckExperiment, configuration.to_dict(made)) == made
    with pytest.raises(ConfigurationError, match=r"no data: .* training\.data\.sources"):
        given.experiment(experiment.BottleneckExperiment, given.Given(), chosen)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("autoencoder", AutoencoderTraining),
        ("classifier", ClassifierTraining),
        ("classifier-hardened", ClassifierTraining),
    ],
)
def test_recipes_are_read(name: str, kind: type) -> None:
    path = Path(__file__).parents[2] / "examples" / "training" / f"{name}.yaml"
    made = configuration.load(kind, path)
    assert configuration.from_dict(kind, configuration.to_dict(made)) == made
