"""A run in one process: what is in the table, what goes to the error table, what is refused, how it goes on."""

import os
import queue
import re
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_batch
import torch

from gifsplain.batch import plan, runners
from gifsplain.batch import rows as rows_module
from gifsplain.batch import store as store_module
from gifsplain.batch import worker as worker_module
from gifsplain.batch.job import Configuration, Job, Models, Outputs
from gifsplain.batch.plan import Shard
from gifsplain.batch.run import run, runner_name
from gifsplain.batch.store import Store
from gifsplain.batch.streak import LIMIT, Streak
from gifsplain.batch.summary import write_summary
from gifsplain.cli import main
from gifsplain.errors import ConfigurationError, GifsplainError, InputError
from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.io.images import load_image
from gifsplain.io.manifest import find_cases
from gifsplain.io.run_folder import read_configuration, read_errors, read_part, read_run
from gifsplain.models import wrap

MODELS = Models("tiny_batch:classifier", "tiny_batch:autoencoder")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    tiny_batch.write_images(tmp_path / "images", 7)
    return make(tmp_path)


def make(tmp_path: Path, **changes: Any) -> Job:
    cases = tuple(find_cases(tmp_path / "images"))
    base = Job(tmp_path / "run", cases, ("left", "right"), models=MODELS, part=3, settings=Settings(frames=5, batch=4))
    return replace(base, **changes)


def test_rows_are_what_explain_gives(job: Job) -> None:
    outcome = run(job)
    rows = read_run(job.folder)
    assert (outcome.rows, outcome.failures, len(rows)) == (14, 0, 14)
    pair = wrap.pair(tiny_batch.classifier(), tiny_batch.autoencoder())
    for case in job.cases:
        for one in explain_with(
            "latentshift", pair, [load_image(case.path)], job.targets, job.settings, cases=[case.name]
        ):
            row = rows[(rows.case == case.name) & (rows.target == one.target)].iloc[0]
            assert row.score_counterfactual == pytest.approx(one.scores.counterfactual, abs=1e-5)
            assert row.strength_lower == pytest.approx(float(one.strengths.min()), rel=1e-3)
            assert (row.stop_lower, row.stop_higher) == (one.stop_lower.value, one.stop_higher.value)
            change = (one.frames[one.counterfactual] - one.frames[one.baseline]).abs().mean()
            assert row.pixel_change == pytest.approx(float(change), rel=1e-3)
            assert row.sha256 == one.picture.provenance.sha256
            assert {f"check_{check.name}" for check in one.checks} <= set(rows.columns)
    assert rows.id.nunique() == 14 and (rows.media == "").all()


def test_failing_cases_are_named_and_the_others_go_on(job: Job, tmp_path: Path) -> None:
    (tmp_path / "images" / "case0002.png").write_bytes(b"not a picture")
    (tmp_path / "images" / "case0005.png").unlink()
    outcome = run(job)
    errors = read_errors(job.folder)
    assert (outcome.rows, outcome.failures) == (10, 4)
    assert sorted(set(errors.case)) == ["case0002", "case0005"]
    assert errors[errors.case == "case0005"].reason.str.contains("expected a file, found none").all()
    assert run(job, resume=True).rows == 10  # failures count as done


def test_a_case_that_breaks_its_batch_fails_alone(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    real = worker_module.explain_with

    def breaking(name: str, pair: Any, pictures: Any, targets: Any, settings: Settings, *, cases: Any) -> Any:
        if "case0001" in cases and "right" in targets:
            raise ZeroDivisionError("the model fell over")
        return real(name, pair, pictures, targets, settings, cases=cases)

    monkeypatch.setattr(worker_module, "explain_with", breaking)
    outcome = run(job)
    errors = read_errors(job.folder)
    assert (outcome.rows, outcome.failures) == (13, 1)
    assert errors.iloc[0][["case", "target", "error", "reason"]].tolist() == [
        "case0001",
        "right",
        "ZeroDivisionError",
        "the model fell over",
    ]


def failing_with(error: Exception, monkeypatch: pytest.MonkeyPatch, *cases: str) -> list[str]:
    """The model fails for `cases`, or for all but none named; the names that it was given alone."""
    real, tried = worker_module.explain_with, []

    def failing(name: str, pair: Any, pictures: Any, targets: Any, settings: Settings, *, cases: Any) -> Any:
        if len(cases) == 1:
            tried.extend(cases)
        if broken.intersection(cases) or not broken:
            raise error
        return real(name, pair, pictures, targets, settings, cases=cases)

    broken = set(cases)
    monkeypatch.setattr(worker_module, "explain_with", failing)
    return tried


def test_failures_can_be_tried_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    (job.cases[6].path).write_bytes(b"not a picture")
    with monkeypatch.context() as patch:
        failing_with(RuntimeError("device lost"), patch, "case0001", "case0002")
        assert (run(job).failures, run(job, resume=True).failures) == (6, 6)
    before = read_run(job.folder)
    assert run(job, resume=True).failures == 6  # only when asked for
    again = replace(job, retry_failed=True)
    outcome = run(again, resume=True)
    assert (outcome.rows, outcome.failures, outcome.finished) == (12, 2, 14)
    assert set(read_errors(job.folder).case) == {"case0006"}
    assert len(read_run(job.folder).merge(before, on=["case", "target", "seconds"])) == len(before) == 8
    assert "2 failures" in write_summary(job.folder).read_text()
    assert run(again, resume=True).failures == 2
    assert run(job, resume=True).rows == 12


def test_what_fails_again_has_its_last_reason(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, reason in enumerate(("first", "second")):
        with monkeypatch.context() as patch:
            failing_with(RuntimeError(reason), patch, *(case.name for case in job.cases[: 4 - number]))
            run(replace(job, retry_failed=True), resume=bool(number))
        errors = read_errors(job.folder)
        assert len(errors) == 2 * (4 - number) and set(errors.reason) == {reason}


def test_failures_at_other_paths_are_tried_again_when_asked_for(job: Job, tmp_path: Path) -> None:
    job.cases[6].path.write_bytes(b"not a picture")
    run(job)
    moved = spelt_anew(job, "copy", tmp_path)
    with pytest.raises(InputError, match=r"paths at which these cases failed, got others for case0006 \(1 in all\)"):
        run(moved, resume=True)
    outcome = run(replace(moved, retry_failed=True), resume=True)
    assert (outcome.rows, outcome.failures) == (12, 2)


@pytest.mark.parametrize("part", [3, 50])
def test_a_run_stops_when_case_after_case_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    tiny_batch.write_images(tmp_path / "images", 60)
    job = make(tmp_path, part=part, targets=("left",))
    with monkeypatch.context() as patch:
        tried = failing_with(RuntimeError("device lost"), patch, *(case.name for case in job.cases[5:]))
        with pytest.raises(
            GifsplainError, match=r"got 2[5-8] cases in a row .*RuntimeError: device lost.*--retry-failed"
        ):
            run(job)
    assert 25 <= len(set(tried)) <= 32
    assert len(read_run(job.folder)) == 5 and 25 <= len(read_errors(job.folder)) <= 28
    assert run(replace(job, retry_failed=True), resume=True).rows == 60


def test_files_that_fail_do_not_stop_a_run(tmp_path: Path) -> None:
    tiny_batch.write_images(tmp_path / "images", 30)
    for path in sorted((tmp_path / "images").iterdir())[:29]:
        path.write_bytes(b"not a picture")
    assert run(make(tmp_path, targets=("left",))).rows == 1


def test_a_run_stops_when_no_picture_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*explanation: Any, **outputs: Any) -> None:
        raise OSError("no space left on device")

    tiny_batch.write_images(tmp_path / "images", 60)
    monkeypatch.setattr(worker_module, "write_explanation", full)
    with pytest.raises(GifsplainError, match=r"in a row .*OSError: no space left on device"):
        run(make(tmp_path, targets=("left",), outputs=Outputs(("map",))))
    assert 25 <= len(read_errors(tmp_path / "run")) < 40


@pytest.mark.parametrize("targets", [1, 30])
def test_a_case_counts_once_whatever_its_targets(targets: int) -> None:
    streak = Streak()
    for number in range(LIMIT - 1):
        for _ in range(targets):
            streak.failed(f"case{number}", RuntimeError("lost"))
    streak.refuse_too_long()
    streak.failed("damaged", InputError("no picture"))
    assert not streak.is_too_long
    streak.succeeded()
    streak.failed("one", RuntimeError("lost"))
    assert streak.cases == 1


@pytest.mark.parametrize("method", ["latentshift", "grad"])
def test_running_out_of_memory_halves_the_batch(job: Job, method: str) -> None:
    tiny_batch.SIZES.clear()
    hungry = replace(job, method=method, models=Models("tiny_batch:classifier", "tiny_batch:hungry"))
    assert run(hungry).rows == 14
    assert max(tiny_batch.SIZES) > tiny_batch.FITS
    failed = [place for place, size in enumerate(tiny_batch.SIZES) if size > tiny_batch.FITS]
    assert len(failed) <= 2  # learnt for good


def test_media_and_arrays_are_written(job: Job) -> None:
    run(replace(job, cases=job.cases[:2], outputs=Outputs(("map", "json"), arrays=True)))
    for row in read_run(job.folder).itertuples():
        names = sorted(path.name for path in (job.folder / row.media).iterdir())
        assert names == ["arrays.npz", "explanation.json", "map.png"]
    page = write_summary(job.folder).read_text()
    assert "4 explanations of 2 cases; 0 failures" in page and "pixel_change" in page


def test_a_picture_that_cannot_be_written_fails_its_case(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(explanation: Any, folder: Path, **outputs: Any) -> None:
        if explanation.case == "case0000":
            raise OSError("no space left on device")

    monkeypatch.setattr(worker_module, "write_explanation", full)
    outcome = run(replace(job, outputs=Outputs(("map",))))
    assert (outcome.rows, outcome.failures) == (12, 2)
    assert set(read_errors(job.folder).reason) == {"no space left on device"}


def test_a_stopped_run_draws_no_more_pictures(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over = list[str](), threading.Event()

    def slow(*values: Any, **more: Any) -> None:
        begun.append(values[0].case)
        over.wait(60)
        time.sleep(0.2)

    def stopped(*_: Any) -> None:
        over.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(worker_module, "write_explanation", slow)
    monkeypatch.setattr(worker_module.Worker, "_commit", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(replace(job, outputs=Outputs(("map",)), part=3))
    assert 0 < len(begun) <= 2 * job.encoders  # of 14 that were handed over


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_that_was_stopped_goes_on(job: Job, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    real, commits = Store.commit, []

    def stopping(self: Store, *values: Any) -> None:
        commits.append(values[0].name)
        if len(commits) > stop:
            raise KeyboardInterrupt
        real(self, *values)

    monkeypatch.setattr(Store, "commit", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(job)
    monkeypatch.setattr(Store, "commit", real)
    before = read_run(job.folder)
    assert 0 < len(before) < 14
    seen: list[tuple[int, int]] = []
    assert run(job, resume=True, report=lambda done, total: seen.append((done, total))).rows == 14
    after = read_run(job.folder)
    kept = after.merge(before, on="id", suffixes=("", "_before"))
    assert len(kept) == len(before) and (kept.seconds == kept.seconds_before).all()  # not computed again
    assert seen[0] == (len(before) // 2, 7) and seen[-1] == (7, 7)


def test_errors_of_an_unfinished_part_do_not_count(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kill may come between the two files of a part."""
    (tmp_path / "images" / "case0000.png").write_bytes(b"not a picture")
    real = Store._write

    def stopping(self: Store, folder: str, *values: Any) -> None:
        if folder == "results":
            raise KeyboardInterrupt
        real(self, folder, *values)

    monkeypatch.setattr(Store, "_write", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(job)
    assert len(list((job.folder / "errors").iterdir())) == 1
    assert len(read_errors(job.folder)) == 0
    monkeypatch.setattr(Store, "_write", real)
    outcome = run(job, resume=True)
    assert (outcome.rows, outcome.failures) == (12, 2)


def test_another_configuration_is_refused(job: Job) -> None:
    run(job)
    with pytest.raises(ConfigurationError, match=r"other values of settings\.drop"):
        run(replace(job, settings=replace(job.settings, drop=0.1)), resume=True)
    with pytest.raises(ConfigurationError, match="holds results already"):
        run(job)
    assert run(replace(job, settings=replace(job.settings, batch=2)), resume=True).rows == 14  # speed is no number
    assert read_configuration(job.folder)["method"] == "latentshift"


def test_places_that_start_together_make_one_folder(tmp_path: Path) -> None:
    count, refused = 8, []
    for number in range(20):
        barrier = threading.Barrier(count)

        def start(folder: Path = tmp_path / str(number), barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                Store(folder, Configuration({"drop": 0.3})).open(resume=True)
            except Exception as error:
                refused.append(error)

        threads = [threading.Thread(target=start) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert refused == []


def test_a_place_that_comes_second_is_compared_with_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store_module.write_text_once

    def late(path: Path, text: str) -> None:
        real(path, Configuration({"drop": 0.1}).text())  # another process, between our look and our writing
        real(path, text)

    monkeypatch.setattr(store_module, "write_text_once", late)
    with pytest.raises(ConfigurationError, match="other values of drop"):
        Store(tmp_path / "run", Configuration({"drop": 0.3})).open(resume=True)


def test_a_folder_whose_making_was_cut_short_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "run" / "results").mkdir(parents=True)
    Store(tmp_path / "run", Configuration({})).open(resume=False)
    (tmp_path / "run" / "results" / "part-1.parquet").touch()
    (tmp_path / "run" / "configuration.json").unlink()
    with pytest.raises(ConfigurationError, match="found results without it"):
        Store(tmp_path / "run", Configuration({})).open(resume=True)


def test_more_cases_and_targets_may_be_added(job: Job) -> None:
    run(replace(job, cases=job.cases[:3], targets=("left",)))
    assert run(job, resume=True).rows == 14


def test_a_file_with_new_content_is_refused(job: Job) -> None:
    run(job)
    os.utime(job.cases[0].path)  # touched, same content
    run(job, resume=True)
    tiny_batch.write_images(job.cases[0].path.parent, 1, seed=9)
    with pytest.raises(InputError, match=r"other content for case0000 \(1 in all\)"):
        run(job, resume=True)


def spelt_anew(job: Job, how: str, tmp_path: Path) -> Job:
    """The same files by other paths."""
    if how == "relative":
        return replace(job, cases=tuple(replace(case, path=Path(os.path.relpath(case.path))) for case in job.cases))
    folder = tmp_path / how
    if how == "link":
        folder.symlink_to(tmp_path / "images")
    else:
        shutil.copytree(tmp_path / "images", folder)
    return replace(job, cases=tuple(replace(case, path=folder / case.path.name) for case in job.cases))


@pytest.mark.parametrize("how", ["relative", "link", "copy"])
@pytest.mark.parametrize("older", [False, True])
def test_paths_may_be_spelt_anew(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, older: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        if older:  # as folders were made before: by the path as it was spelt
            patch.setattr(rows_module, "path_hash", lambda case: plan._short_hash(str(case.path)))
        run(replace(job, cases=job.cases[:4]))
    before = read_run(job.folder)
    assert run(spelt_anew(job, how, tmp_path), resume=True).rows == 14
    kept = read_run(job.folder).merge(before, on=["case", "target", "seconds"])
    assert len(kept) == len(before) == 8  # not computed again


@pytest.mark.parametrize("gone", [False, True])
def test_a_name_of_another_file_is_refused_before_anything_is_computed(job: Job, tmp_path: Path, gone: bool) -> None:
    run(replace(job, cases=job.cases[:3]))
    tiny_batch.write_images(tmp_path / "more", 5, seed=1)
    more = replace(job, cases=tuple(find_cases(tmp_path / "more")))
    if gone:
        (tmp_path / "more" / "case0000.png").unlink()
    before = sorted((job.folder / "results").iterdir())
    with pytest.raises(InputError, match=r"got other files for case0000, case0001, case0002 \(3 in"):
        run(more, resume=True)
    assert sorted((job.folder / "results").iterdir()) == before
    assert len(read_run(job.folder)) == 6


def test_files_that_go_by_other_names_are_refused(job: Job) -> None:
    run(replace(job, cases=job.cases[:3], targets=("left",)))
    renamed = replace(job, cases=tuple(replace(case, name=f"p1_{case.name}") for case in job.cases))
    with pytest.raises(InputError, match=r"others for p1_case0000 \(there case0000\), .* \(3 in all\)"):
        run(replace(renamed, targets=("left",)), resume=True)
    assert run(replace(renamed, targets=("right",)), resume=True).rows == 10  # no row of these


def test_two_processes_cannot_take_the_same_place(job: Job) -> None:
    run(replace(job, cases=job.cases[:1]))
    store = Store(job.folder, None)  # type: ignore[arg-type]
    with store.claim(Shard(0, 1)):
        with pytest.raises(ConfigurationError, match="worked on by another process"), store.claim(Shard(0, 1)):
            pass
        with pytest.raises(ConfigurationError, match="worked on in 1 shards, not in 2"), store.claim(Shard(0, 2)):
            pass
    with store.claim(Shard(1, 2)):
        pass


def test_shards_share_a_folder(job: Job) -> None:
    outcomes = [run(job, shard=Shard(index, 3)) for index in range(3)]
    assert [(one.finished, one.wanted) for one in outcomes] == [(6, 14), (10, 14), (14, 14)]
    assert len(read_run(job.folder)) == 14


def test_a_place_has_one_worker(job: Job) -> None:
    with pytest.raises(ConfigurationError, match="expected one worker for place 1 among 3, got 4; torchrun or SLURM"):
        run(job, shard=Shard(1, 3), workers=4)
    assert not job.folder.exists()


def test_a_place_says_which_it_is_and_what_is_done(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    options = ["--classifier", MODELS.classifier, "--autoencoder", MODELS.autoencoder, "--frames", "5", "--no-media"]
    with pytest.raises(SystemExit) as ended:
        main(["batch", str(tmp_path / "images"), "-o", str(job.folder), "-t", "left,right", *options])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "place 1 of 3" in printed and "4 of 14 explanations that were asked for are done" in printed


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RuntimeError("CUDA out of memory"),
            r"worker 1 ended before its work was done \(RuntimeError: CUDA out of memory",
        ),
        (OSError(28, "No space left on device"), r"worker 1 ended before .* No space left on device"),
        (InputError("expected a model"), "^expected a model$"),
    ],
)
def test_a_worker_tells_its_parent_every_error(
    job: Job, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def failing(job: Job) -> None:
        raise error

    monkeypatch.setattr(runners, "load", failing)
    messages: queue.Queue[tuple[str, str]] = queue.Queue()
    with pytest.raises(SystemExit) as ended:
        runners._process(job, Shard(1, 2), messages, {}, torch.get_num_threads())
    assert ended.value.code == runners.TOLD
    kind, text = messages.get_nowait()
    assert kind == "error" and re.search(told, text)


def test_a_run_that_lacks_rows_at_its_end_is_no_success(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store.commit

    def losing(self: Store, part: Any, rows: Any, failures: Any) -> None:
        real(self, part, rows[1:], failures)

    monkeypatch.setattr(Store, "commit", losing)
    with pytest.raises(
        GifsplainError, match=r"each of 14 explanations, got none for 3 .*first case0000, left.*--resume"
    ):
        run(job)
    monkeypatch.setattr(Store, "commit", real)
    assert run(job, resume=True).rows == 14


def test_no_folder_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no configuration\.json"):
        read_run(tmp_path)


def test_runners_have_names() -> None:
    assert runner_name("ray") == "ray"
    with pytest.raises(InputError, match="must be one of here, ray, got 'cloud'"):
        runner_name("cloud")


def test_an_empty_table_has_columns(job: Job, tmp_path: Path) -> None:
    for case in job.cases:
        case.path.write_bytes(b"broken")
    outcome = run(job)
    assert (outcome.rows, outcome.failures) == (0, 14)
    assert {"case", "target", "score_input"} <= set(read_run(job.folder).columns)
    assert "14 failures" in write_summary(job.folder).read_text()
    assert np.isfinite(len(read_errors(job.folder)))


def test_names_of_files_that_are_no_text_stop_nothing(tmp_path: Path) -> None:
    tiny_batch.write_images(tmp_path / "images", 2)
    good = next((tmp_path / "images").iterdir())
    (tmp_path / "images" / os.fsdecode(b"\xfe.png")).write_bytes(good.read_bytes())
    (tmp_path / "images" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    job = make(tmp_path, outputs=Outputs(("json",)))
    outcome = run(job)
    assert (outcome.rows, outcome.failures) == (6, 2)
    assert read_errors(job.folder).reason.tolist() == ["?: expected an image, the file is empty"] * 2


def test_a_damaged_folder_is_named(job: Job) -> None:
    run(replace(job, cases=job.cases[:2]))
    part = next((job.folder / "results").iterdir())
    with pytest.raises(
        InputError, match=f"{part.name}: expected the columns nose, it lacks them; it is of another version"
    ):
        read_part(part, ["nose"])
    part.write_bytes(part.read_bytes()[:40])
    for use in (lambda: read_run(job.folder), lambda: run(job, resume=True)):
        with pytest.raises(InputError, match=f"{part.name}: expected a part of a batch run, got a damaged file"):
            use()
    (job.folder / "configuration.json").write_text("{")
    for use in (lambda: read_run(job.folder), lambda: run(job, resume=True)):
        with pytest.raises(InputError, match="configuration.json: expected JSON, got a damaged file"):
            use()
