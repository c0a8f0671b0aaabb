"""Real processes that are killed in the middle: every case once, none lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_batch

from gifsplain.io.run_folder import committed_parts, read_errors, read_run

pytestmark = pytest.mark.slow

COUNT = 60
OPTIONS = [
    "--classifier",
    "tiny_batch:classifier",
    "--frames",
    "5",
    "--part",
    "2",
    "--no-media",
    "--targets",
    "left,right",
]
PROGRAM = [sys.executable, "-c", "from gifsplain.cli import main; main()"]


def command(folder: Path, *more: str, autoencoder: str = "tiny_batch:autoencoder") -> list[str]:
    return [
        *PROGRAM,
        "batch",
        str(folder / "images"),
        "-o",
        str(folder / "run"),
        "--autoencoder",
        autoencoder,
        *OPTIONS,
        *more,
    ]


def finish(folder: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *more),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def parts(folder: Path) -> int:
    return len(committed_parts(folder / "run")) if (folder / "run" / "configuration.json").is_file() else 0


def kill_after(folder: Path, wanted: int, *more: str) -> None:
    """Start a run and kill its whole group as soon as it has committed `wanted` parts in all."""
    process = subprocess.Popen(
        command(folder, *more), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 300
    while parts(folder) < wanted and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_batch.write_images(tmp_path / "images", COUNT)
    return tmp_path


def assert_complete(folder: Path, count: int = COUNT) -> None:
    rows = read_run(folder / "run")  # refuses a case and target that is there twice
    assert len(rows) == 2 * count
    assert rows.case.nunique() == count
    assert len(read_errors(folder / "run")) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_killed_several_times_does_every_case_once(folder: Path, workers: int) -> None:
    more = ("--workers", str(workers))
    for number, wanted in enumerate((1, 7, 15)):
        kill_after(folder, wanted, *more, *(["--resume"] if number else []))
        assert 0 < parts(folder) < COUNT // 2
        read_run(folder / "run")
    before = read_run(folder / "run")
    done = finish(folder, *more, "--resume")
    assert done.returncode == 0, done.stderr
    assert_complete(folder)
    both = read_run(folder / "run").merge(before, on=["case", "target"], suffixes=("", "_before"))
    assert len(both) == len(before) and (both.seconds == both.seconds_before).all()  # nothing was done again


def test_a_worker_that_dies_is_started_again(folder: Path) -> None:
    mark = folder / "kill"
    mark.touch()
    done = subprocess.run(
        command(folder, "--workers", "2", autoencoder="tiny_batch:stumbling"),
        env={**os.environ, "GIFSPLAIN_TEST_KILL": str(mark)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not mark.exists()
    assert_complete(folder)


def test_workers_that_cannot_load_their_models_are_no_success(folder: Path) -> None:
    done = subprocess.run(
        command(folder, "--workers", "2", autoencoder="tiny_batch:unloadable"),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 2
    assert "ended before its work was done (OutOfMemoryError: CUDA out of memory); go on with --resume" in done.stderr


def test_torchrun_places_share_the_work(folder: Path) -> None:
    places = [
        subprocess.Popen(
            command(folder), env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"}, stdout=subprocess.DEVNULL
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=600) for process in places] == [0, 0]
    assert_complete(folder)
    clocks = [json.loads(path.read_text()) for path in (folder / "run" / "log").glob("worker-*.json")]
    assert sorted(clock["rows"] for clock in clocks) == [COUNT, COUNT]


def test_ray_actor_that_dies_has_its_cases_run_again(folder: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra gifsplain[ray]")
    mark = folder / "kill"
    mark.touch()
    done = subprocess.run(
        command(folder, "--workers", "2", "--runner", "ray", autoencoder="tiny_batch:stumbling"),
        env={**os.environ, "GIFSPLAIN_TEST_KILL": str(mark)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not mark.exists()
    assert_complete(folder)
