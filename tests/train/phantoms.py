"""Drawn chests that train in seconds: a dark oval with a bright heart; big hearts and spots are the findings."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

TARGETS = ("Big", "Spot")


def draw(rng: np.random.Generator, *, big: bool, spot: bool, size: int = 40) -> Image.Image:
    """One phantom."""
    y, x = np.mgrid[0:size, 0:size] / size
    image = np.full((size, size), 0.75)
    image[((x - 0.5) / 0.45) ** 2 + ((y - 0.5) / 0.48) ** 2 < 1] = 0.25
    radius = rng.uniform(0.22, 0.27) if big else rng.uniform(0.09, 0.13)
    image[(x - 0.58) ** 2 + (y - 0.62) ** 2 < radius**2] = 0.7
    if spot:
        cx, cy = rng.uniform(0.25, 0.4), rng.uniform(0.2, 0.35)
        image[(x - cx) ** 2 + (y - cy) ** 2 < 0.07**2] = 0.95
    image += rng.normal(0, 0.02, image.shape)
    return Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8))


def write(folder: Path, *, count: int = 60, seed: int = 0, splits: bool = True) -> Path:
    """A manifest of `count` phantoms, two for each patient; every fifth patient validates, every sixth tests."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        patient, big, spot = i // 2, bool(rng.random() < 0.5), bool(rng.random() < 0.3)
        draw(rng, big=big, spot=spot).save(folder / f"{i:03d}.png")
        labels = "|".join(name for name, on in zip(TARGETS, (big, spot), strict=True) if on) or "No Finding"
        split = "val" if patient % 5 == 4 else "test" if patient % 6 == 5 else "train"
        rows.append({"path": f"{i:03d}.png", "patient_id": f"p{patient}", "labels": labels, "split": split})
    path = folder / "manifest.csv"
    columns = [name for name in rows[0] if splits or name != "split"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def box(manifest: Path, size: int = 40) -> tuple[Path, Path]:
    """Beside the manifest the same with the films' sizes, and a CSV with a box of each heart and spot that is a finding."""
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    places = {"Big": (0.3, 0.33, 0.56, 0.58), "Spot": (0.17, 0.12, 0.31, 0.31)}
    found = [
        {"path": row["path"], "label": label, **{key: share * size for key, share in zip("xywh", place, strict=True)}}
        for row in rows
        for label, place in places.items()
        if label in row["labels"].split("|")
    ]
    sized = [row | {"width": size, "height": size} for row in rows]
    paths = manifest.with_name("sized.csv"), manifest.with_name("boxes.csv")
    for path, lines in zip(paths, (sized, found), strict=True):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    return paths
