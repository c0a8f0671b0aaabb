"""Put the measurements of `gifsplain evaluate directions` into docs/styleex.md and into the card of the built-in StyleEx.

    python examples/styleex_tables.py OUT [--jacobian OUT2] [--concat OUT3]

OUT is the folder that `gifsplain evaluate directions ... --classifier styleex --autoencoder styleex -o OUT` wrote; the other
two are of the built-in autoencoder and of the conditioned variant. Text between `<!-- NAME:begin -->` and `<!-- NAME:end -->`
is replaced; nothing is typed by hand.
"""

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from gifsplain.evaluate import directions_verdict, tables
from gifsplain.evaluate.directions_cost import LIMIT
from gifsplain.evaluate.directions_report import share_table
from gifsplain.io import files
from gifsplain.models import builtin, styleex

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "styleex.md"
FIGURE = ROOT / "docs" / "figures" / "directions.png"
CARD = builtin.weights_folder() / f"{styleex.STEM}.json"


def between(text: str, name: str, content: str) -> str:
    """The text with what stands between the marks of `name` replaced."""
    pattern = re.compile(f"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{PAGE} has no marks for {name}")
    return pattern.sub(lambda found: f"{found[1]}\n{content.strip()}\n\n{found[2]}", text)


def model(card: dict[str, Any]) -> str:
    """The card in numbers."""
    measured = card["targets_measured"]
    rows = [
        {
            "target": target,
            "AUC (positives)": f"{m['auc']:.3f} ({m['positives']})",
            "AUC on reconstructions": f"{m['auc_of_reconstructions']:.3f}",
            "change of the score by reconstruction": f"{m['score_error']:.3f}",
            "same side of 0.5": f"{m['same_side_of_0.5']:.2f}",
        }
        for target, m in measured.items()
    ]
    distance = card["frechet_distance"]
    return (
        f"{card['steps']:,} steps, {card['parameters']:,} parameters. Measured on {card['measured_on']}:\n\n"
        f"{tables.markdown(pd.DataFrame(rows))}\n"
        f"Mean absolute reconstruction error {card['reconstruction_mae']:.3f} of full scale (99th percentile "
        f"{card['reconstruction_mae_percentiles']['p99']:.3f}). Fréchet distance to the same radiographs with the explained "
        f"classifier's last stage as extractor: reconstructions {distance['reconstructions']:.1f}, samples "
        f"{distance['samples']:.1f}, one half of the radiographs against the other {distance['real_halves']:.1f}. This "
        "extractor is not Inception: the numbers compare with nothing published."
    )


def directions(folder: Path) -> str:
    """Shares, cost and words of one run."""
    rows = pd.read_csv(folder / "directions" / "rows.csv")
    shares, costs = (pd.read_csv(folder / "directions" / f"{name}.csv") for name in ("shares", "costs"))
    equal = pd.read_csv(folder / "directions" / "equal.csv")
    words = (folder / "directions" / "words.txt").read_text(encoding="utf-8").splitlines()
    changes = len(rows[["target", "raises", "image"]].drop_duplicates())
    of_equal = [
        f"Cost at equal quality, by the share explained within a mean change of {LIMIT:g}:",
        tables.markdown(equal.round(2).astype(object).where(equal.notna(), "–")),
    ] * ("attfind" in set(costs["method"]))  # without both finders there is no level that both reach
    parts = [
        f"{rows['image'].nunique()} held-out radiographs of {rows['patient'].nunique()} patients, {changes} changes of side to "
        "bring about; intervals of 95 % over patients.",
        "Share explained within a mean change of the picture:",
        tables.markdown(share_table(shares, "budget")),
        "Share explained at equal length (sigma; for AttFind: ways to the extreme):",
        tables.markdown(share_table(shares, "length")),
        "Cost on the selection images:",
        tables.markdown(costs.round(2)),
        *of_equal,
        "\n".join(f"* {sentence}" for sentence in words),
    ]
    return "\n\n".join(part.strip() for part in parts)


def jacobian(folder: Path) -> str:
    """The comparison with Latent Shift, and what the rule says."""
    rows = pd.read_csv(folder / "directions" / "rows.csv").astype({"patient": str})
    kept = [m for m in ("eigenfind", "eigenfind-local") if directions_verdict.earns_its_place(rows, m, LIMIT)]
    verdict = f"By the rule above: **keep {', '.join(kept)}**." if kept else "By the rule above: **neither is kept**."
    return f"{directions(folder)}\n\n{verdict}"


def share_explained(folder: Path) -> dict[str, Any]:
    """For the card: shares within the largest budget."""
    shares = pd.read_csv(folder / "directions" / "shares.csv")
    part = shares[(shares["by"] == "budget") & (shares["at"] == LIMIT)]
    part = part[(part["selection"] == "best") == part["method"].isin(directions_verdict.SINGLES)]
    part = part[part["selection"].isin(["best", "independent"])]
    rows = pd.read_csv(folder / "directions" / "rows.csv")
    note = (
        f"{rows['image'].nunique()} held-out radiographs (test patients), within a mean change of {LIMIT:g} of full scale; any "
        "of the kept directions, one for gradient, mean gradient and probe; share and 95 % interval over patients"
    )
    values = {
        str(row["method"]): [round(float(row[name]), 2) for name in ("share", "low", "high")]
        for row in part.to_dict("records")
    }
    return {"note": note, **values}


def main() -> None:
    """Write page, figure and card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--jacobian", type=Path)
    parser.add_argument("--concat", type=Path)
    given = parser.parse_args()
    card = json.loads(CARD.read_text(encoding="utf-8"))
    if given.run:
        card["share_explained"] = share_explained(given.run)
        files.write_text(CARD, json.dumps(card, indent=2) + "\n")
        shutil.copyfile(given.run / "directions" / "directions.png", FIGURE)
    text = between(PAGE.read_text(encoding="utf-8"), "model", model(card))
    for name, folder, make in (
        ("directions", given.run, directions),
        ("jacobian", given.jacobian, jacobian),
        ("concat", given.concat, directions),
    ):
        if folder:
            text = between(text, name, make(folder))
    files.write_text(PAGE, text)


if __name__ == "__main__":
    main()
