"""The experiment of figures 2, D.1 and D.2 of the Latent Shift paper: autoencoders over bottleneck sizes and depths."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.evaluate import bottleneck as figures
from gifsplain.evaluate import overlap
from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.run import explain
from gifsplain.explain.settings import Settings
from gifsplain.io import files
from gifsplain.models import load, trained, wrap
from gifsplain.models.networks import resnet_autoencoder_config
from gifsplain.models.protocols import Classifier
from gifsplain.train import boxes, checkpoints, data, identity, loop, machine, records
from gifsplain.train.autoencoder import AutoencoderTask, AutoencoderTraining, check
from gifsplain.types import Explanation, Picture, Stop

MEASURED = ("val/iou", "val/reached", "val/scored")
"""Overlap, share that reached the drop, score of the reconstructions."""


@dataclass(frozen=True)
class BottleneckExperiment:
    """Which autoencoders are trained, and on which images their explanations are judged."""

    training: AutoencoderTraining
    """Shared by all; its model is replaced."""
    boxes: Path
    """Expert boxes (CSV: path, label, x, y, w, h in pixels)."""
    bottlenecks: tuple[tuple[int, int, int], ...] = ((8, 2, 2), (32, 2, 2), (32, 4, 4), (32, 8, 8), (128, 8, 8))
    depths: tuple[int, ...] = (18, 50)
    width: int = 16
    classifier: str = "cxr"
    target: str = "Cardiomegaly"
    images: int = 10
    """Boxed images of val on which overlap is measured (the paper takes 10)."""
    settings: Settings = field(default_factory=lambda: Settings(frames=9))


@dataclass(frozen=True)
class Judge:
    """Explains fixed images with any autoencoder and compares the maps with the boxes."""

    classifier: Classifier
    pictures: Sequence[Picture]
    masks: Sequence[Bool[np.ndarray, "s s"]]
    target: str
    settings: Settings

    @cached_property
    def random_iou(self) -> float:
        """What a random map gets."""
        return float(np.mean([overlap.expected_random_iou(mask) for mask in self.masks]))

    def explanations(self, net: torch.nn.Module) -> list[Explanation]:
        """One for each picture."""
        size = self.masks[0].shape[0]
        pair = wrap.pair(self.classifier, wrap.autoencoder(net, name="bottleneck", size=size))
        return explain(pair, LatentShift(), self.pictures, [self.target], self.settings)

    def measure(self, net: torch.nn.Module) -> dict[str, float]:
        """Overlap, share that reached the drop, score of the reconstructions."""
        found = self.explanations(net)
        ious = [overlap.iou_at_area(e.map.numpy(), mask) for e, mask in zip(found, self.masks, strict=True)]
        reached = [e.stop_lower is Stop.REACHED for e in found]
        scored = [e.scores.reconstruction for e in found]
        return dict(zip(MEASURED, (float(np.mean(each)) for each in (ious, reached, scored)), strict=True))


@dataclass(frozen=True)
class JudgedTask:
    """An autoencoder in training whose explanations are judged at each evaluation."""

    task: AutoencoderTask
    judge: Judge

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `evaluate` tells."""
        return *self.task.metrics, *MEASURED

    def step(self, step: int) -> Mapping[str, Tensor]:
        """A step of the autoencoder."""
        return self.task.step(step)

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Reconstruction error and overlap."""
        return {**self.task.evaluate(step), **self.judge.measure(self.task.average.module)}

    def state_dict(self) -> dict[str, Any]:
        """The autoencoder's."""
        return self.task.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The autoencoder's."""
        self.task.load_state_dict(state)


def run_bottlenecks(
    config: BottleneckExperiment, folder: Path, reporter: Callable[[str], loop.Reporter] | None = None
) -> list[figures.Point]:
    """Train all, and write `points.csv`, `table.md`, `curves.png` and `curves.svg` into `folder`.

    One folder for each autoencoder; an interrupted experiment goes on where it was when it is started again.
    """
    dataset = data.open_dataset(config.training.data)
    judge = make_judge(config, dataset)
    points = []
    for depth in config.depths:
        for bottleneck in config.bottlenecks:
            name = f"resnet{depth}-{'x'.join(map(str, bottleneck))}"
            watcher = reporter(name) if reporter else None
            points += _one(config, dataset, judge, (depth, bottleneck), _Place(folder / name, watcher))
            figures.write_points(points, folder / "points.csv")
    files.write_text(folder / "table.md", figures.table(points))
    for suffix in ("png", "svg"):
        figures.draw(points, folder / f"curves.{suffix}", random_iou=judge.random_iou)
    return points


def make_judge(config: BottleneckExperiment, dataset: data.Dataset) -> Judge:
    """The classifier and the first boxed images of val, in the manifest's order."""
    rows = config.training.data
    chosen = replace(rows, targets=(config.target,), unions={})
    found = boxes.read_boxes(config.boxes, dataset, chosen)
    places = [int(row) for row in dataset.rows("val") if int(row) in found][: config.images]
    if not places:
        raise InputError(f"no image of val has a box for {config.target!r} in {config.boxes}")
    masks = boxes.draw(found, np.asarray(places), 1, rows.size).bool().numpy()[:, 0]
    name = config.classifier
    classifier = trained.classifier(Path(name)) if Path(name).is_dir() else load.load_classifier(name)
    pictures = [dataset.table.images[place].load() for place in places]
    return Judge(wrap.resized(classifier, rows.size), pictures, list(masks), config.target, config.settings)


@dataclass(frozen=True)
class _Place:
    folder: Path
    reporter: loop.Reporter | None


def _one(
    config: BottleneckExperiment,
    dataset: data.Dataset,
    judge: Judge,
    shape: tuple[int, tuple[int, int, int]],
    place: _Place,
) -> list[figures.Point]:
    depth, bottleneck = shape
    model = resnet_autoencoder_config(depth, bottleneck, size=config.training.data.size, width=config.width)
    training = check(replace(config.training, model=model))
    checkpoints.open_folder(training, place.folder, resume=True)
    fabric = machine.make_fabric(training.loop)
    task = AutoencoderTask(training, dataset, fabric)
    plan = loop.Plan(task.steps, max(1, round(training.evaluate_epochs * task.per_epoch)))
    loop.run(
        JudgedTask(task, judge),
        fabric,
        place.folder,
        training.loop,
        plan=plan,
        reporter=place.reporter,
        origin=identity.origin(training, dataset),
    )
    return [
        figures.Point(
            depth=depth,
            bottleneck="x".join(map(str, bottleneck)),
            numbers=int(np.prod(bottleneck)),
            epoch=row["step"] / task.per_epoch,
            mae=row["val/mae_error"],
            iou=row["val/iou"],
            reached=row["val/reached"],
            scored=row["val/scored"],
        )
        for row in records.read_history(place.folder)
        if "val/iou" in row
    ]
