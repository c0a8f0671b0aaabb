"""What keeping freed memory (gifsplain.io.memory) saves: steps of training in fresh processes that do and do not, in turn.

A step is forward, backward and an update of an EfficientNet-Lite0 on `--images` images; reports wall and system seconds of a
step and the process's peak of memory. How much it is depends on what a page fault costs: little on a plain Linux, much in a
sandbox that handles them itself.
"""

import json
import subprocess
import sys

import machine

CODE = """
import json, resource, sys, time
from gifsplain.io.memory import keep_freed
if sys.argv[1] == "kept":
    keep_freed() or sys.exit("needs glibc, and an environment that does not tune its malloc")
import torch
from gifsplain.models.backbones import ClassifierConfig, build_classifier
torch.set_num_threads(int(sys.argv[2]))
model = build_classifier(ClassifierConfig(targets=tuple("abcdef"))).to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(model.parameters())
images = torch.rand(int(sys.argv[3]), 1, 224, 224).contiguous(memory_format=torch.channels_last)
def step():
    optimizer.zero_grad()
    model.raw_logits(images).square().mean().backward()
    optimizer.step()
step()
system, started, count = resource.getrusage(resource.RUSAGE_SELF).ru_stime, time.perf_counter(), 4
for _ in range(count):
    step()
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([(time.perf_counter() - started) / count, (used.ru_stime - system) / count, used.ru_maxrss / 1024]))
"""
NAMES = ("wall_seconds", "system_seconds", "peak_mb")


def main() -> None:
    arguments = machine.options(__doc__ or "", images=24)
    found: dict[str, list[list[float]]] = {"given back": [], "kept": []}
    for _ in range(arguments.repeats):
        for choice, rows in found.items():
            command = [sys.executable, "-c", CODE, choice, str(arguments.threads), str(arguments.images)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=machine.HERE)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    spreads = {
        choice: {
            name: machine.spread(list(column)) for name, column in zip(NAMES, zip(*rows, strict=True), strict=True)
        }
        for choice, rows in found.items()
    }
    ratios = [plain[0] / kept[0] for plain, kept in zip(found["given back"], found["kept"], strict=True)]
    machine.record("kept-memory", {"times": spreads, "ratio": machine.spread(ratios)}, arguments)


if __name__ == "__main__":
    main()
