"""Retrain the built-in pair from the data: `make models` (or `python examples/make_models.py --data ../shared/data`).

Runs the package's own training commands with the configurations in `examples/training`, in the order of `STEPS`, and puts
the results where the package keeps its weights. Interrupted, it goes on where it was when it is started again.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from gifsplain.io import files, memory
from gifsplain.models import builtin
from gifsplain.train.autoencoder import AutoencoderTraining, train_autoencoder
from gifsplain.train.blend import blend_classifiers
from gifsplain.train.classifier import ClassifierTraining, train_classifier
from gifsplain.train.config import from_dict, override
from gifsplain.train.progress import make_reporter

HERE = Path(__file__).parent
DATA = "../shared/data"
"""How the configurations write the folder of the data."""
AGAIN = ("epochs=7", "loop.patience=0")
"""What differs where the first classifier is trained again, to be imitated, beside the seed."""
MORE = (
    "data.targets=[Atelectasis, Cardiomegaly, Effusion, Lung Opacity, Mass, Pneumothorax, No Finding, Nodule, Edema, "
    "Emphysema, Pleural_Thickening]",
    "epochs=8",
    "evaluate_epochs=2",
    "loop.monitor=''",
    "loop.patience=0",
)
"""What differs where a larger network is trained to be imitated: more targets, its last weights."""
ROUGHER = ("augment={rotation: 12, zoom: 0.15, aspect: 0.08, shift: 0.07}", "hardening.mixup=0.4", "batch_size=20")
Step = tuple[str, str, tuple[str, ...]]
STEPS: tuple[Step, ...] = (
    ("classifier", "classifier-first", ()),
    ("classifier", "classifier-second", (*AGAIN, "loop.seed=1")),
    ("classifier", "classifier-third", (*AGAIN, "loop.seed=2")),
    ("classifier", "classifier-lite1", (*MORE, "backbone=efficientnet-lite1", "loop.seed=1")),
    ("classifier", "classifier-lite2", (*MORE, *ROUGHER, "backbone=efficientnet-lite2")),
    ("autoencoder", "autoencoder", ()),
    ("classifier-hardened", "classifier-hardened", ()),
    ("classifier-visible", "classifier-visible", ()),
    ("classifier-edited", "classifier-edited", ()),
)
"""Configuration, output folder and overrides, in order; a folder's name is what later configurations call it."""
BLENDED = ("classifier-visible", "classifier-edited", 0.6, "classifier-blended")
"""Weights between two steps, and the share of the second; chosen on val."""
LATER: tuple[Step, ...] = (
    ("classifier-answering", "classifier-answering", ()),
    ("classifier-outlined", "classifier-outlined", ()),
    ("classifier-narrowed", "classifier-narrowed", ()),
    ("classifier-settled", "classifier-settled", ()),
)
"""As in `STEPS`, after blending; the last is the shipped classifier."""
SHIPPED = {"classifier-settled": builtin.CLASSIFIER_FILE, "autoencoder": builtin.AUTOENCODER_FILE}
"""Output folder and the name of its model in the package."""


def read(name: str, data: Path, output: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """A configuration with the folders of this run and `overrides`."""
    text = (HERE / "training" / f"{name}.yaml").read_text(encoding="utf-8")
    return override(yaml.safe_load(text.replace(DATA, str(data)).replace("OUT/", f"{output}/")), overrides)


def train(name: str, values: dict[str, Any], folder: Path) -> None:
    """One training, from its checkpoint where there is one."""
    reporter = make_reporter(name)
    if "model" in values:
        train_autoencoder(from_dict(AutoencoderTraining, values), folder, resume=True, reporter=reporter)
    else:
        train_classifier(from_dict(ClassifierTraining, values), folder, resume=True, reporter=reporter)


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

    def run(step: Step) -> None:
        name, folder, overrides = step
        train(name, read(name, options.data, options.output, overrides), options.output / folder)

    for step in STEPS:
        run(step)
    first, second, share, blended = BLENDED
    blend_classifiers(options.output / first, options.output / second, share, options.output / blended)
    for step in LATER:
        run(step)
    for folder, stem in SHIPPED.items():
        ship(options.output / folder, stem, options.weights)
    print("measure them: examples/measure_autoencoder.py, `gifsplain evaluate models`, then examples/write_cards.py")


if __name__ == "__main__":
    main()
