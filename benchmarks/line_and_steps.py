"""Processor seconds of Latent Shift along the straight line and in gradient steps, on one film, for every target.

    python benchmarks/line_and_steps.py FILM.dcm [--repeats 4]

Built-in pair; the least of interleaved repeats; ratios, gradients and frames drawn.
"""

import argparse
import time
from pathlib import Path

from gifsplain import load_image
from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.models.load import load_models

METHODS = ("latentshift", "latentshift-steps")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()
    picture, pair = load_image(options.film), load_models()
    for target in pair.targets:
        seconds: dict[str, list[float]] = {method: [] for method in METHODS}
        words = {}
        for _ in range(options.repeats):
            for method in METHODS:
                begun = time.process_time()
                (made,) = explain_with(method, pair, [picture], [target], Settings())
                seconds[method].append(time.process_time() - begun)
                words[method] = f"{made.stop.value}, gradients {made.cost.gradients}, decodes {made.cost.decodes}"
        least = [min(seconds[method]) for method in METHODS]
        spread = [f"{min(seconds[m]):.2f} to {max(seconds[m]):.2f} s ({words[m]})" for m in METHODS]
        print(f"{target}: line {spread[0]}; steps {spread[1]}; ratio {least[1] / least[0]:.2f}")


if __name__ == "__main__":
    main()
