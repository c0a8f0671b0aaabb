"""A new study folder: study.yaml, the database, pictures under random names, and the key of the pseudonyms."""

import csv
import json
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gifsplain.errors import InputError
from gifsplain.study import config as configs
from gifsplain.study import design, intake, pictures
from gifsplain.study.store import people
from gifsplain.study.store.clock import now
from gifsplain.study.store.engine import Store, open_store
from gifsplain.study.store.records import Item, Media, Setting


@dataclass(frozen=True)
class Plan:
    """What a new study is made of."""

    folder: Path
    text: str
    """YAML of the configuration."""
    seed: int = 0
    database: str | None = None
    """SQLAlchemy URL; None: study.sqlite in the folder."""


def create(plan: Plan, pool: pd.DataFrame, *, tick: Callable[[], None] = lambda: None) -> people.Invitation:
    """Make the study and return the first administrator's invitation; `tick` is called after each case.

    The folder appears when everything in it is complete. Names of cases stay in key.csv, which the server never reads.
    """
    if plan.folder.exists():
        raise InputError(
            f"expected a new folder, got {plan.folder}, which exists; choose another or remove it yourself"
        )
    config = configs.parse(plan.text)
    items = design.choose(pool, config.cases, plan.seed)
    _require_pictures(pool, items, config)
    plan.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=plan.folder.parent, prefix=".study-") as temporary:
        new = Path(temporary) / "new"
        (new / "media").mkdir(parents=True)
        new.chmod(0o700)
        rows, media, key = _content(pool, items, config, new / "media", tick)
        (new / "study.yaml").write_text(plan.text, encoding="utf-8")
        _private(new / "secret", secrets.token_urlsafe(48) + "\n")
        if plan.database:
            _private(new / "database", plan.database + "\n")
        _key(new / "key.csv", key)
        store = open_store(plan.database or f"sqlite:///{new / 'study.sqlite'}", create=True)
        try:
            _fill(store, plan, rows, media)
            admin = people.add_admin(store, "admin")
        finally:
            store.close()
        new.replace(plan.folder)
    return admin


def _content(
    pool: pd.DataFrame, items: list[design.Item], config: configs.Config, folder: Path, tick: Callable[[], None]
) -> tuple[list[Item], list[list[Media]], list[tuple[str, str]]]:
    source = {(str(r["case"]), str(r["target"])): r for r in pool.to_dict("records")}
    names = _pseudonyms(len(items))
    rows, media, key = [], [], []
    for item, name in zip(items, names, strict=True):
        row = {str(k): v for k, v in source[item.case, item.target].items()}
        facts = {c.removeprefix("fact."): str(v) for c, v in row.items() if c.startswith("fact.") and v}
        iou = {c.key: float(row[f"{c.key}.iou"]) for c in config.conditions if row.get(f"{c.key}.iou")}
        rows.append(
            Item(
                number=item.number,
                name=name,
                target=item.target,
                truth=item.truth,
                score=item.score,
                training=item.training,
                facts=json.dumps(facts),
                iou=json.dumps(iou),
            )
        )
        media.append(_pictures(row, config, folder))
        key.append((name, item.case))
        tick()
    return rows, media, key


def _pseudonyms(n: int) -> list[str]:
    """Names in random order, so that they do not tell target or truth, which the design's order does."""
    order = list(range(1, n + 1))
    secrets.SystemRandom().shuffle(order)
    return [f"C{i:04d}" for i in order]


def _require_pictures(pool: pd.DataFrame, items: list[design.Item], config: configs.Config) -> None:
    """Refuse cases of the design that lack a picture; all of the pool that do are named, as another draw may take them."""
    columns = intake.media_columns(config)
    lacking = {
        (str(row["case"]), str(row["target"])): [column for column in columns if not row[column]]
        for row in pool.to_dict("records")
    }
    drawn = next((lacking[item.case, item.target] for item in items if lacking[item.case, item.target]), None)
    if drawn is None:
        return
    named = [f"{case} {target}" for (case, target), missing in lacking.items() if missing]
    raise InputError(
        f"expected a picture in every column of each case, got none in {', '.join(drawn)}; {len(named)} of {len(pool)} "
        f"cases lack one: {', '.join(named[: intake.NAMED])}{' and others' if len(named) > intake.NAMED else ''}. Where a method finds no "
        "change it draws no animation: take these lines out of the labels (and say so), or explain those cases otherwise"
    )


def _pictures(row: dict[str, str], config: configs.Config, folder: Path) -> list[Media]:
    panels = [("", "image", "image", "image")]
    panels += [(c.key, p.key, f"{c.key}.{p.key}", p.kind) for c in config.conditions for p in c.panels]
    found = []
    for condition, panel, column, kind in panels:
        stored = pictures.store(Path(row[column]), folder, "animation" if kind == "animation" else "image")
        found.append(
            Media(
                item_id=0,
                condition=condition,
                panel=panel,
                file=stored.file,
                sha256=stored.sha256,
                width=stored.width,
                height=stored.height,
                frames=stored.frames,
                duration=stored.duration,
            )
        )
    return found


def _fill(store: Store, plan: Plan, rows: list[Item], media: list[list[Media]]) -> None:
    with store.write() as session:
        if session.get(Setting, "config") is not None:
            raise InputError("expected an empty database, got one with a study; give another --database")
        for key, value in {"config": plan.text, "seed": str(plan.seed), "created": str(now()), "locked": "0"}.items():
            session.add(Setting(key=key, value=value))
        for item, pictures_of_item in zip(rows, media, strict=True):
            session.add(item)
            session.flush()
            for picture in pictures_of_item:
                picture.item_id = item.id or 0
                session.add(picture)
        session.add(people.audit(None, "create study", after=str(len(rows))))


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _key(path: Path, rows: list[tuple[str, str]]) -> None:
    path.touch(mode=0o600)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "source"])
        writer.writerows(sorted(rows))


def database_url(folder: Path) -> str:
    """URL of a study folder's database: the one it was made with, else its study.sqlite."""
    if not (folder / "study.yaml").is_file():
        raise InputError(f"expected a study folder, got {folder}; make one with `gifsplain study init`")
    named = folder / "database"
    return (
        named.read_text(encoding="utf-8").strip()
        if named.is_file()
        else f"sqlite:///{(folder / 'study.sqlite').resolve()}"
    )


def open_study(folder: Path) -> Store:
    """The store of a study folder."""
    return open_store(database_url(folder))
