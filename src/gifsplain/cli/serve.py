"""`gifsplain serve` and `gifsplain gallery`."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(serve)


def serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 8088,
    classifier: Annotated[list[str], typer.Option(help="Offer one more classifier, e.g. module:callable.")] = [],  # noqa: B006
    autoencoder: Annotated[list[str], typer.Option(help="Offer one more autoencoder.")] = [],  # noqa: B006
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Explore explanations in the browser, on this machine only (docs/explorer.md)."""
    from gifsplain.explorer.app import create_app
    from gifsplain.explorer.server import run
    from gifsplain.explorer.service import Explorer

    app = create_app(Explorer(classifiers=classifier, autoencoders=autoencoder))
    run(app, port, ready=lambda address: _tell(address, open_page))


def _tell(address: str, open_page: bool) -> None:
    typer.echo(f"gifsplain explorer: {address} (Ctrl+C stops it)")
    if open_page:
        typer.launch(address)
