"""`make models` from one end to the other on drawn chests, with a few steps for each training."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest

from gifsplain.models.load import load

from . import phantoms

EXAMPLES = Path(__file__).parents[2] / "examples"
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
SIZE = 64
SMALL = (
    f"data.size={SIZE}",
    "epochs=0.1",
    "batch_size=4",
    "loop.accelerator=cpu",
    "loop.precision=32-true",
    "loop.log_every=1",
)
SHORTER: Mapping[str, tuple[str, ...]] = {
    "pretrain": (*SMALL, f"view_size={SIZE}", "pasted=4"),
    "classifier": (*SMALL, "evaluate_epochs=0.1"),
    "cross-fit": (*SMALL, "evaluate_epochs=0.1"),
    "autoencoder": (
        *SMALL,
        f"model.size={SIZE}",
        "model.bottleneck=[8, 4, 4]",
        "model.widths=[8, 8, 16]",
        "loop.monitor=''",
    ),
}
"""What makes each training one of a few steps on small images."""


def _table(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def chests(folder: Path) -> None:
    """Files of the names and columns that the recipes read."""
    rng = np.random.default_rng(0)
    films, boxes = [], []
    folder.mkdir()
    for source, count in (("nih", 100), ("covid_radiography", 8), ("kermany", 6), ("hannover", 4)):
        for i in range(count):
            path = f"{source}-{i:03d}.png"
            phantoms.draw(rng, big=bool(i % 2), spot=bool(i % 3), size=SIZE).save(folder / path)
            finding = FINDINGS[i // 2 % 12] if source == "nih" and i // 2 % 12 < len(FINDINGS) else "No Finding"
            split = "val" if i // 20 == 4 or i % 20 == 19 else "train"
            films.append({
                "path": path, "source": source, "patient_id": f"{source}-{i}", "view": "PA", "labels": finding, "split": split,
                "weights_ok": 1, "width": SIZE, "height": SIZE,
            })  # fmt: skip
            if finding != "No Finding":
                boxes.append({"path": path, "label": finding, "x": 16.0, "y": 20.0, "w": 30.0, "h": 24.0})
    _table(folder / "metadata.csv", films)
    _table(folder / "boxes.csv", boxes)
    enlarged = [
        {"index": i, "patient_id": f"small-{i}", "view": "PA", "labels": FINDINGS[i], "split": "train"}
        for i in range(8)
    ]
    _table(folder / "nih64.csv", enlarged)
    np.savez(folder / "nih64.npz", images=rng.integers(0, 255, (8, 64, 64), dtype=np.uint8))


@pytest.mark.slow
def test_every_step_runs_and_the_pair_that_comes_out_explains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import make_models

    chests(tmp_path / "data")
    (tmp_path / "weights").mkdir()
    shorter = tuple(
        (command, name, folder, (*more, *SHORTER[command])) for command, name, folder, more in make_models.STEPS
    )
    monkeypatch.setattr(make_models, "STEPS", shorter)
    arguments = ["--data", tmp_path / "data", "--output", tmp_path / "out", "--weights", tmp_path / "weights"]
    monkeypatch.setattr(sys, "argv", ["make_models", *map(str, arguments)])
    make_models.main()
    assert "evaluate models" in capsys.readouterr().out
    card = json.loads((tmp_path / "weights" / "cxr-classifier.json").read_text(encoding="utf-8"))
    assert card["training"]["init"] == "OUT/classifier-plain"
    assert card["training"]["hardening"]["crossfit"].count("OUT/folds-pretrained") == 2
    classifier = load(str(tmp_path / "out" / "classifier-hardened"), "classifier")
    autoencoder = load(str(tmp_path / "out" / "autoencoder"), "autoencoder")
    assert classifier.card.size == autoencoder.card.size == SIZE

    before = (tmp_path / "weights" / "cxr-classifier.safetensors").read_bytes()
    make_models.main()  # nothing is trained again
    assert (tmp_path / "weights" / "cxr-classifier.safetensors").read_bytes() == before
