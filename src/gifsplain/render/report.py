"""One self-contained HTML page about an explanation: opens from disk, asks the network for nothing."""

import base64
import hashlib
import io
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from gifsplain.models.prepare import centre_crop
from gifsplain.render import svg
from gifsplain.render.frames import score_range, strength_labels
from gifsplain.render.heatmap import Window, caption, draw_map, draw_overlay
from gifsplain.render.ink import to_bytes
from gifsplain.types import Explanation, ScoreMeaning, Verdict

_LARGEST = 1024
"""Frames in the page are no wider or higher than this; the animation files keep the full size."""
_LOSSLESS = 320

VERDICTS = {Verdict.PASS: 0, Verdict.WARN: 1, Verdict.FAIL: 2}


def report_html(
    explanation: Explanation,
    *,
    frames: Float[Tensor, "n c h w"] | None = None,
    flow_png: bytes | None = None,
) -> str:
    """The whole page. `frames` replaces the explanation's own (native size); `flow_png` adds the flow picture."""
    shown = explanation.frames if frames is None else frames
    height, width = _page_size(shown.shape[-2], shown.shape[-1])
    script = _part("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    cards = _cards(explanation)
    page: str = _environment().get_template("report.html").render(
        e=explanation,
        n=len(shown),
        width=width,
        height=height,
        script=Markup(script),  # our own file
        script_hash=f"sha256-{digest}",
        style=Markup(_part("report.css").replace("{{cards}}", str(len(cards)))),
        models=_models(explanation.record),
        cards=cards,
        svg=svg.curve(explanation) if explanation.has_sweep else None,
        stops={"lower": _words(explanation.stop_lower.value), "higher": _words(explanation.stop_higher.value)},
        worst=worst_verdict(explanation),
        summary=_summary(explanation),
        operating=explanation.meaning is ScoreMeaning.CALIBRATED,
        pictures=_pictures(explanation, flow_png),
        others=_others(explanation),
        tables=_tables(explanation),
        first_alt=f"{explanation.target}, frame at strength 0",
        data=_data(explanation, shown),
    )  # fmt: skip
    return page


def worst_verdict(explanation: Explanation) -> str:
    """The worst verdict of all checks; empty where none was made."""
    verdicts = [check.verdict for check in explanation.checks]
    return max(verdicts, key=lambda verdict: VERDICTS[verdict]).value if verdicts else ""


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as an address that needs no request."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(pixels: np.ndarray) -> str:
    """A picture as an address: PNG while small, else JPEG of high quality."""
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    if max(picture.size) <= _LOSSLESS or picture.mode == "RGBA":
        picture.save(buffer, "PNG")
        return data_uri(buffer.getvalue(), "image/png")
    picture.save(buffer, "JPEG", quality=92)
    return data_uri(buffer.getvalue(), "image/jpeg")


def transparent_map(explanation: Explanation, window: Window) -> np.ndarray:
    """The map as red, green, blue, opacity: opaque as far as it lies in the window."""
    opacity = np.rint(window.part(explanation.map) * 255).astype(np.uint8)
    return np.dstack([draw_map(explanation.map, window), opacity])


def _data(explanation: Explanation, shown: Float[Tensor, "n c h w"]) -> dict[str, Any]:
    scores = [value if math.isfinite(value) else None for value in explanation.frame_scores.tolist()]
    low, high = score_range(explanation.frame_scores.tolist(), explanation.meaning)
    size = _page_size(shown.shape[-2], shown.shape[-1])
    # What the difference is taken from: at the original's own size the frame at strength 0 is the original itself.
    ground = explanation.baseline_frame if shown is explanation.frames else explanation.picture.pixels
    return {
        "target": explanation.target,
        "frames": [picture_uri(_at(to_bytes(frame), size)) for frame in shown],
        "map": picture_uri(_placed(transparent_map(explanation, Window.of(explanation.map)), shown)),
        "strengths": explanation.strengths.tolist(),
        "labels": strength_labels(explanation.strengths.tolist()),
        "scores": scores,
        "points": svg.points(explanation) if explanation.has_sweep else [],
        "baseline": explanation.baseline,
        "start": explanation.baseline_score if math.isfinite(explanation.baseline_score) else None,
        "ground": None if explanation.start is None else picture_uri(_at(to_bytes(ground), size)),
        "counterfactual": explanation.counterfactual,
        "low": low,
        "high": high,
        "operating": 0.5 if explanation.meaning is ScoreMeaning.CALIBRATED else None,
        "milliseconds": 60,
    }


def _placed(map: np.ndarray, shown: Float[Tensor, "n c h w"]) -> np.ndarray:
    """The map on a sheet of the frames' shape: frames at the original's size show more than the models' square."""
    height, width = shown.shape[-2:]
    if height == width or map.shape[:2] == (height, width):
        return map
    crop = centre_crop(height, width)
    scale = map.shape[0] / crop.side
    sheet = np.zeros((round(height * scale), round(width * scale), 4), np.uint8)
    y, x = round(crop.top * scale), round(crop.left * scale)
    sheet[y : y + map.shape[0], x : x + map.shape[1]] = map[: sheet.shape[0] - y, : sheet.shape[1] - x]
    return sheet


def _at(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.LANCZOS))


def _page_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, _LARGEST / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _cards(explanation: Explanation) -> list[dict[str, str]]:
    scores = explanation.scores
    notes = {
        "input": "the image itself",
        "reconstruction": f"{_change(scores.reconstruction - scores.input)} by the autoencoder alone",
        "counterfactual": f"{_change(scores.counterfactual - scores.input)} from the input",
    }
    shown = vars(scores).items()
    return [
        {"name": name.capitalize(), "score": number(score), "note": notes[name]}
        for name, score in shown
        if name == "input" or math.isfinite(score)
    ]


def _pictures(explanation: Explanation, flow_png: bytes | None) -> list[dict[str, str]]:
    window = Window.of(explanation.map)
    scale = f"Window {window.low:.3g} to {window.high:.3g}."
    what, scores = caption(explanation), explanation.scores
    found = [_figure("Input", explanation.image, f"Score {number(scores.input)}, as the classifier sees it.", what)]
    if explanation.has_sweep:
        frame = explanation.frames[explanation.counterfactual]
        alone = f"Score {number(scores.reconstruction)}, by the autoencoder alone."
        found.append(_figure("Reconstruction", explanation.reconstruction, alone, what))
        found.append(_figure("Counterfactual", frame, f"Score {number(scores.counterfactual)}, synthetic.", what))
    overlay = draw_overlay(explanation.image, explanation.map, window)
    found.append(_figure("Map over the image", overlay, f"{what}. {scale}", what))
    found.append(_figure("Map", draw_map(explanation.map, window), scale, what))
    if flow_png is not None:
        text = "Optical flow to the counterfactual. A shadow that fades in place draws arrows along its border, too."
        uri = data_uri(flow_png, "image/png")
        found.append({"title": "Flow", "data": uri, "text": text, "alt": f"Flow: {what}"})
    return found


def _figure(title: str, pixels: np.ndarray | Tensor, text: str, what: str) -> dict[str, str]:
    drawn = to_bytes(pixels) if isinstance(pixels, Tensor) else pixels
    return {"title": title, "data": picture_uri(drawn), "text": text, "alt": f"{title}: {what}"}


def _others(explanation: Explanation) -> list[dict[str, str]]:
    if not explanation.has_sweep:
        return []
    before = explanation.baseline_scores.tolist()
    after = explanation.target_scores[explanation.counterfactual].tolist()
    rows = sorted(
        zip(explanation.targets, before, after, strict=True),
        key=lambda row: -abs(row[2] - row[1]) if math.isfinite(row[2] - row[1]) else math.inf,
    )
    return [
        {"name": name, "before": number(one), "after": number(two), "change": _change(two - one)}
        for name, one, two in rows
    ]


def _tables(explanation: Explanation) -> list[dict[str, Any]]:
    source, cost = explanation.picture.provenance, explanation.cost
    picture = [
        ("name", source.name),
        ("format", source.format),
        ("size", f"{source.size[1]} × {source.size[0]} pixels, {source.bits} bits"),
        ("applied", ", ".join(source.steps) or "nothing"),
        ("SHA-256", source.sha256),
    ]
    parts = ("encodes", "decodes", "predictions", "gradients")
    spent = ", ".join(f"{getattr(cost, part)} {part}" for part in parts)
    made = [
        ("composition", explanation.composition),
        ("map", explanation.map_name),
        ("strength unit", explanation.strength_unit),
        ("frames", str(len(explanation.frames))),
        ("cost", f"{spent}, {cost.seconds:.2f} s"),
    ]
    tables = [{"title": "Picture", "rows": picture}, {"title": "Explanation", "rows": made}]
    loose = []
    for name, value in explanation.record.items():
        if name == "picture":
            continue  # the first table says it all
        if isinstance(value, Mapping):
            tables.append({"title": _words(name).capitalize(), "rows": list(_flat(value))})
        else:
            loose.append((_words(name), _text(value)))
    return [*tables, {"title": "Record", "rows": loose}] if loose else tables


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested values as `outer inner` rows."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        label = f"{before}{_words(name)}"
        rows += _flat(value, f"{label}: ") if isinstance(value, Mapping) else [(label, _text(value))]
    return rows


def _text(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else "none" if value is None else str(value)
    return text if len(text) <= 400 else text[:400] + " …"


def _models(record: Mapping[str, Any]) -> dict[str, str]:
    cards = {kind: record.get(kind) for kind in ("classifier", "autoencoder")}
    return {kind: str(card.get("name", "")) for kind, card in cards.items() if isinstance(card, Mapping)}


def _summary(explanation: Explanation) -> str:
    count = len(explanation.checks)
    passed = sum(check.verdict is Verdict.PASS for check in explanation.checks)
    return f"{passed} of {count} checks passed" if count else "not checked"


def number(score: float) -> str:
    """A score with two digits and a true minus sign; a dash for nan."""
    return f"{score:.2f}".replace("-", "−") if math.isfinite(score) else "–"


def _change(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if math.isfinite(value) else "–"


def _words(name: str) -> str:
    return str(name).replace("_", " ")


@cache
def _part(name: str) -> str:
    from importlib.resources import files

    return (files("gifsplain.render") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    found = Environment(
        loader=FunctionLoader(_part), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters["words"] = lambda name: _words(name).capitalize()
    return found
