"""Mixed precision on this device: how much sooner a frame is ready in bfloat16, and how far its score and pixels move."""

import machine
import pairs
import torch

from gifsplain.models.prepare import to_images


def main() -> None:
    arguments = machine.options(__doc__ or "", pair="built-in", images=16)
    torch.set_num_threads(arguments.threads)
    pair = pairs.PAIRS[arguments.pair]()
    images = to_images(pairs.pictures(arguments.images), pair.autoencoder.card)
    with torch.no_grad():
        latents = pair.autoencoder.encode(images)

    def frames(enabled: bool) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            drawn = pair.autoencoder.decode(latents).clamp(0, 1)
            return drawn.float(), pair.classifier.scores(drawn).float()

    times = machine.interleaved({"float32": lambda: frames(False), "bfloat16": lambda: frames(True)}, arguments.repeats)
    (exact, scores), (rough, rough_scores) = frames(False), frames(True)
    errors = {
        "largest_score_error": float((scores - rough_scores).abs().max()),
        "mean_pixel_error": float((exact - rough).abs().mean()),
        "largest_pixel_error": float((exact - rough).abs().max()),
    }
    machine.record("precision", {"pair": arguments.pair, "times": times, "errors": errors}, arguments)


if __name__ == "__main__":
    main()
