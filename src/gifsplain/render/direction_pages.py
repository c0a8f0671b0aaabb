"""A page for each direction: before and after with scores, animation, what else changed, and room for what one sees."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gifsplain.errors import InputError
from gifsplain.explain import fits
from gifsplain.explain.direction_methods import RANGE
from gifsplain.explain.effects import measure_table
from gifsplain.explain.population import SIGMA, Directions, PopulationFinder
from gifsplain.explain.run import explain
from gifsplain.explain.settings import Settings
from gifsplain.io import files
from gifsplain.models.protocols import Pair
from gifsplain.models.styleex import style_view
from gifsplain.render.frames import enlarge, make_film
from gifsplain.render.gif import encode
from gifsplain.render.ink import GREYS, to_bytes
from gifsplain.render.report import data_uri
from gifsplain.types import Explanation, Images, Picture, Provenance


@dataclass(frozen=True)
class DirectionPage:
    """One direction of one target and the explanations of the images on which it does most."""

    method: str
    target: str
    label: str
    rank: int
    examples: tuple[Explanation, ...]

    @property
    def file(self) -> str:
        """Name of its page."""
        return files.safe_name(f"{self.method}-{self.target}-{self.rank + 1}") + ".html"


def write_pages(
    pair: Pair, images: Images, method: str, targets: Sequence[str], folder: Path, *, shown: int = 6
) -> Path:
    """Write `folder/index.html` and a page a direction; returns the index.

    Raises:
        InputError: For a method that has no population directions.
    """
    if method not in fits.METHODS:
        raise InputError(f"{method!r} has no directions of its own; there are {', '.join(fits.METHODS)}")
    known = fits.load(pair).of(method)
    own = replace(pair, autoencoder=style_view(pair.autoencoder)) if method == "attfind" else pair
    found = [
        make_page(own, images, method, target, known[target], rank=rank, shown=shown)
        for target in targets
        if target in known
        for rank in range(len(known[target].steps))
    ]
    if not found:
        raise InputError(f"{method} has no direction for {', '.join(targets)}; it was fitted for {', '.join(known)}")
    for page in found:
        files.write_text(folder / page.file, page_html(page))
    files.write_text(folder / "index.html", index_html(found))
    return folder / "index.html"


def make_page(
    pair: Pair, images: Images, method: str, target: str, known: Directions, *, rank: int, shown: int
) -> DirectionPage:
    """Explanations along one direction alone, of the images whose score it changes most."""
    degree, _ = reach(method)
    with torch.no_grad():
        latents = torch.cat([pair.autoencoder.encode(chunk) for chunk in images.split(64)])
        table = measure_table(pair, latents, known.steps[rank : rank + 1].to(latents) * degree)
    scores = table.moved[:, 0, :, pair.targets.index(target)]
    order = (scores[:, 1] - scores[:, 0]).argsort(descending=True)[:shown]
    pictures = [picture(images[i].cpu(), f"image {int(i) + 1}") for i in order]
    examples = explain_along(pair, pictures, method, target, known, rank=rank)
    return DirectionPage(method, target, known.labels[rank], rank, examples)


def reach(method: str) -> tuple[float, str]:
    """Strength to either side at which a direction is shown, and its unit."""
    return (1.0, RANGE) if method == "attfind" else (2.0, SIGMA)


def explain_along(
    pair: Pair, pictures: Sequence[Picture], method: str, target: str, known: Directions, *, rank: int
) -> tuple[Explanation, ...]:
    """Explanations along one direction alone, by the same strengths for every picture."""
    degree, unit = reach(method)
    one = Directions(known.steps[rank : rank + 1], (known.labels[rank],))
    finder = PopulationFinder(method, {target: one}, degree=degree, unit=unit)
    return tuple(explain(pair, finder, list(pictures), [target], Settings(strengths=(-degree, degree), frames=11)))


def picture(image: torch.Tensor, name: str) -> Picture:
    """An image of a model's size as a picture."""
    height, width = image.shape[-2:]
    return Picture(image, Provenance(name=name, sha256="", format="array", size=(height, width), bits=8))


def page_html(page: DirectionPage) -> str:
    """A page that needs no other file."""
    text: str = _template("direction.html").render(
        page=page,
        style=part("direction.css"),
        unit=page.examples[0].strength_unit if page.examples else "",
        rows=[_row(example) for example in page.examples],
    )
    return text


def index_html(found: Sequence[DirectionPage]) -> str:
    """Links to all pages, by target."""
    text: str = _template("directions.html").render(pages=found, style=part("direction.css"))
    return text


def _row(example: Explanation) -> dict[str, Any]:
    """Input and three pictures on one grey scale, their scores, the animation, and every target's score."""
    places = {"weakened": 0, "before": example.baseline, "strengthened": len(example.strengths) - 1}
    score = {name: float(example.frame_scores[i]) for name, i in places.items()}
    others = [
        {"target": target, "strong": target == example.target,
         "values": [float(example.target_scores[i, j]) for i in places.values()]}
        for j, target in enumerate(example.targets)
    ]  # fmt: skip
    return {
        "case": example.case,
        "input": float(example.scores.input),
        "original": data_uri(png(to_bytes(example.image)), "image/png"),
        "strengths": {name: float(example.strengths[i]) for name, i in places.items()},
        "scores": score,
        "pictures": {name: data_uri(png(to_bytes(example.frames[i])), "image/png") for name, i in places.items()},
        "gif": data_uri(animation, "image/gif") if (animation := gif(example)) else "",
        "others": others,
    }


def png(pixels: np.ndarray) -> bytes:
    """Pixels as a PNG of at least 224 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(enlarge(pixels, 224)).save(buffer, "PNG")
    return buffer.getvalue()


def gif(example: Explanation, *, scores: bool = True) -> bytes:
    """The animation, with the strip of scores below it or without; empty for an example in colour."""
    film = make_film(example)
    if film.palette is None:
        return b""
    height, width = example.frames.shape[-2:]
    drawn = film.frames if scores else film.frames[:, : film.frames.shape[2] * height // width]
    return encode(list(drawn), film.order, film.palette, milliseconds=film.milliseconds, ramp=GREYS)


def part(name: str) -> str:
    """A file of the templates folder."""
    return (resources.files("gifsplain.render") / "templates" / name).read_text(encoding="utf-8")


def _template(name: str) -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    found = Environment(loader=FunctionLoader(part), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return found.get_template(name)
