"""Whoever reads the guides meets every verb, and every page."""

from __future__ import annotations

import re
from pathlib import Path

import typer
from typer.core import TyperGroup

from topwork.cli.app import app


def _pages(repo: Path) -> dict[str, str]:
    pages = [*(repo / "docs/guides").glob("*.md"), repo / "docs/getting-started.md"]
    return {page.name: page.read_text(encoding="utf-8") for page in pages}


def test_every_verb_is_in_a_guide(repo: Path) -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    text = "\n".join(_pages(repo).values())
    absent = [verb for verb in command.commands if not re.search(rf"\btopwork {re.escape(verb)}\b", text)]
    assert not absent, f"fix: say in docs/guides what these are for: {', '.join(absent)}"


def test_the_index_links_every_page(repo: Path) -> None:
    index = _pages(repo)["README.md"]
    absent = [name for name in _pages(repo) if name != "README.md" and name not in index]
    assert not absent, f"fix: add to docs/guides/README.md: {', '.join(absent)}"


def test_links_of_the_guides_lead_somewhere(repo: Path) -> None:
    folder = repo / "docs/guides"
    broken = [
        f"{page.name}: {link}"
        for page in folder.glob("*.md")
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in link and not (folder / link).exists()
    ]
    assert not broken, broken
