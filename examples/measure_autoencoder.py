"""Measure what is usual for the built-in autoencoder on validation radiographs and write it into its model card.

    python examples/measure_autoencoder.py --data ../shared/data

Percentiles of the reconstruction error (mean absolute, full scale 1) and of the length of the latent; the trust checks
compare an image with them. Rows: split val, frontal, weights_ok.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from gifsplain.io.files import write_text
from gifsplain.io.images import load_image
from gifsplain.io.manifest import read_manifest
from gifsplain.models import builtin
from gifsplain.models.prepare import to_images

LEVELS = (50, 90, 95, 99)


def percentiles(values: list[float]) -> dict[str, float]:
    """Percentiles by name."""
    return {f"p{level}": round(float(np.percentile(values, level)), 4) for level in LEVELS}


def main() -> None:
    """Measure and rewrite the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    cases = [
        case
        for case in read_manifest(data / "metadata.csv")
        if case.split == "val" and case.extra["view"] != "L" and case.extra["weights_ok"] == "1"
    ]
    model = builtin.cxr_autoencoder()
    errors: list[float] = []
    lengths: list[float] = []
    for start in range(0, len(cases), 16):
        pictures = [load_image(case.path, colour="grey") for case in cases[start : start + 16]]
        images = to_images(pictures, model.card)
        with torch.no_grad():
            latents = model.encode(images)
            drawn = model.decode(latents).clamp(0, 1)
        errors += (images - drawn).abs().mean(dim=(1, 2, 3)).tolist()
        lengths += latents.flatten(1).norm(dim=1).tolist()
    path = builtin.weights_folder() / f"{builtin.AUTOENCODER_FILE}.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    card["reconstruction_mae_percentiles"] = percentiles(errors)
    card["latent_norm_percentiles"] = percentiles(lengths)
    card["percentiles_measured_on"] = f"{len(cases)} validation radiographs, frontal, all sources with weights_ok"
    card.pop("reconstruction_mae_percentiles_val", None)
    write_text(path, json.dumps(card, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
