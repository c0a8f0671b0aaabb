"""Real images that installed packages bring along: a chest radiograph and one that is none."""

from importlib import resources
from pathlib import Path

from gifsplain.errors import InputError


def _data(name: str) -> Path:
    try:
        path = Path(str(resources.files("data_store"))) / "data" / name
    except ModuleNotFoundError:
        path = Path(name)
    if not path.is_file():
        raise InputError(
            f"expected {name} of the package pydicom-data, found none; install it: pip install pydicom-data"
        )
    return path


def chest_radiograph() -> Path:
    """`RG1_UNCI.dcm`: chest CR, MONOCHROME1, 15 bits stored, several large masses."""
    return _data("RG1_UNCI.dcm")


def tibia() -> Path:
    """`RG3_UNCI.dcm`: a leg, to show what an image that does not fit looks like."""
    return _data("RG3_UNCI.dcm")
