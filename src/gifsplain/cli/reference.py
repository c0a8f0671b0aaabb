"""docs/command-line.md, written from the commands themselves: `python -m gifsplain.cli.reference PATH [--check]`."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from gifsplain.cli import app

HEAD = """# Command line

Written by `python -m gifsplain.cli.reference docs/command-line.md`, checked by `make docs`; do not edit.

Exit codes: 0 all well; 1 some cases failed (a table names them), or the output was closed (`| head`); 2 wrong usage or
input, or a place that cannot be written; 3 models or weights; 130 interrupted. Errors are one line with a remedy; `gifsplain --debug COMMAND` shows the traceback.
"""


def reference() -> str:
    """The whole page as Markdown."""
    root = typer.main.get_command(app)
    return "\n".join([HEAD, *_commands(root, ["gifsplain"])]).rstrip() + "\n"


def _commands(command: Any, path: Sequence[str]) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children is not None:
        if len(path) > 1:
            yield f"## `{' '.join(path)}`\n\n{(command.help or '').strip()}\n"
        for name, child in children.items():
            yield from _commands(child, [*path, name])
        return
    level = "##" if len(path) == 2 else "###"
    yield f"{level} `{' '.join(path)}`\n\n{_clean(command.help)}\n"
    rows = [row for parameter in command.params if (row := _row(parameter)) is not None]
    if rows:
        yield "| option | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"


def _clean(text: str | None) -> str:
    lines = (text or "").replace("\f", "").strip().splitlines()
    return "\n".join(line.strip() for line in lines)


def _row(parameter: Any) -> str | None:
    if parameter.name == "help":
        return None
    if parameter.param_type_name == "argument":
        name = f"`{parameter.name.upper()}`"
        shown = "required" if parameter.required else _default(parameter)
    else:
        name = ", ".join(f"`{o}`" for o in [*parameter.opts, *parameter.secondary_opts])
        shown = "required" if parameter.required else _default(parameter)
    return f"| {name} | {shown} | {_clean(getattr(parameter, 'help', '')).replace('|', chr(92) + '|')} |"


def _default(parameter: Any) -> str:
    value = parameter.default
    if callable(value) or value is None or value in ([], ()):
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{'yes' if value is True else 'no' if value is False else value}`"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` say whether it is as it should be."""
    path, text = Path(arguments[0]), reference()
    if "--check" in arguments:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write(f"{path} is not what the commands say; run: python -m gifsplain.cli.reference {path}\n")
        return 1
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
