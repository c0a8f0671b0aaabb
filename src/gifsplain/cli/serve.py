"""`gifsplain serve` and `gifsplain gallery`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gifsplain.models.protocols import Pair


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(serve)
    app.command()(gallery)


def serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 8088,
    classifier: Annotated[list[str], typer.Option(help="Offer one more classifier, e.g. module:callable.")] = [],  # noqa: B006
    autoencoder: Annotated[list[str], typer.Option(help="Offer one more autoencoder.")] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="Where the models compute: auto, cpu, cuda or cuda:N.")] = "auto",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Explore explanations in the browser, on this machine only (docs/explorer.md)."""
    from gifsplain.explorer.app import create_app
    from gifsplain.explorer.server import run
    from gifsplain.explorer.service import Explorer
    from gifsplain.models import load, modes

    # a name that is none is said here, not in the browser; what is loaded here is not loaded again
    with modes.loading(load.find_device(device)):
        classifiers = {name: load.load_classifier(name) for name in classifier}
        autoencoders = {name: load.load_autoencoder(name) for name in autoencoder}

    def pair(first: str, second: str) -> "Pair":
        models = classifiers.get(first, first), autoencoders.get(second, second)
        return load.load_models(*models, resize=True, device=device)

    app = create_app(Explorer(classifiers=classifier, autoencoders=autoencoder, load=pair))
    run(app, port, ready=lambda address: _tell(address, open_page))


def gallery(
    run: Annotated[Path, typer.Argument(help="Folder with finished explanations, e.g. of `gifsplain batch`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the gallery.")] = Path("gifsplain-gallery"),
    title: Annotated[str, typer.Option(help="Heading of the index.")] = "Gallery",
) -> None:
    """Make a static gallery of finished explanations: works from disk and from any web server."""
    from gifsplain.explorer.gallery import write_gallery

    index = write_gallery(run, output, title=title)
    typer.echo(f"gallery: {index}")


def _tell(address: str, open_page: bool) -> None:
    typer.echo(f"gifsplain explorer: {address} (Ctrl+C stops it)")
    if open_page:
        typer.launch(address)
