"""The same plan on a Ray cluster: actors load the models once, and what a dead actor was doing is done again."""

import logging
from collections import deque
from typing import Any

from gifsplain.batch import plan
from gifsplain.batch.job import Job, configuration_of
from gifsplain.batch.plan import Part, Shard
from gifsplain.batch.runners import Outcome, Report, load, outcome, parts_of, write_clock
from gifsplain.batch.store import Store, refuse_other_files, refuse_renamed
from gifsplain.batch.worker import Clock, Worker
from gifsplain.errors import GifsplainError, MissingExtraError

try:
    import ray
except ImportError as error:
    raise MissingExtraError("the Ray runner needs the extra `ray`: pip install 'gifsplain[ray]'") from error

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a part is tried on an actor that dies."""


class Actor:
    """Holds the models of a job in a process of the cluster; the run folder must be one that every machine sees."""

    def __init__(self, job: Job) -> None:
        pair = load(job)
        self.worker = Worker(job, pair, Store(job.folder, configuration_of(job, pair)))

    def run(self, part: Part) -> dict[str, float]:
        """Explain and commit one part."""
        self.worker.clock = Clock()
        return self.worker.run([part]).values()

    def process(self) -> int:
        """Number of the process, for tests that end it."""
        import os

        return os.getpid()


def run(job: Job, *, workers: int, gpus: float, resume: bool, report: Report) -> Outcome:
    """Run a job on the cluster that `ray.init` finds, or on this machine.

    Raises:
        GifsplainError: When a part has ended its actor several times.
    """
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    store = Store(job.folder, configuration_of(job, load(job)))
    store.open(resume=resume)
    items = plan.make_items(job.cases, job.targets)
    done = store.done(failures=not job.retry_failed)
    refuse_other_files(items, done)
    refuse_renamed(items, done)
    with store.claim(Shard()):
        parts = parts_of(job, store, Shard())
        total, before = len(items), len(items) - sum(len(part.items) for part in parts)
        report(before, total)
        clocks = _Pool(job, min(workers, max(1, len(parts))), gpus).run(parts, before, total, report)
    for number, clock in enumerate(clocks):
        write_clock(store, f"ray-{number}", clock)
    return outcome(store, tuple(clocks), items, Shard())


class _Pool:
    """Actors and the parts that they work on."""

    def __init__(self, job: Job, workers: int, gpus: float) -> None:
        self.job = job
        self.make = ray.remote(num_gpus=gpus, num_cpus=1)(Actor)
        self.actors = [self.make.remote(job) for _ in range(workers)]
        self.clocks: list[dict[str, float]] = [{} for _ in range(workers)]

    def run(self, parts: list[Part], before: int, total: int, report: Report) -> list[dict[str, float]]:
        """Hand out parts until none is left; a dead actor is replaced and its part handed out again."""
        waiting = deque((part, 1) for part in parts)
        running: dict[Any, tuple[int, Part, int]] = {}
        idle = list(range(len(self.actors)))
        while waiting or running:
            while waiting and idle:
                number, (part, attempt) = idle.pop(), waiting.popleft()
                running[self.actors[number].run.remote(part)] = (number, part, attempt)
            (ready,), _ = ray.wait(list(running), num_returns=1)
            number, part, attempt = running.pop(ready)
            idle.append(number)
            try:
                self._add(number, ray.get(ready))
            except ray.exceptions.RayActorError as error:
                if attempt == ATTEMPTS:
                    raise GifsplainError(
                        f"{part.name} ended its Ray actor {ATTEMPTS} times ({error}); go on with --resume"
                    ) from error
                log.warning("a Ray actor died; %s runs again", part.name)
                self.actors[number] = self.make.remote(self.job)
                waiting.append((part, attempt + 1))
            else:
                before += len(part.items)
                report(before, total)
        for actor in self.actors:
            ray.kill(actor)
        return [clock for clock in self.clocks if clock]

    def _add(self, number: int, clock: dict[str, float]) -> None:
        """Sum of the clocks of an actor's parts."""
        sums = self.clocks[number]
        for key, value in clock.items():
            sums[key] = max(sums.get(key, 0.0), value) if key == "peak_megabytes" else sums.get(key, 0.0) + value
        sums["utilisation"] = sums["computing"] / sums["total"]
