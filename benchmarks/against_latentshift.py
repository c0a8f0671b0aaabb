"""One explanation, and one file to GIF and MP4, side by side with the package latentshift 0.0.6 and the 2021 schedule.

The package is CC BY-NC: this script installs it alone (no dependencies) into an environment of its own under
benchmarks/results/tmp and loads its one module file from there; it is no dependency of gifsplain. The 2021 schedule is
written anew here, as slow as published: one image and one strength at a time. Both get the same networks as loaded (not
folded), the same image, wanted change and number of frames as gifsplain; neither applies its second sigmoid, so that
all look for the same fall of the score. Where the score cannot be moved (random weights) all draw a fixed range.
"""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
import pairs
import torch

from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.run import explain
from gifsplain.explain.settings import Settings
from gifsplain.io.examples import chest_radiograph
from gifsplain.io.images import load_image
from gifsplain.models.prepare import to_images
from gifsplain.models.protocols import Autoencoder, Pair
from gifsplain.render.directory import write_explanation

PACKAGE = "latentshift==0.0.6"
PLACE = machine.RESULTS / "tmp" / "latentshift"


def their_class() -> Any:
    """Class of the published package, loaded from its module file alone."""
    found = list(PLACE.glob("lib/*/site-packages/latentshift/cf/latent_shift.py"))
    if not found:
        venv.create(PLACE, with_pip=True)
        subprocess.run([str(PLACE / "bin" / "pip"), "install", "--quiet", "--no-deps", PACKAGE], check=True)
        found = list(PLACE.glob("lib/*/site-packages/latentshift/cf/latent_shift.py"))
    spec = importlib.util.spec_from_file_location("published_latent_shift", found[0])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.float = lambda value: np.asarray(
        value
    ).item()  # numpy 2.4 refuses float() of the arrays of one number used there
    return module.LatentShift


class Counted:
    """An autoencoder that counts how often it draws."""

    def __init__(self, inner: Autoencoder) -> None:
        self.encode, self.inner, self.decodes = inner.encode, inner, 0

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self.decodes += len(latents)
        return self.inner.decode(latents)


def schedule_2021(pair: Pair, image: torch.Tensor, target: int, drop: float, frames: int) -> tuple[np.ndarray, int]:
    """Frames and number of evaluations of the schedule of 2021: by 1 to -10, by 10 to -1000, then a grid."""
    z = pair.autoencoder.encode(image).detach().requires_grad_(True)
    score = pair.classifier.scores(pair.autoencoder.decode(z))[:, target]
    (direction,) = torch.autograd.grad(score, z)
    evaluations = 0

    def at(strength: float) -> tuple[np.ndarray, float]:
        nonlocal evaluations
        evaluations += 1
        frame = pair.autoencoder.decode(z + direction * strength).detach()
        return frame.numpy()[0], float(pair.classifier.scores(frame)[0, target])

    start, last, bound = float(score.detach()), float(score.detach()), 0
    while bound > -1000:
        bound -= 1 if bound > -10 else 10
        _, now = at(bound)
        if now > last or start - now > drop:
            break
        last = now
    return np.stack([at(strength)[0] for strength in np.arange(bound, 0, abs(bound) / frames)][:frames]), evaluations


def film_of_2021(frames: np.ndarray, folder: Path) -> None:
    """One matplotlib figure a frame, written as PNG, then ffmpeg through a shell for both films, where it is there."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    for number, frame in enumerate(frames):
        figure = pyplot.figure()
        pyplot.imshow(frame[0], cmap="gray")
        pyplot.axis("off")
        figure.savefig(folder / f"{number:03d}.png", bbox_inches="tight", dpi=200)
        pyplot.close(figure)
    if shutil.which("ffmpeg"):
        scale = "-vf 'scale=trunc(iw/2)*2:trunc(ih/2)*2'"
        for name in (f"{scale} out.mp4", "out.gif"):
            command = f"cd '{folder}' && ffmpeg -loglevel quiet -y -framerate 10 -i %03d.png {name}"
            subprocess.run(["sh", "-c", command], check=True)


def tasks_for(
    name: str, frames: int, drop: float, films: bool, wanted: str
) -> tuple[dict[str, Callable[[], object]], dict[str, Any]]:
    """What is timed, and a place where each task leaves what it found."""
    fast, plain = pairs.PAIRS[name](), pairs.PAIRS[name](optimise=False)
    found: dict[str, Any] = {}
    path = Path(chest_radiograph())
    target = fast.targets.index(wanted) if wanted in fast.targets else 0
    fixed = name != "built-in"
    settings = Settings(drop=drop, rise=0.0, frames=frames, strengths=(-1.0, 0.0) if fixed else None)
    counted = Counted(plain.autoencoder)
    theirs = their_class()(plain.classifier.scores, counted)

    def ours() -> Any:
        (made,) = explain(fast, LatentShift(), [load_image(path)], [fast.targets[target]], settings)
        wanted = made.frame_scores[made.baseline] - drop
        found["gifsplain"] = {
            "decodes": made.cost.decodes, "frames": made.frames.shape[0], "stop": made.stop.value,
            "score": made.scores.counterfactual, "off_by": None if fixed else abs(made.scores.counterfactual - float(wanted)),
        }  # fmt: skip
        return made

    def package() -> np.ndarray:
        image = to_images(load_image(path), plain.autoencoder.card)
        counted.decodes = 0
        with contextlib.redirect_stdout(open(os.devnull, "w")):  # noqa: PTH123
            (made,) = theirs.attribute(
                image, target=target, search_pred_diff=drop, lambda_sweep_steps=frames, heatmap_method="max",
                apply_sigmoid=False, return_dicts=True, fix_range=(-1.0, 0.0) if fixed else None,
            )  # fmt: skip
        found["latentshift 0.0.6"] = {
            "decodes": counted.decodes,
            "score": made["preds"][0],
            "from": made["preds"][-1],
            "lambda": float(made["lambdas"][0]),
        }
        return np.asarray(made["generated_images"])

    def of_2021() -> np.ndarray:
        image = to_images(load_image(path), plain.autoencoder.card)
        made, evaluations = schedule_2021(plain, image, target, drop, frames)
        found["2021"] = {"evaluations": evaluations}
        return made

    tasks: dict[str, Callable[[], object]] = {"gifsplain": ours, "latentshift 0.0.6": package}
    if not fixed:
        tasks["2021"] = of_2021
    return (with_films(tasks) if films else tasks), found


def with_films(tasks: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], object]]:
    """Each task from the file to finished films."""

    def film(name: str, task: Callable[[], Any]) -> Callable[[], object]:
        def run() -> None:
            made = task()
            with tempfile.TemporaryDirectory() as folder:
                if name == "gifsplain":
                    write_explanation(made, folder, formats=("gif", "mp4"))
                else:
                    film_of_2021(made, Path(folder))

        return run

    return {name: film(name, task) for name, task in tasks.items()}


def main() -> None:
    arguments = machine.options(__doc__ or "", pair="built-in", frames=21, drop=0.3, films=False, target="Effusion")
    torch.set_num_threads(arguments.threads)
    tasks, found = tasks_for(arguments.pair, arguments.frames, arguments.drop, arguments.films, arguments.target)
    times = machine.interleaved(tasks, arguments.repeats)
    ratios = {
        f"{name} / gifsplain, {clock}": times[name][clock]["median"] / times["gifsplain"][clock]["median"]
        for name in tasks
        if name != "gifsplain"
        for clock in ("wall", "cpu")
    }
    content = {
        "pair": arguments.pair,
        "target": arguments.target,
        "films": arguments.films,
        "ffmpeg": bool(shutil.which("ffmpeg")),
        "found": found,
        "ratios": ratios,
        "times": times,
    }
    machine.record("against_latentshift", content, arguments)


if __name__ == "__main__":
    sys.exit(main())
