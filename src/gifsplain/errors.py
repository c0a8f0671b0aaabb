"""One tree of errors. A message says what was expected, what came, and what to do."""

from collections.abc import Mapping


class GifsplainError(Exception):
    """Root of every error that gifsplain raises on purpose."""


class InputError(GifsplainError, ValueError):
    """A file, array or option that the package cannot work with."""


class NoCasesError(InputError):
    """An experiment for which the manifest has no case."""


class DicomError(InputError):
    """A DICOM object that is damaged, unsupported or not a single grey radiograph."""


class ModelError(GifsplainError):
    """A model that does not fit its declaration or its partner."""


class TargetError(ModelError, InputError):
    """A target that the classifier does not have, or whose head was never trained."""


class WeightsError(GifsplainError):
    """Weights that are missing, damaged or not the ones that were asked for."""


class ConfigurationError(InputError):
    """A configuration that is incomplete, contradictory or differs from the one in the folder."""


class MissingExtraError(GifsplainError, ImportError):
    """An optional package that the asked-for feature needs is not installed."""


def require(checks: Mapping[str, tuple[bool, object]], error: type[GifsplainError] = InputError) -> None:
    """Raise for the first of `checks` that does not hold: what must be true, whether it is, and the value that came."""
    for message, (fine, got) in checks.items():
        if not fine:
            raise error(f"{message}, got {got!r}")
