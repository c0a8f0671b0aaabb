"""`gifsplain evaluate bottleneck`: what an autoencoder's bottleneck does to error and explanation."""

from pathlib import Path
from typing import Annotated

import typer


def bottleneck(
    data: Annotated[list[str] | None, typer.Argument(help="CSV manifests.", show_default=False)] = None,
    *,
    boxes: Annotated[Path | None, typer.Option(help="Expert boxes: CSV with path, label, x, y, w, h.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for points, table, curves, models.")] = Path(
        "bottleneck-sizes"
    ),
    config: Annotated[Path | None, typer.Option(help="YAML configuration; options change it.")] = None,
    classifier: Annotated[str | None, typer.Option(help="Name or folder of the classifier that is explained.")] = None,
    target: Annotated[str | None, typer.Option("--target", "-t", help="Output to explain.")] = None,
    bottleneck: Annotated[list[str] | None, typer.Option(help="CHANNELSxHEIGHTxWIDTH; several times.")] = None,
    depth: Annotated[list[int] | None, typer.Option(help="ResNet depth 18, 50, 101 or 151; several times.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="Rows to keep: source=nih|kermany, view!=L.")] = None,
    size: Annotated[int | None, typer.Option(help="Height and width in pixels.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Any key: training.epochs=5.")] = None,
) -> None:
    """Train autoencoders over bottleneck sizes and depths; record error and overlap with expert boxes as they learn."""
    from gifsplain.evaluate.bottleneck import table
    from gifsplain.io import memory
    from gifsplain.train import bottleneck as experiment
    from gifsplain.train import given
    from gifsplain.train.progress import make_reporter

    memory.keep_freed()
    options = given.Given(data or (), config, None, where or (), (), size, overrides or ())
    chosen = {"boxes": boxes, "classifier": classifier, "target": target, "depths": depth, "bottlenecks": bottleneck}
    settings = given.experiment(experiment.BottleneckExperiment, options, chosen)
    points = experiment.run_bottlenecks(settings, output, make_reporter)
    typer.echo(f"{table(points)}\nwrote {output / 'points.csv'}, table.md, curves.png and curves.svg")
