"""`gifsplain evaluate`: every experiment as one command; those of other rooms are attached in `register`."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gifsplain.evaluate.config import Setup
    from gifsplain.evaluate.parts import Progress

evaluate = typer.Typer(
    help="Measure explanations: every experiment of the Latent Shift paper, and more.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the group to the program; an experiment that lives in a file of its own gets one line here."""
    from gifsplain.cli.bottleneck import bottleneck
    from gifsplain.cli.directions import evaluate_directions

    marks = ("boxes", "masks")
    unused: dict[Callable[..., None], tuple[str, ...]] = {
        overlap: (),
        randomisation: (),
        robustness: (),
        reconstruction: ("method", "limit", *marks),
        curves: ("method",),
        counterfactual: (),
        alignment: ("method",),
        shortcut: ("classifier", "target", "resize", *marks),
        models: ("method", "limit", *marks),
        sheets: ("limit",),
    }
    for command, without in unused.items():
        evaluate.command()(_with_setup(command, without))
    evaluate.command()(bottleneck)
    evaluate.command("directions")(_with_setup(evaluate_directions, ("method", *marks)))
    evaluate.command()(paper)
    evaluate.command()(panel)
    app.add_typer(evaluate, name="evaluate")


def setup_options(
    manifest: Annotated[Path, typer.Argument(help="CSV with path, patient_id, labels (separated by |), split.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder; an unfinished run there is continued.")],
    boxes: Annotated[
        Path | None, typer.Option(help="CSV with path, label, x, y, w, h; default boxes.csv beside.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="CSV with path, mask_path, kind; default masks.csv beside.")
    ] = None,
    classifier: Annotated[list[str], typer.Option(help="Name as in `gifsplain models list`; repeatable.")] = ["cxr"],  # noqa: B006
    autoencoder: Annotated[str, typer.Option(help="Name as in `gifsplain models list`.")] = "cxr",
    resize: Annotated[
        bool, typer.Option("--resize/--no-resize", help="Let classifiers take the autoencoder's size.")
    ] = False,
    method: Annotated[
        list[str], typer.Option(help="Methods to compare; repeatable. Default: the paper's and two controls.")
    ] = [],  # noqa: B006
    target: Annotated[list[str], typer.Option("--target", "-t", help="Targets; repeatable. Default: all.")] = [],  # noqa: B006
    split: Annotated[
        str, typer.Option(help="Rows of the manifest to measure: choose on val, look at test once.")
    ] = "val",
    source: Annotated[list[str], typer.Option(help="Only rows with this source; repeatable.")] = [],  # noqa: B006
    limit: Annotated[int, typer.Option(min=1, help="Most cases for each target.")] = 80,
    seed: Annotated[int, typer.Option(help="Draws cases, noise and random weights.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Images that go through a network at once.")] = 8,
) -> "Setup":
    """What every experiment shares."""
    from gifsplain.evaluate.config import CONTROLS, PAPER_METHODS, Setup

    return Setup(
        manifest=manifest, out=output, boxes=boxes, masks=masks, classifiers=tuple(classifier), autoencoder=autoencoder,
        resize=resize, methods=tuple(method) or (*PAPER_METHODS, *CONTROLS), targets=tuple(target), split=split,
        sources=tuple(source),
        limit=limit, seed=seed, batch=batch,
    )  # fmt: skip


def _with_setup(command: Callable[..., None], without: Sequence[str]) -> Callable[..., None]:
    """`command(setup, ...)` as a command that takes the options of `setup_options`, but those that it does not use, and its own."""
    whole = inspect.signature(setup_options).parameters
    shared = {name: parameter for name, parameter in whole.items() if name not in without}
    fixed = {name: whole[name].default for name in without}
    own = {name: p for name, p in inspect.signature(command).parameters.items() if name != "setup"}

    def run(**options: Any) -> None:
        setup = setup_options(**fixed, **{name: options.pop(name) for name in shared})
        command(setup, **options)

    merged = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*shared.values(), *own.values())]
    run.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in merged}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _perform(name: str, config: Any) -> None:
    """Run one experiment, print its words and tables, leave with code 1 when a case failed."""
    from gifsplain.cli.console import table
    from gifsplain.evaluate.experiments import failures, perform

    result = perform(name, config, _watch(name))
    for title, frame in result.tables.items():
        typer.echo(f"\n{title}")
        table([list(frame.columns), *frame.itertuples(index=False)])
    for sentence in result.words:
        typer.echo(f"* {sentence}")
    folder = config.setup.out / name
    typer.echo(f"\n{folder}")
    if failed := failures(folder):
        typer.echo(f"{failed} cases failed; {folder / 'failed.csv'} names them", err=True)
        raise typer.Exit(1)


def _watch(title: str) -> "Progress | None":
    """Counts on standard error for a person who watches."""
    from gifsplain.cli.groups import is_terminal

    if not is_terminal():
        return None
    return lambda done, total: typer.echo(f"\r{title}: {done} of {total}", err=True, nl=done == total)


def overlap(
    setup: "Setup", threshold_split: Annotated[str, typer.Option(help="Where the threshold is chosen.")] = "val"
) -> None:
    """IoU, precision, recall, hits and energy against experts' marks, with AUC and controls (tables 1, E.1)."""
    from gifsplain.evaluate.localisation import OverlapConfig

    _perform("overlap", OverlapConfig(setup, threshold_split))


def randomisation(
    setup: "Setup",
    kind: Annotated[list[str], typer.Option(help="cascading, independent, smooth, efficient; repeatable.")] = [],  # noqa: B006
    steps: Annotated[int, typer.Option(min=1, help="Depths at which maps are drawn again.")] = 10,
) -> None:
    """Do maps change when the classifier's layers get random weights? (figures 5 and H.1, and later corrections)."""
    from gifsplain.evaluate.randomisation import KINDS, RandomisationConfig

    _perform("randomisation", RandomisationConfig(setup, tuple(kind) or KINDS, steps))


def robustness(setup: "Setup") -> None:
    """Maps under noise and Gaussian blur in steps (figure G.1)."""
    from gifsplain.evaluate.robustness import RobustnessConfig

    _perform("robustness", RobustnessConfig(setup))


def reconstruction(
    setup: "Setup",
    images: Annotated[int, typer.Option(min=1, help="Most positives and most negatives a target.")] = 500,
) -> None:
    """Score of images and of their reconstructions (table K.1)."""
    from gifsplain.evaluate.reconstruction import ReconstructionConfig

    _perform("reconstruction", ReconstructionConfig(setup, images))


def models(
    setup: "Setup",
    explained: Annotated[int, typer.Option(min=0, help="Most positives a target that are explained.")] = 40,
    everywhere: Annotated[
        list[str],
        typer.Option(
            help="Rows for reconstruction and the probe of source: column=value; repeatable. "
            "Default: weights_ok=1 where there is such a column, else all."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Figures of a model card: AUC and reconstruction by group, probe of source, how many explanations reach."""
    from gifsplain.evaluate.model_figures import ModelFiguresConfig

    _perform("models", ModelFiguresConfig(setup, explained, tuple(everywhere) or None))


def sheets(
    setup: "Setup",
    images: Annotated[int, typer.Option(min=1, help="Explanations for each target.")] = 40,
    rows: Annotated[int, typer.Option(min=1, help="Explanations on one sheet.")] = 10,
) -> None:
    """Contact sheets: image with marks, reconstruction, counterfactual, change and map, many cases to look at.

    Explained by the first --method that draws a sweep.
    """
    from gifsplain.evaluate.sheets import SheetsConfig, run

    for path in run(SheetsConfig(setup, images, rows)):
        typer.echo(path)


def curves(
    setup: "Setup",
    reach: Annotated[
        float, typer.Option(help="Largest strength on either side, above 0: 1 is a root mean square of the latent.")
    ] = 1.0,
    points: Annotated[int, typer.Option(min=3, help="Strengths in all, evenly spread.")] = 41,
) -> None:
    """Score over strength for several classifiers on the same images (figure 3)."""
    from gifsplain.evaluate.curves import CurvesConfig

    _perform("curves", CurvesConfig(setup, reach=reach, points=points))


def counterfactual(
    setup: "Setup",
    oracle: Annotated[str | None, typer.Option(help="Second classifier that judges the counterfactuals.")] = None,
    perceptual: Annotated[str | None, typer.Option(help="Classifier whose layers measure perceptual distance.")] = None,
) -> None:
    """Validity, proximity, realism, path, side effects, deletion and insertion: one table over methods."""
    from gifsplain.evaluate.counterfactual import CounterfactualConfig

    _perform("counterfactual", CounterfactualConfig(setup, oracle, perceptual))


def alignment(
    setup: "Setup", drop: Annotated[float, typer.Option(help="Fall of the base score that is asked for.")] = 0.5
) -> None:
    """Which other targets and classifiers move with a counterfactual (arXiv 2312.02186)."""
    from gifsplain.evaluate.alignment import AlignmentConfig

    _perform("alignment", AlignmentConfig(setup, drop=drop))


def shortcut(
    setup: "Setup",
    *,
    finding: Annotated[str, typer.Option(help="Real finding that the mark competes with.")] = "Lung Opacity",
    mark: Annotated[list[str], typer.Option(help="square, disc, band or text; repeatable.")] = ["square"],  # noqa: B006
    size: Annotated[float, typer.Option(help="Share of the image side.")] = 0.1,
    corner: Annotated[str, typer.Option(help="top-left, top-right, bottom-left or bottom-right.")] = "top-left",
    agreement: Annotated[list[float], typer.Option(help="Agreement of mark and label; repeatable.")] = [],  # noqa: B006
    train_images: Annotated[int, typer.Option(min=2, help="Images that train each classifier.")] = 600,
    side: Annotated[int, typer.Option(min=0, help="Small images of this side; 0 takes the autoencoder's size.")] = 0,
) -> None:
    """Plant a mark that agrees with the label, train on it, and ask every method where the decision comes from."""
    from gifsplain.cli.console import choice
    from gifsplain.evaluate.marks import Mark
    from gifsplain.evaluate.shortcut import RATES, ShortcutConfig

    kinds: Any = [choice(one, "mark", ("square", "disc", "band", "text")) for one in mark]
    place: Any = choice(corner, "corner", ("top-left", "top-right", "bottom-left", "bottom-right"))
    planted = Mark(kinds[0], size, place)
    rates = tuple(agreement) or RATES
    _perform("shortcut", ShortcutConfig(setup, finding, planted, tuple(kinds), side, rates, train_images=train_images))


def paper(
    config: Annotated[Path, typer.Option(help="YAML file with `setup` and `experiments`; examples/paper.yaml is one.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder; the file's own when left out.")] = None,
) -> None:
    """Run all experiments of a file and write one HTML report, with the published numbers beside ours."""
    from gifsplain.evaluate import paper as report

    configs = report.read(config, output)
    page = next(iter(configs.values())).setup.out / "report.html"
    report.run(configs, page, _watch)
    typer.echo(page)


def panel(
    image: Annotated[Path, typer.Argument(help="One image.")],
    *,
    target: Annotated[str, typer.Option("--target", "-t", help="Output to explain.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file.")] = Path("panel.png"),
    classifier: Annotated[list[str], typer.Option(help="One row each; repeatable.")] = ["cxr"],  # noqa: B006
    autoencoder: Annotated[str, typer.Option(help="Name as in `gifsplain models list`.")] = "cxr",
    method: Annotated[list[str], typer.Option(help="One column each; repeatable.")] = [],  # noqa: B006
    box: Annotated[list[str], typer.Option(help="x,y,width,height in pixels of the image; repeatable.")] = [],  # noqa: B006
    mask: Annotated[Path | None, typer.Option(help="Mask image whose outline is drawn.")] = None,
    resize: Annotated[
        bool, typer.Option("--resize/--no-resize", help="Let classifiers take the autoencoder's size.")
    ] = False,
) -> None:
    """Maps of several methods side by side, classifiers as rows, with boxes or a mask drawn in (figures 4 and E.1)."""
    from gifsplain.evaluate import panel as drawing

    request = drawing.Panel(
        image, target, tuple(classifier), autoencoder, tuple(method), resize, drawing.boxes(box), mask
    )
    drawing.write(request, output)
    typer.echo(output)
