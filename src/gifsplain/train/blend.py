"""The mean of two trainings' weights, calibrated again (model soups, Wortsman et al. 2022).

Where the second training went on from the first, weights in between keep most of what each does better: here accuracy
on films as they are, and explanations.
"""

from pathlib import Path

import torch

from gifsplain.errors import ConfigurationError
from gifsplain.models import trained
from gifsplain.train import config as configuration
from gifsplain.train import data
from gifsplain.train.classifier import ClassifierTraining, calibrate


@torch.no_grad()
def blend_classifiers(first: Path, second: Path, share: float, folder: Path) -> Path:
    """Write to `folder` the classifier `(1 - share) * first + share * second`, as a training would; returns its weights.

    Calibrated on the validation rows of the second training, whose configuration the card keeps.

    Raises:
        ConfigurationError: When the two differ in architecture or targets, or `share` lies outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ConfigurationError(f"share must lie in [0, 1], got {share}")
    (net, _), (later, values) = (trained.load_classifier_net(path) for path in (first, second))
    if net.config != later.config:
        raise ConfigurationError(f"{first} is {net.config}, {second} is {later.config}; only like can be blended")
    mixed = net.state_dict()
    for name, theirs in later.state_dict().items():
        if theirs.is_floating_point():
            mixed[name] = torch.lerp(mixed[name], theirs, share)
    net.load_state_dict(mixed)
    training = configuration.from_dict(ClassifierTraining, values["training"])
    dataset = data.open_dataset(training.data)
    rows = dataset.rows("val")
    net.calibration_offset.zero_()
    net.calibration_temperature.fill_(1.0)
    parts = [net.raw_logits(dataset.images(part)).double() for part in data.in_batches(rows, 32)]
    logits, labels = torch.cat(parts).numpy(), dataset.table.labels[rows]
    kept = {
        key: value for key, value in values.items() if key not in ("validation", "calibration", "untrained", "sha256")
    }
    mixture = {"first": first.name, "second": second.name, "share_of_second": share}
    card = kept | {"name": folder.name, "blend": mixture} | calibrate(net, labels, logits, net.config.targets)
    return trained.save(folder, trained.CLASSIFIER, net, net.config.to_dict(), card, half=training.half)
