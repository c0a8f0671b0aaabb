"""`gifsplain directions`: fit population methods to a pair of models; `gifsplain evaluate directions`; their pages."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gifsplain.evaluate.config import Setup

app = typer.Typer(
    no_args_is_help=True, help="Directions that hold for many images: EigenFind, AttFind, probes, controls."
)

ManifestArgument = Annotated[Path, typer.Argument(help="CSV with path, labels, split; patient_id where known.")]
ClassifierOption = Annotated[str, typer.Option(help="Name as in `gifsplain models list`.")]
AutoencoderOption = Annotated[str, typer.Option(help="Name as in `gifsplain models list`.")]
SplitOption = Annotated[str, typer.Option(help="Rows of the manifest.")]
SourceOption = Annotated[list[str] | None, typer.Option(help="Only rows with this source; repeatable.")]


def register(program: typer.Typer) -> None:
    """Add the command group to the program."""
    program.add_typer(app, name="directions")


ShownMethodOption = Annotated[str, typer.Option(help="Population method whose directions are shown.")]
TargetsOption = Annotated[list[str] | None, typer.Option("--target", "-t", help="Targets; by default all.")]


@app.command()
def fit(
    manifest: ManifestArgument,
    classifier: ClassifierOption = "cxr",
    autoencoder: AutoencoderOption = "cxr",
    split: SplitOption = "val",
    source: SourceOption = None,
    limit: Annotated[int, typer.Option(min=8, help="Most images, drawn by seed 0.")] = 200,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; by default in the user's cache, where it is found.")
    ] = None,
) -> None:
    """Learn the directions of `--method eigenfind, pca, probe ...` on images that are not explained."""
    from gifsplain.evaluate.selection import selection_images
    from gifsplain.explain import fits
    from gifsplain.models.load import load_models

    pair = load_models(classifier, autoencoder)
    path = output or fits.cache_path(pair)
    images = selection_images(manifest, pair.autoencoder.card, split=split, sources=tuple(source or ()), limit=limit)
    found = fits.fit_pair(pair, images.to(pair.device), done=lambda method: typer.echo(f"fitted {method}", err=True))
    fits.save(found, path)
    typer.echo(f"wrote {path}")


@app.command()
def pages(
    manifest: ManifestArgument,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for index.html and one page a direction.")],
    classifier: ClassifierOption = "styleex",
    autoencoder: AutoencoderOption = "styleex",
    method: ShownMethodOption = "eigenfind",
    target: TargetsOption = None,
    split: SplitOption = "test",
    source: SourceOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Images to look for examples among.")] = 60,
    shown: Annotated[int, typer.Option(min=1, help="Examples a page.")] = 6,
) -> None:
    """A page for each direction: before and after with scores, animation, what else changed, room to write."""
    from gifsplain.evaluate.selection import selection_images
    from gifsplain.models.load import load_models
    from gifsplain.render.direction_pages import write_pages

    pair = load_models(classifier, autoencoder)
    images = selection_images(manifest, pair.autoencoder.card, split=split, sources=tuple(source or ()), limit=limit)
    path = write_pages(pair, images.to(pair.device), method, tuple(target or pair.targets), output, shown=shown)
    typer.echo(f"wrote {path}")


@app.command()
def study(
    manifest: ManifestArgument,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for cases.csv, study.yaml and pictures.")],
    classifier: ClassifierOption = "styleex",
    autoencoder: AutoencoderOption = "styleex",
    method: ShownMethodOption = "eigenfind",
    target: TargetsOption = None,
    split: SplitOption = "test",
    source: SourceOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Images to choose cases among.")] = 200,
    per_target: Annotated[int, typer.Option(min=1, help="Most cases a target, half of them false positives.")] = 8,
    ranks: Annotated[int, typer.Option(min=1, help="Directions that readers see of each target.")] = 3,
) -> None:
    """What `gifsplain study init` needs to ask readers what each direction changes."""
    from gifsplain.evaluate.selection import load_in_chunks, selection_cases
    from gifsplain.models.load import load_models
    from gifsplain.render.direction_study import ReadCase, StudyPlan, write_study

    pair = load_models(classifier, autoencoder)
    rows = selection_cases(manifest, split=split, sources=tuple(source or ()), limit=limit)
    images = load_in_chunks(rows, pair.autoencoder.card).to(pair.device)
    known = [
        ReadCase(row.key, frozenset(t for t in pair.targets if row.has(t)), image)
        for row, image in zip(rows, images, strict=True)
        if row.labelled
    ]
    plan = StudyPlan(method, tuple(target or pair.targets), ranks, per_target)
    cases = write_study(pair, known, plan, output)
    typer.echo(f"gifsplain study init STUDY --cases {cases} --config {cases.parent / 'study.yaml'}")


def evaluate_directions(
    setup: "Setup",
    *,
    selection_split: Annotated[str, typer.Option(help="Where directions are ranked.")] = "val",
    selection: Annotated[int, typer.Option(min=8, help="Most images that rank directions.")] = 150,
    attfind_images: Annotated[
        int, typer.Option(min=0, help="Images on which AttFind tries every coordinate; 0: none.")
    ] = 40,
    candidates: Annotated[int, typer.Option(min=1, help="Directions tried by EigenFind and its controls.")] = 20,
    kept: Annotated[int, typer.Option(min=1, help="Ranked directions kept for each target.")] = 8,
    length: Annotated[list[float], typer.Option(help="Lengths of moves in sigma; repeatable, rising.")] = [],  # noqa: B006
    local: Annotated[
        int, typer.Option(min=0, help="Singular vectors of the decoder's Jacobian at each reconstruction; 0: none.")
    ] = 0,
) -> None:
    """Share of held-out images that AttFind, EigenFind, their controls and the gradient explain; and at what cost."""
    from gifsplain.cli.console import table
    from gifsplain.evaluate import directions_report
    from gifsplain.evaluate.directions import DirectionsPlan

    plan = DirectionsPlan(
        attfind_images=attfind_images, candidates=candidates, kept=kept, local=local, targets=setup.targets,
        seed=setup.seed,
    )  # fmt: skip
    if length:
        plan = replace(plan, strengths=tuple(length), rank_at=length[len(length) // 2])
    config = directions_report.DirectionsConfig(setup, plan, selection_split, selection)
    report = directions_report.run(config, lambda step: typer.echo(f"measured {step}", err=True))
    for by in ("length", "budget"):
        frame = directions_report.share_table(report.shares, by)
        table([list(frame.columns), *frame.itertuples(index=False)])
    for sentence in report.words:
        typer.echo(f"* {sentence}")
    typer.echo(f"\n{setup.out / 'directions'}")
