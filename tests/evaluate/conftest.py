"""A small world of images, labels, boxes and masks on which every experiment runs in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gifsplain.evaluate import config, counterfactual, shortcut
from gifsplain.evaluate.config import Setup
from gifsplain.explain.settings import Settings
from gifsplain.models.protocols import Pair

from .tiny import TARGETS, tiny_pair

SHAPE = (24, 20)  # height, width: the crop takes rows 2 to 22


def write_world(folder: Path, count: int = 12) -> Path:
    """`count` pictures a split with a bright blob where the finding is, and a manifest."""
    generator = np.random.default_rng(0)
    rows, boxes, masks = [], [], []
    for split in ("train", "val", "test"):
        for number in range(count):
            name, labels = f"{split}-{number}.png", [t for k, t in enumerate(TARGETS) if (number + k) % 3 == 0]
            grey = generator.integers(30, 120, SHAPE).astype(np.uint8)
            if labels:
                top, left = int(generator.integers(3, 14)), int(generator.integers(0, 12))
                grey[top : top + 6, left : left + 5] = 230
                boxes += [{"path": name, "label": label, "x": left, "y": top, "w": 5, "h": 6} for label in labels]
            Image.fromarray(grey).save(folder / name)
            row = {"path": name, "source": "tiny", "patient_id": f"{split}-p{number // 2}", "view": "PA"}
            rows.append({**row, "labels": "|".join(labels) or "No Finding", "split": split})
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[4:9, 3:9] = 255
    Image.fromarray(drawn).save(folder / "mask.png")
    masks.append({"path": "val-1.png", "mask_path": "mask.png", "kind": "effusion"})
    for name, table in (("metadata", rows), ("boxes", boxes), ("masks", masks)):
        pd.DataFrame(table).to_csv(folder / f"{name}.csv", index=False)
    return folder / "metadata.csv"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Setup]:
    """Makes a setup on the small world with two tiny classifiers `one` and `two`."""
    folder = tmp_path / "data"
    folder.mkdir()
    manifest = write_world(folder)
    seeds = {"one": 0, "two": 5}

    def load(classifier: str, autoencoder: str, *, resize: bool = False) -> Pair:
        return tiny_pair(seeds[classifier])

    monkeypatch.setattr(config, "load_models", load)
    monkeypatch.setattr(counterfactual, "load_classifier", lambda name: tiny_pair(seeds[name]).classifier)
    monkeypatch.setattr(shortcut, "load_autoencoder", lambda name: tiny_pair().autoencoder)

    def make(**changes: Any) -> Setup:
        basic: dict[str, Any] = {
            "manifest": manifest, "out": tmp_path / "out", "classifiers": ("one",), "limit": 3, "batch": 4,
            "methods": ("grad", "latentshift", "random-map"), "settings": Settings(frames=5, drop=0.1),
        }  # fmt: skip
        return Setup(**(basic | changes))

    return make
