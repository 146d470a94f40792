"""The pages of `docs/reference`, written from the code that they describe: `python -m topwork.cli.docs [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from topwork.cli.app import app
from topwork.cli.recipe_docs import recipe_reference

__all__ = ["PAGES", "command_help", "reference"]

_WIDTH = 96


def command_help() -> Iterator[tuple[str, str]]:
    """Every command's full name and what its `--help` prints, the command `topwork` first."""
    yield from _walk(typer.main.get_command(app), "topwork")


def reference() -> str:
    """The page as Markdown."""
    parts = [
        "# Command line",
        "Made by `make docs` from the commands themselves; `make check` compares.",
        "Data goes to stdout, progress and logs to stderr.",
        "Exit codes: 0 done, 1 a check failed, 2 you must change something, 70 a bug, 130 stopped by Ctrl-C.",
    ]
    parts += [f"## {name}\n\n```text\n{text}\n```" for name, text in command_help()]
    return "\n\n".join(parts) + "\n"


def _walk(command: Any, name: str) -> Iterator[tuple[str, str]]:
    with command.make_context(name, [], resilient_parsing=True, terminal_width=_WIDTH) as context:
        yield name, "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())
    if isinstance(command, TyperGroup):
        for child_name, child in command.commands.items():
            if not child.hidden:
                yield from _walk(child, f"{name} {child_name}")


PAGES = {Path("docs/reference/cli.md"): reference, Path("docs/reference/recipe.md"): recipe_reference}
"""What writes each page, by its place in the repository."""


def _main(arguments: list[str]) -> int:
    stale = False
    for page, write in PAGES.items():
        text = write()
        if "--check" not in arguments:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
        elif not page.is_file() or page.read_text(encoding="utf-8") != text:
            print(f"{page} does not match the code.\nfix: make docs", file=sys.stderr)
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
