"""Models by name: one literal table, and what a name may be."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from gifsplain.errors import ModelError
from gifsplain.models import builtin, diffusers, modes, own, styleex, trained, wrap, xrv
from gifsplain.models.fold import unfold
from gifsplain.models.protocols import Autoencoder, Classifier, Pair


@dataclass(frozen=True)
class Entry:
    """One model that `gifsplain models list` names."""

    name: str
    kind: Literal["classifier", "autoencoder"]
    summary: str


CATALOGUE: tuple[Entry, ...] = (
    Entry("cxr", "classifier", "built in: six findings on frontal chest radiographs, 224 pixels"),
    Entry("cxr", "autoencoder", "built in: frontal chest radiographs, 224 pixels"),
    Entry("styleex", "classifier", "built in: Cardiomegaly and Effusion, 64 pixels; what the StyleEx explains"),
    Entry("styleex", "autoencoder", "built in: StyleEx on chest radiographs, 64 pixels"),
    *(Entry(f"xrv:{n}", "classifier", "torchxrayvision DenseNet-121, 224 pixels") for n in xrv.DENSENETS),
    *(Entry(f"xrv:{n}", "classifier", "torchxrayvision ResNet-50, 512 pixels") for n in xrv.RESNETS),
    Entry("xrv:jfhealthcare", "classifier", "JF Healthcare DenseNet-121 for CheXpert, 512 pixels"),
    Entry("xrv:chexpert=ZIP", "classifier", "CheXpert ensemble from a zip of your own, 320 pixels"),
    Entry(f"xrv:{xrv.RESNET_AE}", "autoencoder", "torchxrayvision ResNetAE of the Latent Shift paper, 224 pixels"),
    *(Entry(f"xrv:{n}", "autoencoder", "torchxrayvision VQGAN, 768 pixels") for n in xrv.VQGANS),
    Entry("FOLDER", "classifier", "what `gifsplain train classifier` wrote"),
    Entry("FOLDER", "autoencoder", "what `gifsplain train autoencoder` wrote"),
    Entry("diffusers:FOLDER", "autoencoder", "AutoencoderKL saved by diffusers"),
    Entry("FILE.pt2", "classifier", "torch.export program with a .json declaration beside it"),
    Entry("MODULE:CALLABLE", "classifier", "your own: a function that returns models.wrap.classifier(...)"),
    Entry("MODULE:CALLABLE", "autoencoder", "your own: a function that returns models.wrap.autoencoder(...)"),
)

_CLASSIFIERS: dict[str, Callable[[], Classifier]] = {
    "cxr": builtin.cxr_classifier,
    "styleex": styleex.styleex_classifier,
}
_AUTOENCODERS: dict[str, Callable[[], Autoencoder]] = {
    "cxr": builtin.cxr_autoencoder,
    "styleex": styleex.styleex_autoencoder,
}


def load_classifier(name: str) -> Classifier:
    """A classifier by any name of `CATALOGUE`.

    Raises:
        ModelError: When nothing goes by that name.
        WeightsError: When its weights are not on this machine; says which file goes where.
    """
    if name in _CLASSIFIERS:
        return _CLASSIFIERS[name]()
    if name.startswith("xrv:"):
        return xrv.load_classifier(name.removeprefix("xrv:"))
    if Path(name).is_dir():
        return trained.classifier(Path(name))
    if ":" in name or name.endswith(".pt2"):
        return own.classifier(name)
    raise ModelError(f"no classifier is called {name!r}; `gifsplain models list` shows what there is")


def load_autoencoder(name: str) -> Autoencoder:
    """An autoencoder by any name of `CATALOGUE`; raises as `load_classifier`."""
    if name in _AUTOENCODERS:
        return _AUTOENCODERS[name]()
    if name.startswith("xrv:"):
        return xrv.load_autoencoder(name.removeprefix("xrv:"))
    if Path(name).is_dir():
        return trained.autoencoder(Path(name))
    if name.startswith("diffusers:"):
        return diffusers.load_autoencoder(Path(name.removeprefix("diffusers:")))
    if ":" in name:
        return own.autoencoder(name)
    raise ModelError(f"no autoencoder is called {name!r}; `gifsplain models list` shows what there is")


def load_models(
    classifier: str | Classifier = "cxr",
    autoencoder: str | Autoencoder = "cxr",
    *,
    resize: bool = False,
    optimise: bool = True,
    device: torch.device | str = "cpu",
) -> Pair:
    """A classifier and an autoencoder that fit together; by default the built-in chest X-ray pair.

    Args:
        classifier: A name of `CATALOGUE`, or an object that satisfies the protocol.
        autoencoder: Likewise.
        resize: Let the classifier take the autoencoder's size by bilinear resizing where they differ.
        optimise: Use networks with folded batch normalisation (`models.fold`): the same numbers, sooner.
        device: Where they compute: `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one.

    Raises:
        ModelError: When they do not fit or a name is unknown.
        WeightsError: When weights are missing.
    """
    place = find_device(device)
    with modes.loading(place):
        first = load_classifier(classifier) if isinstance(classifier, str) else classifier
        second = load_autoencoder(autoencoder) if isinstance(autoencoder, str) else autoencoder
    own.check_protocol(first, Classifier, "classifier")
    own.check_protocol(second, Autoencoder, "autoencoder")
    for model in (first, second):
        _check_device(model, place)
    if not optimise:
        for net in (getattr(first, "net", None), getattr(second, "net", None)):
            if isinstance(net, nn.Module):
                unfold(net)
    if resize:
        first = wrap.resized(first, second.card.size)
    return wrap.pair(first, second, device=place)


def find_device(name: torch.device | str) -> torch.device:
    """The device called `name`; `auto` is the first GPU, or the CPU where there is none.

    Raises:
        ModelError: When there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise ModelError(f"expected a device of this machine (cpu, cuda, auto), got {str(name)!r}: {error}") from error
    return found


def _check_device(model: Classifier | Autoencoder, place: torch.device) -> None:
    """Refuse a model that stayed on another device, as one that its own code put there."""
    net = getattr(model, "net", None)
    found = next((value.device for value in net.parameters()), place) if isinstance(net, nn.Module) else place
    if found.type != place.type:
        raise ModelError(
            f"expected {model.card.name} on {place}, found it on {found}; make it with models.wrap under "
            "torch.device(...), or load with device='cpu'"
        )


def load(name: str, kind: str) -> Classifier | Autoencoder:
    """A classifier or an autoencoder by name.

    Raises:
        ModelError: When `kind` is neither or nothing goes by that name.
    """
    if kind == "classifier":
        return load_classifier(name)
    if kind == "autoencoder":
        return load_autoencoder(name)
    raise ModelError(f"kind must be classifier or autoencoder, got {kind!r}")


def available(entry: Entry) -> str:
    """Whether an entry's weights are on this machine: yes, no, or yours for one that the user brings."""
    if entry.name.startswith("xrv:"):
        file, folder = xrv.FILES.get(entry.name.removeprefix("xrv:")), xrv.cache_folder()
        if file is None:
            return "yours"
        there = folder.is_dir() and any(folder.iterdir())  # file() takes the library, and that takes seconds to load
        return "yes" if there and (folder / file()).is_file() else "no"
    return "yes" if entry.name in {*_CLASSIFIERS, *_AUTOENCODERS} else "yours"
