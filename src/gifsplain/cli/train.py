"""`gifsplain train`: models from data of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from gifsplain.cli import console
from gifsplain.errors import InputError
from gifsplain.io import memory

DataArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="CSV manifests, folders of images or xrv:CLASS (a torchxrayvision dataset).", show_default=False
    ),
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder for weights, card, configuration and logs.")]
ConfigOption = Annotated[Path | None, typer.Option(help="YAML configuration; options below change it.")]
ImagesOption = Annotated[Path | None, typer.Option(help="What the manifest's paths are relative to, or an .npz.")]
WhereOption = Annotated[list[str] | None, typer.Option(help="Rows to keep: source=nih|kermany, view!=L.")]
SizeOption = Annotated[int | None, typer.Option(help="Height and width in pixels.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Any key of the configuration: loop.seed=3.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the training in OUTPUT.")]
TargetOption = Annotated[list[str] | None, typer.Option("--target", "-t", help="Output; may be given several times.")]

app = typer.Typer(no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the command group to the program."""
    from gifsplain.cli.styleex import small_classifier, styleex

    app.command("styleex")(styleex)
    app.command("small-classifier")(small_classifier)
    program.add_typer(app, name="train")


@app.callback()
def begin(context: typer.Context) -> None:
    """Train an autoencoder or a classifier on images of your own."""
    memory.keep_freed()
    context.with_resource(console.told("gifsplain.train"))


@app.command()
def autoencoder(
    data: DataArgument = None,
    *,
    output: OutputOption = Path("autoencoder"),
    config: ConfigOption = None,
    images: ImagesOption = None,
    where: WhereOption = None,
    size: SizeOption = None,
    depth: Annotated[int | None, typer.Option(help="ResNet depth: 18, 50, 101 or 151.")] = None,
    bottleneck: Annotated[str | None, typer.Option(help="Latent as CHANNELSxHEIGHTxWIDTH, such as 512x3x3.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the first ResNet stage.")] = None,
    overrides: SetOption = None,
    resume: ResumeOption = False,
) -> None:
    """Train an autoencoder; killed at any moment, it goes on with --resume."""
    from gifsplain.train import autoencoder as training
    from gifsplain.train import given
    from gifsplain.train.progress import make_reporter

    options = given.Given(data or (), config, images, where or (), (), size, overrides or ())
    settings = given.settings(
        training.AutoencoderTraining, options, given.autoencoder_model(size, depth, bottleneck, width)
    )
    path = training.train_autoencoder(settings, output, resume=resume, reporter=make_reporter("autoencoder"))
    typer.echo(f"wrote {path}")


@app.command()
def classifier(
    data: DataArgument = None,
    *,
    output: OutputOption = Path("classifier"),
    config: ConfigOption = None,
    target: TargetOption = None,
    images: ImagesOption = None,
    where: WhereOption = None,
    size: SizeOption = None,
    backbone: Annotated[
        str | None, typer.Option(help="efficientnet-lite0 (or 1, 2), small, timm:NAME or torchvision:NAME.")
    ] = None,
    overrides: SetOption = None,
    resume: ResumeOption = False,
) -> None:
    """Train a multi-label classifier whose score of 0.5 is the operating point on validation data."""
    from gifsplain.train import classifier as training
    from gifsplain.train import given
    from gifsplain.train.progress import make_reporter

    options = given.Given(data or (), config, images, where or (), target or (), size, overrides or ())
    settings = given.settings(training.ClassifierTraining, options, {"backbone": backbone} if backbone else {})
    path = training.train_classifier(settings, output, resume=resume, reporter=make_reporter("classifier"))
    typer.echo(f"wrote {path}")


@app.command("cross-fit")
def cross_fit(
    data: DataArgument = None,
    *,
    output: OutputOption = Path("crossfit"),
    config: ConfigOption = None,
    target: TargetOption = None,
    images: ImagesOption = None,
    where: WhereOption = None,
    size: SizeOption = None,
    folds: Annotated[int, typer.Option(help="Parts of the training patients.")] = 5,
    fold: Annotated[
        int | None, typer.Option(help="Train only the classifier that lacks this part, counted from 0; default: all.")
    ] = None,
    overrides: SetOption = None,
    resume: ResumeOption = False,
) -> None:
    """Train a classifier without each part of the training patients and write what it says of them (crossfit.npz).

    A classifier may then imitate these logits (hardening.crossfit and hardening.imitation). With --fold several processes
    share the work, and the one that ends last writes the file.
    """
    from gifsplain.train import classifier as training
    from gifsplain.train import given
    from gifsplain.train.crossfit import cross_fit as run
    from gifsplain.train.progress import make_reporter

    options = given.Given(data or (), config, images, where or (), target or (), size, overrides or ())
    settings = given.settings(training.ClassifierTraining, options)
    path = run(settings, folds, output, only=fold, resume=resume, reporter=make_reporter("classifier"))
    typer.echo(f"wrote {path}" if path else f"trained fold {fold}; {output} lacks others")


@app.command()
def pretrain(
    data: DataArgument = None,
    *,
    output: OutputOption = Path("pretrained"),
    config: ConfigOption = None,
    target: TargetOption = None,
    images: ImagesOption = None,
    where: WhereOption = None,
    size: SizeOption = None,
    backbone: Annotated[str | None, typer.Option(help="efficientnet-lite0 (or 1, 2) or small.")] = None,
    overrides: SetOption = None,
    resume: ResumeOption = False,
) -> None:
    """Pre-train the body of a classifier on images without labels; `train classifier --set init=OUTPUT` goes on from it."""
    from gifsplain.train import given
    from gifsplain.train import pretraining as training
    from gifsplain.train.progress import make_reporter

    options = given.Given(data or (), config, images, where or (), target or (), size, overrides or ())
    settings = given.settings(training.Pretraining, options, {"backbone": backbone} if backbone else {})
    path = training.pretrain_body(settings, output, resume=resume, reporter=make_reporter("pretraining"))
    typer.echo(f"wrote {path}")


@app.command()
def join(
    classifiers: Annotated[
        list[Path], typer.Argument(help="Folders of finished classifier trainings with the same built-in backbone.")
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for weights and card.")] = Path("joined"),
    share: Annotated[
        list[float] | None, typer.Option(help="Weight of each, in the same order; repeatable. Default: all the same.")
    ] = None,
    target_share: Annotated[
        list[str] | None, typer.Option(help="Weights for one target instead: Cardiomegaly=1,4; repeatable.")
    ] = None,
) -> None:
    """Make several trained classifiers one that can be explained: its logit is the mean of theirs, calibrated again.

    The validation data of the last one's training is read again, from where its configuration says; no other may have
    been trained on it.
    """
    from gifsplain.train.join import join_classifiers

    own = dict(_target_shares(text) for text in target_share or ())
    path = join_classifiers(classifiers, share or [1.0] * len(classifiers), output, of_targets=own)
    typer.echo(f"wrote {path}")


def _target_shares(text: str) -> tuple[str, list[float]]:
    target, _, numbers = text.rpartition("=")
    try:
        shares = [float(number) for number in numbers.split(",")] if target else []
    except ValueError:
        shares = []
    if not shares:
        raise InputError(f"expected --target-share such as Cardiomegaly=1,4, got {text!r}")
    return target, shares
