"""How near a whole explanation is to the fewest operations that it needs, for one image and for 16.

The floor of an explanation with F frames is one encode, one forward and backward through decoder and classifier, and F
decodes and classifications, each at the best speed found here. `strict` counts F - 1 of them, because the baseline is a
frame that the gradient has drawn already. The whole explanation starts from the loaded picture and includes its
resizing, the score of the input, the strength search, the map, the checks and the record. `--target` should be one whose
search reaches the wanted change (`search.reached` in the output), or the search is longer than usual.
"""

import time

import machine
import pairs
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.run import explain
from gifsplain.explain.settings import Settings
from gifsplain.models.prepare import to_images
from gifsplain.models.protocols import Pair

BATCHES = (4, 8, 16, 21)
"""Sizes among which the best speed of a frame is looked for."""


def parts(pair: Pair, images: Tensor) -> dict[str, object]:
    """The four parts as functions of no argument."""
    with torch.no_grad():
        latents = pair.autoencoder.encode(images)

    def gradient() -> None:
        z = latents.detach().requires_grad_(True)
        torch.autograd.grad(pair.classifier.logits(pair.autoencoder.decode(z))[:, 0].sum(), z)

    def frame() -> None:
        with torch.no_grad():
            pair.classifier.scores(pair.autoencoder.decode(latents).clamp(0, 1))

    def encode() -> None:
        with torch.no_grad():
            pair.autoencoder.encode(images)

    return {"encode": encode, "gradient": gradient, "frame": frame}


def operations(task: object) -> int:
    """Floating-point operations of one call."""
    with FlopCounterMode(display=False) as counter:
        task()  # type: ignore[operator]
    return int(counter.get_total_flops())


def measure(name: str, count: int, frames: int, repeats: int, target: str) -> dict[str, object]:
    """Operations, the time of each part folded and plain, and the ratio of the whole to the floor."""
    fast, plain = pairs.PAIRS[name](), pairs.PAIRS[name](optimise=False)
    pictures = pairs.pictures(count)
    images = to_images(pictures, fast.autoencoder.card)
    single, many = parts(fast, images[:1]), images.repeat(-(-max(BATCHES) // count), 1, 1, 1)
    found = {"decodes": 0, "reached": 0, "seconds": 0.0}

    def whole() -> None:
        started = time.perf_counter()
        made = explain(fast, LatentShift(), pictures, [target], Settings(frames=frames, batch=16))
        found["seconds"] = time.perf_counter() - started
        found["decodes"] = sum(one.cost.decodes for one in made) / count
        found["reached"] = sum(one.stop.value in ("reached", "score_bound") for one in made) / count

    own = parts(fast, images)
    tasks = {
        **{f"{part}, folded, batch {count}": task for part, task in own.items()},
        **{f"{part}, as loaded, batch {count}": task for part, task in parts(plain, images).items()},
        **{f"frame, folded, batch {size}": parts(fast, many[:size])["frame"] for size in BATCHES},
        "whole": whole,
    }
    times = machine.interleaved(tasks, repeats)  # type: ignore[arg-type]
    result: dict[str, object] = {
        "pair": name, "images": count, "frames": frames, "search": dict(found),
        "gigaflop": {part: operations(task) / 1e9 for part, task in single.items()}, "times": times,
    }  # fmt: skip
    for clock in ("wall", "cpu"):

        def median(task: str, clock: str = clock) -> float:
            return float(times[task][clock]["median"])

        sizes = {count, *BATCHES}
        each = min(median(f"frame, folded, batch {size}") / size for size in sizes)
        once = median(f"encode, folded, batch {count}") + median(f"gradient, folded, batch {count}")
        floor, strict = (once + drawn * count * each for drawn in (frames, frames - 1))
        result[f"floor_seconds_{clock}"] = floor / count
        result[f"whole_seconds_{clock}"] = median("whole") / count
        result[f"ratio_{clock}"] = median("whole") / floor
        result[f"strict_ratio_{clock}"] = median("whole") / strict
    return result


def main() -> None:
    arguments = machine.options(__doc__ or "", pair="built-in", images=1, frames=21, target="Effusion")
    torch.set_num_threads(arguments.threads)
    found = measure(arguments.pair, arguments.images, arguments.frames, arguments.repeats, arguments.target)
    machine.record("floor", found, arguments)


if __name__ == "__main__":
    main()
