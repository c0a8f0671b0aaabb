"""What population methods have learnt about a pair of models: fitted once on a selection set, kept as one small file.

No image is in it: directions, their scales, rankings, and the extremes of style coordinates.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gifsplain.errors import InputError, WeightsError, require
from gifsplain.explain import attfind, directions, eigenfind, probe
from gifsplain.explain.effects import Table, measure_table, merge_aims, rank_greedily, require_numbers
from gifsplain.explain.population import Directions
from gifsplain.io import files, weights
from gifsplain.models import builtin
from gifsplain.models.identity import identity, pair_identity
from gifsplain.models.protocols import Pair
from gifsplain.models.styleex import StyleModel, StyleView
from gifsplain.types import Images, Latents

METHODS = ("eigenfind", "pca", "random", "mean-gradient", "probe", "label-flip", "attfind")


@dataclass(frozen=True)
class FitSettings:
    """How population methods are fitted."""

    candidates: int = 20
    """Directions tried (K)."""
    kept: int = 8
    """Ranked directions kept for each target."""
    degree: float = 2.0
    """Strength at which candidates are measured, in standard deviations."""
    attfind_images: int = 60
    """Selection images on which AttFind measures all coordinates; 0 leaves AttFind out."""
    attfind_shift: float = 1.0
    """1 moves a coordinate to the population's extreme, more goes beyond."""
    cover: float = 0.2
    """Change of the score by which AttFind's ranking counts an image as explained."""
    seed: int = 0
    batch: int = 128

    def __post_init__(self) -> None:
        counts, steps = (self.candidates, self.kept, self.batch), (self.degree, self.attfind_shift)
        checks = {
            "candidates, kept and batch must be 1 or more": (min(counts) >= 1, counts),
            "degree and attfind_shift must be above 0": (min(steps) > 0, steps),
            "attfind_images must be 0 or more": (self.attfind_images >= 0, self.attfind_images),
        }
        require(checks)


@dataclass(frozen=True)
class Fit:
    """Directions by method and target."""

    directions: Mapping[str, Mapping[str, Directions]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Models, selection set, settings, forwards and seconds."""
    sha256: str = ""
    """Checksum of the file that it was read from; empty for one that is no file."""

    @property
    def named(self) -> dict[str, Any]:
        """What tells it from other fits of the same pair, for the record: its checksum and its facts, not its cost."""
        return {"sha256": self.sha256, **{key: value for key, value in self.facts.items() if key != "forwards"}}

    def of(self, method: str) -> Mapping[str, Directions]:
        """Directions of one method by target.

        Raises:
            InputError: When the fit lacks it.
        """
        if method not in self.directions:
            more = "; label-flip needs a StyleEx that was trained with a condition" if method == "label-flip" else ""
            raise InputError(f"the fit of this pair has no {method!r}; it has {', '.join(self.directions)}{more}")
        return self.directions[method]


def pair_key(pair: Pair) -> str:
    """Name of a fit: name, identity and size of both models; empty where a model cannot be told from another."""
    if not pair_identity(pair):
        return ""
    words = [f"{m.card.name}:{identity(m)}:{m.card.size}" for m in (pair.classifier, pair.autoencoder)]
    return hashlib.sha256("|".join(words).encode()).hexdigest()[:16]


def fit_pair(
    pair: Pair,
    images: Images,
    settings: FitSettings = FitSettings(),
    *,
    done: Callable[[str], None] = lambda method: None,
) -> Fit:
    """Fit every population method that the pair allows on a selection set; `done` is told each finished method.

    Raises:
        InputError: When there are fewer than 8 images.
    """
    if len(images) < 8:
        raise InputError(f"population methods need at least 8 selection images, got {len(images)}")
    with torch.no_grad():
        latents = torch.cat([pair.autoencoder.encode(part) for part in images.split(settings.batch)])
    found: dict[str, dict[str, Directions]] = {}
    facts: dict[str, Any] = {"images": len(images), "degree": settings.degree, "forwards": {}}
    for method, candidates in candidate_directions(pair, latents, settings).items():
        found[method], table = _ranked(pair, latents, candidates, method, settings)
        facts["forwards"][method] = table.forwards
        done(method)
    for method, signed in target_directions(pair, latents, settings).items():
        found[method] = signed
        done(method)
    if isinstance(pair.autoencoder, StyleModel) and settings.attfind_images:
        found["attfind"], facts["forwards"]["attfind"] = _fit_attfind(pair, latents, pair.autoencoder, settings)
        done("attfind")
    facts["settings"] = asdict(settings)
    facts |= {"classifier": pair.classifier.card.name, "autoencoder": pair.autoencoder.card.name, "key": pair_key(pair)}
    return Fit(found, facts)


def candidate_directions(pair: Pair, latents: Latents, settings: FitSettings) -> dict[str, Float[Tensor, "k ..."]]:
    """Unit directions that are the same for every target: EigenFind's, principal components, random ones."""
    model = pair.autoencoder
    if isinstance(model, StyleModel):
        w, width = latents[:, : model.w_dim], latents.shape[1]
        eigen = eigenfind.style_directions(model, settings.candidates)
        free = {
            "eigenfind": eigen,
            "pca": directions.principal_directions(w, settings.candidates),
            "random": directions.random_directions((model.w_dim,), settings.candidates, settings.seed),
        }
        return {name: directions.only_w(value.to(latents), width) for name, value in free.items()}
    centre = latents.mean(0)
    return {
        "eigenfind": eigenfind.jacobian_directions(model, centre, settings.candidates, seed=settings.seed),
        "pca": directions.principal_directions(latents, settings.candidates),
        "random": directions.random_directions(tuple(latents.shape[1:]), settings.candidates, settings.seed).to(
            latents
        ),
    }


def target_directions(
    pair: Pair, latents: Latents, settings: FitSettings, *, targets: Sequence[str] = ()
) -> dict[str, dict[str, Directions]]:
    """One direction for each target, or for some: mean gradient, linear probe, the condition's axis."""
    model, wanted, targets = pair.autoencoder, targets or pair.targets, pair.targets
    untrained = pair.classifier.card.untrained
    usable = [j for j, target in enumerate(targets) if target in wanted and target not in untrained]
    with torch.no_grad():
        logits = torch.cat([pair.classifier.logits(model.decode(p)) for p in latents.split(settings.batch)])
    require_numbers(pair.classifier.card, logits, usable)
    found: dict[str, dict[str, Directions]] = {"mean-gradient": {}, "probe": {}}
    conditioned = isinstance(model, StyleModel) and model.w_dim < latents.shape[1]
    for j in usable:
        if isinstance(model, StyleModel):
            gradients = directions.mean_gradient(pair, latents, j) * _w_mask(latents, model.w_dim)
            w, width = latents[:, : model.w_dim], latents.shape[1]
            learnt = directions.only_w(probe.probe_direction(w, logits[:, j])[None], width)[0]
            gradients = gradients / gradients.norm().clamp_min(torch.finfo(gradients.dtype).tiny)
        else:
            gradients = directions.mean_gradient(pair, latents, j)
            learnt = probe.probe_direction(latents, logits[:, j])
        found["mean-gradient"][targets[j]] = _scaled(latents, gradients[None], ("mean gradient",))
        found["probe"][targets[j]] = _scaled(latents, learnt[None], ("linear probe",))
        if conditioned and isinstance(model, StyleModel):
            axis = directions.label_direction(latents.shape[1], model.w_dim, j)
            found.setdefault("label-flip", {})[targets[j]] = _scaled(latents, axis[None].to(latents), ("condition",))
    return found


def _w_mask(latents: Float[Tensor, "n e"], w_dim: int) -> Float[Tensor, " e"]:
    return (torch.arange(latents.shape[1], device=latents.device) < w_dim).to(latents)


def _scaled(latents: Latents, units: Float[Tensor, "k ..."], labels: Sequence[str]) -> Directions:
    """Unit directions as steps of one standard deviation."""
    sigma = directions.spreads(latents, units).reshape(-1, *[1] * (units.ndim - 1))
    return Directions(units * sigma, tuple(labels))


_WORDS = {"eigenfind": "eigenvector", "pca": "component", "random": "direction"}


def _ranked(
    pair: Pair, latents: Latents, units: Float[Tensor, "k ..."], method: str, settings: FitSettings
) -> tuple[dict[str, Directions], Table]:
    """The best directions of each target, signed to raise it."""
    labels = [f"{_WORDS[method]} {k}" for k in range(len(units))]
    candidates = _scaled(latents, units, labels)
    table = measure_table(pair, latents, candidates.steps * settings.degree, settings.batch)
    found = {}
    for j, target in enumerate(pair.targets):
        if target in pair.classifier.card.untrained:
            continue
        ranking = table.rank_both(j, settings.kept, threshold=pair.classifier.card.meaning.middle)
        if ranking:
            steps = torch.stack([candidates.steps[r.index] * r.sign for r in ranking])
            found[target] = Directions(steps, tuple(labels[r.index] for r in ranking))
    return found, table


def _fit_attfind(
    pair: Pair, latents: Latents, model: StyleModel, settings: FitSettings
) -> tuple[dict[str, Directions], int]:
    """Coordinates as directions of style space: one unit is the coordinate's range in the population."""
    with torch.no_grad():
        styles = model.styles(latents)
    extremes = attfind.Extremes.of(styles, sum(model.searched))
    some = styles[: settings.attfind_images]
    table = attfind.style_table(
        model, pair.classifier, some, extremes, shift=settings.attfind_shift, batch=settings.batch * 2
    )
    found = {}
    for j, target in enumerate(pair.targets):
        raising, lowering = (
            rank_greedily(table.effects(aim).gains, settings.cover, 2 * settings.kept)
            for aim in attfind.aims(j, pair.classifier.card.meaning.middle)
        )
        ranking = merge_aims(raising, lowering, settings.kept)
        steps = styles.new_zeros(len(ranking), styles.shape[1])
        for row, item in enumerate(ranking):
            steps[row, item.index] = item.sign * (extremes.high - extremes.low)[item.index]
        found[target] = Directions(steps, tuple(attfind.coordinate_name(model, r.index) for r in ranking))
    return {target: value for target, value in found.items() if len(value.steps)}, table.forwards


def _stored(steps: Float[Tensor, "k ..."]) -> Float[Tensor, "k ..."]:
    """In half precision; as they are where that loses a direction: latents of very large or very small numbers."""
    half = steps.half()
    wrong, size = (values.abs().flatten(1).amax(1) for values in (half.float() - steps, steps))
    return half if bool((wrong <= 1e-3 * size).all()) else steps


def save(fit: Fit, path: Path) -> None:
    """Write as safetensors, in half precision where that is enough; names and facts are in the header."""
    tensors, labels = {}, {}
    for method, by_target in fit.directions.items():
        for target, value in by_target.items():
            tensors[f"{method}/{target}"] = _stored(value.steps).contiguous().cpu()
            labels[f"{method}/{target}"] = value.labels
    header = {"labels": json.dumps(labels), "facts": json.dumps(dict(fit.facts))}
    with files.atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=header)


def read(path: Path) -> Fit:
    """A fit that `save` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        labels, facts = json.loads(header["labels"]), json.loads(header["facts"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"{path} is no fit of population methods ({error}); make one with `gifsplain directions fit`"
        ) from error
    found: dict[str, dict[str, Directions]] = {}
    for name, steps in tensors.items():
        method, target = name.split("/", 1)
        found.setdefault(method, {})[target] = Directions(steps, tuple(labels[name]))
    return Fit(found, facts, files.sha256_file(path))


def cache_path(pair: Pair) -> Path:
    """Where `gifsplain directions fit` keeps the fit of this pair.

    Raises:
        WeightsError: When a model cannot be told from another, so that its fit would be taken for that one's.
    """
    return weights.cache_folder() / _file_name(pair)


def _file_name(pair: Pair) -> str:
    key = pair_key(pair)
    if not key:
        names = f"{pair.classifier.card.name} with {pair.autoencoder.card.name}"
        raise WeightsError(
            f"a fit is kept by the weights of both models, and {names} shows no checksum or network of one of them; "
            "wrap its nn.Module with models.wrap, or give its card a sha256"
        )
    return f"directions-{key}.safetensors"


def load(pair: Pair) -> Fit:
    """The pair's fit: from the user's cache, else the one that ships with the built-in models.

    Raises:
        WeightsError: When the pair was never fitted, or a model cannot be told from another.
    """
    whole = (
        Pair(pair.classifier, pair.autoencoder.model, pair.device) if isinstance(pair.autoencoder, StyleView) else pair
    )
    shipped = builtin.weights_folder() / _file_name(whole)
    for path in (cache_path(whole), shipped):
        if path.is_file():
            return read(path)
    names = f"{whole.classifier.card.name} with {whole.autoencoder.card.name}"
    raise WeightsError(
        f"population methods need directions fitted for {names}, there are none; run `gifsplain directions fit MANIFEST.csv` "
        "with the same --classifier and --autoencoder on 50 to 300 images that you do not explain (columns path, labels, split)"
    )
