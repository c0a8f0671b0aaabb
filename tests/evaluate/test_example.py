"""The example of `evaluate paper` can be read: its keys, methods and experiments exist."""

from pathlib import Path

from gifsplain.evaluate import paper
from gifsplain.evaluate.experiments import EXPERIMENTS
from gifsplain.explain.methods import METHODS

EXAMPLE = Path(__file__).parents[2] / "examples" / "paper.yaml"


def test_the_example_configures_every_experiment() -> None:
    configs = paper.read(EXAMPLE, Path("out"))
    of_the_paper = set(EXPERIMENTS) - {"models"}  # figures of a model card
    assert {name.partition("/")[0] for name in configs} == of_the_paper
    assert all(set(config.setup.methods) <= set(METHODS) for config in configs.values())
    stores = {config.setup.store_folder.resolve() for config in configs.values()}
    assert len(stores) == 1
    assert configs["overlap/masks"].setup.out == configs["overlap"].setup.out / "masks"
