"""A StyleEx training from a configuration to files: data in, weights, card and pictures out."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import save_image

from gifsplain.errors import ConfigurationError, InputError
from gifsplain.io import files
from gifsplain.models import styleex
from gifsplain.models.small import SmallClassifier
from gifsplain.models.styleex import read_small_classifier
from gifsplain.models.stylegan import StyleNet
from gifsplain.train import checkpoints, identity, loop, machine, styleex_card
from gifsplain.train import data as datasets
from gifsplain.train.data import Dataset
from gifsplain.train.progress import make_reporter
from gifsplain.train.styleex import StyleExConfig, StyleExData, StyleExTrainee, row_chances

STEM = styleex.OWN_STEM
SHOWN = 16


def train_styleex(config: StyleExConfig, folder: Path, *, resume: bool = False) -> loop.Outcome:
    """Train into `folder`: checkpoints, history, pictures; at the end a pair that `load_models(folder, folder)` gives.

    That pair is `styleex.safetensors`, averaged weights in half precision and the explained classifier, and
    `styleex.json`, its card. The pictures (`samples`, `reconstructions`) show the training data.
    """
    classifier = read_small_classifier(config.classifier)
    _require_fit(config, classifier)
    free = ("steps", "evaluate_every", "loop.log_every", *checkpoints.FREE)
    checkpoints.open_folder(config, folder, resume=resume, free=free)
    fabric = machine.make_fabric(config.loop)
    dataset = datasets.open_dataset(config.data)
    data = load_data(config, dataset)
    pictures = _Pictures(folder / "pictures", data.held[:SHOWN].float() / 255, classifier)
    trainee = StyleExTrainee(config, data, classifier, fabric, pictures.draw)
    plan = loop.Plan(config.steps, config.evaluate_every)
    reporter, origin = make_reporter("styleex"), identity.origin(config, dataset)
    outcome = loop.run(trainee, fabric, folder, config.loop, plan=plan, reporter=reporter, origin=origin)
    if fabric.is_global_zero:
        net = trainee.averaged.to("cpu")
        about = styleex_card.described(config, outcome.step, len(data.images))
        styleex_card.write_model(net, classifier.to("cpu"), config, dataset, about, stem=folder / STEM)
    return outcome


def _require_fit(config: StyleExConfig, classifier: SmallClassifier) -> None:
    """Refuse a classifier or data that the model to train does not fit.

    Raises:
        ConfigurationError: Saying what differs.
    """
    model, data, explained = config.model, config.data, classifier.config
    if (explained.targets, explained.size, explained.channels) != (model.targets, model.size, model.channels):
        raise ConfigurationError(
            f"{config.classifier} explains {explained.targets} at {explained.size} px and {explained.channels} channels, "
            f"the configuration wants {model.targets} at {model.size} px and {model.channels}; change one of them"
        )
    if (data.size, data.channels) != (model.size, model.channels):
        raise ConfigurationError(
            f"data has {data.size} px and {data.channels} channels, model {model.size} px and {model.channels}; make them equal"
        )
    absent = [target for target in model.targets if target not in data.targets]
    if absent:
        raise ConfigurationError(
            f"data.targets {list(data.targets)} lacks {absent} of model.targets, whose labels the card needs"
        )


def load_data(config: StyleExConfig, dataset: Dataset) -> StyleExData:
    """Training images with their chances, and the validation images that the guards look at.

    Raises:
        InputError: When there is nothing to train on, or too little to look at: before the training and not after it.
    """
    train, held = dataset.rows("train"), dataset.rows("val")
    chances = row_chances(config, dataset.table)
    train, known = train[chances[train] > 0], held[chances[held] > 1]
    if not len(train) or len(held) < 2:
        raise InputError(
            f"expected a training image that `chances` draws and 2 validation images, got {len(train)} and {len(held)}; "
            "guards and card look at held-out images"
        )
    return StyleExData(
        torch.from_numpy(np.ascontiguousarray(dataset.pixels[train])),
        torch.from_numpy(chances[train]).float(),
        torch.from_numpy(np.ascontiguousarray(dataset.pixels[known if len(known) > 1 else held])),
    )


class _Pictures:
    """Samples and reconstructions of the same noise and images at every evaluation."""

    def __init__(self, folder: Path, images: Tensor, classifier: SmallClassifier) -> None:
        self.folder, self.images, self.classifier = folder, images, classifier

    @torch.no_grad()
    def draw(self, net: StyleNet, step: int) -> None:
        """Write `reconstructions-STEP.png` (images above, reconstructions below) and `samples-STEP.png`."""
        device = net.synthesis.constant.device
        images = self.images.to(device)
        p = torch.sigmoid(self.classifier(images))
        made = net.decode(net.code(net.encoder(images), p))
        noise = torch.randn(len(images), net.config.w_dim, generator=torch.Generator().manual_seed(0)).to(device)
        samples = net.decode(net.code(net.mapping(noise), p))
        self.folder.mkdir(exist_ok=True)
        for name, picture, row in (
            ("reconstructions", torch.cat([images, made]), len(images)),
            ("samples", samples, 8),
        ):
            with files.atomic_path(self.folder / f"{name}-{step:06d}.png") as temporary:
                save_image(picture.clamp(0, 1), temporary, nrow=row)
