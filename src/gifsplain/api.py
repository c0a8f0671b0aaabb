"""The public Python interface: three lines from a file to an explanation that shows itself in a notebook."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gifsplain import types
from gifsplain.errors import InputError
from gifsplain.explain.compose import Composition
from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.io.images import load_image
from gifsplain.models.load import load_models
from gifsplain.models.protocols import Pair
from gifsplain.render.directory import write_explanation
from gifsplain.render.notebook import notebook_html
from gifsplain.types import Explanation, Picture, Stop

__all__ = [
    "Composition",
    "Explanation",
    "LatentShift",
    "Pair",
    "Picture",
    "Settings",
    "Stop",
    "explain_picture",
    "load_image",
    "load_models",
    "write_explanation",
]

types.register_notebook_view(notebook_html)


@dataclass(frozen=True)
class LatentShift:
    """Latent Shift (Cohen et al. 2021) with a pair of models.

    Example:
        >>> from gifsplain import LatentShift, load_image, load_models
        >>> from pydicom.data import get_testdata_file
        >>> picture = load_image(get_testdata_file("RG1_UNCI.dcm", download=False))
        >>> explanation = LatentShift(load_models()).explain(picture, target="Mass")
        >>> explanation.target
        'Mass'
    """

    models: Pair = field(default_factory=load_models)
    settings: Settings = Settings()

    def explain(self, picture: Picture | str | Path, target: str) -> Explanation:
        """The explanation of one picture, or of the file at a path."""
        return self.explain_all([picture], [target])[0]

    def explain_all(self, pictures: Sequence[Picture | str | Path], targets: Sequence[str]) -> list[Explanation]:
        """Every picture and target, picture by picture, batched."""
        if isinstance(pictures, Picture | str | Path):
            raise InputError("expected a list of pictures, got one; write [picture], or use explain for a single one")
        loaded = [picture if isinstance(picture, Picture) else load_image(picture) for picture in pictures]
        return explain_with("latentshift", self.models, loaded, targets, self.settings)


def explain_picture(
    picture: Picture | str | Path,
    target: str,
    *,
    method: str = "latentshift",
    models: Pair | None = None,
    settings: Settings = Settings(),
) -> Explanation:
    """One explanation by any method of `gifsplain.explain.methods.METHODS`.

    Raises:
        InputError: When the method, the file or the target cannot be used.
    """
    loaded = picture if isinstance(picture, Picture) else load_image(picture)
    return explain_with(method, models if models is not None else load_models(), [loaded], [target], settings)[0]
