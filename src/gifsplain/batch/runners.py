"""Where the parts are worked on: in this process, in several, or as one of many that somebody else starts."""

import json
import logging
import multiprocessing as mp
import os
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gifsplain.batch import plan
from gifsplain.batch.job import Job, configuration_of
from gifsplain.batch.plan import Item, Part, Shard
from gifsplain.batch.store import Store, refuse_missing, refuse_other_files, refuse_renamed
from gifsplain.batch.worker import Clock, Worker
from gifsplain.errors import ConfigurationError, GifsplainError
from gifsplain.explain.methods import refuse_unusable
from gifsplain.io import run_folder
from gifsplain.io.files import write_text
from gifsplain.models.load import load_models
from gifsplain.models.protocols import Pair
from gifsplain.render.directory import refuse_unknown

log = logging.getLogger(__name__)

RESTARTS = 3
"""How often a process that died is started again."""

TOLD = 3
"""Exit code of a process that has told its parent why it ended; it is not started again. Python's own code for an error
is 1, also where a process could not even begin."""

Report = Callable[[int, int], None]
"""Told how many cases are finished and how many there are in all, those of earlier runs included."""


@dataclass(frozen=True)
class Outcome:
    """What a run did: rows and failures in the folder now, and the clocks of its workers."""

    rows: int
    failures: int
    clocks: tuple[dict[str, float], ...]
    wanted: int
    """Explanations that the job asks for, of all places together."""
    finished: int
    """How many of them have a row or a failure."""


def run(
    job: Job,
    *,
    resume: bool = False,
    workers: int = 1,
    shard: Shard | None = None,
    report: Report = lambda done, total: None,
) -> Outcome:
    """Run a job on this machine, or this process's share of it when torchrun or SLURM has started it.

    Raises:
        ConfigurationError: When the folder belongs to another configuration, or is in use; when several workers are asked
            for in one of several places.
        GifsplainError: When cases of this run are in neither table at its end.
        InputError: When there is nothing to do, or a finished row is of another file or content.
    """
    share = shard or plan.shard_from_environment() or Shard()
    if workers > 1 and share.count > 1:
        raise ConfigurationError(
            f"expected one worker for place {share.index} among {share.count}, got {workers}; torchrun or SLURM starts the "
            "processes: start as many places as there shall be workers, each without --workers"
        )
    pair = load(job)
    items = plan.make_items(job.cases, job.targets)
    store = Store(job.folder, configuration_of(job, pair))
    store.open(resume=resume or share.count > 1)
    done = store.done(failures=not job.retry_failed)
    refuse_other_files(items, done)
    refuse_renamed(items, done)
    left = plan.remaining(items, done)
    if workers > 1:
        del pair
        return _processes(job, store, workers, items, _counter(len(items) - len(left), len(items), report))
    with store.claim(share):
        clock = work(job, pair, store, share, _counter(len(items) - len(left), len(items), report))
    return outcome(store, (clock.values(),), items, share)


def load(job: Job) -> Pair:
    """The models of a job, when it can be done with them; otherwise nothing has been written yet.

    Raises:
        InputError: When a method, a format or a setting cannot be had.
        TargetError: When the classifier lacks a target of the job, or its head was never trained.
        WeightsError: When weights or a fit are missing.
    """
    refuse_unknown(job.outputs.formats)
    names = job.models
    pair = load_models(names.classifier, names.autoencoder, resize=names.resize, device=names.device)
    refuse_unusable(job.method, pair, job.targets, job.settings)
    return pair


def parts_of(job: Job, store: Store, share: Shard) -> list[Part]:
    """What is left to do for one place among many."""
    mine = plan.own(plan.make_items(job.cases, job.targets), share)
    return plan.make_parts(plan.remaining(mine, store.done(failures=not job.retry_failed)), job.part)


def work(job: Job, pair: Pair, store: Store, share: Shard, report: Callable[[int], None]) -> Clock:
    """Do the work of one place in this process and write down where the time went."""
    clock = Worker(job, pair, store, report=report).run(parts_of(job, store, share))
    write_clock(store, f"worker-{share.index}-of-{share.count}", clock.values())
    return clock


def write_clock(store: Store, name: str, clock: dict[str, float]) -> None:
    """Leave a worker's clock in the log folder."""
    path = store.folder / run_folder.LOG / f"{name}-{int(time.time() * 1000)}.json"
    write_text(path, json.dumps({**clock, "threads": torch.get_num_threads()}, indent=2) + "\n")


def _counter(before: int, total: int, report: Report) -> Callable[[int], None]:
    finished = before

    def count(cases: int) -> None:
        nonlocal finished
        finished += cases
        report(finished, total)

    report(finished, total)
    return count


def outcome(store: Store, clocks: tuple[dict[str, float], ...], items: Sequence[Item], share: Shard) -> Outcome:
    """What the folder holds now.

    Raises:
        GifsplainError: When it lacks one of the items of this share.
    """
    done = store.done()
    refuse_missing(plan.own(items, share), done)
    wanted = [key for item in items for key in item.keys]
    rows, errors = run_folder.read_run(store.folder), run_folder.read_errors(store.folder)
    return Outcome(len(rows), len(errors), clocks, len(wanted), sum(key in done for key in wanted))


def _processes(job: Job, store: Store, workers: int, items: Sequence[Item], count: Callable[[int], None]) -> Outcome:
    """One process for each shard, on a GPU of its own where there are any; one that dies is started again."""
    context: Any = mp.get_context("spawn")
    messages = context.Queue()
    running: dict[int, Any] = {index: _start(context, job, Shard(index, workers), messages) for index in range(workers)}
    clocks: list[dict[str, float]] = []
    errors: list[str] = []
    restarts = 0
    while running:
        kind, value = _next(messages)
        if kind == "cases":
            count(value)
        elif kind == "clock":
            clocks.append(value)
        elif kind == "error":
            errors.append(value)
        for index, process in list(running.items()):
            if process.is_alive():
                continue
            process.join()
            del running[index]
            if process.exitcode not in (0, TOLD) and restarts < RESTARTS:
                restarts += 1
                log.warning("worker %d died (exit code %s); its cases run again", index, process.exitcode)
                running[index] = _start(context, job, Shard(index, workers), messages)
            elif process.exitcode not in (0, TOLD):
                errors.append(
                    f"worker {index} died (exit code {process.exitcode}) and was started again {RESTARTS} times"
                )
    while (message := _next(messages, 0.05))[0]:
        if message[0] == "clock":
            clocks.append(message[1])
        elif message[0] == "error":
            errors.append(message[1])
    if errors:
        raise GifsplainError(f"{errors[0]}; go on with --resume")
    return outcome(store, tuple(clocks), items, Shard())


def _next(messages: Any, seconds: float = 0.2) -> tuple[str, Any]:
    try:
        kind, value = messages.get(timeout=seconds)
        return str(kind), value
    except queue.Empty:
        return "", None


def _start(context: Any, job: Job, share: Shard, messages: Any) -> Any:
    environment = {}
    if torch.cuda.is_available():
        environment["CUDA_VISIBLE_DEVICES"] = str(share.index % torch.cuda.device_count())
    threads = max(1, (os.cpu_count() or 1) // share.count)
    process = context.Process(target=_process, args=(job, share, messages, environment, threads), daemon=True)
    process.start()
    return process


def _process(job: Job, share: Shard, messages: Any, environment: dict[str, str], threads: int) -> None:
    """Body of a worker process; an error that ends it is told to the parent."""
    os.environ.update(environment)
    torch.set_num_threads(threads)
    try:
        pair = load(job)
        store = Store(job.folder, configuration_of(job, pair))
        with store.claim(share):
            clock = work(job, pair, store, share, lambda cases: messages.put(("cases", cases)))
        messages.put(("clock", clock.values()))
    except KeyboardInterrupt as stop:  # Ctrl-C reaches the parent too, which says so
        raise SystemExit(TOLD) from stop
    except GifsplainError as error:
        messages.put(("error", str(error)))
        raise SystemExit(TOLD) from error
    except Exception as error:  # of the device, the disk or a model: whatever it is, the parent must know
        log.exception("worker %d", share.index)
        reason = f"{type(error).__name__}: {error}"
        messages.put(("error", f"worker {share.index} ended before its work was done ({reason})"))
        raise SystemExit(TOLD) from error
