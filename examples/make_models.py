"""Retrain the built-in pair from the data: `make models` (or `python examples/make_models.py --data ../shared/data`).

Runs the package's own training commands with the configurations in `examples/training`, in the order of `STEPS`, and puts
the results where the package keeps its weights. Interrupted, it goes on where it was when it is started again.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from gifsplain.io import files, memory
from gifsplain.models import builtin
from gifsplain.train import checkpoints
from gifsplain.train.autoencoder import AutoencoderTraining, train_autoencoder
from gifsplain.train.classifier import ClassifierTraining, train_classifier
from gifsplain.train.config import from_dict, load_kept, override, require_same
from gifsplain.train.crossfit import cross_fit
from gifsplain.train.pretraining import Pretraining, pretrain_body
from gifsplain.train.progress import make_reporter

HERE = Path(__file__).parent
DATA = "../shared/data"
"""How the configurations write the folder of the data."""
Step = tuple[str, str, str, tuple[str, ...]]
STEPS: tuple[Step, ...] = (
    ("pretrain", "pretrain", "pretrained", ()),
    ("classifier", "classifier-plain", "classifier-plain", ()),
    ("cross-fit", "classifier-plain", "folds-pretrained", ()),
    ("cross-fit", "classifier-plain", "folds-imagenet", ("init=imagenet",)),
    (
        "cross-fit",
        "classifier-plain",
        "folds-edited",
        ("init=imagenet", "edits={widened: Cardiomegaly, widened_share: 0.125, exchanged_share: 0.25}"),
    ),
    ("autoencoder", "autoencoder", "autoencoder", ()),
    ("classifier", "classifier-hardened", "classifier-hardened", ()),
)
"""Command of `gifsplain train`, configuration, output folder and overrides, in order; a folder's name is what later
configurations call it."""
TRAININGS: dict[str, tuple[type[Any], Callable[..., object]]] = {
    "pretrain": (Pretraining, pretrain_body),
    "classifier": (ClassifierTraining, train_classifier),
    "cross-fit": (ClassifierTraining, partial(cross_fit, folds=5)),
    "autoencoder": (AutoencoderTraining, train_autoencoder),
}
"""What configures a command, and runs it."""
SHIPPED = {"classifier-hardened": builtin.CLASSIFIER_FILE, "autoencoder": builtin.AUTOENCODER_FILE}
"""Output folder and the name of its model in the package."""


def read(name: str, data: Path, output: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """A configuration with the folders of this run and `overrides`."""
    text = (HERE / "training" / f"{name}.yaml").read_text(encoding="utf-8")
    return override(yaml.safe_load(text.replace(DATA, str(data)).replace("OUT/", f"{output}/")), overrides)


def train(command: str, values: dict[str, Any], folder: Path) -> None:
    """One step, from its checkpoint where there is one."""
    kind, run = TRAININGS[command]
    config, finished = (
        from_dict(kind, values),
        any((folder / f"{stem}.json").is_file() for stem in checkpoints.FINISHED),
    )
    if finished and not (folder / checkpoints.CHECKPOINT).exists():  # it may be deleted then
        require_same(load_kept(kind, folder / "config.yaml"), config, folder, free=checkpoints.FREE)
        return
    run(config, folder=folder, resume=True, reporter=make_reporter(folder.name))


def ship(folder: Path, stem: str, weights: Path) -> None:
    """Copy a finished model into `weights` under its name in the package."""
    kind = stem.removeprefix("cxr-")
    files.write_bytes(weights / f"{stem}.safetensors", (folder / f"{kind}.safetensors").read_bytes())
    words = yaml.safe_load((HERE / "training" / "cards.yaml").read_text(encoding="utf-8"))
    card = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
    card |= {"name": stem, **words["common"], **words[kind]}
    text = json.dumps(card, indent=1, ensure_ascii=False).replace(str(folder.parent), "OUT")
    files.write_text(weights / f"{stem}.json", text + "\n")


def main() -> None:
    """Train, then ship."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(DATA))
    parser.add_argument("--output", type=Path, default=Path("out/models"))
    parser.add_argument("--weights", type=Path, default=builtin.weights_folder(), help="where the package keeps them")
    options = parser.parse_args()
    memory.keep_freed()
    if not (options.data / "metadata.csv").is_file():
        sys.exit(f"{options.data} holds no metadata.csv; see docs/built-in-models.md for the data")

    for command, name, folder, overrides in STEPS:
        train(command, read(name, options.data, options.output, overrides), options.output / folder)
    for folder, stem in SHIPPED.items():
        ship(options.output / folder, stem, options.weights)
    print("measure them: examples/measure_autoencoder.py, `gifsplain evaluate models`, then examples/write_cards.py")


if __name__ == "__main__":
    main()
