"""The progress bar of a training: losses and time left on a terminal, quiet when piped."""

from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from gifsplain.train.loop import Reporter, SilentReporter


def make_reporter(name: str, console: Console | None = None) -> Reporter:
    """A bar on standard error if a person watches it, else a reporter that says nothing."""
    console = console or Console(stderr=True)
    return BarReporter(name, console) if console.is_terminal else SilentReporter()


class BarReporter:
    """One line: name, bar, steps, time gone, time left, last losses and metrics."""

    def __init__(self, name: str, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
            console=console,
        )
        self._name = name
        self._task = TaskID(0)
        self._losses = self._metrics = ""

    def decoded(self, done: int, total: int) -> None:
        """Show how far the decoding is; it ends with its last image."""
        if done == 1:
            self._bar.start()
            self._task = self._bar.add_task("images", total=total, values="")
        self._bar.update(self._task, completed=done)

    def start(self, step: int, steps: int) -> None:
        """Show the bar; steps before a resume count as done but not towards the speed."""
        self._bar.start()
        self._task = self._bar.add_task(self._name, total=steps, completed=step, values="")

    def update(self, step: int, losses: Mapping[str, float]) -> None:
        """Advance to `step`; empty losses keep the last ones on show."""
        self._losses = _text(losses) or self._losses
        self._bar.update(self._task, completed=step, values=f"{self._losses} {self._metrics}".strip())

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show validation metrics behind the losses."""
        self._metrics = _text({name: value for name, value in metrics.items() if name.count("/") < 2})

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._bar.stop()


def _text(values: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())
