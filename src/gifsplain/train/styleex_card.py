"""From a trained StyleEx to what ships: weights, a card measured on held-out images, fitted directions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from torch import Tensor

from gifsplain.errors import InputError, WeightsError
from gifsplain.evaluate.quality import frechet_distance
from gifsplain.explain import fits
from gifsplain.io import files
from gifsplain.models import styleex
from gifsplain.models.protocols import Pair
from gifsplain.models.small import SmallClassifier
from gifsplain.models.stylegan import StyleNet
from gifsplain.train.data import Dataset
from gifsplain.train.styleex import StyleExConfig, row_chances
from gifsplain.types import Images


@dataclass(frozen=True)
class Shipped:
    """What a card says beside what is measured."""

    name: str
    steps: int
    data: str
    terms: str
    limits: str
    command: str


def write_model(
    net: StyleNet, classifier: SmallClassifier, config: StyleExConfig, dataset: Dataset, shipped: Shipped, *, stem: Path
) -> Pair:
    """Write STEM.safetensors (half precision) and STEM.json, measured with the weights as stored; returns the pair.

    The card's numbers are of the test split, or validation without one, and of sources that `chances` draws more often
    than once.
    """
    weights, card_path = stem.with_suffix(".safetensors"), stem.with_suffix(".json")
    tensors = {f"net.{k}": v.detach().half().contiguous().cpu() for k, v in net.state_dict().items()}
    tensors |= {
        f"classifier.{k}": (v.detach().half() if v.is_floating_point() else v).contiguous().cpu()
        for k, v in classifier.state_dict().items()
    }
    header = {"styleex": json.dumps(net.config.to_dict()), "classifier": json.dumps(classifier.config.to_dict())}
    with files.atomic_path(weights) as temporary:
        save_file(tensors, temporary, metadata=header)
    card = {
        "name": shipped.name,
        "size": net.config.size,
        "channels": net.config.channels,
        "targets": list(net.config.targets),
        "sha256": files.sha256_file(weights),
    }
    files.write_text(card_path, json.dumps(card))
    pair = styleex.load_styleex(folder=stem.parent, stem=stem.name)
    split = "test" if (dataset.table.splits == "test").sum() > 1 else "val"
    measured = measure(pair, *split_images(dataset, config, split))
    measured["measured_on"] += f", split {split}"
    about = {key: value for key, value in vars(shipped).items() if key != "name"}
    more = {**about, "images_drawn": shipped.steps * config.batch, "condition": net.config.condition,
            "parameters": sum(p.numel() for p in net.parameters()), **measured}  # fmt: skip
    files.write_text(card_path, json.dumps({**card, **more}, indent=2) + "\n")
    return styleex.load_styleex(folder=stem.parent, stem=stem.name)


def split_images(dataset: Dataset, config: StyleExConfig, split: str) -> tuple[Images, Float[Tensor, "n t"]]:
    """Images of a split, of the sources in favour, and their labels in the order of the model's targets."""
    rows = dataset.rows(split)
    favoured = rows[row_chances(config, dataset.table)[rows] > 1]
    rows = favoured if len(favoured) > 1 else rows
    columns = [config.data.targets.index(target) for target in config.model.targets]
    return dataset.images(rows), dataset.labels(rows)[:, columns]


@torch.no_grad()
def measure(pair: Pair, images: Images, labels: Float[Tensor, "n t"]) -> dict[str, Any]:
    """Reconstruction error, agreement of scores, distances between sets of pictures, quality of the classifier."""
    if len(images) < 2:
        raise InputError(f"a model card needs at least 2 held-out images, got {len(images)}")
    model = pair.autoencoder
    assert isinstance(model, styleex.StyleAutoencoder)
    made = torch.cat([model.decode(model.encode(part)).clamp(0, 1) for part in images.split(64)])
    before, after = _scores(pair, images), _scores(pair, made)
    errors = (made - images).abs().mean((1, 2, 3))
    noise = torch.randn(len(images), model.w_dim, generator=torch.Generator().manual_seed(0))
    w = model.net.mapping(noise)
    samples = torch.cat([model.decode(model.net.code(part, None)).clamp(0, 1) for part in w.split(64)])
    features = [_features(model.classifier, part) for part in (images, made, samples)]
    quantile = {f"p{q}": round(float(errors.quantile(q / 100)), 4) for q in (50, 95, 99)}
    return {
        "measured_on": f"{len(images)} held-out images",
        "reconstruction_mae": round(float(errors.mean()), 4),
        "reconstruction_mae_percentiles": quantile,
        "targets_measured": {
            target: _of_target(before[:, j], after[:, j], labels[:, j]) for j, target in enumerate(pair.targets)
        },
        "frechet_distance": {
            "extractor": "last stage of the explained classifier, averaged over places (not Inception: no comparison "
            "with published FID)",
            "reconstructions": round(frechet_distance(features[1], features[0]), 3),
            "samples": round(frechet_distance(features[2], features[0]), 3),
            "real_halves": round(frechet_distance(features[0][::2], features[0][1::2]), 3),
        },
    }


def _scores(pair: Pair, images: Images) -> Float[Tensor, "n t"]:
    return torch.cat([pair.classifier.scores(part) for part in images.split(64)])


def _features(classifier: SmallClassifier, images: Images) -> Float[np.ndarray, "n d"]:
    parts = [classifier.maps(part)[-1].mean((2, 3)) for part in images.split(64)]
    found: Float[np.ndarray, "n d"] = torch.cat(parts).double().numpy()
    return found


def _of_target(
    before: Float[Tensor, " n"], after: Float[Tensor, " n"], labels: Float[Tensor, " n"]
) -> Mapping[str, float | int | None]:
    known = ~labels.isnan()
    truth, score, again = labels[known].numpy(), before[known].numpy(), after[known].numpy()
    both = len(np.unique(truth)) == 2
    return {
        "auc": round(float(roc_auc_score(truth, score)), 3) if both else None,
        "auc_of_reconstructions": round(float(roc_auc_score(truth, again)), 3) if both else None,
        "positives": int(truth.sum()),
        "images": len(truth),
        "score_error": round(float((before - after).abs().mean()), 3),
        "same_side_of_0.5": round(float(((before > 0.5) == (after > 0.5)).float().mean()), 3),
        "predicted_positive": round(float((before > 0.5).float().mean()), 3),
    }


def described(config: StyleExConfig, steps: int, images: int) -> Shipped:
    """What the card of a training of one's own says."""
    sources = ", ".join(Path(source.manifest).name for source in config.data.sources)
    return Shipped(
        name="styleex",
        steps=steps,
        data=f"{images} training images of {sources}",
        terms="those of the data",
        limits=f"{config.model.size} pixels; for research, not for diagnosis",
        command="gifsplain train styleex CONFIG",
    )


def write_directions(pair: Pair, images: Images, folder: Path, settings: fits.FitSettings) -> Path:
    """Fit the population methods of a shipped pair on its validation images, beside its weights."""
    path = folder / f"directions-{fits.pair_key(pair)}.safetensors"
    fits.save(fits.fit_pair(pair, images, settings), path)
    return path


def ship(run: Path, config: StyleExConfig, dataset: Dataset, shipped: Shipped, stem: Path, *, fit: int = 120) -> Pair:
    """Write a finished training of RUN as STEM with its directions, ranked on `fit` validation images.

    The directions of what STEM held before are deleted.
    """
    trained = styleex.load_styleex(folder=run, stem=styleex.OWN_STEM)
    model = trained.autoencoder
    assert isinstance(model, styleex.StyleAutoencoder)
    former = set(_directions(stem))
    pair = write_model(model.net, model.classifier, config, dataset, shipped, stem=stem)
    images, _ = split_images(dataset, config, "val")
    written = write_directions(pair, images[:fit], stem.parent, fits.FitSettings())
    for path in former - {written}:
        path.unlink()
    return pair


def _directions(stem: Path) -> list[Path]:
    """The directions file of the model that is STEM now."""
    if not stem.with_suffix(".json").is_file():
        return []
    try:
        key = fits.pair_key(styleex.load_styleex(folder=stem.parent, stem=stem.name))
    except WeightsError:
        return []
    path = stem.parent / f"directions-{key}.safetensors"
    return [path] if path.is_file() else []
