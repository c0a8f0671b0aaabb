"""`explanation.json`: everything needed to read, compare and reproduce an explanation; `arrays.npz` for the pixels."""

import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gifsplain.errors import InputError
from gifsplain.types import (
    Check,
    Cost,
    Explanation,
    Provenance,
    ScoreMeaning,
    Scores,
    Stop,
    Verdict,
)

FORMAT = "gifsplain explanation 1"
NOTICE = "Synthetic images for research use; not for diagnosis."


@dataclass(frozen=True)
class Record:
    """An explanation without its pixels: what `explanation.json` holds (the fields are those of `Explanation`)."""

    case: str
    target: str
    method: str
    meaning: ScoreMeaning
    composition: str
    map_name: str
    map_high: float
    """Largest value of the map."""
    scores: Scores
    strength_unit: str
    strengths: tuple[float, ...]
    frame_scores: tuple[float, ...]
    baseline: int
    counterfactual: int
    stop: Stop
    stop_lower: Stop
    stop_higher: Stop
    targets: tuple[str, ...]
    target_scores: tuple[tuple[float, ...], ...]
    """One row a frame, one column a target."""
    checks: tuple[Check, ...]
    cost: Cost
    provenance: Provenance
    record: Mapping[str, Any]


def record_of(explanation: Explanation) -> Record:
    """The record of an explanation."""
    return Record(
        case=explanation.case,
        target=explanation.target,
        method=explanation.method,
        meaning=explanation.meaning,
        composition=explanation.composition,
        map_name=explanation.map_name,
        map_high=float(explanation.map.max()),
        scores=explanation.scores,
        strength_unit=explanation.strength_unit,
        strengths=tuple(explanation.strengths.tolist()),
        frame_scores=tuple(explanation.frame_scores.tolist()),
        baseline=explanation.baseline,
        counterfactual=explanation.counterfactual,
        stop=explanation.stop,
        stop_lower=explanation.stop_lower,
        stop_higher=explanation.stop_higher,
        targets=tuple(explanation.targets),
        target_scores=tuple(tuple(row) for row in explanation.target_scores.tolist()),
        checks=tuple(explanation.checks),
        cost=explanation.cost,
        provenance=explanation.picture.provenance,
        record=explanation.record,
    )


def to_json(record: Record) -> dict[str, Any]:
    """The record as plain JSON values in the order in which people look for them; nan and infinities become null."""
    cost, source = record.cost, record.provenance
    values = {
        "format": FORMAT,
        "notice": NOTICE,
        "case": record.case,
        "target": record.target,
        "method": record.method,
        "meaning": record.meaning.value,
        "composition": record.composition,
        "scores": vars(record.scores),
        "stop": record.stop.value,
        "stops": {"lower": record.stop_lower.value, "higher": record.stop_higher.value},
        "checks": [vars(check) | {"verdict": check.verdict.value} for check in record.checks],
        "strength_unit": record.strength_unit,
        "strengths": record.strengths,
        "frame_scores": record.frame_scores,
        "baseline": record.baseline,
        "counterfactual": record.counterfactual,
        "targets": record.targets,
        "target_scores": record.target_scores,
        "map": {"name": record.map_name, "high": record.map_high},
        "cost": vars(cost),
        "picture": vars(source),
        "record": record.record,
    }
    return {key: _plain(value) for key, value in values.items()}


def from_json(values: Mapping[str, Any]) -> Record:
    """The record that `to_json` wrote: null scores become nan, a check's null value None (infinities do not return)."""
    found = values.get("format") if isinstance(values, Mapping) else None
    if found != FORMAT:
        raise InputError(f"expected a record of the format '{FORMAT}', got {found!r}")
    source = values["picture"]
    return Record(
        case=values["case"],
        target=values["target"],
        method=values["method"],
        meaning=ScoreMeaning(values["meaning"]),
        composition=values["composition"],
        map_name=values["map"]["name"],
        map_high=_number(values["map"]["high"]),
        scores=Scores(**{key: _number(value) for key, value in values["scores"].items()}),
        strength_unit=values["strength_unit"],
        strengths=tuple(map(_number, values["strengths"])),
        frame_scores=tuple(map(_number, values["frame_scores"])),
        baseline=values["baseline"],
        counterfactual=values["counterfactual"],
        stop=Stop(values["stop"]),
        stop_lower=Stop(values["stops"]["lower"]),
        stop_higher=Stop(values["stops"]["higher"]),
        targets=tuple(values["targets"]),
        target_scores=tuple(tuple(map(_number, row)) for row in values["target_scores"]),
        checks=tuple(Check(**(check | {"verdict": Verdict(check["verdict"])})) for check in values["checks"]),
        cost=Cost(**values["cost"]),
        provenance=Provenance(**(source | {"size": tuple(source["size"]), "steps": tuple(source["steps"])})),
        record=values["record"],
    )


def encode_record(explanation: Explanation) -> bytes:
    """`explanation.json`: UTF-8, strict JSON (no NaN)."""
    text = json.dumps(to_json(record_of(explanation)), indent=1, ensure_ascii=False, allow_nan=False)
    return (_short_lists(text) + "\n").encode()


def read_record(path: str | Path) -> Record:
    """The record in `explanation.json`, or in a finished explanation's folder."""
    place = Path(path)
    place = place / "explanation.json" if place.is_dir() else place
    try:
        return from_json(json.loads(place.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"expected an explanation at {place}, found no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"expected a record written by gifsplain in {place}, cannot read it: {error!r}") from error


def encode_arrays(explanation: Explanation) -> bytes:
    """`arrays.npz`: float32 image, reconstruction, frames, map, strengths, frame_scores, target_scores."""
    names = ("image", "reconstruction", "frames", "map", "strengths", "frame_scores", "target_scores")
    arrays = {name: getattr(explanation, name).detach().cpu().numpy() for name in names}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, str | int):
        return value
    raise InputError(f"expected plain JSON values in an explanation's record, got {type(value).__name__}; convert it")


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _short_lists(text: str) -> str:
    """Lists of numbers on one line each: a sweep is read across, not down."""
    numbers = re.compile(r"\[\s+((?:[\d.eE+-]+|null)(?:,\s+(?:[\d.eE+-]+|null))*)\s+\]")
    return numbers.sub(lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text)
