"""A reader study of directions: cases, pictures and questions as `gifsplain study init` takes them.

A condition is a rank: every reader sees every case moved along the first, the second ... direction of its target, grades
what changes, and writes in the comment what it is.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import InputError
from gifsplain.explain import fits
from gifsplain.explain.population import Directions
from gifsplain.io import files
from gifsplain.models.protocols import Pair
from gifsplain.models.styleex import style_view
from gifsplain.render import direction_pages as pages
from gifsplain.render.ink import to_bytes
from gifsplain.types import Explanation

PANELS = (
    ("before", "Before", "The model's own copy of the radiograph, nothing moved.", "image"),
    ("strengthened", "Strengthened", "A synthetic version with a higher score.", "image"),
    ("animation", "Animation", "Synthetic versions from a lower to a higher score and back.", "animation"),
)
INSTRUCTIONS = """\
Each page shows a chest radiograph, a finding that a model predicted, and synthetic versions of the radiograph along one
direction of a generative model, which changes the score of that finding. Grade what changes, and write into the comment
(key C) what you see change: structures and findings, also those beside the finding that is named.
Nothing here is for diagnosis: the versions are synthetic.
"""
QUESTIONS = (
    {"key": "visible", "text": "How clearly does something change? (1-5)", "low": "not at all", "high": "very clearly"},
    {
        "key": "belongs",
        "text": "Does what changes belong to the finding? (1-5)",
        "low": "not at all",
        "high": "only to it",
    },
)


@dataclass(frozen=True)
class ReadCase:
    """One image that readers may see."""

    name: str
    findings: frozenset[str]
    """Targets that are there."""
    image: Float[Tensor, "c h w"]


@dataclass(frozen=True)
class StudyPlan:
    """What is shown."""

    method: str
    targets: tuple[str, ...]
    ranks: int = 3
    """Directions of each target, best first."""
    per_target: int = 8
    """Most cases a target; half of them false positives."""


def write_study(pair: Pair, cases: Sequence[ReadCase], plan: StudyPlan, folder: Path) -> Path:
    """Write FOLDER/{cases.csv,study.yaml,pictures/}; returns cases.csv.

    Raises:
        InputError: When a target has fewer directions than are wanted, or no true or no false positive among `cases`.
    """
    known = fits.load(pair).of(plan.method)
    few = [t for t in plan.targets if t not in known or len(known[t].steps) < plan.ranks]
    if few or plan.ranks < 1:
        raise InputError(f"expected {plan.ranks} directions of {plan.method} for {', '.join(few)}; lower ranks")
    scores = torch.cat([pair.classifier.scores(case.image[None]) for case in cases])
    chosen = choose(scores, pair.targets, cases, plan, pair.classifier.card.meaning.middle)
    own = replace(pair, autoencoder=style_view(pair.autoencoder)) if plan.method == "attfind" else pair
    rows = [row for t in plan.targets for row in _target_rows(own, cases, chosen[t], plan, t, known[t], folder)]
    for row in rows:
        place = next(i for i, case in enumerate(cases) if case.name == row["case"])
        row["score"] = f"{float(scores[place, pair.targets.index(row['target'])]):.4f}"
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(folder / "cases.csv", text.getvalue())
    files.write_text(folder / "study.yaml", configuration(plan, len(chosen[plan.targets[0]])))
    return folder / "cases.csv"


def choose(
    scores: Float[Tensor, "n t"], known: Sequence[str], cases: Sequence[ReadCase], plan: StudyPlan, middle: float = 0.5
) -> dict[str, list[int]]:
    """For each target as many true as false positives, the same number for all, no image twice; most certain first.

    Positives score above `middle`.
    """
    free = set(range(len(cases)))
    found: dict[tuple[str, bool], list[int]] = {}
    for truth in (True, False):
        for target in plan.targets:
            own = scores[:, known.index(target)]
            fit = [i for i in own.argsort(descending=True).tolist() if own[i] > middle and i in free]
            right = [i for i in fit if (target in cases[i].findings) is truth][: max(1, plan.per_target // 2)]
            found[target, truth] = right
            free -= set(right)
    count = min(map(len, found.values()))
    if not count:
        missing = [f"{t}, {'true' if truth else 'false'}" for (t, truth), places in found.items() if not places]
        raise InputError(
            f"expected true and false positives of every target, got none of {'; '.join(missing)}; raise limit"
        )
    return {t: [*found[t, True][:count], *found[t, False][:count]] for t in plan.targets}


def _target_rows(
    pair: Pair, cases: Sequence[ReadCase], places: list[int], plan: StudyPlan, target: str, known: Directions, folder: Path
) -> list[dict[str, str]]:  # fmt: skip
    """Rows of one target, their pictures written."""
    pictures = [pages.picture(cases[i].image.cpu(), cases[i].name) for i in places]
    rows = []
    for i in places:
        image = _write(folder, f"{files.safe_name(target)}-{i}.png", pages.png(to_bytes(cases[i].image.cpu())))
        truth = str(int(target in cases[i].findings))
        rows.append({"case": cases[i].name, "target": target, "truth": truth, "score": "", "image": image})
    for rank in range(plan.ranks):
        explained = pages.explain_along(pair, pictures, plan.method, target, known, rank=rank)
        for row, i, example in zip(rows, places, explained, strict=True):
            stem = f"{files.safe_name(target)}-{i}-{rank + 1}"
            for panel, (suffix, content) in _panels(example).items():
                row[f"rank-{rank + 1}.{panel}"] = _write(folder, f"{stem}-{panel}{suffix}", content)
    return rows


def _panels(example: Explanation) -> dict[str, tuple[str, bytes]]:
    """Suffix and content of each panel's file."""
    return {
        "before": (".png", pages.png(to_bytes(example.frames[example.baseline]))),
        "strengthened": (".png", pages.png(to_bytes(example.frames[-1]))),
        "animation": (".gif", pages.gif(example, scores=False)),
    }


def _write(folder: Path, name: str, content: bytes) -> str:
    files.write_bytes(folder / "pictures" / name, content)
    return f"pictures/{name}"


def configuration(plan: StudyPlan, per_target: int) -> str:
    """YAML for `gifsplain study init --config`."""
    panels = [{"key": key, "title": title, "about": about, "kind": kind} for key, title, about, kind in PANELS]
    values = {
        "title": "What do the directions change?",
        "instructions": INSTRUCTIONS,
        "questions": list(QUESTIONS),
        "conditions": [
            {"key": f"rank-{k + 1}", "label": f"Direction {k + 1}", "panels": panels} for k in range(plan.ranks)
        ],
        "cases": {"targets": list(plan.targets), "per_target": per_target, "training": 0, "repeats": 0},
        "order": {"washout_days": 0, "lock": "read"},
    }
    text: str = yaml.dump(values, Dumper=_Plain, sort_keys=False, allow_unicode=True)
    return text


class _Plain(yaml.SafeDumper):
    """Writes a list that occurs twice twice."""

    def ignore_aliases(self, data: object) -> bool:
        """Always."""
        return True
