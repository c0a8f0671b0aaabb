"""Drawn chest phantoms and their explanations: small study images that belong to nobody."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from gifsplain.study import config


def phantom(seed: int, side: int = 96, strength: float = 0.0) -> np.ndarray:
    """Two dark lungs, a bright heart, ribs, and a blob whose brightness is `strength`."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    body = 0.75 * np.exp(-(((x - 0.5) / 0.45) ** 6 + ((y - 0.55) / 0.6) ** 8))
    lungs = sum(np.exp(-(((x - cx) / 0.15) ** 4 + ((y - 0.5) / 0.32) ** 4)) for cx in (0.3, 0.7))
    heart = np.exp(-(((x - 0.55) / 0.14) ** 2 + ((y - 0.68) / 0.14) ** 2))
    ribs = 0.06 * np.sin(60 * (y + 0.4 * (x - 0.5) ** 2))
    cx, cy = generator.uniform(0.25, 0.4), generator.uniform(0.35, 0.65)
    blob = strength * np.exp(-(((x - cx) / 0.06) ** 2 + ((y - cy) / 0.06) ** 2))
    image = body - 0.5 * lungs + 0.35 * heart + ribs * lungs + blob + generator.normal(0, 0.015, x.shape)
    return np.clip(image, 0, 1)


def grey(values: np.ndarray) -> Image.Image:
    """An 8-bit picture."""
    return Image.fromarray((255 * np.clip(values, 0, 1)).astype(np.uint8))


def write_media(folder: Path, case: int, setup: config.Config, side: int = 96) -> dict[str, str]:
    """The bare image and one file per panel; column -> path relative to `folder`."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    base = phantom(case, side, 0.25)
    paths = {"image": f"pictures/{case}.png"}
    grey(base).save(folder / paths["image"])
    for condition in setup.conditions:
        for k, panel in enumerate(condition.panels):
            column, kind = f"{condition.key}.{panel.key}", panel.kind
            paths[column] = f"pictures/{case}-{condition.key}-{panel.key}.{'gif' if kind == 'animation' else 'png'}"
            if kind == "animation":
                frames = [grey(phantom(case, side, s)) for s in np.linspace(0, 0.5, 7)]
                frames[0].save(folder / paths[column], save_all=True, append_images=frames[1:], duration=80, loop=0)
            else:
                heat = np.abs(phantom(case, side, 0.5) - phantom(case, side, 0.0)) * (1 + 0.3 * k)
                colour = np.stack([base + 2 * heat, base, base - heat], axis=-1)
                grey(colour).save(folder / paths[column])
    return paths


def cases_csv(folder: Path, setup: config.Config, *, per_stratum: int, side: int = 96, seed: int = 0) -> Path:
    """A cases.csv with drawn pictures: enough cases for every target and truth, scores above the operating point."""
    generator = np.random.default_rng(seed)
    rows, case = [], 0
    for target in setup.cases.targets:
        for truth in (0, 1):
            for _ in range(per_stratum):
                case += 1
                facts = {"fact.age": str(generator.integers(20, 85)), "fact.view": "PA"}
                iou = {f"{c.key}.iou": f"{generator.uniform(0, 0.6):.3f}" for c in setup.conditions} if truth else {}
                score = f"{generator.uniform(0.51, 0.98):.4f}"
                rows.append(
                    {"case": f"source-{case}", "target": target, "truth": truth, "score": score, "split": "test"}
                    | facts
                    | iou
                    | write_media(folder, case, setup, side)
                )
    path = folder / "cases.csv"
    pd.DataFrame(rows).fillna("").to_csv(path, index=False)
    return path
