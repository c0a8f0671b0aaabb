"""Write docs/experiments.md from a folder of `gifsplain evaluate paper`: tables, sentences and figures, nothing typed.

    python benchmarks/experiments_page.py RESULTS [--page docs/experiments.md] [--keep "## Single images"]

Sections of the present page from the heading `--keep` on are kept as they are.
"""

import argparse
import json
from pathlib import Path

from gifsplain.evaluate.experiments import EXPERIMENTS
from gifsplain.io.files import write_bytes, write_text

HEAD = """# Experiments

What `gifsplain evaluate paper` found with classifiers {classifiers} and autoencoder {autoencoder}, split {split}. Written by
`python benchmarks/experiments_page.py RESULTS` from the files of that run; every table says its n, no verdict is given below 10
patients. [Evaluating explanations](evaluation.md) says what each number is.

```console
gifsplain evaluate paper --config examples/paper.yaml -o results
```

with your `manifest`, `split: {split}` and the limits that each section names (the file itself says `val`).

Published numbers stand beside ours where target and data set agree (NIH boxes). They are of another classifier (XRV-all), another
autoencoder and 80 images; ours saw about 1 % of that data.
"""


def folders(results: Path) -> list[tuple[str, Path]]:
    """Title and folder of every finished experiment, the plain ones first, then those with a label."""
    found = [(name, results / name) for name in EXPERIMENTS]
    labels = sorted(p for p in results.iterdir() if p.is_dir() and p.name not in EXPERIMENTS)
    found += [(f"{name}: {label.name}", label / name) for label in labels for name in EXPERIMENTS]
    return [(name, folder) for name, folder in found if (folder / "tables.md").is_file()]


def section(name: str, folder: Path, page: Path) -> str:
    """Words, figures and tables of one experiment; the figures are copied beside the page."""
    kind, _, label = name.partition(": ")
    lines = [f"## {EXPERIMENTS[kind].title}" + (f": {label}" if label else ""), ""]
    setup = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]["setup"]
    lines += [f"Split {setup['split']}, sources {', '.join(setup['sources']) or 'all'}, at most {setup['limit']} cases a target"
              + "".join(f", {m} {n}" for m, n in setup.get("method_limits", {}).items()) + ".", ""]  # fmt: skip
    lines += [f"* {line}" for line in (folder / "words.txt").read_text(encoding="utf-8").splitlines()]
    for figure in sorted(folder.glob("*.png")):
        target = page.parent / "figures" / f"experiments-{label + '-' if label else ''}{figure.name}"
        write_bytes(target, figure.read_bytes())
        lines += ["", f"![{EXPERIMENTS[kind].title}: the tables below as a figure](figures/{target.name})"]
    return "\n".join([*lines, "", (folder / "tables.md").read_text(encoding="utf-8")])


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--page", type=Path, default=Path("docs/experiments.md"))
    parser.add_argument("--keep", default="", help="Heading from which on the present page is kept.")
    given = parser.parse_args()
    found = folders(given.results)
    setup = json.loads((found[0][1] / "config.json").read_text(encoding="utf-8"))["config"]["setup"]
    text = HEAD.format(
        classifiers=", ".join(setup["classifiers"]), autoencoder=setup["autoencoder"], split=setup["split"]
    )
    text += "\n" + "\n".join(section(name, folder, given.page) for name, folder in found)
    old = given.page.read_text(encoding="utf-8") if given.page.exists() else ""
    if given.keep and given.keep in old:
        text += "\n" + old[old.index(given.keep) :]
    write_text(given.page, text)


if __name__ == "__main__":
    main()
