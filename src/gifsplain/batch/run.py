"""One entry for every place that a batch can run in."""

from typing import Literal, cast, get_args

from gifsplain.batch import runners
from gifsplain.batch.job import Job
from gifsplain.batch.plan import Shard
from gifsplain.batch.runners import Outcome, Report
from gifsplain.errors import InputError

Runner = Literal["here", "ray"]


def runner_name(text: str) -> Runner:
    """`text` when a runner goes by that name.

    Raises:
        InputError: Otherwise.
    """
    if text not in get_args(Runner):
        raise InputError(f"--runner must be one of {', '.join(get_args(Runner))}, got {text!r}")
    return cast(Runner, text)


def run(
    job: Job,
    *,
    runner: Runner = "here",
    resume: bool = False,
    workers: int = 1,
    gpus: float = 0.0,
    shard: Shard | None = None,
    report: Report = lambda done, total: None,
) -> Outcome:
    """Explain every case and target of a job into its folder.

    Args:
        job: What to explain, how, and where to.
        runner: `here` is this machine or a share of it under torchrun or SLURM; `ray` a Ray cluster.
        resume: Go on in a folder that holds results already.
        workers: Processes or Ray actors.
        gpus: GPUs for each Ray actor.
        shard: This process's place, when neither torchrun nor SLURM says it.
        report: Told how many cases are finished and how many there are.

    Raises:
        ConfigurationError: When the folder belongs to another configuration, or is in use.
        GifsplainError: When a worker ended early, or cases of this run are in neither table at its end.
        InputError: When a finished row is of another file or content than its case has now.
        MissingExtraError: When Ray is asked for and not installed.
    """
    if runner == "ray":
        from gifsplain.batch import ray_runner

        return ray_runner.run(job, workers=workers, gpus=gpus, resume=resume, report=report)
    return runners.run(job, resume=resume, workers=workers, shard=shard, report=report)
