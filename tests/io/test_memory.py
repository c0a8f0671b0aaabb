"""Freed memory stays with the process, where its allocator can be told so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gifsplain import cli
from gifsplain.io import memory

FAULTS = """
import resource, sys
from gifsplain.io.memory import keep_freed
told = keep_freed() if sys.argv[1] == "keep" else None
import numpy
count = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
numpy.ones(48 << 17)
before = count()
for _ in range(10):
    numpy.ones(48 << 17)
print(told, count() - before)
"""


def faults(choice: str, **environment: str) -> tuple[str, int]:
    """Whether the allocator was told, and page faults of ten arrays of 48 MiB after a first one."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, choice], capture_output=True, text=True, check=True, env=plain | environment
    )
    told, count = done.stdout.split()
    return told, int(count)


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults of glibc")


def test_large_arrays_use_the_pages_of_the_one_before() -> None:
    told, few = faults("keep")
    if told != "True":
        pytest.skip("the C library is not glibc")
    assert few < 0.5 * faults("leave")[1]


def test_a_tuned_allocator_is_left_alone() -> None:
    assert faults("keep", MALLOC_ARENA_MAX="2")[0] == "False"
    assert faults("keep", LD_PRELOAD="libnosuchmalloc.so")[0] == "False"
    assert faults("keep", GLIBC_TUNABLES="glibc.malloc.arena_max=2")[0] == "False"


def test_training_asks_for_it_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(memory, "keep_freed", lambda: asked.append(True))
    with pytest.raises(SystemExit):
        cli.main(["models", "list"])
    assert not asked
    with pytest.raises(SystemExit):
        cli.main(["train", "autoencoder", str(tmp_path / "nothing.csv"), "-o", str(tmp_path / "out")])
    assert asked == [True]
