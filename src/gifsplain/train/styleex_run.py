"""A StyleEx training from a configuration to files: data in, weights, card and pictures out."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import save_image

from gifsplain.errors import ConfigurationError
from gifsplain.io import files
from gifsplain.models import styleex
from gifsplain.models.small import SmallClassifier
from gifsplain.models.styleex import read_small_classifier
from gifsplain.models.stylegan import StyleNet
from gifsplain.train import config as configurations
from gifsplain.train import data as datasets
from gifsplain.train import loop, styleex_card
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
    loop.prepare_folder(folder, resume=resume)
    saved = folder / "config.yaml"
    if saved.exists() and resume:
        free = ("steps", "evaluate_every", "loop.checkpoint_minutes", "loop.log_every")
        configurations.require_same(configurations.load(StyleExConfig, saved), config, folder, free=free)
    configurations.save(config, saved)
    fabric = loop.make_fabric(config.loop)
    dataset = datasets.open_dataset(config.data)
    data = load_data(config, dataset)
    classifier = read_small_classifier(config.classifier)
    if classifier.config.targets != config.model.targets or classifier.config.size != config.model.size:
        raise ConfigurationError(
            f"{config.classifier} explains {classifier.config.targets} at {classifier.config.size} px, the "
            f"configuration wants {config.model.targets} at {config.model.size} px; change one of them"
        )
    pictures = _Pictures(folder / "pictures", data.held[:SHOWN].float() / 255, classifier)
    trainee = StyleExTrainee(config, data, classifier, fabric, pictures.draw)
    plan = loop.Plan(config.steps, config.evaluate_every)
    outcome = loop.run(trainee, fabric, folder, config.loop, plan=plan, reporter=make_reporter("styleex"))
    if fabric.is_global_zero:
        net = trainee.averaged.to("cpu")
        about = styleex_card.described(config, outcome.step, len(data.images))
        styleex_card.write_model(net, classifier.to("cpu"), config, dataset, about, stem=folder / STEM)
    return outcome


def load_data(config: StyleExConfig, dataset: Dataset) -> StyleExData:
    """Training images with their chances, and the validation images that the guards look at."""
    train, held = dataset.rows("train"), dataset.rows("val")
    chances = row_chances(config, dataset.table)
    train, known = train[chances[train] > 0], held[chances[held] > 1]
    return StyleExData(
        torch.from_numpy(np.ascontiguousarray(dataset.pixels[train])),
        torch.from_numpy(chances[train]).float(),
        torch.from_numpy(np.ascontiguousarray(dataset.pixels[known if len(known) else held])),
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
