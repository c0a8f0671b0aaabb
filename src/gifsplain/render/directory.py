"""The folder of a finished explanation: DIR/case/target/ with every output, complete or not there at all."""

import errno
import secrets
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from gifsplain.errors import InputError
from gifsplain.io.files import safe_name
from gifsplain.render import figures, flow, heatmap, record, report, video
from gifsplain.render.frames import Film, make_film
from gifsplain.types import Explanation

FILES: Mapping[str, str] = {
    "gif": "animation.gif",
    "mp4": "animation.mp4",
    "webp": "animation.webp",
    "apng": "animation.png",
    "image": "image.png",
    "map": "map.png",
    "overlay": "overlay.png",
    "curve": "curve.png",
    "flow": "flow.png",
    "report": "report.html",
    "json": "explanation.json",
    "arrays": "arrays.npz",
}
"""Every output by the name of its format."""

STANDARD = ("gif", "mp4", "image", "map", "overlay", "curve", "flow", "report", "json")
_ANIMATED = {"gif", "mp4", "webp", "apng"}
_SWEEP_ONLY = {*_ANIMATED, "curve", "flow"}
_OURS = frozenset(FILES.values())
_TRIES = 100
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)


def write_explanation(
    explanation: Explanation,
    folder: str | Path,
    *,
    formats: Collection[str] = STANDARD,
    arrays: bool = False,
    native: bool = False,
) -> Path:
    """Write `folder/<case>/<target>/` and return it; an older one of that name is replaced in one step.

    Outputs that need a sweep are left out for a method that only draws a map. `native` animates at the original's
    own size. Files that others have put into the older folder are kept.

    Raises:
        InputError: For formats that do not exist, or where all of them need a sweep and there is none.
    """
    wanted = _wanted(explanation, formats, arrays)
    final = explanation_folder(explanation.case, explanation.target, folder)
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{final.name[:40]}.", suffix=".tmp", dir=final.parent) as temporary:
        made = Path(temporary) / "new"
        made.mkdir()
        for name, content in outputs(explanation, wanted, native=native):
            (made / name).write_bytes(content)
        _swap(made, final)
    return final


def explanation_folder(case: str, target: str, folder: str | Path) -> Path:
    """Where the explanation of a case and target is written: names that every file system takes."""
    return Path(folder) / safe_name(case) / safe_name(target)


def outputs(explanation: Explanation, wanted: Collection[str], *, native: bool = False) -> Iterator[tuple[str, bytes]]:
    """Name and content of each wanted output, one at a time."""
    frames = None
    if native and explanation.has_sweep:
        from gifsplain.explain.compose import native_frames

        frames = native_frames(explanation)
    film = make_film(explanation, frames=frames) if _ANIMATED & set(wanted) else None

    def animation(encode: Callable[[Film], bytes]) -> bytes:
        assert film is not None
        return encode(film)

    flow_png = figures.encode_figure(flow.flow_figure(explanation)) if "flow" in wanted else None
    makers: Mapping[str, Callable[[], bytes]] = {
        "gif": lambda: animation(video.encode_gif),
        "mp4": lambda: animation(video.encode_mp4),
        "webp": lambda: animation(video.encode_webp),
        "apng": lambda: animation(video.encode_apng),
        "image": lambda: heatmap.encode_png(heatmap.plain_picture(explanation)),
        "map": lambda: heatmap.encode_png(heatmap.map_picture(explanation)),
        "overlay": lambda: heatmap.encode_png(heatmap.overlay_picture(explanation)),
        "curve": lambda: figures.encode_figure(figures.curve_figure(explanation)),
        "flow": lambda: flow_png or b"",
        "report": lambda: report.report_html(explanation, frames=frames, flow_png=flow_png).encode(),
        "json": lambda: record.encode_record(explanation),
        "arrays": lambda: record.encode_arrays(explanation),
    }
    with ThreadPoolExecutor(1) as beside:  # the video's encoder works in C beside everything else
        mp4 = beside.submit(makers["mp4"]) if "mp4" in wanted else None
        for name in FILES:
            if name in wanted:
                yield FILES[name], mp4.result() if name == "mp4" and mp4 is not None else makers[name]()


def _wanted(explanation: Explanation, formats: Collection[str], arrays: bool) -> set[str]:
    refuse_unknown(formats)
    wanted = {*formats, *(["arrays"] if arrays else [])}
    made = {kind for kind in wanted if is_made(explanation, kind)}
    if wanted and not made:
        raise InputError(
            f"{explanation.method} only draws a map; what was asked for ({', '.join(sorted(wanted))}) needs a sweep of frames; "
            "ask for map, overlay, report or json"
        )
    return made


def refuse_unknown(formats: Collection[str]) -> None:
    """Refuse formats that do not exist.

    Raises:
        InputError: Names them, and all that there are.
    """
    if unknown := sorted(set(formats) - set(FILES)):
        raise InputError(f"expected formats among {', '.join(FILES)}, got {', '.join(unknown)}")


def is_made(explanation: Explanation, kind: str) -> bool:
    """Whether there is such an output: what needs a sweep is left out for a method that only draws a map."""
    return explanation.has_sweep or kind not in _SWEEP_ONLY


def _is_other(path: Path) -> bool:
    """Whether something is there that is no folder; asked once, as another process may be exchanging it."""
    try:
        return not stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _swap(made: Path, final: Path) -> None:
    """Put `made` in the place of `final`; what is not ours in the old folder moves along.

    Of several processes that write the same place the last one stays; nobody's own files are lost.
    """
    for _ in range(_TRIES):
        if _is_other(final):
            raise InputError(f"expected a folder or nothing at {final}, found a file or a link; move it away")
        old = made.parent / f"old-{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):  # there is none, or another process has just taken it away
            final.replace(old)
            for entry in list(old.iterdir()):
                if entry.name not in _OURS:
                    entry.replace(made / entry.name)
        try:
            made.replace(final)
            return
        except OSError as error:
            # Another process was first: its folder is taken away in turn. By now a third one may have taken it, so that
            # looking whether it is there would not tell; Windows says it in other words.
            if error.errno not in _OCCUPIED and not final.is_dir():
                _bring_back(old, made, final)
                raise
    raise InputError(f"expected to be alone in writing {final}, others write there too; choose another folder")


def _bring_back(old: Path, made: Path, final: Path) -> None:
    """The old folder as it was, after `made` could not take its place."""
    if old.is_dir():
        for entry in list(made.iterdir()):
            if entry.name not in _OURS:
                entry.replace(old / entry.name)
        old.replace(final)


def file_name(explanation: Explanation, kind: str) -> str:
    """A name for one output outside of its folder: case, target, method and what it is."""
    parts = (explanation.case, explanation.target, explanation.method)
    return "-".join(safe_name(part, 40) for part in parts) + "-" + FILES[kind]
