"""Every benchmark in turn, one process at a time; results lie in benchmarks/results. Use an idle machine."""

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent

RUNS: tuple[tuple[str, ...], ...] = (
    ("startup.py", "--repeats", "5"),
    ("floor.py", "--repeats", "7", "--save", "floor-built-in-1"),
    ("floor.py", "--repeats", "7", "--images", "16", "--save", "floor-built-in-16"),
    ("against_latentshift.py", "--repeats", "5", "--save", "against-built-in"),
    ("against_latentshift.py", "--repeats", "5", "--films", "--save", "against-built-in-films"),
    ("against_latentshift.py", "--pair", "torchxrayvision", "--repeats", "3", "--save", "against-torchxrayvision"),
    (
        "against_latentshift.py",
        *("--pair", "torchxrayvision", "--repeats", "2", "--films", "--save", "against-torchxrayvision-films"),
    ),
    ("precision.py", "--repeats", "3", "--save", "precision-built-in"),
    ("compiled.py", "--repeats", "5", "--save", "compiled-built-in"),
    ("floor.py", "--pair", "torchxrayvision", "--repeats", "3", "--save", "floor-torchxrayvision-1"),
    ("kept_memory.py", "--repeats", "5"),
    ("latent_gradient.py", "--repeats", "5"),
    ("training_precision.py", "--repeats", "3"),
    ("batch_scaling.py", "--sizes", "100,1000,10000"),
)


def main() -> int:
    """Run those whose line holds every word given (all without one), going on after one that fails; 1 when any did."""
    failed = 0
    for name, *rest in RUNS:
        if not all(word in " ".join((name, *rest)) for word in sys.argv[1:]):
            continue
        started = time.perf_counter()
        code = subprocess.run([sys.executable, str(HERE / name), *rest], check=False).returncode
        print(f"{name} {' '.join(rest)}: code {code}, {time.perf_counter() - started:.0f} s", flush=True)
        failed += code != 0
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
