"""A handful of files: scores are numbers, and DICOM objects are there all or none."""

from pathlib import Path

import pytest
import tiny_batch
from torch import Tensor

from gifsplain.batch.files import Output, explain_files
from gifsplain.batch.predict import predict_files
from gifsplain.explain.settings import Settings
from gifsplain.io import dicom_out
from gifsplain.io.manifest import find_cases
from gifsplain.models import wrap


def test_a_score_that_is_no_number_is_not_printed(tmp_path: Path) -> None:
    class Broken(tiny_batch.Brightness):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * float("nan")

    tiny_batch.write_images(tmp_path, 2)
    model = wrap.classifier(Broken(), name="broken", targets=("left", "right"), size=tiny_batch.SIZE)
    rows = list(predict_files(model, find_cases(tmp_path)))
    assert [row.scores for row in rows] == [{}, {}]  # one does not stop the others
    assert "case0000: broken gives nan for left, expected a finite score" in str(rows[0].error)


def test_a_disk_that_is_full_is_told_and_leaves_no_half_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_batch.write_images(tmp_path / "in", 2)
    pair = wrap.pair(tiny_batch.classifier(), tiny_batch.autoencoder())
    output = Output(tmp_path / "out", formats=("json",), dicom=True)

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dicom_out, "write_overlay", full)
    done = list(explain_files(pair, find_cases(tmp_path / "in"), ["left"], Settings(frames=5), output))
    assert [str(one.error) for one in done] == [
        "expected a place that can be written and has room, got [Errno 28] No space left on device"
    ] * 2
    assert {path.name for path in output.folder.rglob("*.*")} == {"explanation.json"}
