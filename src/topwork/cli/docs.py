"""`docs/reference/cli.md`, written from the commands themselves: `python -m topwork.cli.docs [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from topwork.cli.app import app

__all__ = ["command_help", "reference"]

_PAGE = Path("docs/reference/cli.md")
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


def _main(arguments: list[str]) -> int:
    text = reference()
    if "--check" not in arguments:
        _PAGE.parent.mkdir(parents=True, exist_ok=True)
        _PAGE.write_text(text, encoding="utf-8")
        return 0
    if _PAGE.is_file() and _PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{_PAGE} does not match the commands.\nfix: make docs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
