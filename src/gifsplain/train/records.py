"""What a training writes down as it goes: `history.jsonl` and TensorBoard events."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from gifsplain.io import files
from gifsplain.io.plain import plain

HISTORY = "history.jsonl"


def read_history(folder: Path) -> list[dict[str, float]]:
    """The lines of `history.jsonl` in order: `step` and the losses or metrics that were logged there."""
    path = folder / HISTORY
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # the last line of a killed run
            break
    return rows


class Records:
    """`history.jsonl` and TensorBoard events, cut back to the checkpoint when a run resumes."""

    def __init__(self, folder: Path, step: int, *, active: bool) -> None:
        self.active = active
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter

        rows = [row for row in read_history(folder) if row["step"] <= step]
        files.write_text(folder / HISTORY, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = (folder / HISTORY).open("a", encoding="utf-8")
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            self._file.close()
            self._events.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line and one event per value; an empty mapping writes nothing."""
        if not (self.active and values):
            return
        self._file.write(json.dumps(plain({"step": step, **values})) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
