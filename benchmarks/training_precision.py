"""A training step's forward and backward in bfloat16 against single precision, on this processor.

EfficientNet-Lite0 with random weights, `--images` noise images, under autocast as a training in bf16-mixed has it, and without;
both in turn. `helps` is what the package decides by: where it is false a training takes single precision.
"""

import machine
import torch

from gifsplain.io import memory
from gifsplain.models.backbones import ClassifierConfig, build_classifier
from gifsplain.models.precision import helps


def main() -> None:
    arguments = machine.options(__doc__ or "", images=8)
    memory.keep_freed()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    net = build_classifier(ClassifierConfig(targets=tuple("abcdef"))).to(memory_format=torch.channels_last)
    images = torch.rand(arguments.images, 1, 224, 224).contiguous(memory_format=torch.channels_last)

    def step(*, low: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = net.raw_logits(images)
        net.zero_grad()
        logits.float().square().mean().backward()

    tasks = {"float32": lambda: step(low=False), "bf16": lambda: step(low=True)}
    times = machine.interleaved(tasks, arguments.repeats)
    ratio = times["bf16"]["wall"]["median"] / times["float32"]["wall"]["median"]
    results = {"times": times, "bf16_over_float32": round(ratio, 3), "helps": helps(torch.device("cpu"))}
    machine.record("training-precision", results, arguments)


if __name__ == "__main__":
    main()
