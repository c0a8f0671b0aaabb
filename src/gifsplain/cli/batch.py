"""`gifsplain batch`."""

from pathlib import Path
from typing import Annotated

import typer

from gifsplain.cli.explain import (
    AutoencoderOption,
    ClassifierOption,
    ColourOption,
    DeviceOption,
    MemoryOption,
    PrecisionOption,
    ResizeOption,
    WindowOption,
)

SHOWN = 10
"""Failures that are printed."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(batch)


def batch(
    manifest: Annotated[
        list[str], typer.Argument(help="CSV manifests, folders, patterns or images.", show_default=False)
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.", show_default=False)],
    targets: Annotated[
        list[str], typer.Option("--targets", "-t", help="Output to explain, or several with commas between.")
    ] = [],  # noqa: B006
    method: Annotated[str, typer.Option(help="See `gifsplain models methods`.")] = "latentshift",
    classifier: ClassifierOption = "cxr",
    autoencoder: AutoencoderOption = "cxr",
    resize: ResizeOption = False,
    drop: Annotated[float, typer.Option(help="Wanted fall of the score, absolute (policy exact).")] = 0.30,
    rise: Annotated[float, typer.Option(help="Wanted rise of the score, absolute (policy exact).")] = 0.05,
    frames: Annotated[
        int | None, typer.Option(help="Frames of a sweep; the policy's own number when left out.")
    ] = None,
    policy: Annotated[str, typer.Option(help="Strength search: exact, paper-2021 or latentshift-0.0.6.")] = "exact",
    compose: Annotated[str, typer.Option(help="Frames: reconstruction or residual.")] = "reconstruction",
    media: Annotated[bool, typer.Option("--media/--no-media", help="Also write animations, maps and reports.")] = True,
    formats: Annotated[
        list[str],
        typer.Option("--format", help="Media, repeatable or with commas between; all standard ones when left out."),
    ] = [],  # noqa: B006
    arrays: Annotated[bool, typer.Option("--arrays/--no-arrays", help="Also write arrays.npz.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine, or Ray actors.")] = 1,
    runner: Annotated[str, typer.Option(help="Where the work is done: here or ray.")] = "here",
    gpus: Annotated[float, typer.Option(min=0, help="GPUs for each Ray actor; may be a fraction.")] = 0.0,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on in a folder that holds results.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed/--no-retry-failed", help="With --resume: what failed is tried again.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch", min=1, help="Most images that pass through a network at once.")
    ] = 16,
    part: Annotated[int, typer.Option(min=1, help="Cases that are committed together.")] = 32,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    memory: MemoryOption = None,
    window: WindowOption = None,
    colour: ColourOption = "refuse",
    seed: Annotated[int, typer.Option(help="For methods that draw random numbers.")] = 0,
) -> None:
    """Explain a whole data set into one table; a run that was killed goes on with --resume.

    OUTPUT holds results/*.parquet, errors/*.parquet, media/CASE/TARGET/, configuration.json and summary.html. Started
    by torchrun, srun or in a SLURM array, each process does its share. The exit code is 1 when cases failed.
    """
    from gifsplain.batch.files import Reading
    from gifsplain.batch.job import Job, Models, Outputs
    from gifsplain.batch.plan import Shard, shard_from_environment
    from gifsplain.batch.run import run, runner_name
    from gifsplain.batch.summary import write_summary
    from gifsplain.cli import console
    from gifsplain.explain.settings import Settings
    from gifsplain.io.manifest import find_cases
    from gifsplain.io.run_folder import read_errors

    settings = Settings(
        drop=drop, rise=rise, frames=frames, policy=console.choice(policy, "policy"), batch=batch_size, seed=seed,
        composition=console.composition(compose), precision=console.precision(precision), memory=console.gigabytes(memory),
    )  # fmt: skip
    job = Job(
        folder=output, cases=tuple(find_cases(manifest)), method=method, settings=settings, part=part, retry_failed=retry_failed,
        targets=tuple(name.strip() for text in targets for name in text.split(",") if name.strip()),
        outputs=Outputs(console.formats(formats) if media else (), arrays),
        models=Models(classifier, autoencoder, resize, device),
        reading=Reading(console.window(window), console.colour(colour)),
    )  # fmt: skip
    share = shard_from_environment() or Shard()
    if share.count > 1 and runner == "here":  # a Ray cluster shares the work by itself
        typer.echo(
            f"place {share.index} of {share.count}, counted from 0, as torchrun or SLURM says: one case in {share.count}"
        )
    with console.rate("explaining") as report:
        outcome = run(
            job, runner=runner_name(runner), resume=resume, workers=workers, gpus=gpus, shard=share, report=report
        )
    summary = write_summary(output)
    typer.echo(f"{outcome.finished} of {outcome.wanted} explanations that were asked for are done, all places together")
    typer.echo(f"{outcome.rows} explanations and {outcome.failures} failures in {output}; see {summary}")
    for clock in outcome.clocks:
        typer.echo(
            f"worker: {clock['rows']:.0f} rows in {clock['total']:.1f} s, computing {clock['utilisation']:.0%} of it"
        )
    if outcome.failures:
        failed = read_errors(output)[["case", "target", "reason"]]
        console.table([("case", "target", "why it failed"), *failed.head(SHOWN).itertuples(index=False)], err=True)
        if len(failed) > SHOWN:
            typer.echo(f"and {len(failed) - SHOWN} more: see {output / 'errors'} or {summary}", err=True)
        raise typer.Exit(1)
