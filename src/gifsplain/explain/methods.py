"""Every method by name: one literal table, used alike by the command line, batch, evaluation, study and explorer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from gifsplain.errors import InputError
from gifsplain.explain import attribution
from gifsplain.explain.direction_methods import DIRECTION_METHODS
from gifsplain.explain.drawn import DrawnMap
from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.moves import DirectionFinder
from gifsplain.explain.policies import PublishedLatentShift
from gifsplain.explain.run import explain, target_index
from gifsplain.explain.settings import Settings
from gifsplain.explain.stepped_shift import SteppedLatentShift
from gifsplain.models import modes
from gifsplain.models.protocols import Pair
from gifsplain.types import Explanation, Picture, Stop

Build = Callable[[Pair, Settings], tuple[Pair, DirectionFinder]]
"""A finder for a pair, and the pair that it works in (a style view, an identity autoencoder), mostly the same one."""


@runtime_checkable
class Method(Protocol):
    """A way to explain; gives a sweep or only a map."""

    @property
    def summary(self) -> str: ...

    def explain(
        self,
        pair: Pair,
        pictures: Sequence[Picture],
        targets: Sequence[str],
        settings: Settings,
        cases: Sequence[str] | None,
    ) -> list[Explanation]: ...


@dataclass(frozen=True)
class SweepMethod:
    """A direction finder behind the one search and sweep."""

    summary: str
    build: Build

    def explain(
        self,
        pair: Pair,
        pictures: Sequence[Picture],
        targets: Sequence[str],
        settings: Settings,
        cases: Sequence[str] | None,
    ) -> list[Explanation]:
        """Case by case, then target by target."""
        own, finder = self.build(pair, settings)
        return explain(own, finder, pictures, targets, settings, cases=cases)


def _latent_shift(pair: Pair, settings: Settings) -> tuple[Pair, DirectionFinder]:
    return pair, LatentShift() if settings.policy == "exact" else PublishedLatentShift()


def _stepped(pair: Pair, settings: Settings) -> tuple[Pair, DirectionFinder]:
    if settings.policy != "exact":
        raise InputError(
            f"latentshift-steps chooses its own steps; policy {settings.policy} is a schedule of the method latentshift"
        )
    return pair, SteppedLatentShift(settings)


_MAP_SUMMARIES: dict[str, str] = {
    "grad": "absolute input gradient (Simonyan et al. 2014)",
    "guided": "guided backpropagation (Springenberg et al. 2015)",
    "integrated": "integrated gradients from the native zero (Sundararajan et al. 2017)",
    "integrated-100": "integrated gradients with 100 steps, as in the code published with Latent Shift",
    "integrated-black": "integrated gradients from black",
    "iterative-delete": "iterative delete (Bordes et al. 2018)",
    "grad-cam": "Grad-CAM (Selvaraju et al. 2017)",
    "occlusion": "occlusion (Zeiler and Fergus 2014)",
    "smoothgrad": "SmoothGrad (Smilkov et al. 2017)",
    "random-map": "control: a random map",
    "centre-prior": "control: a blob in the middle",
}

METHODS: Mapping[str, Method] = {
    "latentshift": SweepMethod("Latent Shift (Cohen et al. 2021)", _latent_shift),
    "latentshift-steps": SweepMethod("Latent Shift, the gradient taken anew after each small step", _stepped),
    **{name: SweepMethod(summary, build) for name, (summary, build) in DIRECTION_METHODS.items()},
    **{name: DrawnMap(name, _MAP_SUMMARIES.get(name, name), draw) for name, draw in attribution.MAPS.items()},
}


AUTO = "auto"
"""Not a method of its own: `latentshift`, and `latentshift-steps` where only that reaches the wanted change."""
AUTO_SUMMARY = "latentshift; latentshift-steps where only that reaches the wanted change"
GOES_ON = (Stop.TURNED, Stop.PIXEL_LIMIT, Stop.LATENT_LIMIT, Stop.STRENGTH_LIMIT, Stop.BUDGET)
"""Ends of the straight path beyond which a bent one may lead."""


def explain_with(
    name: str,
    pair: Pair,
    pictures: Sequence[Picture],
    targets: Sequence[str],
    settings: Settings = Settings(),
    *,
    cases: Sequence[str] | None = None,
) -> list[Explanation]:
    """Explanations by the method called `name`, case by case, then target by target.

    `auto` is the straight path of Latent Shift; where it ends before the wanted change, steps are tried, and stand in its
    place if they reach it. Each explanation says by which of the two it was made.

    Raises:
        InputError: When no method goes by that name.
    """
    refuse_unknown(name)
    networks = [
        net
        for model in (pair.classifier, pair.autoencoder)
        if isinstance(net := getattr(model, "net", None), nn.Module)
    ]
    with modes.explaining(pair.device, *networks):
        if name == AUTO:
            return _line_or_steps(pair, pictures, targets, settings, cases)
        return METHODS[name].explain(pair, pictures, targets, settings, cases)


def refuse_unknown(*names: str) -> None:
    """Refuse methods that do not exist.

    Raises:
        InputError: Names the first one, and all that there are.
    """
    for name in names:
        if name != AUTO and name not in METHODS:
            raise InputError(f"no method is called {name!r}; there are {AUTO}, {', '.join(METHODS)}")


def refuse_unusable(name: str, pair: Pair, targets: Sequence[str], settings: Settings) -> None:
    """Refuse at once what every picture would be refused for.

    Raises:
        InputError: When no method goes by that name, or it cannot do what `settings` ask for.
        TargetError: When the classifier lacks a target, or its head was never trained.
        WeightsError: When the method needs a fit and there is none.
    """
    refuse_unknown(name)
    for target in targets:
        target_index(pair.classifier.card, target)
    method = METHODS["latentshift" if name == AUTO else name]
    if isinstance(method, SweepMethod):
        settings.room(pair.classifier.card.meaning)
        method.build(pair, settings)


def _line_or_steps(
    pair: Pair,
    pictures: Sequence[Picture],
    targets: Sequence[str],
    settings: Settings,
    cases: Sequence[str] | None,
) -> list[Explanation]:
    lines = METHODS["latentshift"].explain(pair, pictures, targets, settings, cases)
    if settings.policy != "exact" or settings.strengths is not None:
        return lines
    chosen = []
    for i, line in enumerate(lines):
        made = line
        if line.stop in GOES_ON:
            picture = pictures[i // len(targets)]
            (steps,) = METHODS["latentshift-steps"].explain(pair, [picture], [line.target], settings, [line.case])
            made = steps if steps.stop is Stop.REACHED else line
        chosen.append(made)
    return chosen
