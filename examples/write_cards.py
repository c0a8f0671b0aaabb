"""Write measured figures into the cards of the built-in pair and into docs/built-in-models.md.

gifsplain evaluate models DATA/metadata.csv -o RESULTS --source nih --split val
gifsplain evaluate overlap DATA/metadata.csv -o RESULTS --source nih --split val
python examples/write_cards.py --val RESULTS [--test OTHER_RESULTS] [--seen TEXT_FILE]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from gifsplain.io.files import write_text
from gifsplain.models import builtin

PAGE = Path(__file__).parents[1] / "docs" / "built-in-models.md"
MARKS = {split: (f"<!-- figures of {split} -->", f"<!-- end of {split} -->") for split in ("val", "test")}
OVERLAP = ("target", "method", "n", "iou", "iou_sd", "iou_low", "iou_high", "hit", "energy")
OF_AUTOENCODER = ("reconstruction",)


def metrics(results: Path) -> dict[str, Any]:
    """Figures of `evaluate models` and, where it ran, `evaluate overlap`."""
    values: dict[str, Any] = json.loads((results / "models" / "metrics.json").read_text(encoding="utf-8"))
    overlap = results / "overlap" / "summary.csv"
    if overlap.is_file():
        table = pd.read_csv(overlap)
        table = table[[name for name in OVERLAP if name in table]]
        values["overlap"] = [
            {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
            for row in table.to_dict("records")
        ]
    return values


def into_card(path: Path, split: str, values: dict[str, Any], seen: str) -> None:
    """Replace the figures of one split, and what was seen on contact sheets where that is given."""
    card = json.loads(path.read_text(encoding="utf-8"))
    mine = {k: v for k, v in values.items() if (k in OF_AUTOENCODER) == (card["kind"] == "autoencoder")}
    card["metrics"] = {**card.get("metrics", {}), split: mine}
    if seen:
        card["seen_on_contact_sheets"] = seen
    write_text(path, json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def into_page(page: Path, split: str, results: Path) -> None:
    """Put the tables of one split between its marks, headings one level below the page's own."""
    begin, end = MARKS[split]
    text = page.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise SystemExit(f"{page} lacks the marks {begin} and {end}")
    body = (results / "models" / "tables.md").read_text(encoding="utf-8")
    overlap = results / "overlap" / "tables.md"
    if overlap.is_file():
        body += (
            "\n### " + overlap.read_text(encoding="utf-8").split("### ")[1]
        )  # the first table; the rest is in the card
    body = body.replace("### ", "#### ")
    before, after = text.split(begin)[0], text.split(end)[1]
    write_text(page, f"{before}{begin}\n\n{body}\n{end}{after}")


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--val", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--seen", type=Path, help="text: what was seen on the contact sheets")
    options = parser.parse_args()
    seen = " ".join(options.seen.read_text(encoding="utf-8").split()) if options.seen else ""
    for split, results in (("val", options.val), ("test", options.test)):
        if results is not None:
            values = metrics(results)
            for stem in (builtin.CLASSIFIER_FILE, builtin.AUTOENCODER_FILE):
                into_card(builtin.weights_folder() / f"{stem}.json", split, values, seen)
            into_page(PAGE, split, results)


if __name__ == "__main__":
    main()
