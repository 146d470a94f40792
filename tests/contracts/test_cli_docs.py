"""Every command and recipe key explains itself, and the reference pages are what they say."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from pprint import pformat
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from topwork.cli.app import app
from topwork.cli.docs import PAGES, command_help
from topwork.cli.recipe_docs import meanings, sections


def _commands(command: Any, name: str = "topwork") -> Iterator[tuple[str, Any]]:
    yield name, command
    if isinstance(command, TyperGroup):
        for child_name, child in command.commands.items():
            yield from _commands(child, f"{name} {child_name}")


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _examples(text: str) -> list[list[str]]:
    _, found, block = text.partition("Example:\n")
    assert found, "the help has no `Example:` block"
    lines = [line.strip() for line in block.split("\n\n")[0].splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("topwork ")]


def test_every_command_has_an_example_of_itself() -> None:
    for name, text in command_help():
        examples = [" ".join(words) for words in _examples(text)]
        assert any(example == name or example.startswith(f"{name} ") for example in examples), name


def test_examples_use_commands_and_options_that_exist() -> None:
    for name, text in command_help():
        for words in _examples(text):
            known = next(COMMANDS[p] for n in (3, 2, 1) if (p := " ".join(words[:n])) in COMMANDS)
            assert known is not COMMANDS["topwork"] or len(words) == 1, f"{name} shows {words}, which is no command"
            options = {option for parameter in known.params for option in parameter.opts}
            asked = {word.partition("=")[0] for word in words if word.startswith("-")}
            assert asked <= options, f"{name} shows {words}"


def test_every_option_has_help() -> None:
    bare = [
        f"{name} {parameter.name}"
        for name, command in COMMANDS.items()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert not bare, pformat(bare, width=120)


def test_every_recipe_key_has_a_meaning() -> None:
    for name, model in sections().items():
        assert set(model.model_fields) == set(meanings(model)), name


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_reference_pages_are_up_to_date(repo: Path, page: Path) -> None:
    assert (repo / page).read_text(encoding="utf-8") == PAGES[page](), "fix: make docs"


def test_the_reference_page_has_every_command(repo: Path) -> None:
    text = (repo / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert not [name for name in COMMANDS if f"\n## {name}\n" not in text]
