"""The command line: parse, call one public function, print. Nothing heavy is imported before a command runs."""

import sys
from collections.abc import Sequence

import typer

from gifsplain.cli import groups

app = typer.Typer(
    name="gifsplain",
    help="Explain an image classifier by showing what the image would look like if its prediction were lower or higher.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
groups.register(app)


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the whole traceback of an error."),
) -> None:
    """Exit codes: 0 all well; 1 some cases failed (a table names them), or nobody reads the output; 2 wrong usage or input; 3 models or weights; 130 interrupted."""
    groups.state.debug = debug


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `gifsplain` command; errors become one line with a remedy, unless `--debug`."""
    sys.exit(groups.run(app, arguments))
