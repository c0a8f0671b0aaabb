"""A term about the latent gradient, handed on to the weights: reverse over forward against double backward.

The built-in autoencoder, an EfficientNet-Lite0 with random weights, `--images` noise images, a term that compares the gradient with a random direction. Both ways in turn; the
ratio of their seconds for forward and backward together, and how alike the gradients of the weights are (cosine).
"""

import time

import machine
import torch
from torch import Tensor

from gifsplain.io import memory
from gifsplain.models.backbones import ClassifierConfig, build_classifier
from gifsplain.models.load import load_autoencoder
from gifsplain.train.latent_gradient import decode_first_order, latent_gradient


def main() -> None:
    arguments = machine.options(__doc__ or "", images=8)
    memory.keep_freed()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    net, autoencoder = build_classifier(ClassifierConfig(targets=tuple("abcdef"))).eval(), load_autoencoder("cxr")
    latents = autoencoder.encode(torch.rand(arguments.images, 1, 224, 224)).detach()
    targets = torch.randint(6, (arguments.images,))
    wanted = torch.randn_like(latents)
    weights = [weight for weight in net.parameters() if weight.requires_grad]

    def fast() -> Tensor:
        return latent_gradient(autoencoder, net, latents, targets)[0]

    def slow() -> Tensor:
        free = latents.clone().requires_grad_(True)
        chosen = net.raw_logits(decode_first_order(autoencoder, free)).gather(1, targets[:, None]).sum()
        return torch.autograd.grad(chosen, free, create_graph=True)[0]

    seconds: dict[str, list[float]] = {"double backward": [], "reverse over forward": []}
    handed: dict[str, Tensor] = {}
    for turn in range(arguments.repeats + 1):
        for (name, times), gradient in zip(seconds.items(), (slow, fast), strict=True):
            started = time.perf_counter()
            unlike = 1 - torch.nn.functional.cosine_similarity(gradient().flatten(1), wanted.flatten(1)).mean()
            parts = torch.autograd.grad(unlike, weights, allow_unused=True)
            if turn:  # the first one warms up
                times.append(time.perf_counter() - started)
            handed[name] = torch.cat([part.flatten() for part in parts if part is not None]).double()
    alike = torch.nn.functional.cosine_similarity(*handed.values(), dim=0)
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    spreads = {name: machine.spread(times) for name, times in seconds.items()}
    results = {"times": spreads, "ratio": machine.spread(ratios), "cosine": round(float(alike), 6)}
    machine.record("latent-gradient", results, arguments)


if __name__ == "__main__":
    main()
