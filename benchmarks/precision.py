"""bfloat16 on this device: how much sooner a frame and a whole explanation are ready, and how far scores and pixels move.

The errors of a whole explanation are those that its record states: the returned frame once more in float32.
"""

import machine
import pairs
import torch

from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.run import explain
from gifsplain.explain.settings import Settings
from gifsplain.models.precision import Precision, helps, lowered
from gifsplain.models.prepare import to_images
from gifsplain.types import Explanation


def main() -> None:
    arguments = machine.options(__doc__ or "", pair="built-in", images=16, target="Effusion")
    torch.set_num_threads(arguments.threads)
    pair = pairs.PAIRS[arguments.pair]()
    rough = lowered(pair, "bf16")
    pictures = pairs.pictures(arguments.images)
    images = to_images(pictures, pair.autoencoder.card)
    target = arguments.target if arguments.target in pair.targets else pair.targets[0]
    fixed = (-1.0, 0.0) if arguments.pair != "built-in" else None
    with torch.no_grad():
        latents = pair.autoencoder.encode(images)
    made: dict[str, list[Explanation]] = {}

    def frames(models: object) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            drawn = models.autoencoder.decode(latents).clamp(0, 1)  # type: ignore[attr-defined]
            return drawn, models.classifier.scores(drawn)  # type: ignore[attr-defined]

    def whole(precision: Precision) -> None:
        settings = Settings(precision=precision, strengths=fixed)
        made[precision] = explain(pair, LatentShift(), pictures, [target], settings)

    times = machine.interleaved(
        {
            "frames, float32": lambda: frames(pair),
            "frames, bf16": lambda: frames(rough),
            "explanations, float32": lambda: whole("float32"),
            "explanations, bf16": lambda: whole("bf16"),
        },
        arguments.repeats,
    )
    (exact, scores), (drawn, rough_scores) = frames(pair), frames(rough)
    stated = [one.record["rounding_error"] for one in made["bf16"]]
    errors = {
        "largest_score_error_of_frames": float((scores - rough_scores).abs().max()),
        "mean_pixel_error_of_frames": float((exact - drawn).abs().mean()),
        "largest_pixel_error_of_frames": float((exact - drawn).abs().max()),
        "largest_stated_score_error": max(one["score"] for one in stated),
        "largest_stated_mean_pixel_error": max(one["pixel_mean"] for one in stated),
        "stops_that_differ": sum(a.stop is not b.stop for a, b in zip(made["float32"], made["bf16"], strict=True)),
    }
    content = {"pair": arguments.pair, "helps": helps(pair.device), "times": times, "errors": errors}
    machine.record("precision", content, arguments)


if __name__ == "__main__":
    main()
