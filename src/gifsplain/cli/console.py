"""What the commands share: options in text form to typed values, progress bars, and the tables at the end."""

import contextlib
import json
import logging
import os
import sys
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from gifsplain.cli.groups import is_terminal
from gifsplain.errors import InputError

if TYPE_CHECKING:
    from gifsplain.batch.files import Done
    from gifsplain.batch.predict import Row
    from gifsplain.explain.compose import Composition
    from gifsplain.explain.settings import PolicyName
    from gifsplain.io.grey import Colour
    from gifsplain.io.manifest import Case
    from gifsplain.models.precision import Precision
    from gifsplain.models.protocols import ModelCard

POLICY_NAMES = ("exact", "paper-2021", "latentshift-0.0.6")


class _Told(logging.Handler):
    """Writes to what standard error is at that moment: above a progress bar while one is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and os.environ.get("LOCAL_RANK", "0") != "0":
            return  # the first of several processes says it for all
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def told(name: str) -> Iterator[None]:
    """Within it, what the part of the package called `name` logs, from INFO on, stands on standard error."""
    logger, handler = logging.getLogger(name), _Told(logging.INFO)
    before = logger.level
    logger.addHandler(handler)
    if not logger.isEnabledFor(logging.INFO):  # somebody who asked for more keeps it
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def choice(text: str, option: str, among: Sequence[str] = POLICY_NAMES) -> "PolicyName":
    """`text` when it is one of `among`.

    Raises:
        InputError: Otherwise; lists what there is.
    """
    if text not in among:
        raise InputError(f"--{option} must be one of {', '.join(among)}, got {text!r}")
    return text  # type: ignore[return-value]


def composition(text: str) -> "Composition":
    """The composition called `text`."""
    from gifsplain.explain.compose import Composition

    choice(text, "compose", [item.value for item in Composition])
    return Composition(text)


def precision(text: str) -> "Precision":
    """A number format of the networks."""
    return choice(text, "precision", ("float32", "bf16"))  # type: ignore[return-value]


def gigabytes(number: float | None) -> int | None:
    """Bytes."""
    return None if number is None else int(number * 1e9)


def colour(text: str) -> "Colour":
    """What to do with colour images."""
    return choice(text, "colour", ("refuse", "grey"))  # type: ignore[return-value]


def window(text: str | None) -> int | str | None:
    """A DICOM window by index, explanation or `none`."""
    return int(text) if text is not None and text.isdecimal() else text


def formats(given: Sequence[str]) -> tuple[str, ...]:
    """Names of outputs, each once, split at commas; the standard ones when nothing is asked for."""
    from gifsplain.render.directory import FILES, STANDARD

    if not given:
        return tuple(STANDARD)
    if not any(given):  # --format "": nothing is drawn, for arrays or DICOM alone
        return ()
    named = tuple(dict.fromkeys(part.strip() for text in given for part in text.split(",") if part.strip()))
    if not named:
        raise InputError(f"--format must name one or more of {', '.join(FILES)}, got {', '.join(map(repr, given))}")
    return named


@contextlib.contextmanager
def progress(total: int, what: str) -> Iterator[Callable[["Case"], None]]:
    """A bar on standard error for a person who watches; silent when piped."""
    if not is_terminal():
        yield lambda case: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        begun: list[str] = []

        def advance(case: "Case") -> None:
            bar.update(task, completed=len(begun), description=case.name)
            begun.append(case.name)

        yield advance


@contextlib.contextmanager
def rate(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left, told how many of how many are done; silent when piped."""
    if not is_terminal():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.2f}/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def finish(done: Sequence["Done"], *, open_report: bool) -> None:
    """Print what was written, then a table of what failed; leaves with code 1 when anything did."""
    for one in done:
        for explanation, folder in one.results:
            scores = explanation.scores
            after = f" -> {scores.counterfactual:.2f}" if explanation.has_sweep else ""
            own = explanation.composition == "residual" and explanation.has_sweep  # changes start from the image itself
            told = (
                f"{scores.input:.2f}{after} (reconstruction {scores.reconstruction:.2f})"
                if own
                else f"{scores.input:.2f} (reconstruction {scores.reconstruction:.2f}{after})"
            )
            worst = [check.name for check in explanation.checks if check.verdict.value != "pass"]
            typer.echo(
                f"{folder}  {explanation.target}: {told}, {explanation.stop.value}"
                + (f"; see {', '.join(worst)}" if worst else "")
            )
    failed = [one for one in done if one.error is not None]
    if failed:
        table([("case", "why it failed"), *((one.case.name, str(one.error)) for one in failed)], err=True)
        typer.echo(f"{len(failed)} of {len(done)} cases failed", err=True)
    reports = [folder / "report.html" for one in done for _, folder in one.results]
    if open_report and reports:
        webbrowser.open(reports[0].resolve().as_uri())
    if failed:
        raise typer.Exit(1)


def scores(card: "ModelCard", rows: Sequence["Row"], *, as_json: bool) -> None:
    """Print scores with their meaning; leaves with code 1 when a file failed."""
    failed = [row for row in rows if row.error is not None]
    if as_json:
        cases = [{"case": r.case, "scores": r.scores, "error": str(r.error) if r.error else None} for r in rows]
        typer.echo(json.dumps({"classifier": card.name, "meaning": card.meaning.value, "cases": cases}, indent=2))
    else:
        good = [row for row in rows if row.error is None]
        typer.echo(f"{card.name}: {card.meaning.value}")
        if good:
            names = list(good[0].scores)
            table([("case", *names), *((row.case, *(f"{row.scores[name]:.3f}" for name in names)) for row in good)])
        for row in failed:
            typer.echo(f"{row.case}: {row.error}", err=True)
    if failed:
        raise typer.Exit(1)


def table(rows: Sequence[Sequence[Any]], *, err: bool = False) -> None:
    """Left-aligned columns; the first row is the head."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    for row in texts:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), err=err)
