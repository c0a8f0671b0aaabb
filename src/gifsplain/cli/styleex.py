"""`gifsplain train styleex` and `gifsplain train small-classifier`, attached to the group in `cli.train`."""

from pathlib import Path
from typing import Annotated

import typer

ConfigArgument = Annotated[Path, typer.Argument(help="YAML configuration; examples/styleex-64.yaml is one.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Any key of the configuration: loop.seed=3.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the training in OUTPUT.")]


def styleex(
    config: ConfigArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for checkpoints, history, pictures and weights.")
    ] = Path("styleex"),
    overrides: SetOption = None,
    threads: Annotated[int, typer.Option(help="Processor threads; 0: all.")] = 0,
    resume: ResumeOption = False,
) -> None:
    """Train a StyleGAN with encoder around a small classifier; killed at any moment, it goes on with --resume."""
    import torch

    from gifsplain.train import config as configuration
    from gifsplain.train.styleex import StyleExConfig
    from gifsplain.train.styleex_run import STEM, train_styleex

    if threads:
        torch.set_num_threads(threads)
    settings = configuration.load(StyleExConfig, config, overrides or ())
    outcome = train_styleex(settings, output, resume=resume)
    typer.echo(f"wrote {output / STEM}.safetensors after {outcome.step} steps")


def small_classifier(
    config: ConfigArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for checkpoints, history and weights.")] = Path(
        "small-classifier"
    ),
    overrides: SetOption = None,
    resume: ResumeOption = False,
) -> None:
    """Train the small classifier that a StyleEx explains; 0.5 is where its sensitivity equals its specificity."""
    from gifsplain.train import config as configuration
    from gifsplain.train.small_classifier import SmallTraining, train_small_classifier

    settings = configuration.load(SmallTraining, config, overrides or ())
    path = train_small_classifier(settings, output, resume=resume)
    typer.echo(f"wrote {path}")
