"""Models of torchxrayvision by its own classes: DenseNet, ResNet, JF Healthcare, CheXpert, ResNetAE and VQGAN."""

import contextlib
import io
import math
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.utils.model_zoo
from torch import Tensor, nn

from gifsplain.errors import ModelError, WeightsError
from gifsplain.models import wrap
from gifsplain.models.checkpoint import read_checkpoint
from gifsplain.models.protocols import ModelCard
from gifsplain.types import ScoreMeaning

RANGE = (-1024.0, 1024.0)
DENSENETS = tuple(f"densenet121-res224-{n}" for n in ("all", "nih", "pc", "chex", "rsna", "mimic_nb", "mimic_ch"))
RESNETS = ("resnet50-res512-all",)
VQGANS = ("cxr2-vqgan-768-sd", "cxr2-vqgan-768-msdd")
RESNET_AE = "101-elastic"
JFHEALTHCARE_FILE = "baseline_models_jfhealthcare-DenseNet121_pre_train.pth"


def cache_folder() -> Path:
    """Where torchxrayvision keeps weights; put a file there by hand and it is found."""
    return Path.home() / ".torchxrayvision" / "models_data"


def _file(url_or_name: str, folder: Path | None) -> Path:
    """Path of a weights file in the cache.

    Raises:
        WeightsError: When it is not there; names the file and the place.
    """
    path = (folder or cache_folder()) / url_or_name.rsplit("/", 1)[-1]
    if not path.is_file():
        raise WeightsError(
            f"weights {path.name} are not on this machine (torchxrayvision publishes no checksum for them); "
            f"download that file from torchxrayvision's releases and put it into {path.parent}"
        )
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torchxrayvision prints warnings from its models; the library must not write to the terminal."""
    import torchxrayvision as xrv

    xrv.utils.warning_log.setdefault("norm_check", True)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _untrained(targets: tuple[str, ...], thresholds: Tensor | None) -> tuple[str, ...]:
    """Targets whose head has no operating point: their calibrated score is a constant 0.5 (DESIGN 4.2)."""
    if thresholds is None:
        return tuple(name for name in targets if name.startswith("(unused"))
    return tuple(
        n for n, t in zip(targets, thresholds.tolist(), strict=True) if math.isnan(t) or n.startswith("(unused")
    )


def calibrated(thresholds: Tensor) -> Callable[[Tensor], Tensor]:
    """Sigmoid, then torchxrayvision's piecewise-linear scaling that puts each operating point at 0.5."""

    def squash(logits: Tensor) -> Tensor:
        probabilities = logits.sigmoid()
        points = thresholds.to(logits).nan_to_num(0.5)
        below = probabilities / (2 * points)
        above = 1 - (1 - probabilities) / (2 * (1 - points))
        scores = torch.where(probabilities < points, below, above)
        return torch.where(thresholds.to(logits).isnan(), torch.full_like(scores, 0.5), scores)

    return squash


def wrap_classifier(
    net: nn.Module,
    logits: Callable[[Tensor], Tensor],
    *,
    name: str,
    size: int,
    labels: list[str],
    details: dict[str, Any],
) -> wrap.ImageClassifier:
    """A torchxrayvision classifier whose `op_threshs`, where it has them, define the score."""
    thresholds = getattr(net, "op_threshs", None)
    targets = wrap.named(labels)
    card = ModelCard(
        name=f"xrv:{name}",
        kind="classifier",
        size=size,
        value_range=RANGE,
        targets=targets,
        meaning=ScoreMeaning.PROBABILITY if thresholds is None else ScoreMeaning.CALIBRATED,
        untrained=_untrained(targets, thresholds),
        details=details,
    )
    squash = torch.sigmoid if thresholds is None else calibrated(thresholds)
    net.eval().requires_grad_(False)
    return wrap.ImageClassifier(card, logits, squash, 1, net)


def densenet(name: str, folder: Path | None = None) -> wrap.ImageClassifier:
    """One of `DENSENETS`: 18 outputs at 224 pixels, calibrated so that 0.5 is the operating point."""
    import torchxrayvision as xrv

    meta = xrv.models.model_urls[name]
    state = read_checkpoint(_file(meta["weights_url"], folder))
    with _quiet():
        net = xrv.models.DenseNet(num_classes=len(meta["labels"]))
    net.load_state_dict(state, strict=False)
    return wrap_densenet(net, name=name, labels=meta["labels"], thresholds=torch.tensor(meta["op_threshs"]), meta=meta)


def wrap_densenet(
    net: Any, *, name: str, labels: list[str], thresholds: Tensor | None, meta: dict[str, Any] | None = None
) -> wrap.ImageClassifier:
    """A `torchxrayvision.models.DenseNet` object, with or without weights, and the thresholds of its scores."""
    net.op_threshs = thresholds
    net = wrap.place(net)

    def logits(native: Tensor) -> Tensor:
        with _quiet():
            return net.classifier(net.features2(native))  # type: ignore[no-any-return]

    return wrap_classifier(net, logits, name=name, size=224, labels=labels, details=_about(meta))


def _about(meta: dict[str, Any] | None) -> dict[str, Any]:
    meta = meta or {}
    return {"library": "torchxrayvision", **{k: meta[k] for k in ("description", "weights_url") if k in meta}}


def resnet(name: str, folder: Path | None = None) -> wrap.ImageClassifier:
    """One of `RESNETS`: 18 outputs at 512 pixels."""
    import torchxrayvision as xrv

    meta = xrv.models.model_urls[name]
    path = _file(meta["weights_url"], folder)
    with _quiet(), tempfile.TemporaryDirectory() as safe:
        torch.save(read_checkpoint(path), Path(safe) / path.name)
        net = wrap.place(xrv.models.ResNet(weights=name, cache_dir=safe))
    return wrap_classifier(net, net.model, name=name, size=512, labels=meta["labels"], details=_about(meta))


@contextlib.contextmanager
def _no_imagenet() -> Iterator[None]:
    """The JF Healthcare class downloads ImageNet weights that its own weights then replace; spare the network."""
    loader = torch.utils.model_zoo.load_url  # type: ignore[attr-defined]
    torch.utils.model_zoo.load_url = lambda *args, **kwargs: {}  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.utils.model_zoo.load_url = loader  # type: ignore[attr-defined]


def jfhealthcare() -> wrap.ImageClassifier:
    """The JF Healthcare CheXpert model (Ye et al. 2020): five probabilities at 512 pixels."""
    _file(JFHEALTHCARE_FILE, None)
    import torchxrayvision as xrv

    with _quiet(), _no_imagenet():
        net = xrv.baseline_models.jfhealthcare.DenseNet(apply_sigmoid=False)
    return wrap_classifier(
        net, net, name="jfhealthcare", size=512, labels=list(net.targets), details={"library": "torchxrayvision"}
    )


@contextlib.contextmanager
def _tensors_only() -> Iterator[None]:
    """The CheXpert class unpickles whatever its checkpoints hold; let it read tensors and plain values alone."""
    loader = torch.load
    torch.load = lambda *args, **kwargs: loader(*args, **{**kwargs, "weights_only": True})
    try:
        yield
    finally:
        torch.load = loader


def chexpert(weights_zip: Path, num_models: int = 30) -> wrap.ImageClassifier:
    """The CheXpert ensemble (Irvin et al. 2019): five probabilities at 320 pixels, from a zip that the user has.

    `num_models` checkpoints of each group of targets are averaged; fewer are quicker and less accurate.

    Raises:
        WeightsError: When the zip is not there or is not the ensemble's.
    """
    if not weights_zip.is_file():
        raise WeightsError(
            f"expected the CheXpert ensemble's zip at {weights_zip}; name it as xrv:chexpert=/path/to.zip"
        )
    import torchxrayvision as xrv

    try:
        with _quiet(), contextlib.redirect_stderr(io.StringIO()), _tensors_only():
            net = xrv.baseline_models.chexpert.DenseNet(weights_zip=str(weights_zip), num_models=num_models)
    except (zipfile.BadZipFile, pickle.UnpicklingError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{weights_zip.name} is not the CheXpert ensemble's zip ({error}); download it again"
        ) from error

    def logits(native: Tensor) -> Tensor:
        with _quiet():
            return wrap.log_odds(net(native))

    details = {"library": "torchxrayvision", "models": num_models}
    return wrap_classifier(net, logits, name="chexpert", size=320, labels=list(net.targets), details=details)


def resnet_autoencoder(folder: Path | None = None) -> wrap.ImageAutoencoder:
    """The paper's autoencoder, ResNetAE `101-elastic`: 512 x 3 x 3 latents at 224 pixels."""
    import torchxrayvision as xrv

    meta = xrv.autoencoders.model_urls[RESNET_AE]
    net = xrv.autoencoders.ResNetAE()
    net.load_state_dict(read_checkpoint(_file(meta["weights_url"], folder)))
    return wrap_resnet_autoencoder(net, name=RESNET_AE, meta=meta)


def wrap_resnet_autoencoder(net: Any, *, name: str, meta: dict[str, Any] | None = None) -> wrap.ImageAutoencoder:
    """A torchxrayvision `ResNetAE` object, with or without weights."""
    net = wrap.place(net)
    card = ModelCard(name=f"xrv:{name}", kind="autoencoder", size=224, value_range=RANGE, details=_about(meta))
    return wrap.ImageAutoencoder(card, net.encode, net.decode, net)


def vqgan(name: str, folder: Path | None = None) -> wrap.ImageAutoencoder:
    """One of `VQGANS`: a quantised autoencoder at 768 pixels; latents are its code vectors."""
    import torchxrayvision as xrv

    meta = xrv.baseline_models.ieee8023.model_urls[name]
    checkpoint, config = _file(meta["weights_url"], folder), _file(meta["config_url"], folder)
    with _quiet(), tempfile.TemporaryDirectory() as safe:
        plain = Path(safe) / "state.ckpt"
        torch.save({"state_dict": read_checkpoint(checkpoint)}, plain)
        net = xrv.baseline_models.ieee8023.VQGAN(ckpt_path=str(plain), yaml_path=str(config))
    net = wrap.place(net)
    card = ModelCard(
        name=f"xrv:{name}", kind="autoencoder", size=net.resolution, value_range=RANGE, details=_about(meta)
    )
    return wrap.ImageAutoencoder(card, net.encode, net.decode, net)


CLASSIFIERS: dict[str, Callable[[], wrap.ImageClassifier]] = {
    **{name: (lambda name=name: densenet(name)) for name in DENSENETS},
    **{name: (lambda name=name: resnet(name)) for name in RESNETS},
    "jfhealthcare": jfhealthcare,
}
AUTOENCODERS: dict[str, Callable[[], wrap.ImageAutoencoder]] = {
    RESNET_AE: resnet_autoencoder,
    **{name: (lambda name=name: vqgan(name)) for name in VQGANS},
}


def _published(name: str) -> str:
    """File name of a set of weights as torchxrayvision's own table states it."""
    import torchxrayvision as xrv

    tables = (xrv.models.model_urls, xrv.autoencoders.model_urls, xrv.baseline_models.ieee8023.model_urls)
    return next(str(table[name]["weights_url"]) for table in tables if name in table).rsplit("/", 1)[-1]


FILES: dict[str, Callable[[], str]] = {
    **{name: (lambda name=name: _published(name)) for name in (*DENSENETS, *RESNETS, RESNET_AE, *VQGANS)},
    "jfhealthcare": lambda: JFHEALTHCARE_FILE,
}
"""Name of each weights file, by model."""


def load_classifier(name: str) -> wrap.ImageClassifier:
    """A classifier by its torchxrayvision name, or `chexpert=/path/to.zip`."""
    if name.startswith("chexpert="):
        return chexpert(Path(name.removeprefix("chexpert=")))
    if name not in CLASSIFIERS:
        raise ModelError(f"expected one of {', '.join(CLASSIFIERS)} or chexpert=ZIP, got {name!r}")
    return CLASSIFIERS[name]()


def load_autoencoder(name: str) -> wrap.ImageAutoencoder:
    """An autoencoder by its torchxrayvision name."""
    if name not in AUTOENCODERS:
        raise ModelError(f"expected one of {', '.join(AUTOENCODERS)}, got {name!r}")
    return AUTOENCODERS[name]()
