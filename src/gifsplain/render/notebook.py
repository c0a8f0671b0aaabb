"""An explanation in a notebook cell: animation, map, scores and checks, without a script."""

from markupsafe import escape

from gifsplain.render import heatmap, video
from gifsplain.render.frames import make_film
from gifsplain.render.record import NOTICE
from gifsplain.render.report import data_uri, number
from gifsplain.types import Explanation

_TONES = {"pass": "#17704a", "warn": "#9a6700", "fail": "#b3261e"}


def notebook_html(explanation: Explanation) -> str:
    """Self-contained HTML that shows the explanation in Jupyter and its kin."""
    pictures = [("overlay", data_uri(heatmap.encode_png(heatmap.overlay_picture(explanation)), "image/png"))]
    if explanation.has_sweep:
        pictures.insert(0, ("animation", data_uri(video.encode_gif(make_film(explanation)), "image/gif")))
    shown = "".join(
        f'<img src="{uri}" alt="{escape(explanation.target)}: {name}" style="width:320px;max-width:48%;height:auto">'
        for name, uri in pictures
    )
    scores = " · ".join(f"{name} <b>{number(score)}</b>" for name, score in vars(explanation.scores).items())
    checks = "".join(
        f'<li><b style="color:{_TONES[check.verdict.value]}">{check.verdict.value}</b> {escape(check.text)}</li>'
        for check in explanation.checks
    )
    return (
        f'<div style="max-width:680px;font-variant-numeric:tabular-nums">'
        f"<p><b>{escape(explanation.target)}</b> · {escape(explanation.case)} · {escape(explanation.method)}<br>"
        f'Score ({explanation.meaning.value}): {scores}</p><div style="display:flex;gap:8px;align-items:flex-start">'
        f"{shown}</div><ul>{checks}</ul><p><small>{NOTICE}</small></p></div>"
    )
