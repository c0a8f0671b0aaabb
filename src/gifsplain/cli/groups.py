"""Which command lives where, and how an error leaves the program."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from gifsplain.errors import GifsplainError, ModelError, TargetError, WeightsError

COMMANDS = ("explain", "serve", "batch", "models", "train", "evaluate", "directions", "study")
"""Files of this folder that hold commands, in the order of the help page."""


@dataclass
class State:
    """Options that belong to the program rather than to a command."""

    debug: bool = False


state = State()


def register(app: typer.Typer) -> None:
    """Attach every command group; each lives in its own file of this folder."""
    for name in COMMANDS:
        importlib.import_module(f"gifsplain.cli.{name}").register(app)


def exit_code(error: GifsplainError) -> int:
    """3 for models and weights, 2 for everything that the caller gave."""
    if isinstance(error, TargetError):
        return 2
    return 3 if isinstance(error, ModelError | WeightsError) else 2


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    command = typer.main.get_command(app)
    try:
        command.main(args=list(arguments) if arguments is not None else None, prog_name="gifsplain")
    except SystemExit as leave:  # typer has printed usage errors and aborts by then
        return leave.code if isinstance(leave.code, int) else int(bool(leave.code))
    except GifsplainError as error:
        if state.debug:
            raise
        typer.echo(f"gifsplain: {error}", err=True)
        return exit_code(error)
    except OSError as error:  # a place that cannot be written, a full disk, a port that is taken
        if state.debug:
            raise
        place = f"{error.filename2 or error.filename}: " if error.filename else ""
        typer.echo(
            f"gifsplain: expected a place that can be written and has room, got {place}{error.strerror or error}; "
            "check the place, its permissions and its free space",
            err=True,
        )
        return 2
    return 0


def is_terminal() -> bool:
    """Whether a person watches standard error: progress bars are drawn only then."""
    return sys.stderr.isatty()
