"""`gifsplain models list | show | check | methods`."""

from typing import Annotated

import typer

group = typer.Typer(help="List, show and check models and methods.", no_args_is_help=True)
KindOption = Annotated[str, typer.Option(help="classifier or autoencoder, for a name that is both.")]


def register(app: typer.Typer) -> None:
    """Add the group to the program."""
    app.add_typer(group, name="models")


@group.command("list")
def list_models() -> None:
    """List every model by the name that other commands take, and whether its weights are on this machine."""
    from gifsplain.cli import console
    from gifsplain.models.load import CATALOGUE, available

    console.table(
        [("name", "kind", "here", "what it is"), *((e.name, e.kind, available(e), e.summary) for e in CATALOGUE)]
    )


@group.command()
def show(
    name: str,
    kind: KindOption = "classifier",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's card: data, terms, size, value range, meaning of its score, figures, limits, licence, checksum."""
    import json

    from gifsplain.models import load
    from gifsplain.models.card_text import as_dict, as_text

    model = load.load(name, kind)
    typer.echo(json.dumps(as_dict(model.card), indent=2) if as_json else as_text(model.card))


@group.command()
def check(name: str, kind: KindOption = "classifier") -> None:
    """Check a model: shapes, value range, gradient to the input, meaning of the output, untrained heads."""
    from gifsplain.cli import console
    from gifsplain.models import load
    from gifsplain.models.inspect import inspect_autoencoder, inspect_classifier

    model = load.load(name, kind)
    found = inspect_classifier(model) if kind == "classifier" else inspect_autoencoder(model)  # type: ignore[arg-type]
    console.table([("check", "verdict", "what was found"), *((c.name, c.verdict.value, c.text) for c in found)])
    if any(c.verdict.value == "fail" for c in found):
        raise typer.Exit(1)


@group.command()
def methods() -> None:
    """List the methods that `--method` takes."""
    from gifsplain.cli import console
    from gifsplain.explain.methods import AUTO, AUTO_SUMMARY, METHODS

    console.table(
        [("name", "what it is"), (AUTO, AUTO_SUMMARY), *((name, method.summary) for name, method in METHODS.items())]
    )
