"""How the cost of a batch run grows with the number of images, and whether the process grows with it.

Small images and a small untrained pair: what is measured is the machinery around the networks (planning, reading,
search, rows, commits), and memory. Each size runs in a process of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import machine
import numpy as np
import pairs

HERE = Path(__file__).parent
TINY = HERE.parent / "tests" / "batch"


def one(folder: Path, count: int, threads: int) -> dict[str, float]:
    """Run `gifsplain batch` on `count` files and read the worker's own clock."""
    pairs.small_files(folder / "images", count, side=16)
    code = f"import torch; torch.set_num_threads({threads}); import sys; sys.path.insert(0, {str(TINY)!r}); from gifsplain.cli import main; main()"
    command = [sys.executable, "-c", code, "batch", str(folder / "images"), "-o", str(folder / "run"), "--no-media"]
    models = ["--classifier", "tiny_batch:classifier", "--autoencoder", "tiny_batch:autoencoder"]
    subprocess.run(
        [*command, *models, "--targets", "left", "--frames", "5", "--part", "64"], check=True, stdout=subprocess.DEVNULL
    )
    (log,) = (folder / "run" / "log").glob("worker-*.json")
    return dict(json.loads(log.read_text()))


def main() -> None:
    arguments = machine.options(__doc__ or "", sizes="100,1000,10000")
    found = []
    for count in map(int, arguments.sizes.split(",")):
        with pairs.scratch() as folder:
            clock = one(Path(folder), count, arguments.threads)
        found.append(
            {"images": count, "seconds_each": clock["total"] / count, "cpu_seconds_each": clock["cpu"] / count, **clock}
        )
        print(found[-1], flush=True)
    sizes, costs = ([row[key] for row in found] for key in ("images", "cpu"))
    slope = float(np.polyfit(np.log(sizes), np.log(costs), 1)[0]) if len(found) > 1 else None
    machine.record("batch_scaling", {"runs": found, "exponent_of_cpu_seconds": slope}, arguments)


if __name__ == "__main__":
    main()
