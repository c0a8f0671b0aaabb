"""Every benchmark in turn, one process at a time; results lie in benchmarks/results. Use an idle machine."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

RUNS: tuple[tuple[str, ...], ...] = (
    ("startup.py",),
    ("floor.py", "--save", "floor-built-in-1"),
    ("floor.py", "--images", "16", "--save", "floor-built-in-16"),
    ("against_latentshift.py", "--save", "against-built-in"),
    ("against_latentshift.py", "--films", "--save", "against-built-in-films"),
    ("against_latentshift.py", "--pair", "torchxrayvision", "--repeats", "3", "--save", "against-torchxrayvision"),
    ("precision.py", "--save", "precision-built-in"),
    ("floor.py", "--pair", "torchxrayvision", "--repeats", "3", "--save", "floor-torchxrayvision-1"),
    ("batch_scaling.py",),
)


def main() -> int:
    """Run them all, going on after one that fails; 1 when any did."""
    codes = [subprocess.run([sys.executable, str(HERE / name), *rest], check=False).returncode for name, *rest in RUNS]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
