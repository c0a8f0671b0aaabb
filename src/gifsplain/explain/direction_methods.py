"""How each direction finder is made for a pair: the entries of `methods.METHODS` beside Latent Shift."""

from collections.abc import Callable
from dataclasses import replace

from gifsplain.explain import fits
from gifsplain.explain.moves import DirectionFinder
from gifsplain.explain.optimise import LatentOptimisation, pixel_pair
from gifsplain.explain.population import PopulationFinder, Select
from gifsplain.explain.settings import Settings
from gifsplain.models.protocols import Pair
from gifsplain.models.styleex import style_view

Build = Callable[[Pair, Settings], tuple[Pair, DirectionFinder]]
RANGE = "ranges of the coordinate in the population"


def population(method: str, select: Select = "independent") -> Build:
    """A method that reads its directions from the pair's fit."""

    def build(pair: Pair, settings: Settings) -> tuple[Pair, DirectionFinder]:
        """The pair as it is, and a finder that takes the directions of its fit."""
        name = method if select == "independent" else f"{method}-{select}"
        fit = fits.load(pair)
        return pair, PopulationFinder(name, fit.of(method), select=select, fit=fit.named)

    return build


def attfind(select: Select = "independent") -> Build:
    """AttFind works in style space: strength 1 is a coordinate's range in the population."""

    def build(pair: Pair, settings: Settings) -> tuple[Pair, DirectionFinder]:
        """The pair with its autoencoder over style space, and a finder that takes the coordinates of its fit."""
        name = "attfind" if select == "independent" else f"attfind-{select}"
        own = replace(pair, autoencoder=style_view(pair.autoencoder))
        fit = fits.load(pair)
        finder = PopulationFinder(
            name, fit.of("attfind"), degree=1.0, limit=5.0, unit=RANGE, select=select, fit=fit.named
        )
        return own, finder

    return build


def latent_optimisation(pair: Pair, settings: Settings) -> tuple[Pair, DirectionFinder]:
    """Optimisation of the latent."""
    return pair, LatentOptimisation()


def pixel_optimisation(pair: Pair, settings: Settings) -> tuple[Pair, DirectionFinder]:
    """The same optimisation over pixels."""
    return pixel_pair(pair), LatentOptimisation(name="pixel-optimisation", rate=0.005)


DIRECTION_METHODS: dict[str, tuple[str, Build]] = {
    "eigenfind": ("EigenFind: eigenvectors of the decoder's geometry (Atad et al. 2022)", population("eigenfind")),
    "eigenfind-subset": (
        "EigenFind, directions added up until the score crosses 0.5",
        population("eigenfind", "subset"),
    ),
    "attfind": ("AttFind: single style coordinates (Lang et al. 2021); StyleEx only", attfind()),
    "attfind-subset": ("AttFind, coordinates added up until the score crosses 0.5; StyleEx only", attfind("subset")),
    "probe": ("linear probe in latent space (Schutte et al. 2020)", population("probe")),
    "mean-gradient": (
        "one direction for all images: the mean gradient of a selection set",
        population("mean-gradient"),
    ),
    "label-flip": ("the condition of a conditioned StyleEx", population("label-flip")),
    "latent-optimisation": ("iterative optimisation of the latent (Joshi et al. 2018, xGEMs)", latent_optimisation),
    "pca": ("control: principal components of encoded latents", population("pca")),
    "random": ("control: random orthonormal directions", population("random")),
    "pixel-optimisation": ("adversarial control: optimisation of pixels (Wachter et al. 2018)", pixel_optimisation),
}
"""Summary and builder by name."""
