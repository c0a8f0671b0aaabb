"""`gifsplain explain`, `predict` and `demo`."""

from pathlib import Path
from typing import Annotated

import typer

TargetOption = Annotated[
    list[str], typer.Option("--target", "-t", help="Output to explain; may be given several times.")
]
ClassifierOption = Annotated[
    str, typer.Option(help="Name, folder, .pt2 file or module:callable; see `gifsplain models list`.")
]
AutoencoderOption = Annotated[str, typer.Option(help="Name, folder or module:callable; see `gifsplain models list`.")]
ResizeOption = Annotated[
    bool, typer.Option("--resize/--no-resize", help="Let the classifier take the autoencoder's size by resizing.")
]
DeviceOption = Annotated[str, typer.Option(help="Where the models compute: auto, cpu, cuda or cuda:N.")]
PrecisionOption = Annotated[
    str, typer.Option(help="Number format of the networks: float32 or bf16; the error of bf16 is stated.")
]
MemoryOption = Annotated[
    float | None, typer.Option(min=0.01, help="Gigabytes that a batch may take; without a limit when left out.")
]
WindowOption = Annotated[str | None, typer.Option(help="DICOM window: its index or its explanation.")]
ColourOption = Annotated[str, typer.Option(help="What to do with a colour image: refuse or grey.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(explain)
    app.command()(predict)
    app.command()(demo)


def explain(
    files: Annotated[list[str], typer.Argument(help="Images, folders, patterns or CSV manifests.", show_default=False)],
    *,
    target: TargetOption = [],  # noqa: B006
    output: OutputOption = Path("gifsplain-out"),
    method: Annotated[
        str,
        typer.Option(
            help="auto: latentshift, or latentshift-steps where only that reaches; or see `gifsplain models methods`."
        ),
    ] = "auto",
    classifier: ClassifierOption = "cxr",
    autoencoder: AutoencoderOption = "cxr",
    resize: ResizeOption = False,
    drop: Annotated[float, typer.Option(help="Wanted fall of the score, absolute (policy exact).")] = 0.30,
    rise: Annotated[float, typer.Option(help="Wanted rise of the score, absolute (policy exact).")] = 0.05,
    frames: Annotated[
        int | None, typer.Option(help="Frames of the sweep; the policy's own number when left out.")
    ] = None,
    policy: Annotated[str, typer.Option(help="Strength search: exact, paper-2021 or latentshift-0.0.6.")] = "exact",
    compose: Annotated[
        str, typer.Option(help="Frames: reconstruction or residual (input plus what changes).")
    ] = "reconstruction",
    native: Annotated[
        bool, typer.Option("--native/--model-size", help="Animate at the original's size; implies residual.")
    ] = False,
    map: Annotated[str | None, typer.Option(help="max, mean, minmax, sliding or extreme-2021.")] = None,
    formats: Annotated[
        list[str],
        typer.Option("--format", help="Outputs, repeatable or with commas between; all standard ones when left out."),
    ] = [],  # noqa: B006
    arrays: Annotated[bool, typer.Option("--arrays/--no-arrays", help="Also write arrays.npz.")] = False,
    dicom_out: Annotated[
        bool, typer.Option("--dicom-out/--no-dicom-out", help="Also write DICOM cine, segmentation and overlay.")
    ] = False,
    keep_identity: Annotated[
        bool, typer.Option("--keep-identity/--no-identity", help="Copy the patient into DICOM outputs.")
    ] = False,
    window: WindowOption = None,
    colour: ColourOption = "refuse",
    seed: Annotated[int, typer.Option(help="For methods that draw random numbers.")] = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    memory: MemoryOption = None,
    open_report: Annotated[bool, typer.Option("--open", help="Open the first report in the browser.")] = False,
) -> None:
    """Explain images: animation, map, curve, report and record for each image and target.

    Writes OUTPUT/CASE/TARGET/ with animation.gif, animation.mp4, image.png, map.png, overlay.png, curve.png, flow.png,
    report.html and explanation.json. A file that cannot be used is named in a table at the end; the exit code is then 1.
    """
    from gifsplain.batch.files import Output, Reading, explain_files
    from gifsplain.cli import console
    from gifsplain.errors import InputError
    from gifsplain.explain.settings import Settings
    from gifsplain.io.manifest import find_cases
    from gifsplain.models.load import load_models

    if keep_identity and not dicom_out:
        raise InputError("--keep-identity is about DICOM outputs and does nothing alone; give --dicom-out too")
    settings = Settings(
        drop=drop, rise=rise, frames=frames, policy=console.choice(policy, "policy"),
        composition=console.composition("residual" if native else compose), map=map, seed=seed,
        precision=console.precision(precision), memory=console.gigabytes(memory),
    )  # fmt: skip
    place = Output(output, console.formats(formats), arrays, native, dicom_out, keep_identity)
    cases = find_cases(files)
    pair = load_models(classifier, autoencoder, resize=resize, device=device)
    reading = Reading(console.window(window), console.colour(colour))
    with console.progress(len(cases), "explaining") as advance:
        done = list(
            explain_files(pair, cases, target, settings, place, method=method, reading=reading, started=advance)
        )
    console.finish(done, open_report=open_report)


def predict(
    files: Annotated[list[str], typer.Argument(help="Images, folders, patterns or CSV manifests.", show_default=False)],
    target: TargetOption = [],  # noqa: B006
    classifier: ClassifierOption = "cxr",
    window: WindowOption = None,
    colour: ColourOption = "refuse",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the classifier's scores and what they mean."""
    from gifsplain.batch.predict import predict_files
    from gifsplain.cli import console
    from gifsplain.io.manifest import find_cases
    from gifsplain.models.load import load_classifier

    model = load_classifier(classifier)
    rows = list(
        predict_files(model, find_cases(files), target, window=console.window(window), colour=console.colour(colour))
    )
    console.scores(model.card, rows, as_json=as_json)


def demo(
    output: OutputOption = Path("gifsplain-demo"),
    target: TargetOption = ["Lung Opacity"],  # noqa: B006
    open_report: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
) -> None:
    """Explain a real chest radiograph that comes with the package pydicom-data, offline."""
    from gifsplain.batch.files import Output, explain_files
    from gifsplain.cli import console
    from gifsplain.explain.settings import Settings
    from gifsplain.io.examples import chest_radiograph
    from gifsplain.io.manifest import find_cases
    from gifsplain.models.load import load_models

    cases = find_cases([chest_radiograph()])
    with console.progress(1, "explaining") as advance:
        done = list(
            explain_files(load_models(), cases, target, Settings(), Output(output), method="auto", started=advance)
        )
    console.finish(done, open_report=open_report)
