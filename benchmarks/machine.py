"""What every benchmark shares: interleaved repeats, medians with spread, and a record of machine and commit."""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def options(summary: str, **more: Any) -> argparse.Namespace:
    """Options of every script: threads, repeats and whether to save; `more` adds some with their defaults."""
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--save", default="", help="name of the file in benchmarks/results; the script's own when empty"
    )
    for name, value in more.items():
        if isinstance(value, bool):
            parser.add_argument(f"--{name.replace('_', '-')}", action=argparse.BooleanOptionalAction, default=value)
        else:
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()


def interleaved(tasks: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, Any]]:
    """Time every task once a round after one round to warm up, so that a busy moment hits all alike.

    Wall seconds are what a user waits; CPU seconds of this process and its children hardly change when others use the
    machine, so ratios are taken from them where the machine was busy.
    """
    wall: dict[str, list[float]] = {name: [] for name in tasks}
    cpu: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            before, started = _cpu(), time.perf_counter()
            task()
            if turn:
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(_cpu() - before)
    return {name: {"wall": spread(wall[name]), "cpu": spread(cpu[name])} for name in tasks}


def _cpu() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest of some seconds."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def record(name: str, values: Mapping[str, Any], arguments: argparse.Namespace) -> Path:
    """Print the values with machine and commit and write them to benchmarks/results."""
    load = os.getloadavg()
    content = {
        "benchmark": name,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": arguments.threads,
            "load_average": [round(value, 1) for value in load],
            "busy": load[0] > (os.cpu_count() or 1) + 0.5,
            "platform": platform.platform(),
        },
        "versions": _versions(),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed_files": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "arguments": vars(arguments),
        **values,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{arguments.save or name}.json"
    text = json.dumps(content, indent=2) + "\n"
    path.write_text(text, encoding="utf-8")
    print(text)
    print(f"written to {path}")
    return path


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    return lines[0].partition(":")[2].strip() if lines else platform.processor()


def _versions() -> dict[str, str]:
    from importlib import metadata

    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "torchxrayvision")},
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip()
