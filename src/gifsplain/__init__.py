"""Explain an image classifier by showing what the image would look like if its prediction were lower or higher."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gifsplain.api import (
        Composition,
        Explanation,
        LatentShift,
        Pair,
        Picture,
        Settings,
        Stop,
        explain_picture,
        load_image,
        load_models,
        write_explanation,
    )

__version__ = "0.1.0"

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


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: `import gifsplain` alone stays light."""
    if name in __all__:
        from gifsplain import api

        return getattr(api, name)
    raise AttributeError(f"module 'gifsplain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
