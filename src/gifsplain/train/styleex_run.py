"""A StyleEx training from a configuration to files: data in, weights and pictures out."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.utils import save_image

from gifsplain.errors import ConfigurationError
from gifsplain.io import files
from gifsplain.models.small import SmallClassifier
from gifsplain.models.styleex import read_small_classifier
from gifsplain.models.stylegan import StyleNet
from gifsplain.train import config as configurations
from gifsplain.train import data as datasets
from gifsplain.train import loop
from gifsplain.train.progress import make_reporter
from gifsplain.train.styleex import StyleExConfig, StyleExData, StyleExTrainee

WEIGHTS = "styleex.safetensors"
SHOWN = 16


def train_styleex(config: StyleExConfig, folder: Path, *, resume: bool = False) -> loop.Outcome:
    """Train into `folder`: checkpoints, history, pictures, and at the end the averaged weights in half precision.

    The pictures (`samples`, `reconstructions`) stay in the run's folder: they show the training data.
    """
    loop.prepare_folder(folder, resume=resume)
    saved = folder / "config.yaml"
    if saved.exists() and resume:
        free = ("steps", "evaluate_every", "loop.checkpoint_minutes", "loop.log_every")
        configurations.require_same(configurations.load(StyleExConfig, saved), config, folder, free=free)
    configurations.save(config, saved)
    fabric = loop.make_fabric(config.loop)
    data = load_data(config)
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
        save_weights(trainee.averaged, folder / WEIGHTS)
    return outcome


def load_data(config: StyleExConfig) -> StyleExData:
    """Training images with their chances, and the validation images that the guards look at."""
    dataset = datasets.open_dataset(config.data)
    train, held = dataset.rows("train"), dataset.rows("val")
    source = dataset.table.facts.get("source")
    chances = (
        np.ones(len(train))
        if source is None
        else source.iloc[train].map(lambda s: config.chances.get(s, 1.0)).to_numpy()
    )
    known = held if source is None else held[[config.chances.get(s, 1.0) > 1 for s in source.iloc[held]]]
    return StyleExData(
        torch.from_numpy(np.ascontiguousarray(dataset.pixels[train[chances > 0]])),
        torch.from_numpy(chances[chances > 0]).float(),
        torch.from_numpy(np.ascontiguousarray(dataset.pixels[known if len(known) else held])),
    )


def save_weights(net: StyleNet, path: Path) -> None:
    """Half precision tensors with the configuration in the header; noise is not stored, there is none."""
    state = {name: tensor.detach().half().contiguous().cpu() for name, tensor in net.state_dict().items()}
    with files.atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"config": json.dumps(net.config.to_dict())})


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
