"""The folder of a batch run: what lies where, and how to read it (docs/batch.md)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from gifsplain.errors import InputError
from gifsplain.io.files import safe_name

if TYPE_CHECKING:
    import pyarrow as pa

CONFIGURATION = "configuration.json"
RESULTS = "results"
ERRORS = "errors"
MEDIA = "media"
LOG = "log"
SUMMARY = "summary.html"


def read_run(folder: str | Path) -> pd.DataFrame:
    """One row for each case and target that was explained, sorted by case and target.

    Every check adds the columns `check_<name>` (pass, warn or fail) and `check_<name>_value`; `media` is the folder of
    its pictures relative to `folder`, empty where none were asked for.

    Raises:
        InputError: When this is no folder of a batch run, or a case and target are in it twice.
    """
    frame = _read(Path(folder), committed_parts(folder))
    twice = frame.duplicated(["case", "target"])
    if twice.any():
        first = frame[twice].iloc[0]
        raise InputError(
            f"{folder}: expected one row a case and target, got {first['case']!r}, {first['target']!r} twice"
        )
    return _with_checks(frame.sort_values(["case", "target"], ignore_index=True))


def read_errors(folder: str | Path) -> pd.DataFrame:
    """One row for each case and target that failed: `case`, `target`, `error` (its class) and `reason`.

    What was tried again is here only if it failed again, and then with its last reason.
    """
    parts = committed_parts(folder)
    files = [path for path in (Path(folder) / ERRORS / part.name for part in parts) if path.is_file()]
    files.sort(key=lambda path: path.stat().st_mtime_ns)
    frame = _read(Path(folder), files).drop_duplicates(["case", "target"], keep="last")
    explained = set(_read(Path(folder), parts, ["case", "target"]).itertuples(index=False, name=None))
    keys = zip(frame["case"], frame["target"], strict=True)
    failed = pd.Series([key not in explained for key in keys], index=frame.index, dtype=bool)
    return frame[failed].sort_values(["case", "target"], ignore_index=True)


def read_configuration(folder: str | Path) -> dict[str, object]:
    """What the run computes, as plain JSON values.

    Raises:
        InputError: When this is no folder of a batch run, or its configuration is damaged.
    """
    path = Path(folder) / CONFIGURATION
    if not path.is_file():
        raise InputError(f"expected a folder made by `gifsplain batch`, {folder} holds no {CONFIGURATION}")
    try:
        values: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path}: expected JSON, got a damaged file ({error}); bring it back or use a new folder"
        ) from error
    return values


def committed_parts(folder: str | Path) -> list[Path]:
    """Result files of all finished parts; an error file counts only when its result file is here."""
    read_configuration(folder)
    return sorted((Path(folder) / RESULTS).glob("part-*.parquet"))


def media_folder(folder: str | Path, case: str, target: str) -> Path:
    """Where the pictures of a case and target lie."""
    return Path(folder) / MEDIA / safe_name(case) / safe_name(target)


def read_part(path: Path, columns: list[str] | None = None) -> "pa.Table":
    """A part of the results or errors.

    Raises:
        InputError: When it is damaged (parts are written whole, so by the disk or by hand), or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        lacking = set(columns or ()) - set(pq.read_schema(path).names)
        found = None if lacking else pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise InputError(
            f"{path}: expected a part of a batch run, got a damaged file ({error}); delete it and go on with --resume"
        ) from error
    if found is None:
        raise InputError(
            f"{path}: expected the columns {', '.join(sorted(lacking))}, it lacks them; it is of another version of "
            "gifsplain, which can read it"
        )
    return found


def _read(folder: Path, files: list[Path], columns: list[str] | None = None) -> pd.DataFrame:
    import pyarrow as pa

    tables = [read_part(path, columns) for path in files if path.is_file()]
    if not tables:
        return pd.DataFrame({"case": pd.Series(dtype=str), "target": pd.Series(dtype=str)})
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return frame


def _with_checks(frame: pd.DataFrame) -> pd.DataFrame:
    """The JSON column `checks` spread over columns."""
    if "checks" not in frame:
        return frame
    spread = pd.DataFrame(
        [
            {
                key: value
                for name, check in json.loads(text).items()
                for key, value in ((f"check_{name}", check["verdict"]), (f"check_{name}_value", check["value"]))
            }
            for text in frame["checks"]
        ],
        index=frame.index,
    )
    return pd.concat([frame.drop(columns="checks"), spread], axis=1)
