"""A static gallery of finished explanations: an index and one page a case, from any web server or from disk."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gifsplain.errors import InputError
from gifsplain.io.files import unique_names
from gifsplain.render.directory import FILES
from gifsplain.render.record import NOTICE, Record, read_record
from gifsplain.render.report import VERDICTS, number

_SHOWN = ("gif", "mp4", "webp", "overlay", "map", "curve", "flow", "report", "json")
_MARKER = "gallery.txt"


@dataclass(frozen=True)
class Item:
    """One finished explanation: its record and where its files lie."""

    record: Record
    folder: Path

    def has(self, kind: str) -> bool:
        """Whether the folder holds that output."""
        return (self.folder / FILES[kind]).is_file()


def find_items(run: Path) -> list[Item]:
    """Every finished explanation below a folder, by case, target and method.

    Raises:
        InputError: When there is none.
    """
    places = sorted(run.rglob(FILES["json"])) if run.is_dir() else []
    found = [Item(read_record(place), place.parent) for place in places if not _hidden(place, run)]
    if not found:
        raise InputError(f"expected finished explanations (explanation.json) below {run}, found none")
    return sorted(found, key=lambda item: (item.record.case, item.record.target, item.record.method))


def write_gallery(
    run: str | Path, folder: str | Path, *, title: str = "Gallery", started: Callable[[str], None] = lambda case: None
) -> Path:
    """Write the gallery and return its index; the pictures are copied, so that the folder can be moved or put online.

    An older gallery in `folder` is replaced; anything else there is refused.
    """
    items = find_items(Path(run))
    final = Path(folder)
    _refuse_foreign(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{final.name[:40]}.", suffix=".tmp", dir=final.parent) as temporary:
        made = Path(temporary) / "new"
        made.mkdir()
        _fill(made, items, title, started)
        if final.exists():
            final.rename(Path(temporary) / "old")
        made.rename(final)
    return final / "index.html"


def _fill(made: Path, items: Sequence[Item], title: str, started: Callable[[str], None]) -> None:
    (made / _MARKER).write_text("Made by gifsplain gallery; replaced as a whole when it is made again.\n")
    for name in ("gallery.css", "gallery.js"):
        (made / name).write_text(_part(name), encoding="utf-8")
    cases = list(dict.fromkeys(item.record.case for item in items))
    rows = []
    names = unique_names(["index", *cases])[1:]  # a case may be called index
    for case, page in zip(cases, names, strict=True):
        started(case)
        own = [item for item in items if item.record.case == case]
        anchors = unique_names(f"{item.record.target} {item.record.method}" for item in own)
        entries = [_copied(item, made, f"media/{page}/{anchor}") for item, anchor in zip(own, anchors, strict=True)]
        rows += [entry | {"href": f"{page}.html#{entry['anchor']}"} for entry in entries]
        _write(made / f"{page}.html", "case.html", title=title, case=case, entries=entries)
    targets = sorted({item.record.target for item in items})
    methods = sorted({item.record.method for item in items})
    index = {"rows": rows, "targets": targets, "methods": methods, "cases": len(cases)}
    _write(made / "index.html", "gallery.html", title=title, **index)


def worst(record: Record) -> str:
    """Worst verdict of a record's checks; empty where none was made."""
    verdicts = [check.verdict for check in record.checks]
    return max(verdicts, key=lambda verdict: VERDICTS[verdict]).value if verdicts else ""


def _copied(item: Item, made: Path, folder: str) -> dict[str, Any]:
    """Copy an explanation's files and say what the pages need; links are relative, so that the folder can move."""
    record = item.record
    (made / folder).mkdir(parents=True)
    links = {kind: f"{folder}/{FILES[kind]}" for kind in _SHOWN if item.has(kind)}
    for kind, link in links.items():
        shutil.copyfile(item.folder / FILES[kind], made / link)
    scores = [(kind, number(score)) for kind, score in vars(record.scores).items()]
    film = next((kind for kind in ("gif", "webp") if kind in links), None)
    anchor = folder.rsplit("/", 1)[-1]
    return {"record": record, "anchor": anchor, "scores": scores, "links": links, "film": film, "worst": worst(record)}


def _write(path: Path, template: str, **values: Any) -> None:
    path.write_text(_environment().get_template(template).render(notice=NOTICE, **values), encoding="utf-8")


def _hidden(place: Path, run: Path) -> bool:
    return any(part.startswith(".") for part in place.relative_to(run).parts)


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not (folder / _MARKER).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"expected a new folder or an older gallery at {folder}, found something else; choose another")


@cache
def _part(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(_part), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
