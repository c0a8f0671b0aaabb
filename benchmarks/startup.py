"""How long the program takes to say what it can do, and what `import gifsplain` adds to `import torch`.

Goals: `gifsplain --help` under 0.5 s; `import gifsplain` at most 0.3 s more than `import torch`.
"""

import subprocess
import sys

import machine

CODE = {
    "python": "pass",
    "gifsplain --help": "from gifsplain.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass",
    "import torch": "import torch",
    "import gifsplain": "import gifsplain",
    "import torch, then everything public": "import torch, gifsplain.api",
}


def main() -> None:
    arguments = machine.options(__doc__ or "")

    def start(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

    times = machine.interleaved(
        {name: (lambda code=code: start(code)) for name, code in CODE.items()}, arguments.repeats
    )
    machine.record("startup", {"times": times}, arguments)


if __name__ == "__main__":
    main()
