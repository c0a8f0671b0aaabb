"""`gifsplain study`: make a reader study, run it, and analyse it."""

from enum import StrEnum
from pathlib import Path

import typer

group = typer.Typer(help="Reader studies: make one, serve it, analyse it.", no_args_is_help=True)
Folder = typer.Argument(..., help="The study's folder.")


class Test(StrEnum):
    """How the p-value of the signed-rank test is computed."""

    NORMAL = "normal"
    EXACT = "exact"


def register(app: typer.Typer) -> None:
    """Attach the group."""
    app.add_typer(group, name="study")


@group.command("init")
def init(
    folder: Path = typer.Argument(..., help="New folder for the study."),
    cases: Path | None = typer.Option(
        None, help="CSV of cases: case, target, truth, score, image and a column per panel."
    ),
    batch: list[Path] = typer.Option(
        [], help="Folder of a finished batch run, one for each method, instead of --cases."
    ),
    labels: Path | None = typer.Option(None, help="CSV of labels for --batch: case and a 0/1 column per target."),
    config: Path | None = typer.Option(None, help="YAML configuration; without it the paper's design."),
    database: str | None = typer.Option(
        None, help="Database URL, e.g. postgresql://user@host/study; default: SQLite in the folder."
    ),
    seed: int = typer.Option(0, help="Seed of the draw of cases and of every order."),
) -> None:
    """Make a study from cases with explanations."""
    from gifsplain.study import create, launch

    plan, pool = launch.prepare(create.Plan(folder, launch.text(config), seed, database), cases, batch, labels)
    admin = create.create(plan, pool)
    typer.echo(f"Study in {folder}. Add readers with: gifsplain study add-readers {folder} NAME ...")
    typer.echo(f"Administrator's link (shown once): {launch.link('http://127.0.0.1:8000', admin, 'admin')}")


@group.command("config")
def config(out: Path = typer.Argument(..., help="New YAML file.")) -> None:
    """Write the paper's configuration as a file to change."""
    from gifsplain.study import launch

    typer.echo(f"Wrote {launch.write_default(out)}")


@group.command("add-readers")
def add_readers(
    folder: Path = Folder,
    names: list[str] = typer.Argument(..., help="Codes of the readers, e.g. reader-1 reader-2."),
    address: str = typer.Option(
        "http://127.0.0.1:8000", help="How readers reach the server; only used to print links."
    ),
    renew: bool = typer.Option(False, "--renew", help="New links for known readers; old links and sessions end."),
    admin: bool = typer.Option(False, "--admin", help="Administrators instead of readers."),
) -> None:
    """Add readers and print their personal links, which are shown only once."""
    from gifsplain.study import launch

    for invitation, role in launch.invite(folder, names, renew=renew, admin=admin):
        typer.echo(f"{invitation.name}\t{launch.link(address, invitation, role)}")


@group.command("serve")
def serve(
    folder: Path = Folder,
    *,
    host: str = typer.Option("127.0.0.1", help="Address to listen on; beyond loopback a secret and TLS are required."),
    port: int = typer.Option(8000, min=0, max=65535, help="Port to listen on."),
    public_name: str = typer.Option("", help="Host name that readers type; required beyond loopback."),
    secret_file: Path | None = typer.Option(
        None, help="File with at least 32 random characters, outside the study folder."
    ),
    tls_cert: Path | None = typer.Option(None, help="TLS certificate (PEM)."),
    tls_key: Path | None = typer.Option(None, help="TLS key (PEM)."),
    behind_proxy: bool = typer.Option(False, "--behind-proxy", help="A reverse proxy on this machine ends TLS."),
) -> None:
    """Serve the study to its readers; stop with Ctrl-C."""
    from gifsplain.study import launch
    from gifsplain.study.web.serving import Listen

    listen = Listen(
        host, public_name, secret_file, tls=tls_cert is not None and tls_key is not None, behind_proxy=behind_proxy
    )
    said = f"Serving {folder} on {host} port {port}; stop with Ctrl-C."
    launch.serve(folder, listen, port, (tls_cert, tls_key), ready=lambda: typer.echo(said))


@group.command("status")
def status(folder: Path = Folder) -> None:
    """Print how far every reader is."""
    from gifsplain.study import launch

    for line in launch.status(folder):
        typer.echo(line)


@group.command("export")
def export(
    source: Path = typer.Argument(..., help="Study folder, or a CSV in long form."),
    out: Path = typer.Option(
        ...,
        "--out",
        "--output",
        "-o",
        help="Folder for answers.csv, comments.csv of a study folder, the iMRMC and the MRMCaov files.",
    ),
) -> None:
    """Write the answers as CSV and in the forms of iMRMC and MRMCaov."""
    from gifsplain.study import exports, launch

    paths = exports.write(launch.table(str(source)), out)
    if source.is_dir():
        paths.append(launch.save_comments(source, out))
    for path in paths:
        typer.echo(str(path))


@group.command("analyse")
def analyse(
    source: str = typer.Argument(..., help="Study folder, database URL, or a CSV in long form."),
    *,
    out: Path = typer.Option(
        ..., "--out", "--output", "-o", help="Folder for tables, figures, report.html and results.json."
    ),
    conditions: str = typer.Option(
        "",
        help="Conditions in order, separated by commas; differences are later minus earlier. "
        "Rows of all other conditions are left out.",
    ),
    wilcoxon: Test = typer.Option(Test.NORMAL, help="Normal approximation with tie correction, or exact."),
    draws: int = typer.Option(2000, min=100, help="Bootstrap draws."),
    seed: int = typer.Option(0, help="Seed of the bootstrap."),
    points: int = typer.Option(5, min=2, max=9, help="Points of the scale in a CSV."),
    partial: bool = typer.Option(False, "--partial", help="Allow empty answers in a CSV."),
    questions: str = typer.Option(
        "confidence,feature", help="Columns of a CSV that hold answers, separated by commas."
    ),
) -> None:
    """Compute all statistics of a study and write a report."""
    from gifsplain.study import analysis, launch

    reading = launch.Reading(_words(questions), _words(conditions), points, partial)
    table = launch.table(source, reading)
    results = analysis.analyse(table, analysis.Options(wilcoxon.value, draws, seed))
    typer.echo(f"Wrote {analysis.write(table, results, out)}/report.html and results.json")


@group.command("backup")
def backup(
    folder: Path = Folder,
    out: Path = typer.Argument(..., help="New ZIP file; unpacked it is a study folder."),
    media: bool = typer.Option(True, "--media/--no-media", help="Include the pictures."),
) -> None:
    """Copy a study, also while it is served."""
    from gifsplain.study import launch

    typer.echo(f"Wrote {launch.backup(folder, out, media=media)}")


@group.command("power")
def power(
    *,
    readers: int = typer.Option(2, min=1, help="Readers."),
    cases: int = typer.Option(120, min=2, help="Cases of the truth that is compared."),
    effect: float = typer.Option(0.15, help="Mean difference in points of the scale."),
    sd: float = typer.Option(0.95, help="Standard deviation of the difference."),
    correlation: float = typer.Option(0.0, help="Correlation of two readers' differences on the same case."),
    alpha: float = typer.Option(0.05, help="Significance level, two-sided."),
    studies: int = typer.Option(1000, min=100, help="Simulated studies."),
    seed: int = typer.Option(0, help="Seed of the simulation."),
) -> None:
    """Print how likely a study of this size is to find the effect; the defaults are the paper's true positives."""
    from gifsplain.study import launch
    from gifsplain.study.statistics.power import Plan

    for line in launch.power_lines(Plan(readers, cases, effect, sd, correlation, alpha), studies, seed):
        typer.echo(line)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
