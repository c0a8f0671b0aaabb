"""Retrain and ship the built-in StyleEx: `python examples/make_styleex.py --data ../shared/data`.

Runs `gifsplain train small-classifier` and `gifsplain train styleex` with the configurations beside this file, measures the
result on the test split and writes weights, card and directions where the package keeps them. Interrupted, it goes on
where it was when it is started again. `--condition concat` trains the conditioned variant, which is not shipped.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any, TypeVar

from gifsplain.models import builtin, styleex
from gifsplain.train import config as configuration
from gifsplain.train import data
from gifsplain.train.small_classifier import WEIGHTS, SmallTraining, train_small_classifier
from gifsplain.train.styleex import StyleExConfig
from gifsplain.train.styleex_card import Shipped, ship
from gifsplain.train.styleex_run import train_styleex

HERE = Path(__file__).parent
T = TypeVar("T", SmallTraining, StyleExConfig)
DATA = (
    "{images} frontal chest radiographs at 64 pixels: NIH ChestX-ray14 (drawn four times as often as others), No Finding "
    "films of the COVID-19 Radiography Database (from NIH and RSNA), openly licensed pictures of covid-chestxray and "
    "Hannover; train split by patient"
)
TERMS = (
    "NIH: use unrestricted with acknowledgement of the NIH Clinical Center and Wang et al. 2017; covid-chestxray: licences "
    "per picture, open ones only; Hannover: CC BY 3.0"
)
LIMITS = (
    "64 pixels, {steps:,} steps on one processor core: fine structure is lost and a radiologist will not be convinced by the "
    "pictures. A demonstration of the method and a test bed for direction finders, not for diagnosis."
)
COMMAND = "python examples/make_styleex.py --data DATA"


def read(kind: type[T], name: str, folder: Path, output: Path, overrides: list[str]) -> T:
    """A configuration with the folders of this run."""
    text = (HERE / name).read_text(encoding="utf-8")
    text = text.replace("DATA/", f"{folder}/").replace("small-classifier/", f"{output}/small-classifier/")
    path = output / name
    output.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return configuration.load(kind, path, overrides)


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("out/styleex"))
    parser.add_argument("--condition", choices=["none", "concat"], default="none")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the StyleEx training")
    parser.add_argument("--weights", type=Path, default=builtin.weights_folder(), help="where the package keeps them")
    parser.add_argument("--no-ship", action="store_true", help="train only")
    return parser.parse_args()


def main() -> None:
    """Train both networks, then ship."""
    given = options()
    logging.basicConfig(level=logging.INFO)
    if not (given.data / "metadata.csv").is_file():
        sys.exit(f"{given.data} holds no metadata.csv; see docs/built-in-models.md for the data")
    small: Any = read(SmallTraining, "small-classifier-64.yaml", given.data, given.output, [])
    if not (given.output / "small-classifier" / WEIGHTS).is_file():
        train_small_classifier(small, given.output / "small-classifier", resume=True)
    run = given.output / given.condition
    changes = [f"model.condition={given.condition}", *given.set]
    config: Any = read(StyleExConfig, "styleex-64.yaml", given.data, given.output, changes)
    outcome = train_styleex(config, run, resume=True)
    if given.no_ship or given.condition != "none":
        return
    dataset = data.open_dataset(config.data)
    about = Shipped(
        name=styleex.STEM,
        steps=outcome.step,
        data=DATA.format(images=f"{len(dataset.rows('train')):,}"),
        terms=TERMS,
        limits=LIMITS.format(steps=outcome.step),
        command=COMMAND,
    )
    ship(run, config, dataset, about, given.weights / styleex.STEM)


if __name__ == "__main__":
    main()
