"""When a run should stop: case after case fails, and not by its file."""

from dataclasses import dataclass

from gifsplain.errors import GifsplainError, InputError

LIMIT = 25
"""Cases in a row; a device that is lost or a disk that is full would go on like this to the end of the set."""


@dataclass
class Streak:
    """Cases one after the other that failed by something else than their input; a success ends it."""

    cases: int = 0
    last: str = ""
    error: BaseException | None = None

    def failed(self, case: str, error: BaseException) -> None:
        """Count a case once, however many of its targets failed."""
        if isinstance(error, InputError) or (self.cases and case == self.last):
            return
        self.cases, self.last, self.error = self.cases + 1, case, error

    def succeeded(self) -> None:
        """Begin anew."""
        self.cases = 0

    @property
    def is_too_long(self) -> bool:
        """Whether the run should stop."""
        return self.cases >= LIMIT

    def refuse_too_long(self) -> None:
        """Stop with what is to be done.

        Raises:
            GifsplainError: When so many cases failed in a row.
        """
        if self.is_too_long:
            raise GifsplainError(
                f"expected failures of single cases, got {self.cases} cases in a row that failed, not by their files "
                f"(last {self.last}: {type(self.error).__name__}: {self.error}); the run has stopped, and what was "
                "finished is kept. Look at the device and the disk, then go on with --resume --retry-failed"
            )
