"""What the command line calls: each command is one function here."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from sqlmodel import Session

from gifsplain.errors import ConfigurationError, InputError
from gifsplain.study import config as configs
from gifsplain.study import create, intake
from gifsplain.study.statistics import power
from gifsplain.study.statistics import table as tables
from gifsplain.study.store import backup as backups
from gifsplain.study.store import people, progress, settings
from gifsplain.study.store.engine import open_store
from gifsplain.study.web.serving import Listen, serving


def text(path: Path | None) -> str:
    """The YAML of a configuration file, or of the paper's design; it is checked when it is used."""
    if path is None:
        return configs.default_text()
    configs.load(path)
    return path.read_text(encoding="utf-8")


def write_default(out: Path) -> Path:
    """The paper's configuration in a new file."""
    if out.exists():
        raise InputError(f"expected a new file, got {out}, which exists; choose another name")
    _save(out, configs.default_text())
    return out


def _save(path: Path, content: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(content)
    Path(file.name).replace(path)


def prepare(
    plan: create.Plan, cases: Path | None, batch: Sequence[Path], labels: Path | None
) -> tuple[create.Plan, pd.DataFrame]:
    """The plan and its pool of cases from a CSV, or from batch runs with labels."""
    config = configs.parse(plan.text)
    if cases is not None and not batch and labels is None:
        return plan, intake.read_cases(cases, config)
    if cases is None and batch and labels is not None:
        return plan, intake.from_batch(batch, labels, config)
    raise ConfigurationError(
        "expected either --cases, or --batch with --labels, got something else; give one of the two"
    )


def invite(folder: Path, names: Sequence[str], *, renew: bool, admin: bool) -> list[tuple[people.Invitation, str]]:
    """Invitations with their role, for new people or (renew) known ones."""
    role = "admin" if admin else "reader"
    store = create.open_study(folder)
    try:
        if renew:
            return [(people.renew(store, name, role=role), role) for name in names]
        if admin:
            return [(people.add_admin(store, name), role) for name in names]
        return [(invitation, role) for invitation in people.add_readers(store, names)]
    finally:
        store.close()


def link(address: str, invitation: people.Invitation, role: str) -> str:
    """The personal link; what stands after # is never sent to a server by the browser itself."""
    return f"{address.rstrip('/')}{'/admin' if role == 'admin' else ''}/enter#{invitation.token}"


def serve(
    folder: Path,
    listen: Listen,
    port: int,
    tls: tuple[Path | None, Path | None] = (None, None),
    *,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Run the server until it is stopped; refuses to listen beyond this machine without protection.

    `ready` is called once nothing of that can be refused any more.
    """
    import uvicorn  # not needed by any other command

    from gifsplain.study.web.app import create_app

    if (tls[0] is None) != (tls[1] is None):
        raise ConfigurationError("expected --tls-cert and --tls-key together, got one of them; give both")
    store = create.open_study(folder)  # first: it refuses a folder that is none
    try:
        application = create_app(store, folder / "media", serving(folder, listen))
        ready()
        uvicorn.run(
            application, host=listen.host, port=port, log_level="warning", server_header=False,
            ssl_certfile=tls[0], ssl_keyfile=tls[1], proxy_headers=listen.behind_proxy, forwarded_allow_ips="127.0.0.1",
        )  # fmt: skip
    finally:
        store.close()


def status(folder: Path) -> Iterator[str]:
    """One line per reader."""
    store = create.open_study(folder)
    try:
        with store.read() as session:
            yield from _status(session)
    finally:
        store.close()


def _status(session: Session) -> Iterator[str]:
    setup = settings.load(session)
    yield f"{setup.config.title} (seed {setup.seed}{', locked' if setup.locked else ''})"
    readers = progress.overview(session)
    if not readers:
        yield "no readers yet; add them with `gifsplain study add-readers`"
    for reader in readers:
        done = ", ".join(
            f"read {i}: {complete} of {total}{' finished' if finished else ''}"
            for i, (complete, total, finished) in enumerate(reader.reads, start=1)
        )
        yield f"{reader.name}: {done}{' (access closed)' if reader.revoked else ''}"


@dataclass(frozen=True)
class Reading:
    """How a plain CSV is read."""

    questions: tuple[str, ...] = tables.QUESTIONS
    conditions: tuple[str, ...] = ()
    points: int = 5
    partial: bool = False


def table(source: str, reading: Reading | None = None) -> tables.Table:
    """The checked table of a study folder, a database URL, or a CSV."""
    reading = reading or Reading()
    if "://" not in source and not (Path(source) / "study.yaml").is_file():
        return tables.read_csv(
            Path(source),
            questions=reading.questions,
            conditions=reading.conditions,
            points=reading.points,
            partial=reading.partial,
        )
    store = open_store(source) if "://" in source else create.open_study(Path(source))
    try:
        return progress.table(store, reading.conditions)
    finally:
        store.close()


def save_comments(folder: Path, out: Path) -> Path:
    """Write comments.csv of a study folder."""
    store = create.open_study(folder)
    try:
        written = progress.comments(store).to_csv(index=False)
    finally:
        store.close()
    out.mkdir(parents=True, exist_ok=True)
    _save(out / "comments.csv", written)
    return out / "comments.csv"


def backup(folder: Path, out: Path, *, media: bool) -> Path:
    """A ZIP of the study as it is now."""
    store = create.open_study(folder)
    try:
        return backups.backup(store, folder, out, media=media)
    finally:
        store.close()


def power_lines(plan: power.Plan, studies: int, seed: int) -> Iterator[str]:
    """The power by formula and by simulation, and the cases for 80 %."""
    pooled, by_case = (power.simulate(plan, studies=studies, seed=seed, test=test) for test in ("wilcoxon", "by_case"))
    yield f"{plan.readers} readers, {plan.cases} cases, difference {plan.effect:g} with sd {plan.sd:g}, correlation {plan.correlation:g}, alpha {plan.alpha:g}"
    yield f"power by formula: {power.power_by_formula(plan):.2f} ({power.pairs_worth(plan):.0f} independent pairs)"
    yield f"power by simulation, Wilcoxon over all pairs: {pooled.power:.2f} ± {pooled.standard_error:.2f} ({studies} studies)"
    yield f"power by simulation, test by case: {by_case.power:.2f} ± {by_case.standard_error:.2f}"
    if plan.effect:
        yield f"cases for power 0.80 by formula: {power.cases_for(plan)}"
