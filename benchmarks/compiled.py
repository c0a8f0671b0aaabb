"""Does torch.compile pay? Seconds to compile, then a batch of frames compiled against the folded networks."""

import time

import machine
import pairs
import torch

from gifsplain.models.prepare import to_images


def main() -> None:
    arguments = machine.options(__doc__ or "", pair="built-in", images=10)
    torch.set_num_threads(arguments.threads)
    folded, plain = pairs.PAIRS[arguments.pair](), pairs.PAIRS[arguments.pair](optimise=False)
    with torch.no_grad():
        latents = folded.autoencoder.encode(to_images(pairs.pictures(arguments.images), folded.autoencoder.card))

        def frames() -> torch.Tensor:
            return folded.classifier.scores(folded.autoencoder.decode(latents).clamp(0, 1))

        compiled = torch.compile(lambda z: plain.classifier.scores(plain.autoencoder.decode(z).clamp(0, 1)))
        started = time.perf_counter()
        compiled(latents)
        first = time.perf_counter() - started
        times = machine.interleaved({"folded": frames, "compiled": lambda: compiled(latents)}, arguments.repeats)
        difference = float((compiled(latents) - frames()).abs().max())
    content = {"pair": arguments.pair, "seconds_to_compile": first, "largest_difference": difference, "times": times}
    machine.record("compiled", content, arguments)


if __name__ == "__main__":
    main()
